"""What Google's services mean by an error, and how Gemini counts tokens.

Source: Google's API design guide, "Errors" (google.rpc.Status with RetryInfo, QuotaFailure, ErrorInfo and BadRequest), and
the reference of the Gemini API, "Troubleshooting" and "Rate limits".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lakeflow.models.providers.http_errors import error_of, kind_of, retry_after, said
from lakeflow.models.providers.service_answers import count
from lakeflow.models.remote.dialect import Blame, ErrorKind
from lakeflow.models.usage import Tokens

_OWN_STATUS = {
    402: ErrorKind.QUOTA,
    409: ErrorKind.UNAVAILABLE,
    499: ErrorKind.UNAVAILABLE,
    504: ErrorKind.TIMEOUT,
}
_KEY_REASONS = ("API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED")
_BILLING = re.compile(r"billing (account|is|has|must)|BILLING_DISABLED|credits? (are|is) depleted|prepay", re.IGNORECASE)
_LOCATION = re.compile(r"location is not supported", re.IGNORECASE)
_TOO_LARGE = re.compile(
    r"token count|exceeds the (maximum|limit)|payload size|at most \d+ requests|too (long|large)|"
    r"instance\(s\) (is|are) allowed|supports up to \d+ tokens",
    re.IGNORECASE,
)
_OWN = re.compile(
    r"generation_?config|system_?instruction|safety_?settings|response_?(schema|mime|format)|output_?dimensionality|"
    r"task_?type|thinking[_ ]?(config|budget|level)?|unknown name|unexpected model name|is not (enabled|supported) (for|by)|"
    r"developer instruction|json mode|penalty|max_?output_?tokens|supported range",
    re.IGNORECASE,
)
"""Words of the parameters that come from options and not from rows."""
_RETRY_IN = re.compile(r"retry in (\d+(?:\.\d+)?) ?(ms|s)\b", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


def blame_of(status: int, headers: Mapping[str, str], body: bytes) -> Blame:
    """Header names are in lower case."""
    error = error_of(body) or {}
    message, name = said(error.get("message"), body), error.get("status")
    kind = _kind(status, error, message)
    wait = _wait(error, headers, message) if kind.retryable else None
    return Blame(kind, f"HTTP {status}{f' {name}' if isinstance(name, str) else ''}: {message}", wait)


def tokens_of(answer: object) -> Tokens:
    """The field `usageMetadata`, where there is one. Thoughts are paid for as output; what was cached is in the input."""
    match answer:
        case {"usageMetadata": {**usage}}:
            asked = count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount"))
            return Tokens(asked, count(usage.get("candidatesTokenCount")) + count(usage.get("thoughtsTokenCount")))
        case _:
            return Tokens()


def _kind(status: int, error: Mapping[Any, Any], message: str) -> ErrorKind:
    reasons = {str(detail.get("reason")) for detail in _details(error, "ErrorInfo")}
    if 400 <= status < 500 and (_BILLING.search(message) or "BILLING_DISABLED" in reasons):
        return ErrorKind.QUOTA
    if status == 429:
        return ErrorKind.QUOTA if _used_up(error) else ErrorKind.RATE_LIMITED
    if status in (400, 422):
        return _of_a_request(error, message, reasons)
    return kind_of(status, _OWN_STATUS)


def _of_a_request(error: Mapping[Any, Any], message: str, reasons: set[str]) -> ErrorKind:
    if not reasons.isdisjoint(_KEY_REASONS) or _LOCATION.search(message):
        return ErrorKind.UNAUTHORIZED
    fields = " ".join(str(one.get("field")) for one in _violations(error, "BadRequest", "fieldViolations"))
    if _OWN.search(f"{fields} {message}"):
        return ErrorKind.MISUSED
    if _TOO_LARGE.search(message):
        return ErrorKind.TOO_LARGE
    return ErrorKind.MISUSED if error.get("status") == "FAILED_PRECONDITION" else ErrorKind.REFUSED


def _used_up(error: Mapping[Any, Any]) -> bool:
    """Whether a limit that no wait of minutes renews is reached: one of a day, or one of nothing at all."""
    for violation in _violations(error, "QuotaFailure", "violations"):
        if "PerDay" in str(violation.get("quotaId")) or str(violation.get("quotaValue")) == "0":
            return True
    return False


def _wait(error: Mapping[Any, Any], headers: Mapping[str, str], message: str) -> float | None:
    """Seconds as RetryInfo says, else the header, else the message."""
    for detail in _details(error, "RetryInfo"):
        if found := _DURATION.fullmatch(str(detail.get("retryDelay"))):
            return float(found[1])
    asked = retry_after(headers)
    if asked is not None:
        return asked
    if found := _RETRY_IN.search(message):
        return float(found[1]) * (0.001 if found[2].lower() == "ms" else 1.0)
    return None


def _violations(error: Mapping[Any, Any], kind: str, name: str) -> Iterator[Mapping[str, Any]]:
    for detail in _details(error, kind):
        found = detail.get(name)
        yield from (one for one in (found if isinstance(found, list) else []) if isinstance(one, dict))


def _details(error: Mapping[Any, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    found = error.get("details")
    for detail in found if isinstance(found, list) else []:
        if isinstance(detail, dict) and str(detail.get("@type")).endswith(f"google.rpc.{kind}"):
            yield detail
