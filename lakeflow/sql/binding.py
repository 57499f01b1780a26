"""What DuckDB says of the types in a query before any of it runs: columns of relations, arguments of calls.

An in-memory database holds the tables of the query without their rows, and each call as a function that no arguments fit:
DuckDB's refusal names their types, wherever the call stands.
"""

from __future__ import annotations

import atexit
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from lakeflow.errors import Terminal
from lakeflow.sql.database import bound, refuse_reserved, use_own_name
from lakeflow.sql.duckdb_errors import message_of
from lakeflow.sql.relations import duckdb_type, name_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

REFUSED = re.compile(
    r"No function matches the given name and argument types '(?P<name>probe_\d+)\((?P<types>.*?)\)'\. ", re.DOTALL
)
LITERALS = {"STRING_LITERAL": "VARCHAR", "INTEGER_LITERAL": "BIGINT"}

SETTINGS = {"threads": 1, "integer_division": True, "errors_as_json": True}

SHUT_OFF = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
"""Binding a query opens the files that it names, and looks for its tables among Python's variables, unless it must not."""

OWN_SCHEMA = "main"
"""Every database has it, and it cannot be dropped."""

Answer = Callable[[str, tuple[pa.DataType, ...]], pa.DataType]
"""Told a call and the types of its arguments, gives the type of its result. Raises what is wrong with them."""


_idle: list[DuckDBPyConnection] = []
"""One database that is empty, for the next query: to open one takes longer than to bind a query. A list is safe in threads."""


@atexit.register
def _close_idle() -> None:
    """DuckDB tells of what is left open when the interpreter is gone."""
    while _idle:
        _idle.pop().close()


def _taken() -> DuckDBPyConnection:
    """An empty database, of which nothing but its tables and calls can be changed."""
    try:
        return _idle.pop()
    except IndexError:
        connection = duckdb.connect(":memory:", config={**SETTINGS, **SHUT_OFF})
    connection.execute("SET TimeZone = 'UTC'")
    use_own_name(connection)
    connection.execute("SET lock_configuration = true")
    return connection


class Binder:
    """The database; a context manager. Calls in the texts that it is given are those of `probe`.

    It is the next one's where nothing has failed in it, and empty then.
    """

    def __init__(self, views: Mapping[str, pa.Schema], answer: Answer) -> None:
        self._answer = answer
        self._calls: set[str] = set()
        self._schemas: set[str] = set()
        self._connection = _taken()
        try:
            for view, schema in views.items():
                self._show(view, schema)
        except BaseException:
            self._connection.close()
            raise

    def _show(self, view: str, schema: pa.Schema) -> None:
        refuse_reserved(view)
        namespace, _, name = view.rpartition(".")
        nulls = [f"CAST(NULL AS {duckdb_type(field.type)}) AS {name_text(field.name)}" for field in schema]
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name_text(namespace)}")
        self._schemas.add(namespace.lower())
        shown = f"{name_text(namespace)}.{name_text(name)}"
        self._connection.execute(f"CREATE VIEW {shown} AS SELECT {', '.join(nulls)} WHERE false")

    def __enter__(self) -> Binder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None or _idle or OWN_SCHEMA in self._schemas:
            self._connection.close()
            return
        for call in self._calls:
            self._connection.remove_function(call)
        for schema in self._schemas:
            self._connection.execute(f"DROP SCHEMA {name_text(schema)} CASCADE")
        _idle.append(self._connection)

    def probe(self, name: str, arguments: int) -> None:
        """Make `name` a call of so many arguments, whose types are not known yet."""
        self._define(name, arguments + 1, "INTEGER")

    def columns(self, text: str) -> list[tuple[str, str]]:
        """The columns of a query with their DuckDB types. Raises duckdb.Error, and what the answers raise."""
        while True:
            try:
                found = self._connection.sql(text)
            except duckdb.BinderException as error:
                refused = REFUSED.search(message_of(error))
                if refused is None:
                    bound(self._connection, text)
                    raise
                given = tuple(self.arrow(one) for one in _split(refused["types"]))
                result = self._answer(refused["name"], given)
                self._connection.remove_function(refused["name"])
                self._calls.discard(refused["name"])
                self._define(refused["name"], len(given), duckdb_type(result))
                continue
            return list(zip(found.columns, map(str, found.types), strict=True))

    def arrow(self, kind: str) -> pa.DataType:
        """The Arrow type of a DuckDB type."""
        if kind in ('"NULL"', "NULL", "SQLNULL"):
            return pa.null()
        text = f"SELECT CAST(NULL AS {LITERALS.get(kind, kind)}) AS value"
        return self._connection.sql(text).to_arrow_table().schema.field(0).type

    def value(self, expression: str) -> object:
        """The value of a constant. Raises duckdb.Error."""
        return self._connection.sql(f"SELECT {expression}").fetchall()[0][0]

    def _define(self, name: str, arguments: int, result: str) -> None:
        define(self._connection, name, with_parameters(_uncalled, arguments), None, result)
        self._calls.add(name)


def define(
    connection: DuckDBPyConnection,
    name: str,
    function: Callable[..., pa.Array],
    parameters: list[Any] | None,
    result: str,
) -> None:
    """Make a function of Arrow columns known. With side effects it is called neither twice nor for rows that are not needed."""
    connection.create_function(
        name,
        function,
        parameters,
        result,
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
        side_effects=True,
    )


def _uncalled(*_columns: pa.Array) -> pa.Array:
    raise Terminal("a query that is only bound calls nothing")


def with_parameters(function: Callable[..., pa.Array], count: int) -> Callable[..., pa.Array]:
    """The function, for DuckDB one of exactly so many parameters."""
    parameters = [inspect.Parameter(f"c{place}", inspect.Parameter.POSITIONAL_ONLY) for place in range(count)]

    def fixed(*columns: pa.Array) -> pa.Array:
        return function(*columns)

    return _signed(fixed, inspect.Signature(parameters))


def _signed(function: Any, signature: inspect.Signature) -> Callable[..., pa.Array]:
    function.__signature__ = signature
    signed: Callable[..., pa.Array] = function
    return signed


def _split(types: str) -> Sequence[str]:
    """The types of a list of them, whose own commas stand in parentheses or quotes."""
    parts, depth, quoted = [""], 0, False
    for letter in types:
        quoted = quoted != (letter in "\"'")
        depth += 0 if quoted else {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
