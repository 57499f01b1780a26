"""The token that requests to Vertex AI bear: one that is given, or one that an account gets anew before it runs out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models.providers.declared import header_text
from lakeflow.models.providers.http_errors import fields_of, shown
from lakeflow.models.providers.vertex_accounts import NO_HEADERS, Account, account_in, machines_account
from lakeflow.models.remote.dialect import Blame, ErrorKind, without_secrets
from lakeflow.models.spec import ModelSpec

if TYPE_CHECKING:
    import ssl

    import httpx

RENEW_BEFORE = 300.0
"""Seconds before its end at which a token is renewed; a tenth of its time where that is less."""
YOUNG = 60.0
"""A token of less than so many seconds that is refused is not refused for its age."""
ACCESS_OPTIONS = ("access_token", "service_account", "service_account_file", "service_key")
_LATER = ("internal_failure", "server_error", "temporarily_unavailable")


class Bearer(Protocol):
    """Where tokens come from. `headers` go with them; `secrets` are never shown."""

    headers: Mapping[str, str]
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
    """By the one of ACCESS_OPTIONS that is given. Opens nothing. Raises DeclarationError."""
    given = [name for name in ACCESS_OPTIONS if spec.options.get(name, "").strip()]
    if len(given) != 1:
        said = f"gives {' and '.join(map(repr, given))}" if given else "says not as whom the service is asked"
        raise DeclarationError(
            f"{spec.label}: it {said}; valid: one of {', '.join(ACCESS_OPTIONS)}",
            next_step="add 'service_account_file' = 'key.json', the key of a service account that may use Vertex AI, or, on "
            "Google's machines, 'service_account' = 'default'",
        )
    match given[0]:
        case "access_token":
            return GivenToken(header_text(spec, "access_token"))
        case "service_account":
            name = spec.options["service_account"].strip()
            return RenewedToken(spec.label, lambda: machines_account(name))
        case "service_account_file":
            path = spec.path("service_account_file")
            return RenewedToken(spec.label, lambda: account_in(spec.label, path))
        case _:
            return RenewedToken(spec.label, lambda: account_in(spec.label, spec.options["service_key"]))


class GivenToken:
    """See `Bearer`."""

    def __init__(self, token: str) -> None:
        self.headers = NO_HEADERS
        self.secrets: tuple[str, ...] = (token,)

    def open(self) -> None:
        """There is nothing to open."""

    async def token(self) -> str | Blame:
        return self.secrets[0]

    def refused(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Token:
    """Times in seconds since 1970."""

    text: str = field(repr=False)
    since: float
    until: float

    def is_due(self, now: float) -> bool:
        """Whether to get another one."""
        return now >= self.until - min(RENEW_BEFORE, (self.until - self.since) / 10)


class RenewedToken:
    """See `Bearer`. `read` reads the account, at the first `open`. Tokens are asked for on the loop alone.

    Times are those of the wall clock: the monotonic one stands still while a machine sleeps, and a token does not.
    """

    def __init__(self, label: str, read: Callable[[], Account], clock: Callable[[], float] = time.time) -> None:
        self.headers = NO_HEADERS
        self.secrets: tuple[str, ...] = ()
        self._label = label
        self._read = read
        self._clock = clock
        self._account: Account | None = None
        self._context: ssl.SSLContext | None = None
        self._token: Token | None = None
        self._refused_at = float("-inf")
        self._turn = asyncio.Lock()

    def open(self) -> None:
        if self._account is not None:
            return
        import httpx

        self._account = self._read()
        self._context = httpx.create_ssl_context()
        self.headers, self.secrets = self._account.headers, self._account.secrets

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
        """Requests that were under way with the same token are refused with it, some of them when there is another one."""
        now = self._clock()
        if self._token is not None and now - self._token.since > YOUNG:
            self._token, self._refused_at = None, now
        return now - self._refused_at < YOUNG

    async def _asked(self, now: float) -> Token | Blame:
        import httpx

        account, context = self._account, self._context
        if account is None or context is None:
            raise ModelError(f"{self._label} is asked before it was checked")
        try:
            async with httpx.AsyncClient(verify=context, timeout=None) as client:
                answer = await _answer(client, account, int(now))
        except httpx.HTTPError as error:
            return Blame(ErrorKind.UNAVAILABLE, f"no token from {account.address}: {shown(str(error)) or type(error).__name__}")
        content = answer.content if answer.status_code == 200 else without_secrets(answer.content, account.secrets)
        return token_of(answer.status_code, content, now, account)


async def _answer(client: httpx.AsyncClient, account: Account, now: int) -> httpx.Response:
    if account.form is None:
        return await client.get(account.address, headers={"metadata-flavor": "Google"})
    return await client.post(account.address, data=dict(account.form(now)))


def token_of(status: int, body: bytes, now: float, account: Account) -> Token | Blame:
    """What the token endpoint says. Its errors are those of RFC 6749, section 5.2."""
    answer = fields_of(body)
    match answer:
        case {"access_token": str(text), "expires_in": int(seconds)} if status == 200 and text and seconds > 0:
            return Token(text, now, now + seconds)
        case _:
            pass
    code, said = str(answer.get("error", "")), shown(str(answer.get("error_description", "")))
    message = f"{account.name} gets no token from {account.address}: HTTP {status} {code} {said}".rstrip()
    if status == 200 or status == 429 or status >= 500 or code in _LATER:
        return Blame(ErrorKind.UNAVAILABLE, message)
    return Blame(ErrorKind.UNAUTHORIZED, message)
