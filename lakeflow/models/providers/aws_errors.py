"""What AWS means by an error. Source: "Common error types" in AWS's API references, and those of each service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lakeflow.models.providers.http_errors import fields_of, kind_of, retry_after, said
from lakeflow.models.remote.dialect import Blame, ErrorKind

_BY_CODE = {
    "AccessDenied": ErrorKind.UNAUTHORIZED,
    "AccessDeniedException": ErrorKind.UNAUTHORIZED,
    "ExpiredToken": ErrorKind.UNAUTHORIZED,
    "ExpiredTokenException": ErrorKind.UNAUTHORIZED,
    "IncompleteSignature": ErrorKind.UNAUTHORIZED,
    "IncompleteSignatureException": ErrorKind.UNAUTHORIZED,
    "InvalidClientTokenId": ErrorKind.UNAUTHORIZED,
    "InvalidSignatureException": ErrorKind.UNAUTHORIZED,
    "MissingAuthenticationToken": ErrorKind.UNAUTHORIZED,
    "MissingAuthenticationTokenException": ErrorKind.UNAUTHORIZED,
    "NotAuthorized": ErrorKind.UNAUTHORIZED,
    "OptInRequired": ErrorKind.UNAUTHORIZED,
    "RequestExpired": ErrorKind.UNAUTHORIZED,
    "SignatureDoesNotMatch": ErrorKind.UNAUTHORIZED,
    "UnrecognizedClientException": ErrorKind.UNAUTHORIZED,
    "ResourceNotFoundException": ErrorKind.MISUSED,
    "UnknownOperationException": ErrorKind.MISUSED,
    "ServiceQuotaExceededException": ErrorKind.QUOTA,
    "Throttling": ErrorKind.RATE_LIMITED,
    "ThrottlingException": ErrorKind.RATE_LIMITED,
    "ThrottledException": ErrorKind.RATE_LIMITED,
    "TooManyRequestsException": ErrorKind.RATE_LIMITED,
    "RequestLimitExceeded": ErrorKind.RATE_LIMITED,
    "RequestTimeoutException": ErrorKind.TIMEOUT,
    "ModelTimeoutException": ErrorKind.TIMEOUT,
    "ModelNotReadyException": ErrorKind.UNAVAILABLE,
    "RequestEntityTooLargeException": ErrorKind.TOO_LARGE,
}


@dataclass(frozen=True, slots=True)
class AwsError:
    """`code` is the type without its namespace, `fields` the body's."""

    status: int
    code: str
    message: str
    fields: Mapping[str, Any]


Judge = Callable[[AwsError], ErrorKind | None]
"""What a service alone knows of an error; None where the common meaning holds."""


def blame_of(status: int, headers: Mapping[str, str], body: bytes, judge: Judge) -> Blame:
    """Header names are in lower case."""
    fields = fields_of(body)
    named = headers.get("x-amzn-errortype") or fields.get("__type") or fields.get("code") or ""
    code = str(named).split(":", 1)[0].rpartition("#")[2]
    message = said(fields.get("message") or fields.get("Message"), body)
    error = AwsError(status, code, message, fields)
    kind = judge(error) or _BY_CODE.get(code) or kind_of(status)
    return Blame(
        kind, f"HTTP {status}{f' {code}' if code else ''}: {message}", retry_after(headers) if kind.retryable else None
    )
