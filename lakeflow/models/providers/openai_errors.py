"""What a service that speaks as OpenAI does means by an error, and how it counts tokens.

Source: OpenAI's API reference, "Error codes" and "Rate limits in headers"; Azure's "Content filtering" and its REST
reference. Servers of other makers leave parts out, or write them beside `error` in place of in it, so nothing is taken
for granted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from lakeflow.models.providers.http_errors import error_of, fields_of, kind_of, number, retry_after, said
from lakeflow.models.providers.service_answers import count
from lakeflow.models.remote.dialect import Blame, ErrorKind
from lakeflow.models.usage import Tokens

_OWN = {402: ErrorKind.QUOTA, 409: ErrorKind.UNAVAILABLE, 425: ErrorKind.UNAVAILABLE}
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
    code, param, message = str(error.get("code")), str(error.get("param")), said(error.get("message"), body)
    kind = _kind(status, str(error.get("type")), code, param, message, own)
    wait = _wait(headers, message) if kind.retryable else None
    shown = f" {code}" if error.get("code") and code != str(status) else ""
    return Blame(kind, f"HTTP {status}{shown}: {message}{filtered(error.get('innererror'))}", wait)


def tokens_of(answer: object) -> Tokens:
    """The field `usage`, where there is one, by its names in either API."""
    match answer:
        case {"usage": {"input_tokens": given, **usage}}:
            return Tokens(count(given), count(usage.get("output_tokens")))
        case {"usage": {**usage}}:
            return Tokens(count(usage.get("prompt_tokens")), count(usage.get("completion_tokens")))
        case _:
            return Tokens()


def filtered(holder: object) -> str:
    """` (filtered: sexual high, violence medium)`, from what Azure's content filter says within `holder`; else nothing."""
    match holder:
        case {"content_filter_result": {**results}} | {"content_filter_results": {**results}}:
            pass
        case {"content_filters": [*filters]}:
            return next((text for one in filters if (text := filtered(one))), "")
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


def _kind(status: int, type_: str, code: str, param: str, message: str, own: Collection[str]) -> ErrorKind:
    if status == 429 and (code in _QUOTA_CODES or type_ in _QUOTA_CODES):
        return ErrorKind.QUOTA
    if status in (400, 422, 429) and (code in _TOO_LARGE_CODES or _TOO_LARGE.search(message)):
        return ErrorKind.TOO_LARGE
    if status in (400, 422) and (param.split(".", 1)[0] in own or code.lower() in _MISUSED_CODES or _MISUSED.search(message)):
        return ErrorKind.MISUSED
    if status == 403 and _QUOTA.search(message):
        return ErrorKind.QUOTA
    return kind_of(status, _OWN)


def _error(body: bytes) -> Mapping[Any, Any]:
    error = error_of(body)
    if error is not None:
        return error
    match fields := fields_of(body):
        case {"detail": str(message)}:
            return {"message": message}
        case {"message": str()}:
            return fields
        case _:
            return {}


def _wait(headers: Mapping[str, str], message: str) -> float | None:
    """Seconds; the first of these headers that can be read, of OpenAI's own the one of the limit that is used up, and what
    Azure writes into its message where it sends no header."""
    asked = retry_after(headers)
    if asked is not None:
        return asked
    for limit in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{limit}") == "0":
            reset = headers.get(f"x-ratelimit-reset-{limit}", "")
            return _duration(reset) if (seconds := number(reset)) is None else max(0.0, seconds)
    written = _SAID.search(message)
    return None if written is None else float(written[1])


_SAID = re.compile(r"(?:retry after|try again in) (\d+) seconds?", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _duration(text: str) -> float | None:
    """`6m0s`, `20ms`, `1.5s` as seconds."""
    parts = _PART.findall(text)
    if not parts or "".join(figure + unit for figure, unit in parts) != text:
        return None
    return sum(float(figure) * _SECONDS[unit] for figure, unit in parts)
