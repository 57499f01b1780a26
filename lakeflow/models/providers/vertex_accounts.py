"""Who asks Vertex AI: a service account by its key, a user by what gcloud keeps, or the machine itself.

Sources: RFC 7523 (a JWT in exchange for a token), RFC 7515 with RS256 of RFC 7518, RFC 6749 section 6 (a token anew), and
Google's "Using OAuth 2.0 for server to server applications" and "About VM metadata".
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from lakeflow.errors import ModelError
from lakeflow.models.providers.http_errors import fields_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_ADDRESS = "https://oauth2.googleapis.com/token"
METADATA_HOST = "metadata.google.internal"
BY_CLAIM = "urn:ietf:params:oauth:grant-type:jwt-bearer"
BY_REFRESH = "refresh_token"
CLAIM_SECONDS = 3600
"""As long as Google lets a claim be valid."""
LOCAL = ("localhost", "127.0.0.1", "::1")
INSTALL = 'pip install "lakeflow[vertex]"'

Form = Callable[[int], Mapping[str, str]]
NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Account:
    """Who gets tokens, where, and with what: a form for a time in seconds since 1970, or none, where it is enough to ask.

    `headers` go with every request that bears such a token.
    """

    name: str
    address: str
    form: Form | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


def machines_account(name: str) -> Account:
    """A service account of the machine that this runs on; `default` is the one that it has."""
    host = os.environ.get("GCE_METADATA_HOST", METADATA_HOST)
    path = f"computeMetadata/v1/instance/service-accounts/{quote(name, safe='@')}/token"
    return Account(f"service account {name!r} of this machine", f"http://{host}/{path}")


def account_in(label: str, source: Path | str) -> Account:
    """The account in a key file, or in the text of one. Raises ModelError, which shows nothing of what is secret there."""
    place = "service_key" if isinstance(source, str) else str(source)
    text = source if isinstance(source, str) else _content(label, source)
    fields = fields_of(text.encode("utf-8", "replace"))
    match fields.get("type"):
        case "service_account":
            return _of_a_service(label, place, fields)
        case "authorized_user":
            return _of_a_user(label, place, fields)
        case kind:
            raise ModelError(
                f"{label}: {place} is of type {kind!r}; valid: service_account, authorized_user",
                next_step="create one with `gcloud iam service-accounts keys create key.json --iam-account=..`, or, on "
                "Google's machines, say 'service_account' = 'default'",
            )


def claim(email: str, key_id: str, address: str, private: RSAPrivateKey, now: int) -> str:
    """The signed claim that is exchanged for a token."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    head = {"alg": "RS256", "typ": "JWT", "kid": key_id}
    claims = {"iss": email, "scope": SCOPE, "aud": address, "iat": now, "exp": now + CLAIM_SECONDS}
    said = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
    return f"{said}.{_encoded(private.sign(said.encode(), PKCS1v15(), SHA256()))}"


def _of_a_service(label: str, place: str, fields: Mapping[str, Any]) -> Account:
    _require(label, place, fields, "client_email", "private_key", "private_key_id", "token_uri")
    address, email, key_id = _address(label, place, fields), fields["client_email"], fields["private_key_id"]
    private = _private(label, place, fields)

    def form(now: int) -> Mapping[str, str]:
        return {"grant_type": BY_CLAIM, "assertion": claim(email, key_id, address, private, now)}

    return Account(email, address, form, (fields["private_key"].strip(),))


def _of_a_user(label: str, place: str, fields: Mapping[str, Any]) -> Account:
    _require(label, place, fields, "client_id", "client_secret", "refresh_token")
    sent = {name: fields[name] for name in ("client_id", "client_secret", "refresh_token")}
    project = fields.get("quota_project_id")
    headers = {"x-goog-user-project": project} if isinstance(project, str) else {}
    secrets = (fields["client_secret"], fields["refresh_token"])
    form = {"grant_type": BY_REFRESH, **sent}
    return Account(f"the user in {place}", _address(label, place, fields), lambda _: form, secrets, headers)


def _require(label: str, place: str, fields: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise ModelError(f"{label}: {place} is no key of type {fields['type']!r}: it has no {name!r}")


def _address(label: str, place: str, fields: Mapping[str, Any]) -> str:
    """Where tokens come from: a claim goes nowhere unprotected."""
    address = str(fields.get("token_uri", TOKEN_ADDRESS))
    try:
        parts = urlsplit(address)
    except ValueError as error:  # a bracket that is none
        raise ModelError(f"{label}: {place} names a token_uri that is no address: {address!r}") from error
    if parts.scheme != "https" and parts.hostname not in LOCAL:
        raise ModelError(f"{label}: {place} names a token_uri without https: {address!r}")
    return address


def _private(label: str, place: str, fields: Mapping[str, Any]) -> RSAPrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise ModelError(
            f"{label}: keys of service accounts need a package that is not installed: {error}", next_step=INSTALL
        ) from error
    try:
        private = load_pem_private_key(fields["private_key"].encode(), None)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{label}: the private_key in {place} cannot be read") from error
    if not isinstance(private, RSAPrivateKey):
        raise ModelError(f"{label}: the private_key in {place} is no key of RSA, which RS256 needs")
    return private


def _content(label: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ModelError(f"{label}: cannot read {path}: {reason}", next_step="check 'service_account_file'") from error


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
