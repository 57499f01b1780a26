"""What servers of AWS do before anything else: they check who asks, by the signature, and write errors in their own way.

The signature is computed anew with botocore's signer from what arrived on the wire, as the real servers do: with every
signed header, the path encoded once more, and the hash of the body.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.session import Session
from botocore.validate import ParamValidator

from tests.services.http import Asked, Reply

ACCESS_KEY = "AKIATESTTESTTESTTEST"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYtestsecret"
SESSION_TOKEN = "FwoGZXIvYXdzEJr-test-session"
REGION = "eu-central-1"
MOST_SKEW = timedelta(minutes=5)

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None, **fields: object) -> Reply:
    """An error as services of AWS that speak JSON write it: its type stands in a header, with a namespace behind it."""
    given = {"x-amzn-errortype": f"{code}:http://internal.amazon.com/coral/com.amazon.coral.service/", **(headers or {})}
    return Reply(status, json.dumps({"message": message, **fields}).encode(), given)


def refusal(asked: Asked, service: str) -> Reply | None:
    """Why a request is not let in; None where its signature is right."""
    header = asked.headers.get("authorization", "")
    found = _AUTHORIZATION.fullmatch(header)
    if found is None:
        return error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    access_key, day, region, named, signed, signature = found.groups()
    if access_key != ACCESS_KEY:
        return error(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    names = signed.split(";")
    unsigned = [name for name in asked.headers if name.startswith("x-amz-") and name not in names]
    if unsigned or "host" not in names or (region, named) != (REGION, service):
        said = f"Credential should be scoped to a valid region and service, or headers are not signed: {unsigned}."
        return error(403, "InvalidSignatureException", said)
    sent = asked.headers.get("x-amz-date", "")
    moment = datetime.strptime(sent, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if day != sent[:8] or abs(datetime.now(UTC) - moment) > MOST_SKEW:
        return error(403, "InvalidSignatureException", f"Signature expired: {sent} is now earlier than it may be.")
    if asked.headers.get("x-amz-security-token", SESSION_TOKEN) != SESSION_TOKEN:
        return error(403, "ExpiredTokenException", "The security token included in the request is expired")
    if _signature(asked, names, sent, service) != signature:
        said = "The request signature we calculated does not match the signature you provided."
        return error(403, "InvalidSignatureException", said)
    return None


def _signature(asked: Asked, names: list[str], timestamp: str, service: str) -> str:
    headers = {name: asked.headers[name] for name in names}
    hashed = hashlib.sha256(asked.body).hexdigest()
    if headers.get("x-amz-content-sha256", hashed) != hashed:
        return ""
    request = AWSRequest("POST", f"http://{asked.headers['host']}{asked.path}", headers, asked.body)
    request.context["timestamp"] = timestamp
    signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), service, REGION)
    said: str = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return said


def fault(service: str, operation: str, given: Mapping[str, Any]) -> str | None:
    """What of the parameters does not fit the service's own published description; None where all does."""
    report = ParamValidator().validate(given, _model(service).operation_model(operation).input_shape)
    return str(report.generate_report()) if report.has_errors() else None


@cache
def _model(service: str) -> Any:
    return Session().get_service_model(service)
