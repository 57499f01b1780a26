"""Tests of jobs as a project declares them: files `jobs/**/NAME.test.yaml` as plain values.

    job: late_flights                # without it, the file's name
    tests:
      - name: flights on time are left out
        given:
          - table: bronze.flights
            rows: [{carrier: AA, delay: 75.0}, {carrier: UA, delay: -2.0}]
          - table: dim.carriers
            columns: {carrier: STRING, name: STRING}   # where tables/ declares none
            sql: SELECT 'AA' AS carrier, 'American' AS name
        models:
          delay_classifier: [{carrier: AA, late: 0.9}, {late: 0.1}]
        expect:
          rows: [{carrier: AA, late: 0.9}]

The shape follows the unit tests of dbt. YAML is read as of version 1.2: `no` is a text and no false.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from lakeflow.errors import DeclarationError, did_you_mean

SUFFIX: Final = ".test.yaml"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as they are written, or a query that gives them. `columns` are types in SQL by name; None: as declared."""

    rows: tuple[Row, ...] = ()
    sql: str | None = None
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class JobTest:
    """One test: what each table that the job reads holds, what models answer, and what the target must hold then.

    `row_by_row`: an incremental job is run row by row as well. `order` names columns that the target's rows are ordered by.
    """

    name: str
    job: str
    path: Path
    given: Mapping[str, Rows]
    expected: Rows
    models: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    row_by_row: bool = True


def load_tests(folder: Path, root: Path) -> tuple[JobTest, ...]:
    """The tests of all files in `folder`, in the order of their paths, shown as seen from `root`.

    Raises DeclarationError, naming the file and what is wrong in it.
    """
    return tuple(
        test for path in sorted(folder.glob(f"**/*{SUFFIX}")) for test in tests_of(_text_of(path), path.relative_to(root))
    )


def tests_of(text: str, path: Path) -> Iterator[JobTest]:
    """The tests of one file. Raises DeclarationError."""
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise DeclarationError(f"{at}: this is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise DeclarationError(f"{path}: this is no YAML: {error}") from error
    fields = _mapping(document, str(path), ("job", "tests"))
    job = _text(fields.get("job", path.name.removesuffix(SUFFIX)), f"{path}: job")
    seen: set[str] = set()
    for place, found in enumerate(_list(fields.get("tests"), f"{path}: tests")):
        test = _test(found, job, path, f"{path}: test {place + 1}")
        if test.name in seen:
            raise DeclarationError(f"{path}: two tests are called {test.name!r}")
        seen.add(test.name)
        yield test


def _test(found: object, job: str, path: Path, where: str) -> JobTest:
    fields = _mapping(found, where, ("name", "given", "models", "expect", "row_by_row"))
    name = _text(fields.get("name"), f"{where}: name")
    where = f"{path}: test {name!r}"
    given: dict[str, Rows] = {}
    for one in _list(fields.get("given"), f"{where}: given"):
        source = _mapping(one, f"{where}: given", ("table", "rows", "sql", "columns"))
        table = _text(source.get("table"), f"{where}: table")
        if table in given:
            raise DeclarationError(f"{where}: table {table} is given twice")
        given[table] = _rows(source, f"{where}: table {table}")
    models = _mapping(fields.get("models", {}), f"{where}: models")
    stubs = {
        model: tuple(_row(row, f"{where}: model {model}") for row in _list(rows, f"{where}: model {model}"))
        for model, rows in models.items()
    }
    if "expect" not in fields:
        raise DeclarationError(f"{where}: nothing is expected; valid: expect: {{rows: [..]}}")
    expected = _rows(_mapping(fields["expect"], f"{where}: expect", ("rows", "sql")), f"{where}: expect")
    row_by_row = fields.get("row_by_row", True)
    if not isinstance(row_by_row, bool):
        raise DeclarationError(f"{where}: row_by_row is {row_by_row!r}; valid: true, false")
    return JobTest(name, job, path, given, expected, stubs, row_by_row)


def _rows(source: Mapping[str, Any], where: str) -> Rows:
    if ("rows" in source) == ("sql" in source):
        raise DeclarationError(f"{where}: valid: rows: [..], or sql: SELECT ..")
    columns = source.get("columns")
    if columns is not None:
        columns = {
            name: _text(kind, f"{where}: column {name}") for name, kind in _mapping(columns, f"{where}: columns").items()
        }
    if "sql" in source:
        return Rows((), _text(source["sql"], f"{where}: sql"), columns)
    return Rows(tuple(_row(row, where) for row in _list(source["rows"], f"{where}: rows")), None, columns)


def _row(found: object, where: str) -> Row:
    return dict(_mapping(found, f"{where}: a row"))


def _mapping(found: object, where: str, known: Iterable[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise DeclarationError(f"{where} is {_shown(found)}; valid: names with values, as in {{a: 1}}")
    for key in found:
        if known is not None and key not in known:
            raise DeclarationError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")
    return found


def _list(found: object, where: str) -> list[Any]:
    if not isinstance(found, list):
        raise DeclarationError(f"{where} is {_shown(found)}; valid: a list")
    return found


def _text(found: object, where: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise DeclarationError(f"{where} is {_shown(found)}; valid: a text")
    return found


def _shown(found: object) -> str:
    return "missing" if found is None else repr(found)[:80]


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{path} cannot be read: {error}") from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML whose truth values are `true` and `false` alone, and which refuses a key that comes twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} comes twice", key.start_mark)
            seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


def _is_truth(tag: str, first: str) -> bool:
    return tag == "tag:yaml.org,2002:bool" and first not in "tTfF"


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not _is_truth(tag, first)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
