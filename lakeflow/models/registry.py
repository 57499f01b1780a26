"""The models of a project by name: listed for free, opened when first asked for, each in the version that is meant."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, ModelError, UnknownName, UsageError
from lakeflow.models.answering import Answers, answered
from lakeflow.models.failing import asked_of, fallbacks
from lakeflow.models.providers import provider_type
from lakeflow.models.providers.base import Provider
from lakeflow.models.remote.surroundings import Surrounded, Surroundings
from lakeflow.models.spec import ModelSpec, fingerprint_of, identified
from lakeflow.models.usage import Asked, Usage
from lakeflow.models.vectors import Widths
from lakeflow.models.versions import (
    Decision,
    Due,
    History,
    Identified,
    Known,
    Reference,
    Version,
    decide,
    reference,
    require_same_bytes,
    version_of,
)

if TYPE_CHECKING:
    from lakeflow.models.remote.rehearsal import Rehearsal

logger = logging.getLogger("lakeflow.models")


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """An opened model whose artifacts fit its declaration. `due`: its version is not in the registry yet.

    `fallback` gives the model that answers what this one leaves open.
    """

    spec: ModelSpec
    provider: Provider
    usage: Usage = field(default_factory=Usage)
    identified: Identified | None = None
    due: bool = False
    fallback: Callable[[], Model] | None = None
    widths: Widths = field(default_factory=Widths)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """OUTPUT columns for rows of exactly the INPUT columns; counted in `usage`. Raises what the provider raises.

        Rows without an answer have nulls, where 'on_error' is not 'fail'. Raises ModelError where the provider breaks its
        contract: another number of rows, other columns or types.
        """
        return self.answer(rows).rows

    def answer(self, rows: pa.RecordBatch) -> Answers:
        """As `predict`, and which rows have no answer."""
        return answered(self, rows)

    def fingerprint(self) -> str:
        """The same as `spec.fingerprint()`."""
        return self.identified.fingerprint if self.identified else fingerprint_of(asked_of(self.spec), self.provider.identity())


def new_provider(spec: ModelSpec) -> Provider:
    """The registered provider of a spec, nothing opened yet."""
    return provider_type(spec.provider, spec.label)(spec)


def identify(spec: ModelSpec, new_provider: Callable[[ModelSpec], Provider] = new_provider) -> Identified:
    """What a spec comes to, nothing opened. Raises ModelError for a missing file."""
    asked = asked_of(spec)
    return identified(asked, new_provider(asked).identity())


class Registry(Protocol):
    """Where versions are kept. Read when it is first asked, and not again but after `record`."""

    def histories(self) -> Mapping[str, History]:
        """What is known of each name. Raises CatalogUnavailable; DeclarationError where a name is declared in two places."""
        ...

    def declaration(self, name: str) -> ModelDeclaration:
        """What tables/, or else a statement, declares under the name now, as written."""
        ...

    def spec(self, version: Version) -> ModelSpec:
        """The spec of a version, its number in it. Raises ConfigError for a secret or a variable that is missing."""
        ...

    def record(self, name: str, identified: Identified) -> int:
        """Make the declaration of `name` a version, unless it is one by now; its number. Raises as a commit does."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How a name stands in the registry: the version that it means now, the declaration's, and which there are."""

    version: int
    declared: Decision
    default: int | None
    versions: tuple[int, ...]
    fingerprint: str

    @property
    def due(self) -> str | None:
        """That a version is due, in words; None where none is."""
        if isinstance(self.declared, Known):
            return None
        unused = "" if self.default is None else f"; the default stays version {self.default}"
        return f"version {self.declared.version} is due: {self.declared.why}{unused}"


class ModelSet:
    """The models of a project. Thread-safe. `new_provider` is passed in where a fake is to answer.

    A name means its default version, which is the one declared last unless another was set; `m$2` means that version.
    Without a `registry` every model has one version. `surroundings` is what remote models share: the cache, prices,
    limits; their counts are `usage`.

    Raises DeclarationError where two specs have one name.
    """

    def __init__(
        self,
        specs: Iterable[ModelSpec],
        new_provider: Callable[[ModelSpec], Provider] = new_provider,
        surroundings: Surroundings | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise DeclarationError(f"{spec.label} is declared twice: first as {self._specs[spec.name].label}")
            self._specs[spec.name] = spec
        self._new_provider = new_provider
        self._registry = registry
        self._registering = False
        self._opened: dict[str, Model] = {}
        self._configured: dict[str, Provider] = {}
        self._used: set[str] = set()
        self._lock = threading.RLock()
        self._closed = False
        self._surroundings = surroundings or Surroundings()
        self.usage = self._surroundings.usage

    @property
    def names(self) -> tuple[str, ...]:
        """Every model's name, sorted. Opens nothing, but reads the registry."""
        return tuple(sorted({*self._specs, *self._by_statement()}))

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        """The specs as declared, by name. Opens nothing, but reads the registry."""
        histories = self.histories
        return MappingProxyType({name: self._spec(name, histories.get(name, History())) for name in self.names})

    def spec(self, name: str) -> ModelSpec:
        """The spec as declared. Opens nothing, but reads the registry. Raises UnknownName."""
        return self._spec(name, self.history(name))

    @property
    def histories(self) -> Mapping[str, History]:
        """What the registry knows of each name, declared now or not."""
        return {} if self._registry is None else self._registry.histories()

    def history(self, name: str) -> History:
        """What is known of a declared name. Raises UnknownName."""
        history = self.histories.get(name, History())
        if name not in self._specs and history.declared is None:
            gone = f"its versions are kept; its declaration is gone from tables/: lakeflow models versions {name}"
            raise UnknownName("model", name, self.names, next_step=gone if history.is_live else "lakeflow models")
        return history

    def begin_run(self) -> None:
        """From here on a model whose version is due is recorded as it is asked for; `usage.of_run` and `used` count anew."""
        with self._lock:
            self._registering = True
            self._used.clear()
        self.usage.begin_run()

    def resume_run(self, asked: Mapping[str, Asked], used: Iterable[str]) -> None:
        """Go on with a run that others came between: `asked` and `used` were its counts when it was left."""
        with self._lock:
            self._used = set(used)
        self.usage.begin_run(asked)

    @property
    def used(self) -> tuple[str, ...]:
        """The versions asked for since the run began, as `m$2`, sorted."""
        with self._lock:
            return tuple(sorted(self._used))

    def get(self, name: str) -> Model:
        """The model, opened and checked on the first call. Raises UnknownName, ModelError, UsageError once closed.

        Raises DeclarationError where the declaration cannot be a version of the name.
        """
        with self._lock:
            model = self._model(name)
            self._used.add(f"{model.spec.name}${model.spec.version}")
            return model

    def configured(self, name: str, options: Mapping[str, str]) -> Model:
        """The model as `get` gives it, asked with other options: those that change how it is asked, and no answer.

        It has a provider of its own, which is closed with the others. Raises as `get` does, UsageError for an option that the
        model's provider does not have, or that changes its answers.
        """
        with self._lock:
            model = self.get(name)
            spec = replace(model.spec, options={**model.spec.options, **options})
            key = f"{name} {sorted(options.items())}"
            if key not in self._configured:
                provider = self._new_provider(asked_of(spec))
                if provider.identity() != model.provider.identity():
                    raise UsageError(f"{spec.label}: {', '.join(options)} changes its answers, which only its declaration may")
                self._configured[key] = self._opened_provider(provider)
            return replace(model, spec=spec, provider=self._configured[key])

    def every(self, name: str) -> tuple[Model, ...]:
        """For `m$all` every version, the oldest first, else the one model. Raises as `get` does.

        A version whose files are no longer what they were is left out, with a warning. Raises ModelError where none is left.
        """
        asked = reference(name)
        if not asked.every:
            return (self.get(name),)
        if self._registering:
            self.register(asked.name)
        found: list[Model] = []
        for number in self.standing(asked.name).versions or (None,):
            try:
                found.append(self.get(str(Reference(asked.name, number))))
            except ModelError as error:
                logger.warning("model %s is left out: %s", Reference(asked.name, number), error.message)
        if not found:
            raise ModelError(
                f"no version of model {asked.name!r} can be opened", next_step=f"lakeflow models versions {asked.name}"
            )
        return tuple(found)

    def standing(self, name: str) -> Standing:
        """How a name stands, nothing opened and nothing written. Raises UnknownName, ModelError, DeclarationError."""
        with self._lock:
            history = self.history(name)
            found = self._identified(self._spec(name, history))
            declared = self._decided(name, history, found)
            versions = tuple(sorted(history.versions))
            return Standing(history.default or declared.version, declared, history.default, versions, found.fingerprint)

    def register(self, name: str) -> Decision:
        """Make the declaration of a name a version where it is none; what it was before that. Raises as `standing` does."""
        with self._lock:
            declared = self.standing(name).declared
            if isinstance(declared, Known) or self._registry is None:
                return declared
            spec = self._spec(name, self.history(name))
            return replace(declared, version=self._registry.record(name, self._identified(spec)))

    def _model(self, name: str) -> Model:
        if self._closed:
            raise UsageError(f"model {name!r} is asked for after the models were closed")
        asked = reference(name)
        if asked.every:
            raise UsageError(f"{name!r} stands for all versions, which only an evaluation takes; valid: m, m$2")
        if name not in self._opened:
            self._opened[name] = self._open(asked)
        if self._registering and self._opened[name].due:
            self._opened[name] = self._recorded(self._opened[name])
        return self._opened[name]

    def _by_statement(self) -> set[str]:
        return {name for name, history in self.histories.items() if history.declared is not None}

    def _spec(self, name: str, history: History) -> ModelSpec:
        """The declared spec of a name that `_history` knows."""
        if name in self._specs:
            return self._specs[name]
        assert self._registry is not None, "a model that no spec was given for is the registry's"
        assert history.current is not None, "a model that a statement declared has a version"
        return self._registry.spec(history.versions[history.current])

    def _identified(self, spec: ModelSpec) -> Identified:
        return identify(spec, self._new_provider)

    def _decided(self, name: str, history: History, found: Identified) -> Decision:
        if self._registry is None:
            return Known(self._specs[name].version)
        return decide(history, self._registry.declaration(name), found)

    def _open(self, asked: Reference) -> Model:
        history = self.history(asked.name)
        if self._registry is None:
            spec = self._specs[asked.name]
            if asked.version not in (None, spec.version):
                raise UnknownName(f"version of model {asked.name!r}", str(asked.version), [str(spec.version)])
            return self._checked(spec)
        number = asked.version or history.default
        if number is None:
            return self._open_declared(asked.name, history)
        return self._open_version(version_of(asked.name, number, history), self._spec(asked.name, history))

    def _open_declared(self, name: str, history: History) -> Model:
        spec = self._spec(name, history)
        found = self._identified(spec)
        declared = self._decided(name, history, found)
        return self._checked(replace(spec, version=declared.version), found, due=isinstance(declared, Due))

    def _open_version(self, version: Version, declared: ModelSpec) -> Model:
        """The declared spec where it is of this version: it may say anew what changes only speed."""
        assert self._registry is not None, "only a registry knows of versions"
        if self._comes_to(declared) == version.identified.fingerprint:
            return self._checked(replace(declared, version=version.number), version.identified)
        spec = self._registry.spec(version)
        found = self._identified(spec)
        require_same_bytes(version, found, spec.label)
        return self._checked(spec, found)

    def _comes_to(self, spec: ModelSpec) -> str | None:
        """The spec's fingerprint; None where its files are missing, so that it is no version's."""
        try:
            return self._identified(spec).fingerprint
        except ModelError:
            return None

    def _recorded(self, model: Model) -> Model:
        assert self._registry is not None, "a version is due in a registry"
        assert model.identified is not None, "a version that is due was compared with those before"
        number = self._registry.record(model.spec.name, model.identified)
        return replace(model, spec=replace(model.spec, version=number), due=False)

    def _checked(self, spec: ModelSpec, found: Identified | None = None, *, due: bool = False) -> Model:
        """The model of a spec, opened unless it is under another name."""
        for model in self._opened.values():
            if (model.spec.name, model.spec.version, model.due) == (spec.name, spec.version, due):
                return model
        fallback = self._fallback(spec)
        provider = self._opened_provider(self._new_provider(asked_of(spec)))
        return Model(spec, provider, self.usage, found, due, fallback)

    def _opened_provider(self, provider: Provider) -> Provider:
        if isinstance(provider, Surrounded):
            provider.surround(self._surroundings)
        try:
            provider.check()
        except BaseException:
            provider.close()
            raise
        return provider

    def _fallback(self, spec: ModelSpec) -> Callable[[], Model] | None:
        """What answers in its place: opened now, so that what is wrong with it is known before a row is read."""
        if "fallback_model" not in spec.options:
            return None
        first, *_ = fallbacks({**self.specs, spec.name: spec}, spec.name)
        self._model(first)
        return lambda: self.get(first)

    def close(self) -> None:
        """Closes what was opened; may be called again. `usage` stays readable."""
        with self._lock:
            self._closed = True
            while self._opened:
                self._opened.popitem()[1].provider.close()
            while self._configured:
                self._configured.popitem()[1].close()
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
