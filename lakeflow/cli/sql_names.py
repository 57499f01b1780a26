"""The names that the SQL shell completes: looked up when they are first needed, and again after each statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lakeflow.errors import LakeflowError

if TYPE_CHECKING:
    from lakeflow.runner.project import Project


class ProjectWords:
    """`Names` of a project, those that are declared and not made yet among them. What cannot be asked for is left out."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._found: dict[str, Sequence[str]] = {}

    def forget(self) -> None:
        """A statement may have changed what there is."""
        self._found = {}

    def look_up(self) -> None:
        """Ask for tables and models ahead, so that the first completion need not wait."""
        self.tables()
        self.models()

    def tables(self) -> Sequence[str]:
        return self._kept("tables", lambda: {*self._project.lake.names(), *self._project.declared_tables.tables})

    def columns(self, table: str) -> Sequence[str]:
        return self._kept(f"columns of {table}", lambda: self._columns(table))

    def models(self) -> Sequence[str]:
        return self._kept("models", lambda: set(self._project.model_names()))

    def indexes(self) -> Sequence[str]:
        return self._kept("indexes", lambda: set(self._project.declared_tables.indexes))

    def _columns(self, table: str) -> Sequence[str]:
        from lakeflow.lake.catalog import arrow_schema

        lake, declared = self._project.lake, self._project.declared_tables.tables
        if lake.exists(table):
            return list(arrow_schema(lake.table(table)).names)
        return list(declared[table].schema.names) if table in declared else []

    def _kept(self, what: str, ask: Callable[[], set[str] | Sequence[str]]) -> Sequence[str]:
        if what not in self._found:
            try:
                names = ask()
            except LakeflowError:  # completion has nobody to tell; the statement that needs it will say so
                names = []
            self._found[what] = sorted(names) if isinstance(names, set) else names
        return self._found[what]
