"""The token that requests to Vertex AI bear: one that is given, or one that a service account gets anew each hour.

Sources: RFC 7523 (a JWT in exchange for a token), RFC 7515 with RS256 of RFC 7518, and Google's "Using OAuth 2.0 for server
to server applications".
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models.providers.declared import header_text
from lakeflow.models.providers.http_errors import fields_of, shown
from lakeflow.models.remote.dialect import Blame, ErrorKind
from lakeflow.models.spec import ModelSpec

if TYPE_CHECKING:
    import ssl

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_SECONDS = 3600
"""As long as Google lets an assertion be valid."""
RENEW_BEFORE = 300.0
"""Seconds before its end at which a token is renewed; a tenth of its time where that is less."""
YOUNG = 60.0
"""A token of less than so many seconds that is refused is not refused for its age."""
LOCAL = ("localhost", "127.0.0.1", "::1")
INSTALL = 'pip install "lakeflow[vertex]"'


class Bearer(Protocol):
    """Where tokens come from. `secrets` are never shown."""

    secrets: tuple[str, ...]

    def open(self) -> None:
        """Reads what it needs; may be called again. Raises ModelError."""
        ...

    async def token(self) -> str | Blame:
        """One that is valid now, or why there is none."""
        ...

    def refused(self) -> bool:
        """The service refused the token: whether another one is worth a try."""
        ...


def read_bearer(spec: ModelSpec) -> Bearer:
    """One of the options 'access_token', 'service_key' and 'service_account_file'. Raises DeclarationError."""
    names = ("access_token", "service_account_file", "service_key")
    given = [name for name in names if spec.options.get(name, "").strip()]
    if len(given) != 1:
        said = f"gives {' and '.join(map(repr, given))}" if given else "says not as whom the service is asked"
        raise DeclarationError(
            f"{spec.label}: it {said}; valid: one of {', '.join(names)}",
            next_step="add 'service_account_file' = 'key.json', the key of a service account that may use Vertex AI",
        )
    match given[0]:
        case "access_token":
            return GivenToken(header_text(spec, "access_token"))
        case "service_account_file":
            return ServiceAccount(spec.label, spec.path("service_account_file"))
        case _:
            return ServiceAccount(spec.label, spec.options["service_key"])


class GivenToken:
    """See `Bearer`."""

    def __init__(self, token: str) -> None:
        self.secrets: tuple[str, ...] = (token,)

    def open(self) -> None:
        """There is nothing to open."""

    async def token(self) -> str | Blame:
        return self.secrets[0]

    def refused(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Key:
    """What a service account's key file holds."""

    email: str
    key_id: str
    address: str
    private: RSAPrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """Times in seconds since 1970."""

    text: str = field(repr=False)
    since: float
    until: float

    def is_due(self, now: float) -> bool:
        """Whether to get another one."""
        return now >= self.until - min(RENEW_BEFORE, (self.until - self.since) / 10)


class ServiceAccount:
    """See `Bearer`. `source` is the key file's path, or what stands in it. Tokens are asked for on the loop alone.

    Times are those of the wall clock: the monotonic one stands still while a machine sleeps, and a token does not.
    """

    def __init__(self, label: str, source: Path | str, clock: Callable[[], float] = time.time) -> None:
        self.secrets: tuple[str, ...] = ()
        self._label = label
        self._source = source
        self._clock = clock
        self._key: Key | None = None
        self._context: ssl.SSLContext | None = None
        self._token: Token | None = None
        self._refused_at = float("-inf")
        self._turn = asyncio.Lock()

    def open(self) -> None:
        if self._key is not None:
            return
        import httpx

        text = self._source if isinstance(self._source, str) else _content(self._label, self._source)
        place = "service_key" if isinstance(self._source, str) else str(self._source)
        fields = fields_of(text.encode("utf-8", "replace"))
        self._key = key_of(self._label, place, fields)
        self._context = httpx.create_ssl_context()
        self.secrets = (fields["private_key"].strip(),)

    async def token(self) -> str | Blame:
        async with self._turn:
            now = self._clock()
            if self._token is None or self._token.is_due(now):
                got = await self._asked(now)
                if isinstance(got, Token):
                    self._token = got
                elif self._token is None or now >= self._token.until:
                    return got
            return self._token.text

    def refused(self) -> bool:
        """Requests that were under way with the same token are refused with it, some of them when it is gone already."""
        now = self._clock()
        if self._token is not None and now - self._token.since > YOUNG:
            self._token, self._refused_at = None, now
        return now - self._refused_at < YOUNG

    async def _asked(self, now: float) -> Token | Blame:
        import httpx

        key = self._key
        if key is None or self._context is None:
            raise ModelError(f"{self._label} is asked before it was checked")
        form = {"grant_type": GRANT, "assertion": assertion(key, int(now))}
        try:
            async with httpx.AsyncClient(verify=self._context, timeout=None) as client:
                answer = await client.post(key.address, data=form)
        except httpx.HTTPError as error:
            return Blame(ErrorKind.UNAVAILABLE, f"no token from {key.address}: {shown(str(error)) or type(error).__name__}")
        return token_of(answer.status_code, answer.content, now, key)


def key_of(label: str, place: str, fields: Mapping[str, Any]) -> Key:
    """The key in a file of JSON. Raises ModelError, which shows nothing of it."""
    wanted = ("client_email", "private_key", "private_key_id", "token_uri")
    missing = [name for name in wanted if not isinstance(fields.get(name), str)]
    if fields.get("type") != "service_account" or missing:
        said = f"has no {missing[0]!r}" if missing else f"is of type {fields.get('type')!r}"
        raise ModelError(
            f"{label}: {place} is no key of a service account: it {said}",
            next_step="create one with `gcloud iam service-accounts keys create key.json --iam-account=..`",
        )
    parts = urlsplit(fields["token_uri"])
    if parts.scheme != "https" and parts.hostname not in LOCAL:
        raise ModelError(f"{label}: {place} names a token_uri without https: {fields['token_uri']!r}")
    return Key(fields["client_email"], fields["private_key_id"], fields["token_uri"], _private(label, place, fields))


def assertion(key: Key, now: int) -> str:
    """The signed claim that is exchanged for a token."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    head = {"alg": "RS256", "typ": "JWT", "kid": key.key_id}
    claims = {"iss": key.email, "scope": SCOPE, "aud": key.address, "iat": now, "exp": now + ASSERTION_SECONDS}
    said = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
    return f"{said}.{_encoded(key.private.sign(said.encode(), PKCS1v15(), SHA256()))}"


def token_of(status: int, body: bytes, now: float, key: Key) -> Token | Blame:
    """What the token endpoint says. Its errors are those of RFC 6749, section 5.2."""
    answer = fields_of(body)
    match answer:
        case {"access_token": str(text), "expires_in": int(seconds)} if status == 200 and text and seconds > 0:
            return Token(text, now, now + seconds)
        case _:
            pass
    code, said = str(answer.get("error", "")), shown(str(answer.get("error_description", "")))
    message = f"{key.email} gets no token from {key.address}: HTTP {status} {code} {said}".rstrip()
    if status == 200 or status == 429 or status >= 500 or code in ("internal_failure", "temporarily_unavailable"):
        return Blame(ErrorKind.UNAVAILABLE, message)
    return Blame(ErrorKind.UNAUTHORIZED, message)


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
