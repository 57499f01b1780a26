"""A remote model as a Provider: what every service shares, over the dialect of one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from pathlib import Path

import pyarrow as pa

from lakeflow.errors import ConfigError, Interrupted, ModelError
from lakeflow.models.cache import answer_key
from lakeflow.models.prompt import Prompt, is_missing
from lakeflow.models.remote.asking import Asker, Failed, Outcome
from lakeflow.models.remote.dialect import Dialect, Row
from lakeflow.models.remote.loop import submit
from lakeflow.models.remote.settings import NullPolicy, RemoteSettings
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.shapes import column_of
from lakeflow.models.spec import ERROR_COLUMNS, ModelSpec, Task, fingerprint_of
from lakeflow.models.usage import Price

LOOKS_EVERY = 0.2
"""Seconds between two looks at whether a signal came."""
CLOSING = 5.0


def answer_columns(spec: ModelSpec, settings: RemoteSettings) -> list[pa.Field]:
    """The OUTPUT columns that a service fills: all, but those that tell of errors."""
    return [one for one in spec.output if not (settings.error_columns and one.name in ERROR_COLUMNS)]


class RemoteProvider:
    """See `Provider`. A provider of a service is a subclass whose constructor reads its options and makes its dialect.

    `prompt` is that of the dialect, where rows may be longer than the model's context.
    """

    def __init__(self, spec: ModelSpec, settings: RemoteSettings, dialect: Dialect, prompt: Prompt | None = None) -> None:
        self._spec = spec
        self._settings = settings
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
        if self._asker is None:
            raise ModelError(f"{self._spec.label} is asked before it was checked, or after it was closed")
        keys: list[bytes | None] = []
        wanted: dict[bytes, Row] = {}
        for number, row in enumerate(rows.select(list(self._dialect.columns)).to_pylist()):
            passed = self._passes_by(row, number) or (self._prompt is not None and self._prompt.skips(row))
            key = None if passed else answer_key(self._fingerprint, row)
            keys.append(key)
            if key is not None:
                wanted.setdefault(key, row)
        outcomes = self._asked(self._asker, wanted) if wanted else {}
        return self._columns([None if key is None else outcomes[key] for key in keys])

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
        return Asker(self._spec.label, service, self._surroundings.answers if settings.cache else None)

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

    def _passes_by(self, row: Row, number: int) -> bool:
        """Whether a row is answered with nulls and not asked. A blank text has no vector."""
        if self._spec.task is Task.EMBEDDING and all(is_missing(one) or not str(one).strip() for one in row.values()):
            return True
        missing = [name for name, value in row.items() if is_missing(value)]
        match self._settings.null_policy:
            case NullPolicy.NULL:
                return bool(missing)
            case NullPolicy.ASK:
                return len(missing) == len(row)
            case NullPolicy.ERROR:
                if missing:
                    raise ModelError(
                        f"{self._spec.label}: INPUT {missing[0]!r} is null in row {number} of those handed over",
                        next_step="filter such rows out in the job, or say 'null_policy' = 'null' or 'ask'",
                    )
                return False

    def _asked(self, asker: Asker, wanted: Mapping[bytes, Row]) -> dict[bytes, Outcome]:
        """Waits for the loop. A signal stops it where nothing paid for is lost by that: where answers are kept."""
        future = submit(asker.ask(wanted))
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

    def _columns(self, outcomes: list[Outcome | None]) -> pa.RecordBatch:
        answers = [one if isinstance(one, tuple) else None for one in outcomes]
        errors = [one if isinstance(one, Failed) else None for one in outcomes]
        places = {column.name: place for place, column in enumerate(answer_columns(self._spec, self._settings))}
        arrays = []
        for column in self._spec.output:
            if column.name in places:
                place = places[column.name]
                arrays.append(self._column([None if one is None else one[place] for one in answers], column))
            elif column.name == "error_kind":
                arrays.append(pa.array([None if one is None else str(one.kind) for one in errors], column.type))
            else:
                arrays.append(pa.array([None if one is None else one.message for one in errors], column.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self._spec.output)

    def _column(self, values: list[object], column: pa.Field) -> pa.Array:
        array = column_of(values, column)
        if array.null_count and not column.nullable:
            raise ModelError(
                f"{self._spec.label}: OUTPUT {column.name!r} is NOT NULL, and {array.null_count} rows have no answer",
                next_step="take NOT NULL away, or say 'null_policy' = 'error' and 'on_error' = 'fail'",
            )
        return array
