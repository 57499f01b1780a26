"""Chat completions as OpenAI speaks them: a row is a user's message, its answer the message that comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lakeflow.models.providers.openai_errors import blame_of, filtered, tokens_of
from lakeflow.models.providers.openai_settings import ChatSettings, ResponseFormat
from lakeflow.models.providers.service_answers import (
    broken,
    identity_of,
    read_answer,
    text_answer,
    text_request,
    written_answer,
)
from lakeflow.models.remote.dialect import Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.usage import Tokens


class OpenAITexts:
    """Half of a `Dialect`: where and as whom a text is asked for, by either API."""

    rows_a_request = 1

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self.columns = settings.prompt.columns
        self.url = settings.place.url
        self.service_model = settings.place.model
        self.secrets = settings.place.secrets

    def headers(self) -> Mapping[str, str]:
        return self._settings.place.headers()


class OpenAIChat(OpenAITexts):
    """See `Dialect`."""

    def __init__(self, settings: ChatSettings) -> None:
        super().__init__(settings)
        self._body = self._fixed()
        self._system = self._system_message()

    def identity(self) -> Mapping[str, str]:
        return {**identity_of(self.url, self._body, self._settings.prompt), "system": json.dumps(self._system)}

    def request(self, rows: Sequence[Row]) -> Request:
        [row] = rows
        messages = [*self._system, {"role": "user", "content": self._settings.prompt.of(row)}]
        parameters = self._settings.parameters
        longest = parameters.get("max_tokens") or parameters.get("max_completion_tokens") or 0
        return text_request({**self._body, "messages": messages}, longest)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return read_answer(body, tokens_of, self._read)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, {*self._body} - {"messages"})

    def _read(self, answer: object, tokens: Tokens) -> Reading | Blame:
        match answer:
            case {"choices": [{"message": {"refusal": str(refusal)}}, *_]} if refusal:
                return Blame(ErrorKind.REFUSED, f"the model refused: {refusal}", tokens=tokens)
            case {"choices": [{"finish_reason": "content_filter"} as choice, *_]}:
                return taken_away(choice, tokens)
            case {"choices": [{"finish_reason": "length", "message": {"content": None | ""}}, *_]}:
                return too_long(tokens)
            case {"choices": [{"finish_reason": "length"}, *_]} if self._settings.response_format is not ResponseFormat.TEXT:
                return too_long(tokens)
            case {"choices": [{"message": {"content": str(content)}}, *_]}:
                return answered(content, self._settings, tokens)
            case _:
                raise broken("choices[0].message.content", answer)

    def _fixed(self) -> dict[str, Any]:
        """What every request has but its messages."""
        settings = self._settings
        body: dict[str, Any] = {**settings.place.named(), **settings.parameters}
        match settings.response_format:
            case ResponseFormat.TEXT:
                pass
            case ResponseFormat.JSON_OBJECT:
                body["response_format"] = {"type": "json_object"}
            case ResponseFormat.JSON_SCHEMA:
                schema = {"name": "answer", "strict": True, "schema": settings.schema}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _system_message(self) -> list[dict[str, str]]:
        parts = [self._settings.system_prompt, self._settings.in_words]
        content = "\n\n".join(part for part in parts if part)
        return [{"role": "system", "content": content}] if content else []


def answered(content: str, settings: ChatSettings, tokens: Tokens) -> Reading:
    """The OUTPUT columns in what a model wrote. Raises ModelError where it is of another shape."""
    if settings.response_format is ResponseFormat.TEXT:
        return Reading((text_answer(content, settings.columns),), tokens)
    return Reading((written_answer(content, settings.columns, settings.labels),), tokens)


def taken_away(filters: object, tokens: Tokens) -> Blame:
    """For an answer that the service's filter stopped; `filters` is what may hold its results."""
    return Blame(ErrorKind.REFUSED, f"the service's content filter took the answer away{filtered(filters)}", tokens=tokens)


def too_long(tokens: Tokens) -> Blame:
    """For an answer that ended before its end."""
    return Blame(ErrorKind.TRUNCATED, "the answer is longer than max_tokens, or the model itself, allows", tokens=tokens)
