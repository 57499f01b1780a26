"""What is reachable: each check tries one thing for real, and says what to do where it fails."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from lakeflow.declare import TableSpec
from lakeflow.errors import CatalogUnavailable, ConfigError, LakeflowError, StorageUnavailable
from lakeflow.landing.plan import declared_landing
from lakeflow.landing.spec import is_landed
from lakeflow.models.postgres_cache import PostgresAnswers, is_postgres
from lakeflow.models.registry import ModelSet
from lakeflow.postgres import read_place
from lakeflow.runner.project import Project
from lakeflow.topics.kafka import KafkaSource


class State(StrEnum):
    """How a check ended. `not configured`: there is nothing to check; `not checked`: what it needs failed before."""

    OK = "ok"
    FAILED = "failed"
    NOT_CONFIGURED = "not configured"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. `next_step` is the command to run or the thing to change where it failed."""

    name: str
    state: State
    detail: str
    next_step: str | None = None


def checks(project: Project, *, timeout: float) -> Iterator[Check]:
    """Declarations, catalog, warehouse, registry, brokers, topics, the database of answers, models, index folder, in this
    order, as they end.

    What a server may hold up gets `timeout` seconds for an answer.
    """
    declared = attempt("declarations", lambda: _declarations(project))
    yield declared
    catalog = attempt("catalog", lambda: _within(timeout, lambda: _catalog(project)))
    yield catalog
    if catalog.state is State.OK:
        yield attempt("warehouse", lambda: _within(timeout, lambda: _warehouse(project)))
    else:
        yield Check("warehouse", State.NOT_CHECKED, "the catalog is not open")
    if project.settings.registry or _registry_readers(project):
        yield attempt("registry", lambda: _within(timeout, lambda: _registry(project)))
    yield from _topics(project, timeout, _landed(project))
    if is_postgres(project.settings.models.cache):
        yield attempt("cache of answers", lambda: _within(timeout, lambda: _answers(project)))
    yield from _models(project)
    yield attempt("index folder", lambda: _within(timeout, lambda: _index_folder(project)))


Outcome = tuple[State, str]


ADVICE = {
    "catalog": "start the catalog, or correct [catalog] in lakeflow.toml",
    "warehouse": "grant the right to write, or correct warehouse under [catalog] in lakeflow.toml",
    "registry": "start the schema registry, or correct url under [registry] in lakeflow.toml",
    "cache of answers": "start the database, or correct cache under [models] in lakeflow.toml",
    "brokers": "start the brokers, or correct bootstrap.servers under [kafka] in lakeflow.toml",
}
"""What to do where an error of this check says no more than to run the doctor."""


def attempt(name: str, work: Callable[[], str | Outcome]) -> Check:
    """The check that `work` makes: what it says, or the error that it raises."""
    try:
        said = work()
    except LakeflowError as error:
        step = error.next_step if error.next_step != "lakeflow doctor" else ADVICE.get(name)
        return Check(name, State.FAILED, error.message, step)
    state, detail = said if isinstance(said, tuple) else (State.OK, said)
    return Check(name, state, detail)


def _within(seconds: float, work: Callable[[], str | Outcome]) -> str | Outcome:
    """What `work` gives, raised or returned; a call into a server that does not answer is left behind.

    Raises CatalogUnavailable after `seconds`.
    """
    results: list[str | Outcome | BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            results.append(error)

    thread = threading.Thread(target=run, name="lakeflow-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if not results:
        raise CatalogUnavailable(
            f"no answer within {seconds:g} s", next_step="check the address in lakeflow.toml and the network"
        )
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def _declarations(project: Project) -> str:
    found = project.declarations
    parts = ((found.tables, "tables"), (found.models, "models"), (found.indexes, "indexes"), (found.jobs, "jobs"))
    project.nodes  # noqa: B018  # raises for a cycle
    return ", ".join(f"{len(there)} {what}" for there, what in parts)


def _catalog(project: Project) -> str:
    kind = project.settings.catalog.get("type", "sql")
    place = project.settings.catalog.shown.get("uri")
    return f"{kind} at {place}, {len(project.lake.names())} tables" if place else f"{kind}, {len(project.lake.names())} tables"


def _warehouse(project: Project) -> str | Outcome:
    from lakeflow.lake.probe import probe_warehouse, warehouse_of

    place = warehouse_of(project.lake)
    if place is None:
        return State.NOT_CHECKED, "the catalog says where each table goes"
    probe_warehouse(project.lake, place)
    return f"{place} can be written"


def _landed(project: Project) -> list[TableSpec]:
    try:
        return [spec for spec in project.declared_tables.tables.values() if is_landed(spec)]
    except LakeflowError:
        return []


def _topics(project: Project, timeout: float, landed: Sequence[TableSpec]) -> Iterator[Check]:
    settings = project.settings
    if not settings.kafka.get("bootstrap.servers"):
        yield Check("brokers", State.NOT_CONFIGURED, "[kafka] names no bootstrap.servers", _brokers_step(landed))
        return

    def ask() -> str:
        with KafkaSource(settings.kafka, (), "lakeflow.doctor", request_timeout=timeout) as source:
            source.bounds()
        return f"{settings.kafka['bootstrap.servers']} answers"

    brokers = attempt("brokers", ask)
    yield brokers
    for table in landed:
        name = f"topic of {table.name}"
        if brokers.state is State.OK:
            yield attempt(name, partial(_topic, project, table, timeout))
        else:
            yield Check(name, State.NOT_CHECKED, "no broker answers")


def _registry_readers(project: Project) -> list[str]:
    """The landed tables whose formats need a schema registry."""
    formats = ((table.name, table.options.get(f"{side}.format", "")) for table in _landed(project) for side in ("value", "key"))
    return sorted({name for name, chosen in formats if chosen.endswith("-registry")})


def _registry(project: Project) -> str:
    if not project.settings.registry:
        readers = ", ".join(_registry_readers(project))
        raise ConfigError(f"{readers} need a schema registry, and [registry] names none", next_step="set url under [registry]")
    from lakeflow.topics.registry_client import HttpRegistry

    registry = HttpRegistry(project.settings.registry)
    try:
        return f"{project.settings.registry.shown.get('url', '')} answers, for {registry.check()}"
    finally:
        registry.close()


def _brokers_step(tables: Sequence[TableSpec]) -> str | None:
    if not tables:
        return None
    return f"set bootstrap.servers under [kafka] in lakeflow.toml to land {', '.join(table.name for table in tables)}"


def _topic(project: Project, table: TableSpec, timeout: float) -> str:
    settings = project.settings
    spec = declared_landing(table, settings)
    options = {**settings.kafka, **spec.properties}
    with KafkaSource(options, spec.topics, "lakeflow.doctor", request_timeout=timeout) as source:
        bounds = source.bounds()
        source.topic_ids()  # tells where a topic may be seen and not read
    records = sum(bound.end - bound.begin for bound in bounds.values())
    return f"{str(spec.topics)!r} has {len(bounds)} partitions with {records:,} records"


def _answers(project: Project) -> str:
    place = read_place(project.settings.models.cache)
    there = PostgresAnswers(place).probe()
    return f"{place} answers" if there else f"{place} answers; the first run that asks a remote model makes its table"


def _models(project: Project) -> Iterator[Check]:
    try:
        models = project.models
        names = models.names
    except LakeflowError as error:
        yield Check("models", State.FAILED, error.message, error.next_step)
        return
    if not names:
        yield Check("models", State.NOT_CONFIGURED, "none is declared")
    with models:
        for name in names:
            yield attempt(f"model {name}", partial(_model, models, name))


def _model(models: ModelSet, name: str) -> str:
    spec = models.get(name).spec
    return f"{spec.provider} {spec.task}, opens and fits its declaration"


def _index_folder(project: Project) -> str | Outcome:
    place = project.settings.index.uri
    if "://" not in place:
        _write_probe(Path(place))
        return f"{place} can be written"
    indexes = project.declared_tables.indexes
    if not indexes:
        return State.NOT_CONFIGURED, f"{place}: no index is declared"
    from lakeflow.runner.indexing import index_state

    built = [name for name, spec in indexes.items() if index_state(spec, project.index_room) is not None]
    return f"{place} answers, {len(built)} of {len(indexes)} indexes are built"


def _write_probe(folder: Path) -> None:
    """Make a file in `folder`, or where it is not there yet in the nearest folder above, and delete it."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StorageUnavailable(
            f"{folder} cannot be written: {error.strerror}", next_step=f"grant {_user()} the right to write in {there}"
        ) from error


def _user() -> str:
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
