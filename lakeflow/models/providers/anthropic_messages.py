"""Messages as Anthropic speaks them: a row is a user's message; its answer is the text that comes back, or what a tool is
called with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lakeflow.models.providers.anthropic_errors import blame_of, tokens_of
from lakeflow.models.providers.anthropic_settings import TOOL, AnthropicSettings, ResponseFormat
from lakeflow.models.providers.http_errors import shown
from lakeflow.models.providers.service_answers import (
    broken,
    identity_of,
    read_answer,
    text_answer,
    text_request,
    written_answer,
)
from lakeflow.models.remote.dialect import Answer, Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.shapes import answer_of
from lakeflow.models.usage import Tokens


class AnthropicMessages:
    """See `Dialect`."""

    rows_a_request = 1

    def __init__(self, settings: AnthropicSettings) -> None:
        self._settings = settings
        self.columns = settings.prompt.columns
        self.url = settings.url
        self.service_model = settings.model
        self.secrets: tuple[str, ...] = (settings.api_key,) if settings.api_key else ()

    def headers(self) -> Mapping[str, str]:
        key = self._settings.api_key
        return {"anthropic-version": self._settings.version, **({"x-api-key": key} if key else {})}

    def identity(self) -> Mapping[str, str]:
        settings = self._settings
        return {**identity_of(self.url, settings.body, settings.prompt), "version": settings.version}

    def request(self, rows: Sequence[Row]) -> Request:
        [row] = rows
        messages = [{"role": "user", "content": self._settings.prompt.of(row)}]
        return text_request({**self._settings.body, "messages": messages}, self._settings.longest_answer)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return read_answer(body, tokens_of, self._read)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, self._settings.body.keys())

    def _read(self, answer: object, tokens: Tokens) -> Reading | Blame:
        return self._unsaid(answer, tokens) or Reading((self._answer(answer),), tokens)

    def _unsaid(self, answer: object, tokens: Tokens) -> Blame | None:
        """Why an answer is none. A text may end before its time, values may not."""
        is_text = self._settings.response_format is ResponseFormat.TEXT
        match answer:
            case {"stop_reason": "refusal", "stop_details": {"explanation": str(why)}} if why:
                return Blame(ErrorKind.REFUSED, f"the model refused: {shown(why)}", tokens=tokens)
            case {"stop_reason": "refusal"}:
                return Blame(ErrorKind.REFUSED, "the model refused", tokens=tokens)
            case {"stop_reason": "max_tokens", "content": content} if not is_text or not _texts(content):
                return Blame(ErrorKind.TRUNCATED, "the answer is longer than max_tokens allows", tokens=tokens)
            case {"stop_reason": "model_context_window_exceeded", "content": content} if not is_text or not _texts(content):
                return Blame(ErrorKind.TRUNCATED, "question and answer are longer than the model's context", tokens=tokens)
            case _:
                return None

    def _answer(self, answer: object) -> Answer:
        settings = self._settings
        match answer:
            case {"content": [*content]}:
                pass
            case _:
                raise broken("content", answer)
        match settings.response_format:
            case ResponseFormat.TOOL:
                return answer_of(_called_with(content), settings.columns, settings.labels)
            case ResponseFormat.JSON_SCHEMA:
                return written_answer(_text(content), settings.columns, settings.labels)
            case ResponseFormat.TEXT:
                return text_answer(_text(content), settings.columns)


def _called_with(content: Sequence[object]) -> object:
    for block in content:
        match block:
            case {"type": "tool_use", "name": str(name), "input": given} if name == TOOL:
                return given
            case _:
                pass
    raise broken(f"call of the tool {TOOL!r}", content)


def _text(content: Sequence[object]) -> str:
    """What is said, without what was thought. An answer of no blocks at all says nothing, which a model may mean."""
    texts = _texts(content)
    if content and not texts:
        raise broken("content[].text", content)
    return "".join(texts)


def _texts(content: object) -> list[str]:
    blocks = content if isinstance(content, list) else []
    return [block["text"] for block in blocks if _is_text(block)]


def _is_text(block: object) -> bool:
    match block:
        case {"type": "text", "text": str()}:
            return True
        case _:
            return False
