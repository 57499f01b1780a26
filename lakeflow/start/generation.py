"""A project as it was loaded: its parts, and what they run with. A change of its files makes another."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from lakeflow.config import Settings
from lakeflow.declare import UNKNOWN, TableSpec
from lakeflow.landing.produce_open import declared_sink, warn_of_delivery
from lakeflow.landing.produce_spec import SinkSpec, has_sink
from lakeflow.landing.spec import is_landed
from lakeflow.runner.graph import Node, check_tables
from lakeflow.runner.project import Project
from lakeflow.start.parts import Part, part_of, parts_of
from lakeflow.start.send import Sent
from lakeflow.start.work import Looked


@dataclass(slots=True)
class Generation:
    """What runs takes a project of its own out of `free`, since models count by the run. `looked` is what each job in snapshot
    mode read last."""

    project: Project
    landed: Mapping[str, TableSpec]
    nodes: Mapping[str, Node]
    parts: tuple[Part, ...]
    modules: Mapping[str, ModuleType]
    sinks: Mapping[str, SinkSpec] = field(default_factory=dict)
    sent: Sent = field(default_factory=Sent)
    looked: dict[str, Looked] = field(default_factory=dict)
    free: list[Project] = field(default_factory=list)
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> Project:
        """A project for one run."""
        with self.lock:
            return self.free.pop() if self.free else self.project.beside()

    def give_back(self, project: Project) -> None:
        """The run is over."""
        with self.lock:
            if not self.closed:
                self.free.append(project)
                return
        project.models.close()

    def close(self) -> None:
        """Close the models that no run has; those of runs under way are closed with their end."""
        with self.lock:
            self.closed = True
            free, self.free = self.free, []
        for project in free:
            project.models.close()

    def differs(self, other: Generation, part: Part) -> bool:
        """Whether a landing is declared otherwise in another generation, or not at all, or runs under other settings."""
        if self.project.settings != other.project.settings:
            return True
        mine, theirs = self.landed.get(part.name), other.landed.get(part.name)
        return mine is None or theirs is None or replace(mine, origin=UNKNOWN) != replace(theirs, origin=UNKNOWN)


def load(
    folder: Path,
    target: str | None,
    before: Generation | None = None,
    on_settings: Callable[[Settings], None] = lambda settings: None,
) -> Generation:
    """The project as its files stand now. Raises ConfigError, DeclarationError, UnknownName, and CatalogUnavailable.

    Under the settings of `before` its lake goes on being used. `on_settings` is given the settings before all else is read.
    """
    project = Project.open(folder, target=target)
    on_settings(project.settings)
    with _imported_anew(project.settings.root, {} if before is None else before.modules) as modules:
        nodes = project.nodes
        landed = {name: spec for name, spec in project.declared_tables.tables.items() if is_landed(spec)}
        if before is not None and before.project.settings == project.settings:
            vars(project).update(lake=before.project.lake, commits=before.project.commits)
        sinks = {name: declared_sink(spec, project.settings) for name, spec in _sent(project)}
        check_tables(nodes, project.lake.names(), project.declarations.tables)
        _ = project.commits  # opened before threads share it
    by_label = {part_of(node).label: node for node in nodes}
    for sink in sinks.values():
        warn_of_delivery(sink)
    return Generation(project, landed, by_label, parts_of(landed.values(), nodes, sinks), modules, sinks)


def _sent(project: Project) -> Iterator[tuple[str, TableSpec]]:
    """The tables whose rows go to topics."""
    return ((name, spec) for name, spec in project.declared_tables.tables.items() if has_sink(spec))


@contextmanager
def _imported_anew(root: Path, before: Mapping[str, ModuleType]) -> Iterator[dict[str, ModuleType]]:
    """Within it, the modules of `before` are imported anew; those below `root` that came to be are given. If it fails, the old
    ones stand again."""
    for name in before:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    there = set(sys.modules)
    found: dict[str, ModuleType] = {}
    try:
        yield found
    except BaseException:
        sys.modules.update(before)
        raise
    found.update({name: module for name, module in sys.modules.items() if name not in there and _is_below(module, root)})


def _is_below(module: ModuleType, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or "site-packages" in file:
        return False
    name = module.__name__.partition(".")[0]
    return name != "lakeflow" and Path(file).resolve().is_relative_to(root)
