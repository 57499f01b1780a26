"""The Responses API as OpenAI speaks it: a row is the input, its answer the text of the messages in the output.

Nothing is kept by the service unless 'store' says so. Source: OpenAI's API reference, "Responses".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakeflow.models.providers.http_errors import MOST_SHOWN
from lakeflow.models.providers.openai_chat import OpenAITexts, answered, taken_away, too_long
from lakeflow.models.providers.openai_errors import blame_of, tokens_of
from lakeflow.models.providers.openai_settings import ChatSettings, ResponseFormat
from lakeflow.models.providers.service_answers import broken, identity_of, read_answer, text_request
from lakeflow.models.remote.dialect import Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.usage import Tokens

_FAILURES = {
    "server_error": ErrorKind.UNAVAILABLE,
    "rate_limit_exceeded": ErrorKind.RATE_LIMITED,
    "vector_store_timeout": ErrorKind.UNAVAILABLE,
}
"""What a response that failed under a 200 means; any other code is about the row."""


class OpenAIResponses(OpenAITexts):
    """See `Dialect`."""

    def __init__(self, settings: ChatSettings) -> None:
        super().__init__(settings)
        self._body = self._fixed()

    def identity(self) -> Mapping[str, str]:
        kept = {name: value for name, value in self._body.items() if name != "store"}
        return identity_of(self.url, kept, self._settings.prompt)

    def request(self, rows: Sequence[Row]) -> Request:
        [row] = rows
        return text_request({**self._body, "input": self._input(row)}, self._body.get("max_output_tokens", 0))

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return read_answer(body, tokens_of, self._read)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, {*self._body})

    def _read(self, answer: object, tokens: Tokens) -> Reading | Blame:
        match answer:
            case {"status": "failed", "error": {"code": str(code), **error}}:
                said = f"{code}: {str(error.get('message'))[:MOST_SHOWN]}"
                return Blame(_FAILURES.get(code, ErrorKind.REFUSED), f"the response failed: {said}", tokens=tokens)
            case {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, **other}:
                return taken_away(other, tokens)
            case {"status": "completed" | "incomplete" as status, "output": [*output]}:
                pass
            case _:
                raise broken("status of a response that has ended", answer)
        texts, refusal = _said(output)
        if refusal:
            return Blame(ErrorKind.REFUSED, f"the model refused: {refusal}", tokens=tokens)
        if status == "incomplete" and (self._settings.response_format is not ResponseFormat.TEXT or not "".join(texts)):
            return too_long(tokens)
        if not texts:
            raise broken("output[].content[].text", answer)
        return answered("".join(texts), self._settings, tokens)

    def _fixed(self) -> dict[str, Any]:
        """What every request has but its input."""
        settings = self._settings
        body: dict[str, Any] = {**settings.place.named(), **settings.parameters}
        if settings.system_prompt:
            body["instructions"] = settings.system_prompt
        match settings.response_format:
            case ResponseFormat.TEXT:
                pass
            case ResponseFormat.JSON_OBJECT:
                body["text"] = {"format": {"type": "json_object"}}
            case ResponseFormat.JSON_SCHEMA:
                schema = {"name": "answer", "strict": True, "schema": settings.schema}
                body["text"] = {"format": {"type": "json_schema", **schema}}
        return body

    def _input(self, row: Row) -> str | list[dict[str, str]]:
        """The word "JSON" is looked for in the input and not in the instructions, so the schema in words goes there."""
        text, words = self._settings.prompt.of(row), self._settings.in_words
        return [{"role": "system", "content": words}, {"role": "user", "content": text}] if words else text


def _said(output: Sequence[object]) -> tuple[list[str], str]:
    """The texts of the messages in an output, and what a refusal says. Reasoning is passed over."""
    texts: list[str] = []
    refusal = ""
    for item in output:
        match item:
            case {"type": "message", "content": [*parts]}:
                pass
            case _:
                continue
        for part in parts:
            match part:
                case {"type": "output_text", "text": str(text)}:
                    texts.append(text)
                case {"type": "refusal", "refusal": str(said)}:
                    refusal = said or "no reason given"
                case _:
                    raise broken("text in a message", part)
    return texts, refusal
