"""A remote model as a Provider: what every service shares, over the dialect of one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from pathlib import Path

import pyarrow as pa

from lakeflow.errors import ConfigError, Interrupted, ModelError
from lakeflow.models.answering import Answers, Leniency, with_told_columns
from lakeflow.models.cache import answer_key
from lakeflow.models.failing import Failed, OnError, error_of, read_failing
from lakeflow.models.prompt import Prompt, is_missing
from lakeflow.models.remote.asking import Asker, Outcome
from lakeflow.models.remote.dialect import Dialect, ErrorKind, Row
from lakeflow.models.remote.loop import submit
from lakeflow.models.remote.settings import NullPolicy, RemoteSettings
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.shapes import column_of
from lakeflow.models.spec import ModelSpec, Task, fingerprint_of
from lakeflow.models.usage import Price

LOOKS_EVERY = 0.2
"""Seconds between two looks at whether a signal came."""
CLOSING = 5.0
_ASKED = b""
"""In place of the key of a row that is still to be given one."""


def answer_columns(spec: ModelSpec, settings: RemoteSettings) -> list[pa.Field]:
    """The OUTPUT columns that a service fills: all, but those that lakeflow does."""
    told = read_failing(spec).told
    return [one for one in spec.output if one.name not in told]


class RemoteProvider:
    """See `Provider` and `Telling`. A provider of a service is a subclass whose constructor reads its options and makes its
    dialect.

    `prompt` is that of the dialect, where rows may be longer than the model's context.
    """

    def __init__(self, spec: ModelSpec, settings: RemoteSettings, dialect: Dialect, prompt: Prompt | None = None) -> None:
        self._spec = spec
        self._settings = settings
        self._failing = read_failing(spec)
        self._columns = answer_columns(spec, settings)
        self._dialect = dialect
        self._prompt = prompt
        self._surroundings = Surroundings()
        self._asker: Asker | None = None
        self._running: set[Future[dict[bytes, Outcome]]] = set()
        self._fingerprint = ""

    def surround(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def identity(self) -> Mapping[str, str | Path]:
        context = self._prompt.identity() if self._prompt else {}
        return {**self._dialect.identity(), **context, "null_policy": str(self._settings.null_policy)}

    def check(self) -> None:
        if self._asker is not None:
            return
        price = self._price()
        if self._prompt:
            self._prompt.check()
        self._fingerprint = fingerprint_of(self._spec, self.identity())
        self._asker = submit(self._opened(price)).result()

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        told = self.tell(rows, Leniency(strict=self._failing.on_error is OnError.FAIL))
        return with_told_columns(told, self._spec.output, self._failing)

    def tell(self, rows: pa.RecordBatch, leniency: Leniency) -> Answers:
        if self._asker is None:
            raise ModelError(f"{self._spec.label} is asked before it was checked, or after it was closed")
        outcomes: list[Outcome | bytes | None] = []
        wanted: dict[bytes, Row] = {}
        for number, row in enumerate(rows.select(list(self._dialect.columns)).to_pylist()):
            outcome = self._passed_by(row, number, leniency)
            if outcome is _ASKED and self._prompt is not None and self._prompt.skips(row):
                outcome = None
            if outcome is _ASKED:
                outcome = answer_key(self._fingerprint, row)
                wanted.setdefault(outcome, row)
            outcomes.append(outcome)
        found = self._asked(self._asker, wanted, leniency) if wanted else {}
        return self._answers([found[one] if isinstance(one, bytes) else one for one in outcomes], leniency)

    def close(self) -> None:
        asker, self._asker = self._asker, None
        for running in list(self._running):
            running.cancel()
        if asker is not None:
            wait([submit(asker.service.clients.close())], timeout=CLOSING)

    async def _opened(self, price: Price | None) -> Asker:
        from lakeflow.models.remote.clients import Clients
        from lakeflow.models.remote.gate import gate_of
        from lakeflow.models.remote.operation import Service

        settings, dialect = self._settings, self._dialect
        clients = Clients(dialect.headers(), settings.concurrency)
        gate = gate_of(dialect, settings)
        service = Service(self._spec.name, dialect, settings, clients, gate, self._surroundings.usage, price)
        store = self._surroundings.answers if settings.cache else None
        if (rehearsal := self._surroundings.rehearsal) is not None:
            return rehearsal.asker(self._spec, service, store, self._columns)
        return Asker(self._spec.label, service, store)

    def _price(self) -> Price | None:
        """Raises ConfigError where the run's cost is limited and the price not known."""
        price = self._settings.price or self._surroundings.prices.get(self._dialect.service_model)
        if price is None and self._surroundings.usage.budget.cost is not None:
            name = self._dialect.service_model
            raise ConfigError(
                f"{self._spec.label}: max_cost in [models] needs the price of {name!r}, which is not known",
                next_step=f'add "{name}" = {{ input = 0.15, output = 0.60 }} with its prices under [models.prices], '
                "or 'price_input' and 'price_output' to the model",
            )
        return price

    def _passed_by(self, row: Row, number: int, leniency: Leniency) -> Outcome | bytes | None:
        """What a row comes to that is not asked: None for one that is answered with nulls. A blank text has no vector."""
        if self._spec.task is Task.EMBEDDING and all(is_missing(one) or not str(one).strip() for one in row.values()):
            return None
        missing = [name for name, value in row.items() if is_missing(value)]
        match self._settings.null_policy:
            case NullPolicy.NULL:
                return None if missing else _ASKED
            case NullPolicy.ASK:
                return None if len(missing) == len(row) else _ASKED
            case NullPolicy.ERROR:
                if missing and leniency.strict:
                    raise ModelError(
                        f"{self._spec.label}: INPUT {missing[0]!r} is null in row {number} of those handed over",
                        next_step="filter such rows out in the job, or say 'null_policy' = 'null' or 'ask'",
                    )
                return Failed(ErrorKind.MISFIT, f"INPUT {missing[0]!r} is null") if missing else _ASKED

    def _asked(self, asker: Asker, wanted: Mapping[bytes, Row], leniency: Leniency) -> dict[bytes, Outcome]:
        """Waits for the loop. A signal stops it where nothing paid for is lost by that: where answers are kept."""
        future = submit(asker.ask(wanted, leniency))
        self._running.add(future)
        try:
            while not wait([future], timeout=LOOKS_EVERY).done:
                if asker.store is not None and self._surroundings.stop():
                    raise Interrupted(
                        f"{self._spec.label} was stopped by a signal while it was asked",
                        left_behind="every answer that came, in the cache",
                        next_step="run again: it goes on from there",
                    )
            if future.cancelled():
                raise ModelError(f"{self._spec.label} was closed while it was asked")
            return future.result()
        finally:
            future.cancel()
            self._running.discard(future)

    def _answers(self, outcomes: list[Outcome | None], leniency: Leniency) -> Answers:
        failed = {place: one for place, one in enumerate(outcomes) if isinstance(one, Failed)}
        if failed and leniency.strict:  # another call was asking it, and was lenient
            raise error_of(self._spec.label, next(iter(failed.values())))
        answers = [one if isinstance(one, tuple) else None for one in outcomes]
        schema = pa.schema(self._columns)
        arrays = [
            self._column([None if one is None else one[place] for one in answers], column, len(failed))
            for place, column in enumerate(schema)
        ]
        return Answers(pa.RecordBatch.from_arrays(arrays, schema=schema), failed)

    def _column(self, values: list[object], column: pa.Field, failed: int) -> pa.Array:
        array = column_of(values, column)
        if array.null_count > failed and not column.nullable:
            raise ModelError(
                f"{self._spec.label}: OUTPUT {column.name!r} is NOT NULL, and {array.null_count - failed} rows are not asked, "
                "since they hold nulls",
                next_step="take NOT NULL away, or say 'null_policy' = 'error'",
            )
        return array
