"""What a service that speaks as OpenAI does means by an error, and how it counts tokens.

Source: OpenAI's API reference, "Error codes" and "Rate limits in headers"; Azure's "Content filtering" and its REST
reference. Servers of other makers leave parts out, or write them beside `error` in place of in it, so nothing is taken
for granted.
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
_MISUSED_CODES = ("model_not_found", "unsupported_parameter", "unsupported_value", "operationnotsupported")
_MISUSED = re.compile(r"^(api version|unrecognized request argument|unknown parameter)|only for api versions", re.IGNORECASE)
_QUOTA = re.compile(r"\bquota\b.*\bexceeded\b", re.IGNORECASE)


def blame_of(status: int, headers: Mapping[str, str], body: bytes, own: Collection[str]) -> Blame:
    """`own` are the parameters that come from options and not from rows. Header names are in lower case."""
    error = _error(body)
    code, param, said = str(error.get("code")), str(error.get("param")), _message(error, body)
    kind = _kind(status, str(error.get("type")), code, param, said, own)
    retry_after = _retry_after(headers, said) if kind.retryable else None
    shown = f" {code}" if error.get("code") and code != str(status) else ""
    return Blame(kind, f"HTTP {status}{shown}: {said}{filtered(error.get('innererror'))}", retry_after)


def tokens_of(answer: object) -> Tokens:
    """The field `usage`, where there is one, by its names in either API."""
    match answer:
        case {"usage": {"input_tokens": given, **usage}}:
            return Tokens(_count(given), _count(usage.get("output_tokens")))
        case {"usage": {**usage}}:
            return Tokens(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        case _:
            return Tokens()


def filtered(holder: object) -> str:
    """` (filtered: sexual high, violence medium)`, from what Azure's content filter says within `holder`; else nothing."""
    match holder:
        case {"content_filter_result": {**results}} | {"content_filter_results": {**results}}:
            pass
        case {"content_filters": [*filters]}:
            return next((said for one in filters if (said := filtered(one))), "")
        case _:
            return ""
    found = []
    for name, result in sorted(results.items(), key=str):
        match result:
            case {"filtered": True, **more}:
                found.append(f"{name} {more['severity']}" if "severity" in more else str(name))
            case _:
                pass
    return f" (filtered: {', '.join(found)})" if found else ""


def broken(place: str, answer: object) -> ModelError:
    """For an answer without what has to be there."""
    return ModelError(f"the answer has no {place}: {json.dumps(answer, ensure_ascii=False)[:MOST_SHOWN]}")


def _kind(status: int, type_: str, code: str, param: str, said: str, own: Collection[str]) -> ErrorKind:
    if status == 429 and (code in _QUOTA_CODES or type_ in _QUOTA_CODES):
        return ErrorKind.QUOTA
    if status in (400, 422, 429) and (code in _TOO_LARGE_CODES or _TOO_LARGE.search(said)):
        return ErrorKind.TOO_LARGE
    if status in (400, 422) and (param.split(".", 1)[0] in own or code.lower() in _MISUSED_CODES or _MISUSED.search(said)):
        return ErrorKind.MISUSED
    if status == 403 and _QUOTA.search(said):
        return ErrorKind.QUOTA
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


def _retry_after(headers: Mapping[str, str], said: str) -> float | None:
    """Seconds; the first of these headers that can be read, of OpenAI's own the one of the limit that is used up, and what
    Azure writes into its message where it sends no header."""
    for name, read in _RETRY_AFTER:
        found = read(headers[name]) if name in headers else None
        if found is not None:
            return max(0.0, found)
    for limit in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{limit}") == "0":
            reset = headers.get(f"x-ratelimit-reset-{limit}", "")
            return _duration(reset) if (seconds := _number(reset)) is None else max(0.0, seconds)
    written = _SAID.search(said)
    return None if written is None else float(written[1])


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
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None


_RETRY_AFTER: tuple[tuple[str, Callable[[str], float | None]], ...] = (
    ("retry-after-ms", _milliseconds),
    ("retry-after", _number),
    ("retry-after", _date),
)

_SAID = re.compile(r"(?:retry after|try again in) (\d+) seconds?", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _duration(text: str) -> float | None:
    """`6m0s`, `20ms`, `1.5s` as seconds."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
