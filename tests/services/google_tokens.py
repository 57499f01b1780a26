"""How accounts get tokens of Google: by a signed claim, by a user's refresh token, or by the metadata of a machine."""

from __future__ import annotations

import functools
import json
from base64 import urlsafe_b64decode
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.services.http import Asked, Reply

EMAIL = "lakeflow@project-1.iam.gserviceaccount.com"
METADATA = "/computeMetadata/v1/instance/service-accounts/default/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
USER = {"type": "authorized_user", "client_id": "764.apps", "client_secret": "GOCSPX-test-91", "refresh_token": "1//test-55ab"}


@functools.cache
def private_key() -> rsa.RSAPrivateKey:
    """One for all tests: making it takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_file(url: str, **other: str) -> dict[str, str]:
    """What Google writes into the key file of a service account; tokens come from the server at `url`."""
    pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": "project-1",
        "private_key_id": "9f8e7d",
        "private_key": pem,
        "client_email": EMAIL,
        "client_id": "1029384756",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": f"{url}/token",
        **other,
    }


def refusal_of(asked: Asked, url: str) -> Reply | None:
    """Why an account gets no token: by the machine's metadata, a user's refresh token, or a signed claim."""
    if asked.path == METADATA:
        return None if asked.headers.get("metadata-flavor") == "Google" and not asked.body else Reply(403, b"Forbidden")
    form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
    kind = form.pop("grant_type", "") if asked.headers.get("content-type") == "application/x-www-form-urlencoded" else ""
    if kind == "refresh_token":
        user = {name: value for name, value in USER.items() if name != "type"}
        return None if form == user else refused_token("invalid_grant", "Token has been expired or revoked.")
    if kind != GRANT:
        return refused_token("unsupported_grant_type", "Invalid grant_type")
    wrong = _wrong_assertion(form.get("assertion", ""), f"{url}/token")
    return refused_token("invalid_grant", wrong) if wrong else None


def refused_token(code: str, said: str, status: int = 400) -> Reply:
    return Reply(status, json.dumps({"error": code, "error_description": said}).encode())


def _wrong_assertion(assertion: str, audience: str) -> str | None:
    """What is wrong with a signed claim; RFC 7523, section 3."""
    try:
        head, claims, signature = assertion.split(".")
        private_key().public_key().verify(_decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature):
        return "Invalid JWT Signature."
    header, said = json.loads(_decoded(head)), json.loads(_decoded(claims))
    if (header.get("alg"), header.get("typ")) != ("RS256", "JWT") or header.get("kid") != "9f8e7d":
        return "Invalid JWT: unknown key"
    if said.get("aud") not in (audience, "https://oauth2.googleapis.com/token") or SCOPE not in said.get("scope", ""):
        return "Invalid JWT: audience or scope"
    if said.get("iss") != EMAIL:
        return "Invalid grant: account not found"
    if not 0 < said["exp"] - said["iat"] <= 3600:
        return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    return None


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
