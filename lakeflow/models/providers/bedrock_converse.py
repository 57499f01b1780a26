"""Converse, Bedrock's one shape for the texts of all makers: a row is a user's message, its answer what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lakeflow.models.providers.aws_dialect import JSON, AwsDialect
from lakeflow.models.providers.aws_errors import blame_of
from lakeflow.models.providers.bedrock_errors import converse_tokens, judge
from lakeflow.models.providers.bedrock_settings import ConverseSettings, ResponseFormat
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
        return identity_of(self.url, self._settings.body, self._settings.prompt)

    def request(self, rows: Sequence[Row]) -> Request:
        [row] = rows
        message = {"role": "user", "content": [{"text": self._settings.prompt.of(row)}]}
        longest = self._settings.body.get("inferenceConfig", {}).get("maxTokens", 0)
        return text_request({**self._settings.body, "messages": [message]}, longest)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return read_answer(body, converse_tokens, self._read)

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
        if stopped in _CUT and self._settings.response_format is not ResponseFormat.TEXT:
            return Blame(ErrorKind.TRUNCATED, _CUT[stopped], tokens=tokens)
        return Reading((self._answer(blocks, answer),), tokens)

    def _answer(self, blocks: Sequence[object], answer: object) -> Answer:
        settings = self._settings
        match settings.response_format:
            case ResponseFormat.TEXT:
                return text_answer(_text_of(blocks, answer), settings.columns)
            case ResponseFormat.JSON_SCHEMA:
                return written_answer(_text_of(blocks, answer), settings.columns, settings.labels)
            case ResponseFormat.TOOL:
                return answer_of(_tool_input(blocks, answer), settings.columns, settings.labels)


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
