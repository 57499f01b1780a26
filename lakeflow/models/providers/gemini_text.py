"""generateContent as Gemini speaks it: a row is a user's content; its answer is the first candidate's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakeflow.models.providers.gemini_errors import blame_of, tokens_of
from lakeflow.models.providers.gemini_settings import Place, ResponseFormat, TextSettings
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
from lakeflow.models.usage import Tokens

_DONE = ("STOP", "FINISH_REASON_UNSPECIFIED")
_FAILED = ("OTHER", "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS")
"""Where the model went wrong, and may not a second time. Reasons that are in no list here name what was blocked."""


class GeminiText:
    """See `Dialect`."""

    rows_a_request = 1

    def __init__(self, settings: TextSettings, place: Place) -> None:
        self._settings = settings
        self._place = place
        self.columns = settings.prompt.columns
        self.url = place.url
        self.service_model = place.model
        self.secrets = place.secrets

    def headers(self) -> Mapping[str, str]:
        return self._place.sent

    def identity(self) -> Mapping[str, str]:
        return identity_of(self.url, self._settings.body, self._settings.prompt)

    def request(self, rows: Sequence[Row]) -> Request:
        [row] = rows
        contents = [{"role": "user", "parts": [{"text": self._settings.prompt.of(row)}]}]
        return text_request({**self._settings.body, "contents": contents}, self._settings.longest_answer)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return read_answer(body, tokens_of, self._read)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body)

    def _read(self, answer: object, tokens: Tokens) -> Reading | Blame:
        return self._unsaid(answer, tokens) or Reading((self._answer(answer),), tokens)

    def _unsaid(self, answer: object, tokens: Tokens) -> Blame | None:
        """Why an answer is none. A text may end before its time, values may not."""
        match answer:
            case {"promptFeedback": {"blockReason": str(reason)}}:
                return Blame(ErrorKind.REFUSED, f"the service blocked the question: {shown(reason)}", tokens=tokens)
            case {"candidates": [{"finishReason": str(reason), **candidate}, *_]} if reason not in _DONE:
                return self._cut_off(reason, candidate, tokens)
            case _:
                return None

    def _cut_off(self, reason: str, candidate: Mapping[Any, Any], tokens: Tokens) -> Blame | None:
        if reason in _FAILED:
            return Blame(ErrorKind.BROKEN_ANSWER, f"the model did not come to an end: {reason}", tokens=tokens)
        if reason != "MAX_TOKENS":
            return Blame(ErrorKind.REFUSED, f"the service took the answer away: {shown(reason)}", tokens=tokens)
        if self._settings.response_format is ResponseFormat.TEXT and _text(candidate):
            return None
        return Blame(ErrorKind.TRUNCATED, "thoughts and answer are longer than max_tokens allows", tokens=tokens)

    def _answer(self, answer: object) -> Answer:
        settings = self._settings
        match answer:
            case {"candidates": [{**candidate}, *_]} if text := _text(candidate):
                pass
            case _:
                raise broken("candidates[0].content.parts[].text", answer)
        if settings.response_format is not ResponseFormat.TEXT:
            return written_answer(text, settings.columns, settings.labels)
        return text_answer(text, settings.columns)


def _text(candidate: Mapping[Any, Any]) -> str:
    """What is said, without what was thought."""
    match candidate:
        case {"content": {"parts": [*parts]}}:
            return "".join(map(_said, parts))
        case _:
            return ""


def _said(part: object) -> str:
    match part:
        case {"thought": True}:
            return ""
        case {"text": str(text)}:
            return text
        case _:
            return ""
