"""The models of a project by name: listed for free, opened when first asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.errors import DeclarationError, ModelError, UnknownName, UsageError
from lakeflow.models.providers import provider_type
from lakeflow.models.providers.base import Provider
from lakeflow.models.remote.surroundings import Surrounded, Surroundings
from lakeflow.models.spec import ModelSpec, fingerprint_of
from lakeflow.models.usage import Usage

if TYPE_CHECKING:
    from lakeflow.models.remote.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """An opened model whose artifacts fit its declaration."""

    spec: ModelSpec
    provider: Provider
    usage: Usage = field(default_factory=Usage)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """OUTPUT columns for rows of exactly the INPUT columns; counted in `usage`. Raises what the provider raises.

        Raises ModelError where the provider breaks its contract: another number of rows, other columns or types.
        """
        started = time.perf_counter()
        answers = self.provider.predict(rows)
        self.usage.add(self.spec.name, rows.num_rows, time.perf_counter() - started)
        if answers.num_rows != rows.num_rows:
            raise ModelError(f"{self.spec.label} gave {answers.num_rows} answers to {rows.num_rows} rows")
        given = [(column.name, column.type) for column in answers.schema]
        declared = [(column.name, column.type) for column in self.spec.output]
        if given != declared:
            raise ModelError(f"{self.spec.label} gave the columns {_listed(given)}; OUTPUT declares {_listed(declared)}")
        return answers

    def fingerprint(self) -> str:
        """The same as `spec.fingerprint()`."""
        return fingerprint_of(self.spec, self.provider.identity())


def new_provider(spec: ModelSpec) -> Provider:
    """The registered provider of a spec, nothing opened yet."""
    return provider_type(spec.provider, spec.label)(spec)


class ModelSet:
    """The models of a project. Thread-safe. `new_provider` is passed in where a fake is to answer.

    `surroundings` is what remote models share: the cache, prices, limits; their counts are `usage`.

    Raises DeclarationError where two specs have one name.
    """

    def __init__(
        self,
        specs: Iterable[ModelSpec],
        new_provider: Callable[[ModelSpec], Provider] = new_provider,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise DeclarationError(f"{spec.label} is declared twice: first as {self._specs[spec.name].label}")
            self._specs[spec.name] = spec
        self._new_provider = new_provider
        self._opened: dict[str, Model] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._surroundings = surroundings or Surroundings()
        self.usage = self._surroundings.usage

    @property
    def names(self) -> tuple[str, ...]:
        """Every model's name, sorted. Opens nothing."""
        return tuple(sorted(self._specs))

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        """The specs by name. Opens nothing."""
        return MappingProxyType(self._specs)

    def get(self, name: str) -> Model:
        """The model, opened and checked on the first call. Raises UnknownName, ModelError, UsageError once closed."""
        with self._lock:
            if self._closed:
                raise UsageError(f"model {name!r} is asked for after the models were closed")
            if name not in self._opened:
                self._opened[name] = self._open(name)
            return self._opened[name]

    def _open(self, name: str) -> Model:
        if name not in self._specs:
            raise UnknownName("model", name, self._specs)
        spec = self._specs[name]
        provider = self._new_provider(spec)
        if isinstance(provider, Surrounded):
            provider.surround(self._surroundings)
        try:
            provider.check()
        except BaseException:
            provider.close()
            raise
        return Model(spec, provider, self.usage)

    def close(self) -> None:
        """Closes what was opened; may be called again. `usage` stays readable."""
        with self._lock:
            self._closed = True
            while self._opened:
                self._opened.popitem()[1].provider.close()
            if self._surroundings.answers is not None:
                self._surroundings.answers.close()

    def stop_when(self, stop: Callable[[], bool]) -> None:
        """From here on, remote models whose answers are kept raise Interrupted within a second once `stop` is true."""
        self._surroundings.stop = stop

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Remote models that are opened from here on ask no service; what they would be asked is noted."""
        self._surroundings.rehearsal = rehearsal

    def __enter__(self) -> ModelSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listed(columns: Iterable[tuple[str, pa.DataType]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns)
