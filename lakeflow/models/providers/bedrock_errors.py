"""What Bedrock alone means by an error, and how it counts tokens.

Source: the API reference of Amazon Bedrock Runtime, "Converse" and "InvokeModel", and its guide, "Troubleshooting API error
codes". Makers of models write their own words into a ValidationException, and those words alone say what is wrong.
"""

from __future__ import annotations

import re

from lakeflow.models.providers.aws_errors import AwsError
from lakeflow.models.providers.service_answers import count
from lakeflow.models.remote.dialect import ErrorKind
from lakeflow.models.usage import Tokens

_TOO_LARGE = re.compile(
    r"(input|prompt) is too long|too many input tokens|exceeds? (the )?(maximum )?context|maximum context length|"
    r"input length and `?max_tokens`? exceed context|expected maxlength|expected maximum item count|"
    r"too many (texts|inputs)|exceeds the maximum number of tokens",
    re.IGNORECASE,
)
_OF_A_ROW = re.compile(r"\bis blank\b|messages\.\d|#/(texts|inputText|messages)", re.IGNORECASE)
_ONE_OF_SEVERAL = re.compile(r"#/texts/\d+: expected maxlength", re.IGNORECASE)
"""One text among others is too long; fewer texts a request would not help those that follow."""
_OF_OPTIONS = re.compile(
    r"model identifier|on-demand throughput|doesn't support|not supported|isn't supported|malformed input request|"
    r"the maximum tokens you requested|inferenceConfig|toolConfig|additionalModelRequestFields|guardrail",
    re.IGNORECASE,
)
_A_DAY = re.compile(r"per day", re.IGNORECASE)


def judge(error: AwsError) -> ErrorKind | None:
    """See `Judge`."""
    match error.code:
        case "ValidationException":
            return _of_validation(error.message)
        case "ThrottlingException" if _A_DAY.search(error.message):
            return ErrorKind.QUOTA
        case "ModelErrorException":
            original = error.fields.get("originalStatusCode")
            return ErrorKind.REFUSED if isinstance(original, int) and 400 <= original < 500 else ErrorKind.UNAVAILABLE
        case _:
            return None


def _of_validation(message: str) -> ErrorKind:
    if _ONE_OF_SEVERAL.search(message):
        return ErrorKind.REFUSED
    if _TOO_LARGE.search(message):
        return ErrorKind.TOO_LARGE
    if _OF_OPTIONS.search(message) and not _OF_A_ROW.search(message):
        return ErrorKind.MISUSED
    return ErrorKind.REFUSED


def converse_tokens(answer: object) -> Tokens:
    """The field `usage`, where there is one. Input that was read from or written to a cache stands beside `inputTokens`."""
    match answer:
        case {"usage": {**usage}}:
            cached = count(usage.get("cacheReadInputTokens")) + count(usage.get("cacheWriteInputTokens"))
            return Tokens(count(usage.get("inputTokens")) + cached, count(usage.get("outputTokens")))
        case _:
            return Tokens()
