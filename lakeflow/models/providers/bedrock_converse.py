"""Converse, Bedrock's one shape for the texts of all makers: a row is a user's message, its answer what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lakeflow.errors import ModelError
from lakeflow.models.providers.aws_dialect import JSON, AwsDialect
from lakeflow.models.providers.aws_errors import blame_of
from lakeflow.models.providers.bedrock_errors import converse_tokens, judge
from lakeflow.models.providers.bedrock_settings import ConverseSettings, ResponseFormat
from lakeflow.models.providers.service_answers import broken
from lakeflow.models.remote.dialect import Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.shapes import answer_of, check_answer, parsed
from lakeflow.models.usage import Tokens

BYTES_A_TOKEN = 4
"""About; it only spaces requests out until their real tokens are known."""

_STOPPED = {
    "guardrail_intervened": (ErrorKind.REFUSED, "a guardrail stepped in"),
    "content_filtered": (ErrorKind.REFUSED, "the service's content filter took the answer away"),
    "malformed_model_output": (ErrorKind.BROKEN_ANSWER, "the model's answer could not be read by the service"),
    "malformed_tool_use": (ErrorKind.BROKEN_ANSWER, "the model called the tool in a way that the service could not read"),
}
_CUT = {
    "max_tokens": "the answer is longer than max_tokens allows",
    "model_context_window_exceeded": "question and answer are longer than the model's context",
}


class BedrockConverse(AwsDialect):
    """See `Dialect`."""

    rows_a_request = 1

    def __init__(self, settings: ConverseSettings) -> None:
        place = settings.place
        super().__init__(place.url, place.access, "bedrock", JSON, takes_api_keys=True)
        self._settings = settings
        self.columns = settings.prompt.columns
        self.service_model = place.model

    def identity(self) -> Mapping[str, str]:
        settings = self._settings
        return {
            "url": self.url,
            "body": json.dumps(settings.body, sort_keys=True),
            "prompt": json.dumps(settings.prompt.pieces),
            "columns": json.dumps(self.columns),
        }

    def request(self, rows: Sequence[Row]) -> Request:
        [row] = rows
        message = {"role": "user", "content": [{"text": self._settings.prompt.of(row)}]}
        body = json.dumps({**self._settings.body, "messages": [message]}, ensure_ascii=False).encode("utf-8", "replace")
        longest = self._settings.body.get("inferenceConfig", {}).get("maxTokens", 0)
        return Request(body, Tokens(len(body) // BYTES_A_TOKEN, longest))

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        tokens = Tokens()
        try:
            answer = parsed(body)
            tokens = converse_tokens(answer)
            return self._read(answer, tokens)
        except ModelError as error:
            return Blame(ErrorKind.BROKEN_ANSWER, error.message, tokens=tokens)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, judge)

    def _read(self, answer: object, tokens: Tokens) -> Reading | Blame:
        match answer:
            case {"output": {"message": {"content": [*blocks]}}, "stopReason": str(stopped)}:
                pass
            case _:
                raise broken("output.message.content", answer)
        if stopped in _STOPPED:
            kind, said = _STOPPED[stopped]
            return Blame(kind, said, tokens=tokens)
        settings = self._settings
        if stopped in _CUT and settings.response_format is not ResponseFormat.TEXT:
            return Blame(ErrorKind.TRUNCATED, _CUT[stopped], tokens=tokens)
        match settings.response_format:
            case ResponseFormat.TEXT:
                text = (_text_of(blocks, answer),)
                check_answer(text, settings.columns)
                return Reading((text,), tokens)
            case ResponseFormat.JSON_SCHEMA:
                return self._typed(parsed(_text_of(blocks, answer)), tokens)
            case ResponseFormat.TOOL:
                return self._typed(_tool_input(blocks, answer), tokens)

    def _typed(self, value: object, tokens: Tokens) -> Reading:
        return Reading((answer_of(value, self._settings.columns, self._settings.labels),), tokens)


def _text_of(blocks: Sequence[object], answer: object) -> str:
    """The text of an answer; what the model thought before stands in blocks of another kind."""
    texts = []
    for block in blocks:
        match block:
            case {"text": str(text)}:
                texts.append(text)
            case _:
                pass
    if not texts:
        raise broken("output.message.content[].text", answer)
    return "".join(texts)


def _tool_input(blocks: Sequence[object], answer: object) -> object:
    for block in blocks:
        match block:
            case {"toolUse": {"input": {**given}}}:
                return given
            case _:
                pass
    raise broken("output.message.content[].toolUse.input", answer)
