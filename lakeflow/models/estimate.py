"""What a run will ask of a remote model, and what that will cost, before anything is asked. Pure.

What is known is a sample of the rows, how the model was asked in earlier runs, and how it is asked now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lakeflow.models.usage import Budget, Price, Tokens


@dataclass(frozen=True, slots=True)
class Asking:
    """How a model is asked: the service's name of it, how many rows a request may hold, and what a million tokens cost.

    `writes` is False where an answer costs no tokens of its own, as a vector does.
    """

    service_model: str
    rows_a_request: int
    price: Price | None
    writes: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """What some of the rows that a job reads came to, with nothing asked.

    `read` rows were read, `given` rows came to the model; these held `wanted` distinct inputs, of which the cache has the
    answers to `kept`. The others are expected to cost `tokens`; an output of 0 is not known. `whole`: all rows were read.
    `blind`: rows may be missing or too many here, since they depend on the answers of other models, which are not known.
    """

    read: int
    given: int
    wanted: int
    kept: int
    tokens: Tokens
    whole: bool
    blind: bool = False

    @property
    def fresh(self) -> int:
        return self.wanted - self.kept


@dataclass(frozen=True, slots=True)
class Recorded:
    """What lakeflow.usage has of a model: inputs that were answered in so many runs, and the tokens that they took."""

    answered: int
    tokens: Tokens
    runs: int


@dataclass(frozen=True, slots=True)
class Amount:
    """Inputs asked, calls, tokens and cost; None where it is not known."""

    asked: int
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one model of a job will be asked: as expected, and at the most. `rows` are those that the job reads.

    `rests_on` says what that is known from, `limits` which of the run's limits it goes past.
    """

    model: str
    rows: int
    expected: Amount
    most: Amount
    rests_on: tuple[str, ...]
    limits: tuple[str, ...] = field(default=())


def estimate(
    model: str, rows: int, asking: Asking, sample: Sample | None, recorded: Recorded | None, budget: Budget = Budget()
) -> Estimate:
    """The estimate for a job that reads `rows` rows. A retry is a call that it does not foresee."""
    expected, most = _asked(rows, sample)
    each_in, each_out = _tokens_each(asking, sample, recorded)
    amounts = [_amount(asked, asking, each_in, each_out) for asked in (expected, most)]
    rests_on = (*_rows_rest_on(rows, sample), *(_tokens_rest_on(asking, sample, recorded) if most else ()))
    return Estimate(model, rows, amounts[0], amounts[1], rests_on, tuple(_passed(amounts[0], budget)))


def _asked(rows: int, sample: Sample | None) -> tuple[int, int]:
    """Distinct inputs that are asked: as expected, and at the most."""
    if sample is None or not sample.read:
        return rows, rows
    if sample.whole and not sample.blind:
        return sample.fresh, sample.fresh
    most = max(rows, _share(rows, sample.given, sample.read))
    return (most if sample.blind else _share(rows, sample.fresh, sample.read)), most


def _share(rows: int, part: int, of: int) -> int:
    return -(-rows * part // of)


def _tokens_each(asking: Asking, sample: Sample | None, recorded: Recorded | None) -> tuple[float | None, float | None]:
    """Tokens that one input takes, in and out."""
    if recorded and recorded.answered:
        return recorded.tokens.input / recorded.answered, recorded.tokens.output / recorded.answered
    output = None if asking.writes else 0.0
    if sample is None or not sample.fresh:
        return None, output
    return sample.tokens.input / sample.fresh, sample.tokens.output / sample.fresh if sample.tokens.output else output


def _amount(asked: int, asking: Asking, each_in: float | None, each_out: float | None) -> Amount:
    taken = [0 if not asked else None if each is None else round(asked * each) for each in (each_in, each_out)]
    return Amount(asked, -(-asked // asking.rows_a_request), taken[0], taken[1], _cost(asking.price, taken[0], taken[1]))


def _cost(price: Price | None, taken_in: int | None, taken_out: int | None) -> float | None:
    """None where a part of it that is not free is not known."""
    if price is None or (taken_in is None and price.input) or (taken_out is None and price.output):
        return None
    return price.of(Tokens(taken_in or 0, taken_out or 0))


def _rows_rest_on(rows: int, sample: Sample | None) -> Iterator[str]:
    if not rows:
        return
    if sample is None:
        yield "every row that is read, at the most: a filter before the model and the cache are not seen"
        return
    seen = "all rows" if sample.whole else f"{sample.read:,} of {rows:,} rows"
    kept = f", {sample.kept:,} of them in the cache" if sample.wanted else ""
    yield f"{seen}: {sample.given:,} come to the model, {sample.wanted:,} distinct{kept}"
    if sample.blind:
        yield "at the most: which rows come depends on answers that are not there yet"


def _tokens_rest_on(asking: Asking, sample: Sample | None, recorded: Recorded | None) -> Iterator[str]:
    if recorded and recorded.answered:
        runs = "1 run" if recorded.runs == 1 else f"{recorded.runs} runs"
        yield f"tokens: {recorded.answered:,} answers in the last {runs}"
    elif sample is not None and sample.fresh:
        partly = "" if sample.tokens.output or not asking.writes else "; the length of answers is not known"
        yield f"tokens: the prompts of {sample.fresh:,} rows, about{partly}"
    else:
        yield "tokens: not known"
    if asking.price is None:
        yield f"no price of {asking.service_model!r} in [models.prices]"


def _passed(expected: Amount, budget: Budget) -> Iterator[str]:
    """Which limits a run would reach, in the words of its configuration."""
    tokens = (expected.input_tokens or 0) + (expected.output_tokens or 0)
    for name, most, taken in (
        ("max_calls", budget.calls, expected.calls),
        ("max_tokens", budget.tokens, tokens),
        ("max_cost", budget.cost, expected.cost),
    ):
        if most is not None and taken is not None and taken > most:
            yield f"stops at {name} = {most:g}"
