"""What Anthropic means by an error, and how it counts tokens.

Source: Anthropic's API reference, "Errors" and "Rate limits", and the error types of its Python client.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from lakeflow.models.providers.http_errors import fields_of, kind_of, retry_after, said
from lakeflow.models.providers.service_answers import count, seconds_until
from lakeflow.models.remote.dialect import Blame, ErrorKind
from lakeflow.models.usage import Tokens

_BY_TYPE = {
    "authentication_error": ErrorKind.UNAUTHORIZED,
    "permission_error": ErrorKind.UNAUTHORIZED,
    "billing_error": ErrorKind.QUOTA,
    "not_found_error": ErrorKind.MISUSED,
    "request_too_large": ErrorKind.TOO_LARGE,
    "rate_limit_error": ErrorKind.RATE_LIMITED,
    "timeout_error": ErrorKind.TIMEOUT,
    "conflict_error": ErrorKind.UNAVAILABLE,
    "api_error": ErrorKind.UNAVAILABLE,
    "overloaded_error": ErrorKind.UNAVAILABLE,
}
_OWN = {
    402: ErrorKind.QUOTA,
    409: ErrorKind.UNAVAILABLE,
    425: ErrorKind.UNAVAILABLE,
    504: ErrorKind.TIMEOUT,
}
_SPENT = re.compile(r"credit balance is too low|specified (workspace )?api usage limits|spend(ing)? limit", re.IGNORECASE)
_TOO_LARGE = re.compile(r"prompt is too long|exceeds? (the )?(model's )?context|request too large", re.IGNORECASE)
_ACCOUNT_CODES = ("organization_", "parent_organization_", "linked_organization_", "cmek_")
"""How `error.details.error_code` begins where the account is the cause."""
_NAMED = re.compile(r"\s*`?(?P<name>[a-z_]+)`?[.: ]")
_OWN_WORDS = ("tool_choice", "tool schemas", "anthropic-version")
"""What messages that begin otherwise say of options: that a tool is forced, of its schema, of the header."""

_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")


def blame_of(status: int, headers: Mapping[str, str], body: bytes, own: Collection[str]) -> Blame:
    """`own` are the parameters that come from options and not from rows. Header names are in lower case."""
    found = fields_of(body).get("error")
    error: Mapping[Any, Any] = found if isinstance(found, dict) else {}
    kind, message = str(error.get("type", "")), said(error.get("message"), body)
    blamed = _kind(status, kind, _code(error), message, own)
    waits = _wait(headers) if blamed.retryable else None
    return Blame(blamed, f"HTTP {status}{f' {kind}' if kind else ''}: {message}", waits)


def tokens_of(answer: object) -> Tokens:
    """The field `usage`, where there is one. Input counts what was read from the service's cache and written to it, too."""
    match answer:
        case {"usage": {**usage}}:
            names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            return Tokens(sum(count(usage.get(name)) for name in names), count(usage.get("output_tokens")))
        case _:
            return Tokens()


def _code(error: Mapping[Any, Any]) -> str:
    details = error.get("details")
    return str(details.get("error_code", "")) if isinstance(details, dict) else ""


def _kind(status: int, kind: str, code: str, message: str, own: Collection[str]) -> ErrorKind:
    if code.endswith("spend_limit_reached") or (status in (400, 403, 429) and _SPENT.search(message)):
        return ErrorKind.QUOTA
    if status in (400, 422):
        return _of_a_request(code, message, own)
    if kind in _BY_TYPE and status >= 400:
        return _BY_TYPE[kind]
    return kind_of(status, _OWN)


def _of_a_request(code: str, message: str, own: Collection[str]) -> ErrorKind:
    """The service names no field apart from its message, which begins with one, as in `max_tokens: 99 > 64`."""
    if code.startswith(_ACCOUNT_CODES):
        return ErrorKind.UNAUTHORIZED
    if _TOO_LARGE.search(message):
        return ErrorKind.TOO_LARGE
    named = _NAMED.match(message)
    if (named and named["name"] in own) or any(words in message for words in _OWN_WORDS):
        return ErrorKind.MISUSED
    return ErrorKind.REFUSED


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds by Retry-After, else until the last of the limits that are used up is renewed."""
    asked = retry_after(headers)
    if asked is not None:
        return asked
    used_up = [name for name in _LIMITS if headers.get(f"anthropic-ratelimit-{name}-remaining") == "0"]
    resets = [seconds_until(headers.get(f"anthropic-ratelimit-{name}-reset", "")) for name in used_up]
    return max((wait for wait in resets if wait is not None), default=None)
