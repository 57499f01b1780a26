"""What a service that speaks as OpenAI does means by an error, and how it counts tokens.

Source: OpenAI's API reference, "Error codes" and "Rate limits in headers"; servers of other makers leave parts out, or
write them beside `error` in place of in it, so nothing is taken for granted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from lakeflow.errors import ModelError
from lakeflow.models.remote.dialect import Blame, ErrorKind
from lakeflow.models.usage import Tokens

MOST_SHOWN = 300

_KINDS = {
    401: ErrorKind.UNAUTHORIZED,
    402: ErrorKind.QUOTA,
    403: ErrorKind.UNAUTHORIZED,
    404: ErrorKind.MISUSED,
    405: ErrorKind.MISUSED,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.UNAVAILABLE,
    413: ErrorKind.TOO_LARGE,
    425: ErrorKind.UNAVAILABLE,
    429: ErrorKind.RATE_LIMITED,
}
_TOO_LARGE_CODES = ("context_length_exceeded", "string_above_max_length", "max_tokens_per_request")
_TOO_LARGE = re.compile(
    r"request too large|maximum context length|maximum input length|too many (inputs|tokens)", re.IGNORECASE
)
_QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


def blame_of(status: int, headers: Mapping[str, str], body: bytes, own: Collection[str]) -> Blame:
    """`own` are the parameters that come from options and not from rows. Header names are in lower case."""
    error = _error(body)
    code, param, said = str(error.get("code")), str(error.get("param")), _message(error, body)
    kind = _kind(status, str(error.get("type")), code, param, said, own)
    retry_after = _retry_after(headers) if kind.retryable else None
    return Blame(kind, f"HTTP {status}{f' {code}' if error.get('code') else ''}: {said}", retry_after)


def tokens_of(answer: object) -> Tokens:
    """The field `usage`, where there is one."""
    match answer:
        case {"usage": {**usage}}:
            return Tokens(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        case _:
            return Tokens()


def broken(place: str, answer: object) -> ModelError:
    """For an answer without what has to be there."""
    return ModelError(f"the answer has no {place}: {json.dumps(answer, ensure_ascii=False)[:MOST_SHOWN]}")


def _kind(status: int, type_: str, code: str, param: str, said: str, own: Collection[str]) -> ErrorKind:
    if status == 429 and (code in _QUOTA_CODES or type_ in _QUOTA_CODES):
        return ErrorKind.QUOTA
    if status in (400, 422, 429) and (code in _TOO_LARGE_CODES or _TOO_LARGE.search(said)):
        return ErrorKind.TOO_LARGE
    if status in (400, 422) and (param.split(".", 1)[0] in own or code in ("model_not_found", "unsupported_parameter")):
        return ErrorKind.MISUSED
    if status in _KINDS:
        return _KINDS[status]
    if status >= 500:
        return ErrorKind.UNAVAILABLE
    return ErrorKind.REFUSED if 400 <= status < 500 else ErrorKind.MISUSED


def _error(body: bytes) -> Mapping[Any, Any]:
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    match answer:
        case {"error": {**error}} | [{"error": {**error}}, *_]:
            return dict(error)
        case {"error": str(said)} | {"detail": str(said)}:
            return {"message": said}
        case {"message": str()}:
            return dict(answer)
        case _:
            return {}


def _message(error: Mapping[Any, Any], body: bytes) -> str:
    said = error.get("message")
    text = said if isinstance(said, str) and said else body.decode("utf-8", "replace") or "no reason given"
    return " ".join(text.split())[:MOST_SHOWN]


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; the first of these headers that can be read, and of OpenAI's own the one of the limit that is used up."""
    for name, read in _RETRY_AFTER:
        found = read(headers[name]) if name in headers else None
        if found is not None:
            return max(0.0, found)
    for limit in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{limit}") == "0":
            return _duration(headers.get(f"x-ratelimit-reset-{limit}", ""))
    return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _milliseconds(text: str) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000.0


def _date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


_RETRY_AFTER: tuple[tuple[str, Callable[[str], float | None]], ...] = (
    ("retry-after-ms", _milliseconds),
    ("retry-after", _number),
    ("retry-after", _date),
)

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _duration(text: str) -> float | None:
    """`6m0s`, `20ms`, `1.5s` as seconds."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
