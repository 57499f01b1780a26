"""Queries on DuckDB, over real Parquet files and streams: right values, nothing but reading, errors that help."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflow.errors import (
    ConfigError,
    LakeflowError,
    SchemaMismatch,
    StorageFull,
    StorageUnavailable,
    Terminal,
    UnknownName,
    UsageError,
)
from lakeflow.sql.database import Limits, lock, opened
from lakeflow.sql.duckdb_errors import explained
from lakeflow.sql.execute import QUERY_NODES, _refuse_writes, run_query
from lakeflow.sql.query import REFUSED_FUNCTIONS, Query
from lakeflow.sql.relations import (
    ArrowRelation,
    ParquetColumn,
    ParquetRelation,
    Relation,
    parquet_columns,
    parquet_fits,
)

UTC = pa.timestamp("us", tz="UTC")


def field(name: str, arrow: pa.DataType, number: int, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, arrow, nullable=nullable, metadata={"PARQUET:field_id": str(number)})


def written(path: Path, fields: list[pa.Field], *rows: dict[str, object]) -> str:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(fields)), path)
    return str(path)


def stream(table: pa.Table) -> ArrowRelation:
    return ArrowRelation(table.schema, table.to_reader)


FLIGHTS = pa.table({"carrier": ["AA", "UA"], "dep_delay": [1.5, None]})
RELATIONS: dict[str, Relation] = {"bronze.flights": stream(FLIGHTS)}


def rows(text: str, relations: dict[str, Relation] | None = None, limits: Limits = Limits()) -> list[dict[str, object]]:
    found: list[dict[str, object]] = run_query(text, relations or RELATIONS, limits).read_all().to_pylist()
    return found


def evolved(folder: Path) -> ParquetRelation:
    """A table after a rename (1), a widening (1), a drop (2) and an adding again under the dropped name (3)."""
    old = written(folder / "old.parquet", [field("a", pa.int32(), 1), field("b", pa.string(), 2)], {"a": 1, "b": "dropped"})
    new = [field("aa", pa.int64(), 1), field("b", pa.string(), 3)]
    return ParquetRelation(
        (old, written(folder / "new.parquet", new, {"aa": 2**40, "b": "kept"})), parquet_columns(pa.schema(new))
    )


def test_columns_are_found_by_field_id(tmp_path: Path) -> None:
    found = rows("SELECT * FROM ns.t ORDER BY aa", {"ns.t": evolved(tmp_path)})
    assert found == [{"aa": 1, "b": None}, {"aa": 2**40, "b": "kept"}]


def nested_fields(name: str, arrow: pa.DataType, again: int) -> list[pa.Field]:
    """Every way to nest a struct whose first field is renamed and widened, and whose second is dropped and added again."""

    def struct(first: int) -> pa.DataType:
        return pa.struct([field(name, arrow, first), field("b", pa.string(), first + again)])

    return [
        field("s", struct(12), 10),
        field("l", pa.list_(field("element", struct(32), 31)), 30),
        field("m", pa.map_(field("key", pa.string(), 51, nullable=False), field("value", struct(53), 52)), 50),
        field("ss", pa.struct([field("inner one", struct(72), 71)]), 70),
        field("n", pa.list_(field("element", arrow, 91)), 90),
    ]


def nested_row(name: str, number: int, text: str | None) -> dict[str, object]:
    struct = {name: number, "b": text}
    return {"s": struct, "l": [struct, None], "m": [("k", struct)], "ss": {"inner one": struct}, "n": [number]}


def test_nested_columns_are_found_by_field_id_at_every_depth(tmp_path: Path) -> None:
    old = written(tmp_path / "old.parquet", nested_fields("a", pa.int32(), 1), nested_row("a", 1, "dropped"))
    fields = nested_fields("aa", pa.int64(), 2)
    new = written(tmp_path / "new.parquet", fields, nested_row("aa", 2**40, "kept"))
    columns = parquet_columns(pa.schema(fields))
    assert parquet_fits((old, new), columns)
    found = rows("SELECT * FROM ns.t ORDER BY s.aa", {"ns.t": ParquetRelation((old, new), columns)})
    assert found == [nested_row("aa", 1, None), nested_row("aa", 2**40, "kept")]


def test_a_nested_column_added_later_is_null_in_older_files(tmp_path: Path) -> None:
    old = written(tmp_path / "old.parquet", [field("a", pa.int32(), 1)], {"a": 1})
    added = field("s", pa.struct([field("x", pa.list_(field("element", pa.int32(), 12)), 11)]), 10)
    columns = parquet_columns(pa.schema([field("a", pa.int32(), 1), added]))
    assert rows("FROM ns.t", {"ns.t": ParquetRelation((old,), columns)}) == [{"a": 1, "s": None}]


@pytest.mark.parametrize(
    ("files", "columns", "fits"),
    [
        (("/a.parquet", "file:///b.parquet"), (ParquetColumn(1, "a", pa.int32()),), True),
        (("s3://bucket/a.parquet",), (ParquetColumn(1, "a", pa.int32()),), False),
        (("/a.parquet",), (), False),
        (("/a.parquet",), (ParquetColumn(1, "a", pa.struct([("x", pa.int32())])),), False),
        (("/a.parquet",), (ParquetColumn(1, "a", pa.duration("s")),), False),
        (("/a.parquet",), (ParquetColumn(1, "a", pa.list_(field("element", pa.int32(), 2))),), True),
    ],
)
def test_which_tables_are_read_as_parquet(files: tuple[str, ...], columns: tuple[ParquetColumn, ...], fits: bool) -> None:
    assert parquet_fits(files, columns) is fits


def test_files_without_field_ids_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    relation = ParquetRelation((str(tmp_path / "x.parquet"),), (ParquetColumn(1, "a", pa.int64()),))
    with pytest.raises(SchemaMismatch, match=r"x\.parquet carries no field ids"):
        rows("FROM ns.t", {"ns.t": relation})


def test_an_empty_table_has_its_columns() -> None:
    relation = ParquetRelation((), (ParquetColumn(1, "a b", UTC), ParquetColumn(2, "s", pa.struct([("x", pa.int32())]))))
    found = run_query("FROM ns.t", {"ns.t": relation}).read_all()
    assert found.num_rows == 0
    assert found.schema == pa.schema([("a b", UTC), ("s", pa.struct([("x", pa.int32())]))])


def test_paths_may_hold_any_character(tmp_path: Path) -> None:
    folder = tmp_path / "it's [1] *"
    folder.mkdir()
    other = tmp_path / "it's 1 x"
    other.mkdir()
    written(other / "t.parquet", [field("a", pa.int32(), 1)], {"a": 2})
    path = written(folder / "t.parquet", [field("a", pa.int32(), 1)], {"a": 1})
    relation = ParquetRelation((f"file://{path}",), (ParquetColumn(1, "a", pa.int32()),))
    assert rows("FROM ns.t", {"ns.t": relation}) == [{"a": 1}]


TYPES: list[tuple[pa.DataType, object]] = [
    (pa.bool_(), True),
    (pa.int32(), -1),
    (pa.int64(), 2**62),
    (pa.float32(), 0.5),
    (pa.float64(), 0.1),
    (pa.decimal128(38, 9), Decimal("12345678901234567890.123456789")),
    (pa.string(), "é"),
    (pa.binary(), b"\x00\xff"),
    (pa.date32(), dt.date(2013, 1, 1)),
    (pa.time64("us"), dt.time(1, 2, 3, 456789)),
    (pa.timestamp("us"), dt.datetime(2013, 1, 1, 5, 0, 0, 1)),
    (UTC, dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC)),
]


@pytest.mark.parametrize(("arrow", "value"), TYPES, ids=[str(arrow) for arrow, _ in TYPES])
def test_values_keep_their_type(tmp_path: Path, arrow: pa.DataType, value: object) -> None:
    struct = pa.struct([field("x", arrow, 3)])
    fields = [field("v", arrow, 1), field("s", struct, 2), field("l", pa.list_(field("element", arrow, 5)), 4)]
    path = written(tmp_path / "t.parquet", fields, {"v": value, "s": {"x": value}, "l": [value, None]})
    for relation in (ParquetRelation((path,), parquet_columns(pa.schema(fields))), stream(pq.read_table(path))):
        found = run_query("SELECT v, s, l FROM ns.t", {"ns.t": relation}).read_all()
        assert found.schema.types == [arrow, pa.struct([("x", arrow)]), pa.list_(arrow)]
        assert found.to_pylist() == [{"v": value, "s": {"x": value}, "l": [value, None]}]


def test_names_of_two_and_three_parts_quoted_or_not() -> None:
    relations: dict[str, Relation] = {
        name: stream(pa.table({"a": [name]})) for name in ("lakeflow.runs", "my ns.my t", "main.t")
    }
    text = 'SELECT r.a x, lakeflow.main.t.a y, z.a z FROM lakeflow.lakeflow.runs r, lakeflow.main.t, "my ns"."my t" z'
    assert rows(text, relations) == [{"x": "lakeflow.runs", "y": "main.t", "z": "my ns.my t"}]
    assert rows("FROM lakeflow.runs", relations) == [{"a": "lakeflow.runs"}]


def test_a_stream_is_opened_for_each_time_that_it_is_read() -> None:
    opened: list[int] = []

    def reader() -> pa.RecordBatchReader:
        opened.append(1)
        return FLIGHTS.to_reader()

    relations: dict[str, Relation] = {"b.f": ArrowRelation(FLIGHTS.schema, reader)}
    assert rows("SELECT count(*) n FROM b.f x JOIN b.f y USING (carrier)", relations) == [{"n": 2}]
    assert len(opened) == 2


def test_only_the_tables_that_are_named_are_touched() -> None:
    def never() -> pa.RecordBatchReader:
        raise AssertionError("read")

    assert rows("SELECT 1 a", {"a.b": ArrowRelation(FLIGHTS.schema, never)}) == [{"a": 1}]


def test_rows_come_as_they_are_made() -> None:
    taken: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(10_000):
            taken.append(number)
            yield pa.record_batch({"a": pa.array([number] * 2048)})

    schema = pa.schema([("a", pa.int64())])
    relation = ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, batches()))
    reader = run_query("SELECT a + 1 AS a FROM b.f", {"b.f": relation}, Limits(batch_rows=2048))
    assert reader.read_next_batch().num_rows == 2048
    reader.close()
    assert len(taken) < 5_000


def test_a_reader_that_is_let_go_of_lets_its_streams_go() -> None:
    ended: list[bool] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            while True:
                yield FLIGHTS.to_batches()[0]
        finally:
            ended.append(True)

    relation = ArrowRelation(FLIGHTS.schema, lambda: pa.RecordBatchReader.from_batches(FLIGHTS.schema, batches()))
    reader = run_query("FROM b.f", {"b.f": relation}, Limits(batch_rows=2048))
    reader.read_next_batch()
    assert ended == []
    del reader
    assert ended == [True]


def test_integers_divide_to_integers_and_instants_are_utc() -> None:
    found = run_query("SELECT 7 / 2 AS q, 7 / 2.0 AS d, TIMESTAMPTZ '2024-01-01 02:00:00+02' AS t", {}).read_all()
    assert found.to_pylist() == [{"q": 3, "d": 3.5, "t": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}]
    assert found.schema.field("t").type == UTC


@pytest.mark.parametrize(
    "text",
    [
        "WITH f AS (SELECT carrier FROM bronze.flights) SELECT * FROM f WHERE carrier = 'AA'",
        "WITH read_csv AS (SELECT 'AA' AS carrier) FROM read_csv",
        "SELECT carrier FROM bronze.flights INTERSECT SELECT 'AA'",
        "(SELECT carrier FROM bronze.flights) ORDER BY 1 LIMIT 1;",
        "WITH RECURSIVE r AS (SELECT 'AA' AS carrier UNION SELECT carrier FROM r) FROM r",
        "FROM (VALUES ('AA')) v(carrier)",
        "SELECT carrier FROM bronze.flights QUALIFY row_number() OVER (ORDER BY carrier) = 1",
    ],
)
def test_queries_that_only_read_run(text: str) -> None:
    assert rows(text) == [{"carrier": "AA"}]


def test_a_table_is_described() -> None:
    found = rows("DESCRIBE bronze.flights")
    assert [(row["column_name"], row["column_type"]) for row in found] == [("carrier", "VARCHAR"), ("dep_delay", "DOUBLE")]


@pytest.mark.parametrize(
    "text",
    [
        "COPY (SELECT 1) TO '{path}'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{path}'",
        "WITH x AS (COPY (SELECT 1) TO '{path}') SELECT * FROM x",
        "SELECT 1; COPY (SELECT 1) TO '{path}'",
        "SELECT 1 -- \n; COPY (SELECT 1) TO '{path}'",
        "SELECT 1 {{# #}} ; COPY (SELECT 1) TO '{path}'",
        "ATTACH '{path}'",
        "EXPORT DATABASE '{path}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET threads = 1",
        "FROM read_csv('{other}')",
        "FROM read_text('{other}')",
        "FROM read_blob('{other}')",
        "FROM read_parquet('{other}')",
        "FROM parquet_metadata('{other}')",
        "FROM glob('{folder}/*')",
        "FROM '{other}'",
        'FROM "{other}"',
        "FROM query('COPY (SELECT 1) TO ''{path}''')",
        "FROM duckdb_settings()",
        "FROM duckdb_settings",
        "FROM pg_catalog.pg_tables",
        "SELECT getenv('HOME')",
        "SELECT current_setting('temp_directory')",
        "FROM FLIGHTS",
    ],
)
def test_nothing_but_tables_is_read_and_nothing_is_written(text: str, tmp_path: Path) -> None:
    path, other = tmp_path / "spill" / "written", tmp_path / "other.parquet"
    written(other, [field("a", pa.int32(), 1)], {"a": 1})
    limits = Limits(temp_directory=tmp_path / "spill")
    with pytest.raises(UsageError):
        rows(text.format(path=path, other=other, folder=tmp_path), {**RELATIONS, "ns.t": evolved(tmp_path)}, limits)
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("WITH x AS (COPY (SELECT 1) TO 'x.csv') SELECT * FROM x", "COPY is not allowed within a read-only query"),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING *) FROM x", "INSERT is not allowed within a read-only query"),
        ("SELECT 1; SELECT 2", "this is no read-only query"),
        ("COPY (SELECT 1) TO 'x.csv'", "this is no read-only query"),
        ("FROM read_csv('x.csv')", "table function 'read_csv' is not allowed"),
        ("SELECT (SELECT write_log('x'))", "function 'write_log' is not allowed"),
        ("FROM a.b", "table 'a.b' is not among those of the query"),
        ("FROM duckdb_tables", "table 'duckdb_tables' is not among those of the query"),
        ("SELECT 'é', {# #} 1", "line 1:14: syntax error"),
    ],
)
def test_duckdbs_own_parse_is_held_against_the_list_too(text: str, message: str) -> None:
    """As if sqlglot had let the text through, for it may read a text otherwise than DuckDB does."""
    with duckdb.connect() as connection, pytest.raises(UsageError) as raised:
        _refuse_writes(connection, Query(text, ("ns.t",)))
    assert message in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        "FROM read_parquet('{folder}/other.parquet')",
        "COPY (SELECT 1) TO '{folder}/x.csv'",
        "ATTACH '{folder}/x.db'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SET temp_directory = '{folder}'",
        "INSTALL httpfs",
        "LOAD httpfs",
    ],
)
def test_the_settings_hold_where_both_parsers_are_passed(tmp_path: Path, text: str) -> None:
    written(tmp_path / "other.parquet", [field("a", pa.int32(), 1)], {"a": 1})
    with opened(Limits()) as connection:
        lock(connection, [ParquetRelation((str(tmp_path / "mine.parquet"),), ())])
        with pytest.raises(duckdb.Error, match=r"disabled|locked"):
            connection.execute(text.format(folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["other.parquet"]


HARMLESS = {
    *("current_connection_id", "current_query", "current_query_id", "current_transaction_id", "error"),
    *("gen_random_uuid", "random", "uuid", "uuidv4", "uuidv7"),
}


def test_every_function_of_duckdb_with_side_effects_is_known() -> None:
    """A new DuckDB that has more of them fails here, before a query meets one."""
    sql = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'scalar' AND has_side_effects"
    with duckdb.connect() as connection:
        found = {name for (name,) in connection.execute(sql).fetchall()}
    assert found - HARMLESS <= REFUSED_FUNCTIONS
    assert "SELECT_NODE" in QUERY_NODES


def refusal(text: str, relations: dict[str, Relation] | None = None) -> LakeflowError:
    with pytest.raises(LakeflowError) as raised:
        rows(text, relations)
    return raised.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM bronze.flihgts", "unknown table 'bronze.flihgts'; did you mean 'bronze.flights'? valid: bronze.flights"),
        ("FROM flights", "unknown table 'flights'; did you mean 'bronze.flights'? valid: bronze.flights"),
    ],
)
def test_an_unknown_table_comes_with_the_known_ones(text: str, message: str) -> None:
    error = refusal(text)
    assert isinstance(error, UnknownName)
    assert error.message == message


@pytest.mark.parametrize(
    ("text", "kind", "place", "message", "underlined"),
    [
        (
            "SELECT 1,\n carier FROM bronze.flights",
            UnknownName,
            "2:2",
            "unknown column 'carier'; did you mean 'carrier'?",
            "carier",
        ),
        ("SELECT 'é', f.carier FROM bronze.flights f", UnknownName, "1:13", "unknown column 'carier'", "f.carier"),
        ("SELECT flight.carrier FROM bronze.flights", UnknownName, "1:8", "unknown table or alias 'flight'", "flight.carrier"),
        ("SELECT suum(dep_delay) FROM bronze.flights", UsageError, "1:8", 'Did you mean "sum"?', "suum(dep_delay)"),
        ("SELECT dep_delay FROM bronze.flights GROUP BY carrier", UsageError, "1:8", "GROUP BY clause", "dep_delay"),
        ("SELECT dep_delay + carrier FROM bronze.flights", UsageError, "1:18", "No function matches", "+"),
    ],
)
def test_what_duckdb_cannot_bind_is_underlined(text: str, kind: type, place: str, message: str, underlined: str) -> None:
    error = refusal(text)
    assert isinstance(error, kind)
    assert error.message.startswith(f"line {place}: ")
    assert message in error.message
    line, marks = error.message.splitlines()[-2:]
    first = marks.index("^")
    assert line[first : first + marks.count("^")] == underlined


def test_of_many_functions_that_fit_no_argument_the_first_are_listed() -> None:
    listed = refusal("SELECT dep_delay + carrier FROM bronze.flights").message.partition("Candidate functions:")[2].splitlines()
    assert sum(" -> " in line for line in listed) == 8
    assert any(line.startswith("\t.. and ") for line in listed)


def test_a_syntax_error_of_duckdb_is_underlined() -> None:
    error = refusal("SELECT 'é',, carrier FROM bronze.flights")
    assert isinstance(error, UsageError)
    assert error.message.splitlines() == [
        'line 1:12: syntax error at or near ","',
        "  1 | SELECT 'é',, carrier FROM bronze.flights",
        "    |            ^",
    ]


def test_a_value_that_does_not_convert_is_said_with_its_place() -> None:
    error = refusal("SELECT 'é', carrier::INT FROM bronze.flights")
    assert isinstance(error, UsageError)
    assert error.message.splitlines() == [
        "line 1:20: Could not convert string 'AA' to INT32 when casting from source column carrier",
        "  1 | SELECT 'é', carrier::INT FROM bronze.flights",
        "    |                    ^^^^^",
    ]


def test_an_error_after_the_first_rows_is_one_of_the_tree() -> None:
    text = "SELECT CASE WHEN range = 3000000 THEN 'x' ELSE '1' END::INT AS a FROM range(4000000)"
    reader = run_query(text, {}, Limits(batch_rows=2048))
    assert reader.read_next_batch().num_rows == 2048
    with pytest.raises(UsageError, match="Could not convert string 'x' to INT32"):
        reader.read_all()


def test_too_little_memory_is_said_with_what_to_do() -> None:
    with pytest.raises(StorageFull) as raised:
        rows("SELECT list(range || 'padding to be kept') FROM range(3000000)", limits=Limits(memory_bytes=40 << 20))
    assert raised.value.next_step is not None
    assert "raise the memory limit" in raised.value.next_step


def test_an_error_of_a_stream_is_raised_as_it_is() -> None:
    failure = StorageUnavailable("the bucket did not answer")

    def batches() -> Iterator[pa.RecordBatch]:
        yield from FLIGHTS.to_batches()
        raise failure

    relation = ArrowRelation(FLIGHTS.schema, lambda: pa.RecordBatchReader.from_batches(FLIGHTS.schema, batches()))
    assert refusal("SELECT sum(dep_delay) FROM b.f", {"b.f": relation}) is failure
    assert refusal("FROM b.f", {"b.f": relation}) is failure


def test_a_stream_of_another_schema_is_refused() -> None:
    relation = ArrowRelation(pa.schema([("a", pa.int64())]), FLIGHTS.to_reader)
    assert isinstance(refusal("FROM b.f", {"b.f": relation}), SchemaMismatch)


def test_a_missing_file_is_worth_another_try(tmp_path: Path) -> None:
    relation = ParquetRelation((str(tmp_path / "gone.parquet"),), (ParquetColumn(1, "a", pa.int32()),))
    error = refusal("FROM ns.t", {"ns.t": relation})
    assert isinstance(error, StorageUnavailable)
    assert "gone.parquet" in error.message


def test_columns_that_differ_by_case_are_refused() -> None:
    error = refusal("FROM b.f", {"b.f": stream(pa.table({"a": [1], "A": [2]}))})
    assert isinstance(error, SchemaMismatch)
    assert error.message == "table 'b.f' has columns 'a' and 'A', which SQL does not tell apart"


@pytest.mark.parametrize("namespace", ["temp", "System", "pg_catalog", "information_schema"])
def test_a_namespace_of_duckdbs_own_is_refused(namespace: str) -> None:
    error = refusal(f"FROM {namespace}.t", {f"{namespace}.t": stream(FLIGHTS)})
    assert "DuckDB keeps the names information_schema, pg_catalog, system, temp to itself" in error.message


def test_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="the limits of a query are not valid"):
        rows("SELECT 1", limits=Limits(threads=0))


def test_an_error_that_duckdb_never_explained_is_terminal() -> None:
    error = explained(duckdb.InternalException("INTERNAL Error: it broke"), "SELECT 1", ())
    assert type(error) is Terminal
    assert error.message == "DuckDB failed on the query: INTERNAL Error: it broke"
