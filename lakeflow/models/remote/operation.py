"""One operation: a request until it is answered, or until nothing more can be hoped for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from lakeflow.models.remote.dialect import Blame, Dialect, ErrorKind, Reading, Request, Signing, without_secrets
from lakeflow.models.remote.gate import Gate
from lakeflow.models.remote.settings import RemoteSettings
from lakeflow.models.usage import Price, Tokens, Usage
from lakeflow.retry import Backoff

if TYPE_CHECKING:
    from lakeflow.models.remote.clients import Response

BACKOFF = Backoff(base=0.5, cap=20.0)
OVERLOADED = (503, 529)
"""529 is Anthropic's word for it."""
NOT_TOLD = ("set-cookie", "authorization", "proxy-authenticate", "www-authenticate")
"""Headers of replies that no column shows."""
MOST_BROKEN = 3
"""So often an answer of another shape is paid for again."""

MOST_TOKENS = 1_000_000_000
"""More than any request takes; a service that counts more does not count."""


class Http(Protocol):
    """What carries requests; `Clients` is the real one."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] = ...) -> Response:
        """Raises httpx.HTTPError."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Service:
    """What operations of one model share."""

    model: str
    dialect: Dialect
    settings: RemoteSettings
    clients: Http
    gate: Gate
    usage: Usage
    price: Price | None


async def operate(
    service: Service, request: Request, rows: int, sending: Callable[[bool], None], *, patient: bool = True
) -> Reading | Blame:
    """Ask until there is an answer, retries or time are spent, or asking again is of no use.

    `sending` is told when a request goes out and when waiting begins: what is out is paid for, and worth waiting for.
    Without `patient`, since something else can answer, a service that is let alone is not waited for.
    Raises BudgetSpent before a request that the run's limits do not allow.
    """
    settings = service.settings
    deadline = _now() + settings.timeout
    broken = 0
    for attempt in range(settings.retries + 1):
        if closed := await _past_breaker(service.gate, deadline if patient else _now()):
            return closed
        deadline += await service.gate.pace(request.expected)
        sending(True)
        said = await _send(service, request, rows, deadline - _now())
        if isinstance(said, Reading):
            return said
        sending(False)
        broken += said.kind is ErrorKind.BROKEN_ANSWER
        wait = None if broken > MOST_BROKEN else wait_before_next(said, attempt, settings)
        if wait is None or _now() + wait > deadline:
            return _given_up(said, attempt + 1, settings)
        await asyncio.sleep(wait)
    raise AssertionError("the last attempt returns")


def wait_before_next(blame: Blame, attempt: int, settings: RemoteSettings) -> float | None:
    """Seconds before attempt number `attempt` + 1, where the first was 0; None where there is none. What the service asks
    for is kept to, up to a cap, with a tenth on top so that not all come back at once."""
    if not blame.kind.retryable or attempt >= settings.retries:
        return None
    if blame.retry_after is None:
        return BACKOFF.wait(attempt)
    asked_for = min(blame.retry_after, settings.retry_after_cap)
    return asked_for + BACKOFF.wait(0) * min(1.0, asked_for) / 5


def _given_up(blame: Blame, requests: int, settings: RemoteSettings) -> Blame:
    if not blame.kind.retryable or requests == 1:
        return blame
    return replace(blame, message=f"{blame.message}; {requests} requests within {settings.timeout:g} s")


async def _past_breaker(gate: Gate, deadline: float) -> Blame | None:
    """Waits until the service may be asked; what to say where that is too late."""
    while (wait := gate.breaker.wait(_now())) > 0:
        if _now() + wait > deadline:
            return Blame(
                ErrorKind.UNAVAILABLE, f"the last {gate.breaker.in_a_row} requests failed, so the service is let alone"
            )
        await asyncio.sleep(wait)
    return None


async def _send(service: Service, request: Request, rows: int, seconds: float) -> Reading | Blame:
    """One request, counted, and what the gate learns of it."""
    service.usage.reserve(service.model, request.expected, service.price)
    used = Tokens()
    sent_at = _now()
    try:
        said, status = await _exchange(service, request, rows, max(0.001, min(service.settings.request_timeout, seconds)))
        used = said.tokens
    finally:
        service.usage.settle(service.model, request.expected, used, service.price)
        service.gate.correct(request.expected, used)
    gate, now = service.gate, _now()
    match said, status:
        case Blame(kind=ErrorKind.RATE_LIMITED), _:
            gate.learned.refused(sent_at, now, gate.under_way)
        case Blame(), status if status in OVERLOADED:
            gate.concurrency.refused(sent_at, now)
        case _, 200:
            gate.learned.answered(now)
            gate.concurrency.answered()
        case _:
            pass
    if isinstance(said, Blame) and said.kind.of_the_service:
        gate.breaker.failed(now)
    else:
        gate.breaker.answered()
    return said


async def _exchange(service: Service, request: Request, rows: int, seconds: float) -> tuple[Reading | Blame, int]:
    """What came back, and its status; 0 where nothing did."""
    import httpx

    dialect, url = service.dialect, request.url or service.dialect.url
    try:
        async with asyncio.timeout(seconds):
            signed = await cast(Signing, dialect).sign(url, request.body) if _signs(type(dialect)) else {}
            if isinstance(signed, Blame):
                return replace(signed, message=_clean(signed.message, dialect)), 0
            answer = await service.clients.post(url, request.body, signed)
    except TimeoutError:
        return Blame(ErrorKind.TIMEOUT, f"no answer within {seconds:.3g} s"), 0
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        return Blame(ErrorKind.UNAVAILABLE, f"{url}: {_clean(said, dialect)}"), 0
    said_back = _read(dialect, answer, rows)
    if isinstance(said_back, Blame):
        headers = {name: _clean(text, dialect) for name, text in answer.headers.items() if name not in NOT_TOLD}
        said_back = replace(
            said_back, message=_clean(said_back.message, dialect), status=said_back.status or answer.status, headers=headers
        )
    return said_back, answer.status


@cache
def _signs(kind: type) -> bool:
    """Whether dialects of a kind sign; to find that out costs a tenth of a request."""
    return issubclass(kind, Signing)


def _read(dialect: Dialect, answer: Response, rows: int) -> Reading | Blame:
    """What came back, in the dialect's words; a count of tokens that cannot be is none."""
    said = _said(dialect, answer, rows)
    return said if said.tokens.total <= MOST_TOKENS else replace(said, tokens=Tokens())


def _said(dialect: Dialect, answer: Response, rows: int) -> Reading | Blame:
    """An answer is taken as it came; what is told of another one is told without the secrets in it."""
    if answer.status != 200:
        return dialect.blame(answer.status, answer.headers, without_secrets(answer.body, dialect.secrets))
    said = dialect.read(answer.body, rows)
    if isinstance(said, Blame) and (clean := without_secrets(answer.body, dialect.secrets)) != answer.body:
        again = dialect.read(clean, rows)
        return again if isinstance(again, Blame) else said
    return said


def _clean(text: str, dialect: Dialect) -> str:
    """What the service said, without the secrets that it may have repeated."""
    for secret in dialect.secrets:
        text = text.replace(secret, "***")
    return text


def _now() -> float:
    return asyncio.get_running_loop().time()
