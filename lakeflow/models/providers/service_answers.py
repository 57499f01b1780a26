"""What several services are asked alike, and what their answers hold alike: texts, vectors, counts of tokens, times."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.prompt import Prompt
from lakeflow.models.providers.http_errors import MOST_SHOWN
from lakeflow.models.remote.dialect import Answer, Blame, ErrorKind, Reading, Request
from lakeflow.models.shapes import answer_of, check_answer, parsed
from lakeflow.models.usage import Tokens

BYTES_A_TOKEN = 4
"""About; it only spaces requests out until their real tokens are known."""


def identity_of(url: str, body: Mapping[str, Any], prompt: Prompt) -> dict[str, str]:
    """What decides the answers: where is asked, what every request holds, and what a row asks."""
    return {
        "url": url,
        "body": json.dumps(body, sort_keys=True),
        "prompt": json.dumps(prompt.pieces),
        "columns": json.dumps(prompt.columns),
    }


def body_of(asked: Mapping[str, Any]) -> bytes:
    """A body of JSON; half a pair of surrogates, which no UTF-8 has, goes as a question mark."""
    return json.dumps(asked, ensure_ascii=False).encode("utf-8", "replace")


def text_request(asked: Mapping[str, Any], longest_answer: int = 0) -> Request:
    """A request that is text, for an answer of `longest_answer` tokens at the most, 0 where nobody says."""
    body = body_of(asked)
    return Request(body, Tokens(len(body) // BYTES_A_TOKEN, longest_answer))


def about_tokens(texts: Sequence[str]) -> int:
    """How many tokens some texts may have."""
    return sum(len(text.encode("utf-8", "replace")) for text in texts) // BYTES_A_TOKEN


def read_answer(
    body: bytes, tokens_of: Callable[[object], Tokens], read: Callable[[object, Tokens], Reading | Blame]
) -> Reading | Blame:
    """What `read` makes of a body of JSON and its tokens, which are paid also where it raises ModelError."""
    tokens = Tokens()
    try:
        answer = parsed(body)
        tokens = tokens_of(answer)
        return read(answer, tokens)
    except ModelError as error:
        return Blame(ErrorKind.BROKEN_ANSWER, error.message, tokens=tokens)


def text_answer(text: str, columns: Sequence[pa.Field]) -> Answer:
    """A text as it came, for one STRING column. Raises ModelError."""
    check_answer((text,), columns)
    return (text,)


def written_answer(text: str, columns: Sequence[pa.Field], labels: Sequence[str]) -> Answer:
    """The object of JSON that a model wrote. Raises ModelError where it is none or of another shape."""
    return answer_of(parsed(text), columns, labels)


def vector_answer(vector: object, column: pa.Field, dimensions: int | None) -> Answer:
    """A vector of `dimensions` values, of any number but none where that is None. Raises ModelError."""
    check_answer((vector,), [column])
    width = len(vector) if isinstance(vector, list) else 0
    if not width or dimensions not in (None, width):
        raise ModelError(f"a vector has {width} values; asked for: {dimensions or 'one at least'}")
    return (vector,)


def vector_answers(vectors: Sequence[object], rows: int, column: pa.Field, dimensions: int | None) -> tuple[Answer, ...]:
    """A vector for each row. Raises ModelError for another number of them, or one that is of another width."""
    if len(vectors) != rows:
        raise ModelError(f"{rows} texts were asked, and {len(vectors)} vectors came")
    return tuple(vector_answer(vector, column, dimensions) for vector in vectors)


def broken(place: str, answer: object) -> ModelError:
    """For an answer without what has to be there."""
    return ModelError(f"the answer has no {place}: {json.dumps(answer, ensure_ascii=False)[:MOST_SHOWN]}")


def count(value: object) -> int:
    """A number of tokens; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def seconds_until(text: str) -> float | None:
    """Seconds from now to a time as RFC 3339 writes it, 0 for one that is past; None for anything else."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
