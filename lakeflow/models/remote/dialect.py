"""What one service says and how: the only part of a remote provider that is its own. Everything else is shared.

A `Dialect` makes a request of rows and reads what came back: answers, or what is to blame. It opens nothing and waits
for nothing, so it is tested on recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from lakeflow.models.usage import Tokens

Row = Mapping[str, object]
"""INPUT values by column, as Arrow gives them to Python."""

Answer = tuple[object, ...]
"""A value of JSON for each answer column, in the order of OUTPUT."""


NONE = Tokens()


class ErrorKind(StrEnum):
    """Why rows have no answer."""

    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    BROKEN_ANSWER = "broken_answer"
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    UNAUTHORIZED = "unauthorized"
    QUOTA = "quota"
    MISUSED = "misused"
    MISFIT = "misfit"
    """The row itself does not fit the model; nobody was asked, or a model in this process refused it."""

    @property
    def retryable(self) -> bool:
        """Whether the same request may be answered later."""
        return self in (ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT, ErrorKind.BROKEN_ANSWER)

    @property
    def of_all_rows(self) -> bool:
        """Whether it says nothing about the rows that were asked: any other would meet it too, so no row is given up for it."""
        return self in (ErrorKind.UNAUTHORIZED, ErrorKind.QUOTA, ErrorKind.MISUSED)

    @property
    def of_one_row(self) -> bool:
        """Whether halves of the same rows may fare better."""
        return self in (ErrorKind.REFUSED, ErrorKind.TOO_LARGE, ErrorKind.TRUNCATED, ErrorKind.BROKEN_ANSWER)

    @property
    def of_the_service(self) -> bool:
        """Whether it is a sign of an outage."""
        return self in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT)


@dataclass(frozen=True, slots=True)
class Request:
    """A body of JSON, and the tokens that it is expected to cost. `url` takes the place of the dialect's for this one."""

    body: bytes = field(repr=False)
    expected: Tokens = NONE
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer for each row of a request, in their order, and what they cost."""

    answers: tuple[Answer, ...]
    tokens: Tokens = NONE


@dataclass(frozen=True, slots=True)
class Blame:
    """Why a request was not answered. `retry_after` is in seconds, as the service asked; `tokens` were paid nonetheless.

    `status` and `headers` are of the reply; who asks fills them in, no dialect has to.
    """

    kind: ErrorKind
    message: str
    retry_after: float | None = None
    tokens: Tokens = NONE
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


SHORTEST_MASKED = 8
"""Shorter ones are no keys, and may be words of the service's own."""


def without_secrets(body: bytes, secrets: Sequence[str]) -> bytes:
    """What a service said without the secrets that it repeated: a message that is cut out of it must not end within one."""
    for secret in secrets:
        if len(secret) >= SHORTEST_MASKED:
            for spelling in {secret, secret.replace("/", r"\/")}:
                body = body.replace(spelling.encode(), b"***")
    return body


class Dialect(Protocol):
    """One model of one service. `columns` are the INPUT columns that a question holds, `rows_a_request` how many rows one
    request may hold. `secrets` never leave it but in `headers`; they are taken out of whatever the service says."""

    columns: tuple[str, ...]
    url: str
    service_model: str
    rows_a_request: int
    secrets: tuple[str, ...]

    def headers(self) -> Mapping[str, str]:
        """The headers of every request."""
        ...

    def identity(self) -> Mapping[str, str]:
        """What decides the answers, by name."""
        ...

    def request(self, rows: Sequence[Row]) -> Request:
        """One request for all of `rows`, `rows_a_request` of them at the most."""
        ...

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        """What a 200 says about that many rows. Never raises: an answer of another shape is `Blame`."""
        ...

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        """What any other status means; header names are in lower case."""
        ...


@runtime_checkable
class Signing(Protocol):
    """A dialect whose requests prove anew each time who asks: by a signature, or by a token that runs out."""

    async def sign(self, url: str, body: bytes) -> Mapping[str, str] | Blame:
        """The headers to add to this attempt, or why there are none. Runs on the loop: what waits is awaited, and what
        computes or reads for long goes to a thread. What it makes for the request joins `secrets` for as long as it is valid.
        """
        ...
