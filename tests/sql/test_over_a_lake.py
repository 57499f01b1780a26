"""Cases that need a lake: tables at a snapshot, a tag, a branch and a time, indexes, and evaluations of models."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.cli.app import main
from lakeflow.declare import TableSpec
from lakeflow.errors import LakeflowError
from lakeflow.runner.project import Project
from lakeflow.runner.sql_query import query_project
from lakeflow.sql.execute import Limits
from tests import lakes
from tests.sql.corpus import shown

DECLARED = """
CREATE TABLE gold.docs (id BIGINT NOT NULL, title STRING, vec ARRAY<FLOAT>, PRIMARY KEY (id) NOT ENFORCED);
CREATE VECTOR INDEX docs_index ON gold.docs (vec) WITH ('key' = 'id', 'metric' = 'l2');
CREATE MODEL late INPUT (hour INT) OUTPUT (label STRING)
WITH ('provider' = 'python', 'task' = 'classification', 'class' = 'answering:Late');
CREATE MODEL half INPUT (x DOUBLE) OUTPUT (y DOUBLE)
WITH ('provider' = 'python', 'task' = 'regression', 'class' = 'answering:Half');
"""
ANSWERING = """
import pyarrow as pa
import pyarrow.compute as pc


class Late:
    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([pa.array(["late" if hour > 12 else "early" for hour in rows.column(0).to_pylist()])], ["label"])


class Half:
    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([pc.divide(rows.column(0), 2.0)], ["y"])
"""
PRICES = pa.schema([("item", pa.string()), ("price", pa.int64())])
DOCS = pa.schema([pa.field("id", pa.int64(), nullable=False), ("title", pa.string()), ("vec", pa.list_(pa.float32()))])
FLIGHTS = pa.schema([("id", pa.int64()), ("hour", pa.int32()), ("was", pa.string()), ("x", pa.float64()), ("y", pa.float64())])
EVALUATED = "ML_EVALUATE(TABLE bronze.flights, MODEL {model}, DESCRIPTOR({label}), DESCRIPTOR({features}){more})"


class Site:
    """The project, and what stands for the ids of its snapshots in a query."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.held = held
        (folder / "tables").mkdir()
        (folder / "lakeflow.toml").write_text("")
        (folder / "tables" / "all.sql").write_text(DECLARED)
        (folder / "answering.py").write_text(ANSWERING)
        self.project = Project.open(folder, environ={})
        first = self.append("gold.prices", PRICES, ("pen", 1), ("ink", 7))
        table = self.project.lake.table("gold.prices")
        table.manage_snapshots().create_tag(first, "march").create_branch(first, "trial").commit()
        second = self.append("gold.prices", PRICES, ("pen", 2))
        self.append("gold.prices", PRICES, ("nib", 3))
        self.ids = {"{first}": str(first), "{second}": str(second)}
        self.append(
            "gold.docs", DOCS, (1, "near", [1.0, 0.0]), (2, "far", [9.0, 9.0]), (3, "nearer", [0.9, 0.1]), (4, None, None)
        )
        labelled = [(1, 5, "early", 4.0, 2.0), (2, 20, "late", 2.0, 1.0), (3, 21, "early", 6.0, 5.0), (4, 1, None, None, 1.0)]
        self.append("bronze.flights", FLIGHTS, *labelled)
        assert main(["index", "build", "docs_index", "--project", str(folder)]) == 0

    def append(self, table: str, schema: pa.Schema, *rows: tuple[object, ...]) -> int:
        lake = self.project.lake
        if not lake.exists(table):
            lake.ensure(self.project.declared_tables.tables.get(table) or TableSpec(table, schema))
        named = [dict(zip(schema.names, row, strict=True)) for row in rows]
        return lakes.append(lake, pa.Table.from_pylist(named, schema=schema), name=table).snapshot_id

    def rows(self, text: str) -> list[tuple[object, ...]]:
        for name, number in self.ids.items():
            text = text.replace(name, number)
        found = query_project(text, self.project, Limits(threads=1), self.held).read_all()
        return [tuple(shown(value) for value in row.values()) for row in found.to_pylist()]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        yield Site(Path(folder), held)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT count(*) FROM gold.prices", [(4,)]),
        ("SELECT item, price FROM gold.prices FOR VERSION AS OF {first} ORDER BY item", [("ink", 7), ("pen", 1)]),
        ("SELECT count(*) FROM gold.prices VERSION AS OF {second}", [(3,)]),
        ("SELECT sum(price) FROM gold.prices FOR VERSION AS OF 'march'", [("8",)]),
        ("SELECT sum(price) FROM gold.prices FOR VERSION AS OF 'trial' AS p", [("8",)]),
        ("SELECT count(*) FROM gold.prices FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP", [(4,)]),
        ("SELECT count(*) FROM gold.prices FOR SYSTEM_TIME AS OF PROCTIME()", [(4,)]),
        (
            "SELECT n.item, n.price, o.price AS was FROM gold.prices AS n "
            "LEFT JOIN gold.prices FOR VERSION AS OF 'march' AS o USING (item) ORDER BY ALL",
            [("ink", 7, 7), ("nib", 3, None), ("pen", 1, 1), ("pen", 2, 1)],
        ),
        (
            "SELECT item FROM gold.prices EXCEPT SELECT item FROM gold.prices FOR VERSION AS OF 'march'",
            [("nib",)],
        ),
        (
            "SELECT (SELECT max(price) FROM gold.prices FOR VERSION AS OF {second} WHERE item = 'pen') AS one, "
            "max(price) AS other FROM gold.prices WHERE item = 'pen'",
            [(2, 2)],
        ),
        (
            "SELECT p.item, y FROM ML_PREDICT(TABLE (SELECT item, CAST(price AS DOUBLE) AS x FROM gold.prices "
            "FOR VERSION AS OF 'march'), MODEL half, DESCRIPTOR(x)) AS p ORDER BY item",
            [("ink", 3.5), ("pen", 0.5)],
        ),
    ],
)
def test_tables_at_moments(site: Site, text: str, rows: list[tuple[object, ...]]) -> None:
    assert site.rows(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT id FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1.0, 0.0], 2)", [(1,), (3,)]),
        ("SELECT id, score FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1.0, 0.0], 1)", [(1, 1.0)]),
        (
            "SELECT id FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1.0, 0.0], 9, MAP['filter', 'id > 1'])",
            [(3,), (2,)],
        ),
        ("SELECT title FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [9.0, 8.0], 1, MAP['exact', 'true'])", [("far",)]),
        (
            "SELECT q.a, d.id FROM (VALUES (1, [1.0, 0.0]), (2, [9.0, 9.0]), (3, NULL)) AS q(a, v), "
            "LATERAL TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), q.v, 1)) AS d ORDER BY ALL",
            [(1, 1), (2, 2)],
        ),
        (
            "SELECT d.* FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1.0, 0.0], 1, MAP['output_columns', 'id']) AS d",
            [(1, 1.0)],
        ),
    ],
)
def test_an_index_answers_searches(site: Site, text: str, rows: list[tuple[object, ...]]) -> None:
    assert site.rows(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "SELECT model, rows, left_out, accuracy FROM "
            + EVALUATED.format(model="late", label="was", features="hour", more=""),
            [("late", 3, 1, 0.666666667)],
        ),
        (
            f"SELECT mae, max_error FROM {EVALUATED.format(model='half', label='y', features='x', more='')}",
            [(0.666666667, 2.0)],
        ),
        (
            "SELECT e.accuracy > 0.5 AS good FROM ML_EVALUATE(INPUT => TABLE (SELECT * FROM bronze.flights WHERE id < 3), "
            "MODEL => MODEL late, LABEL => DESCRIPTOR(was), ARGS => DESCRIPTOR(hour), TASK => 'classification') AS e",
            [(True,)],
        ),
    ],
)
def test_models_are_evaluated(site: Site, text: str, rows: list[tuple[object, ...]]) -> None:
    assert site.rows(text) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT * FROM gold.prices FOR VERSION AS OF 1", "unknown snapshot"),
        ("SELECT * FROM gold.prices FOR VERSION AS OF 'mrch'", "did you mean 'march'?"),
        ("SELECT * FROM gold.prices FOR SYSTEM_TIME AS OF TIMESTAMP '2001-01-01 00:00:00'", "no snapshot as old as"),
        (
            "SELECT * FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1.0], 1)",
            "have the shape [1, 1]; valid: [queries, 2]",
        ),
        ("SELECT * FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1.0, 0.0], 1, MAP['metric', 'cosine'])", "l2"),
        (
            "SELECT * FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), 'words', 1)",
            "no index over gold.docs (vec) has a model for it",
        ),
        (
            f"SELECT * FROM {EVALUATED.format(model='late', label='was', features='hour', more=', ' + repr('ranking'))}",
            "ranking",
        ),
        (f"SELECT * FROM {EVALUATED.format(model='late', label='ws', features='hour', more='')}", "did you mean 'was'?"),
    ],
)
def test_what_cannot_be_meant_is_refused(site: Site, text: str, message: str) -> None:
    with pytest.raises(LakeflowError) as raised:
        site.rows(text)
    assert message in raised.value.message
