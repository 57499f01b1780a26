"""How much the models of a run were asked, what that cost, and where it has to stop."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from lakeflow.errors import BudgetSpent


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens as a service counts them."""

    input: int = 0
    output: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in the user's own currency."""

    input: float
    output: float

    def of(self, tokens: Tokens) -> float:
        """What so many tokens cost."""
        return (tokens.input * self.input + tokens.output * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class Asked:
    """Of one model: rows handed to it, calls that handed them, and the wall seconds of those calls, threads added up; `reused`
    are rows whose vectors were taken from a job's target in its place.

    The rest is of remote models: requests sent, failed ones and retries among them; distinct inputs that were found in
    the cache, that were answered by the service, and that were left without an answer; tokens paid for, and their cost
    where a price is known.
    """

    rows: int = 0
    calls: int = 0
    seconds: float = 0.0
    requests: int = 0
    cached: int = 0
    answered: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    reused: int = 0

    def __add__(self, other: Asked) -> Asked:
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        summed = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return Asked(**summed, cost=sum(costs) if costs else None)

    def __sub__(self, before: Asked) -> Asked:
        """What came since `before`."""
        cost = None if self.cost is None else self.cost - (before.cost or 0.0)
        return Asked(**{name: getattr(self, name) - getattr(before, name) for name in _COUNTS}, cost=cost)


_COUNTS = tuple(one.name for one in fields(Asked) if one.name != "cost")


@dataclass(frozen=True, slots=True)
class Budget:
    """What remote models may take in a run at the most, all of them together."""

    calls: int | None = None
    tokens: int | None = None
    cost: float | None = None


@dataclass(slots=True)
class _Pending:
    """What requests under way are expected to take."""

    tokens: int = 0
    cost: float = 0.0


@dataclass(slots=True)
class Usage:
    """Counts per model name, since the start and since the run began. Thread-safe."""

    budget: Budget = field(default_factory=Budget)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _asked: dict[str, Asked] = field(default_factory=dict)
    _before: dict[str, Asked] = field(default_factory=dict)
    _pending: _Pending = field(default_factory=_Pending)

    def add(self, model: str, rows: int, seconds: float) -> None:
        """One more call, of `rows` rows."""
        self.count(model, Asked(rows, 1, seconds))

    def count(self, model: str, more: Asked) -> None:
        """Add to a model's counts."""
        with self._lock:
            self._count(model, more)

    def by_model(self) -> Mapping[str, Asked]:
        """The counts as of now."""
        with self._lock:
            return dict(self._asked)

    def begin_run(self, so_far: Mapping[str, Asked] = MappingProxyType({})) -> None:
        """From here on, `of_run` counts and the budget is that of a new run, or of one that has asked `so_far` already."""
        with self._lock:
            self._before = {model: asked - so_far.get(model, Asked()) for model, asked in self._asked.items()}

    def of_run(self) -> Mapping[str, Asked]:
        """The counts since the run began, of the models that were asked."""
        with self._lock:
            return self._of_run()

    def reserve(self, model: str, expected: Tokens, price: Price | None) -> None:
        """Count a request that is about to be sent. Raises BudgetSpent, nothing counted, where it might not be paid for."""
        cost = price.of(expected) if price else 0.0
        with self._lock:
            run = list(self._of_run().values())
            spent = Budget(
                sum(one.requests for one in run),
                sum(one.input_tokens + one.output_tokens for one in run) + self._pending.tokens,
                sum(one.cost or 0.0 for one in run) + self._pending.cost,
            )
            _check(self.budget, spent, Budget(1, expected.total, cost), model)
            self._count(model, Asked(requests=1))
            self._pending.tokens += expected.total
            self._pending.cost += cost

    def settle(self, model: str, expected: Tokens, used: Tokens, price: Price | None) -> None:
        """What a reserved request took in the end."""
        cost = price.of(used) if price else None
        with self._lock:
            self._pending.tokens -= expected.total
            self._pending.cost -= price.of(expected) if price else 0.0
            self._count(model, Asked(input_tokens=used.input, output_tokens=used.output, cost=cost))

    def _count(self, model: str, more: Asked) -> None:
        self._asked[model] = self._asked.get(model, Asked()) + more

    def _of_run(self) -> dict[str, Asked]:
        since = {model: asked - self._before.get(model, Asked()) for model, asked in self._asked.items()}
        return {model: asked for model, asked in since.items() if asked.calls or asked.requests or asked.cached or asked.reused}


def _check(budget: Budget, spent: Budget, more: Budget, model: str) -> None:
    for name in ("calls", "tokens", "cost"):
        most, so_far, next_one = getattr(budget, name), getattr(spent, name), getattr(more, name)
        if most is not None and so_far + next_one > most:
            raise BudgetSpent(
                f"model {model!r} is not asked any further: the run may take {most:g} {name} (max_{name} in [models]), "
                f"and with {so_far:g} taken or under way the next call is expected to take {next_one:g}",
                left_behind="the steps that were committed, and in the cache every answer that was paid for",
                next_step=f"raise max_{name} in [models], or run again: what is in the cache is not paid for anew",
            )
