"""The in-memory database of one query: opened, and shut off from everything but the files of its tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Self

import duckdb

from lakeflow.errors import ConfigError, UsageError
from lakeflow.sql.relations import ParquetRelation, Relation, literal, local_path, name_text, pattern_of, plain_parts

if TYPE_CHECKING:
    from types import TracebackType

    from duckdb import DuckDBPyConnection, DuckDBPyRelation

DATABASE: Final = "lakeflow query"
"""The name of the database within DuckDB; no namespace is called so."""

RESERVED_NAMESPACES: Final = frozenset({"information_schema", "pg_catalog", "system", "temp"})
"""Namespaces that DuckDB cannot tell from its own schemas and catalogs."""

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a query may use. Without a `temp_directory` it fails where memory does not hold it, instead of spilling.

    With `in_order` rows come in the order of the first table of FROM, whatever is joined to them.
    """

    memory_bytes: int = 1024 * MIB
    threads: int = 2
    temp_directory: Path | None = None
    temp_bytes: int = 10 * 1024 * MIB
    batch_rows: int = 65_536
    in_order: bool = False


class Opening:
    """A database that is opened in a thread, which takes about as long as compiling a small query and planning its tables.

    Leaving the block frees it where nobody took it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._opened: DuckDBPyConnection | None = None
        self._error: ConfigError | None = None
        self._thread = Thread(target=self._open, name="lakeflow-database", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.join()
        connection, self._opened = self._opened, None
        if connection is not None:
            connection.close()

    def take(self, threads: int) -> DuckDBPyConnection:
        """The database, which is the caller's from now on, with so many threads. Raises ConfigError for limits that are not
        valid."""
        self._thread.join()
        connection, self._opened = self._opened, None
        if connection is None:
            raise self._error or AssertionError("a database is taken once")
        if threads != self._limits.threads:
            connection.execute(f"SET threads = {int(threads)}")
        return connection

    def _open(self) -> None:
        try:
            self._opened = opened(self._limits)
        except ConfigError as error:
            self._error = error


def opened(limits: Limits) -> DuckDBPyConnection:
    """A database within `limits`. Raises ConfigError where they are not valid."""
    settings: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
        "python_enable_replacements": False,
        "integer_division": True,
        "errors_as_json": True,
        "memory_limit": f"{limits.memory_bytes}B",
        "threads": limits.threads,
        "temp_directory": str(limits.temp_directory) if limits.temp_directory else "",
        "max_temp_directory_size": f"{limits.temp_bytes}B",
    }
    try:
        connection = duckdb.connect(":memory:", config=settings)
    except duckdb.Error as error:
        raise ConfigError(f"the limits of a query are not valid: {error}; they are {limits}") from error
    connection.execute("SET TimeZone = 'UTC'")
    if limits.in_order:
        connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    use_own_name(connection)
    return connection


def use_own_name(connection: DuckDBPyConnection) -> None:
    """Have an open database go by DATABASE in place of `memory`, which may be a namespace."""
    connection.execute(f"ATTACH ':memory:' AS {name_text(DATABASE)}")
    connection.execute(f"USE {name_text(DATABASE)}")
    connection.execute("DETACH memory")


def refuse_reserved(table: str) -> None:
    """Raises UsageError where the namespace of `table` is one that DuckDB keeps to itself."""
    if table.rpartition(".")[0].lower() in RESERVED_NAMESPACES:
        raise UsageError(
            f"table {table!r}: DuckDB keeps the names {', '.join(sorted(RESERVED_NAMESPACES))} to itself",
            next_step="move the table to another namespace, or read it in a Python job",
        )


def bound(connection: DuckDBPyConnection, text: str) -> DuckDBPyRelation:
    """A query that has not begun to run. Raises duckdb.Error; of names and types that are wrong with the place, which DuckDB
    tells of a statement that it executes and not of a relation."""
    try:
        return connection.sql(text)
    except (duckdb.BinderException, duckdb.CatalogException):
        connection.execute(text)
        raise


def lock(connection: DuckDBPyConnection, relations: Iterable[Relation]) -> None:
    """Shut off all files but those of the tables, and every change of settings."""
    parts = [part for relation in relations for part in plain_parts(relation)]
    files = [file for part in parts if isinstance(part, ParquetRelation) for file in part.files]
    paths = dict.fromkeys(path for file in files for path in (local_path(file), pattern_of(file)))
    connection.execute(f"SET allowed_paths = [{', '.join(map(literal, paths))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
