"""DELETE, UPDATE and TRUNCATE as `lakeflow sql` runs them: which rows change, which files stay, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop
from tests.lakes import live_paths

TABLE = "gold.numbered"


def sql(shop: Shop, text: str) -> list[dict[str, Any]]:
    done = shop("sql", "--output", "json", "-e", text)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def rows(shop: Shop) -> list[tuple[Any, ...]]:
    return sorted(shop.project.table(TABLE).collect().rows(), key=str)


@pytest.fixture
def numbered(shop: Shop) -> Shop:
    """Three files of two rows, a null among them."""
    sql(
        shop,
        f"CREATE TABLE {TABLE} (id INT, name STRING, price DECIMAL(9, 2));"
        f"INSERT INTO {TABLE} VALUES (1, 'a', 1.50), (2, 'b', 2.50);"
        f"INSERT INTO {TABLE} VALUES (3, NULL, 3.50), (4, 'd', NULL);"
        f"INSERT INTO {TABLE} VALUES (5, 'e', 5.50), (6, 'f', 6.50)",
    )
    return shop


def ids(shop: Shop) -> list[int]:
    return [row[0] for row in rows(shop)]


def test_rows_of_a_condition_go_in_one_snapshot_and_other_files_stay(numbered: Shop) -> None:
    table = numbered.project.lake.table(TABLE)
    before, snapshots = set(live_paths(table)), len(table.metadata.snapshots)
    [done] = sql(numbered, f"DELETE FROM {TABLE} WHERE name = 'd' OR price > 6")
    assert done == {"statement": "DELETE FROM", "table": TABLE, "status": "done", "rows": 2}
    table = numbered.project.lake.table(TABLE)
    assert ids(numbered) == [1, 2, 3, 5]
    assert len(before & set(live_paths(table))) == 1
    assert len(table.metadata.snapshots) == snapshots + 1


def test_a_row_whose_condition_is_unknown_stays(numbered: Shop) -> None:
    assert sql(numbered, f"DELETE FROM {TABLE} WHERE NOT name = 'a'")[0]["rows"] == 4
    assert ids(numbered) == [1, 3]


def test_without_a_row_of_the_condition_there_is_no_snapshot(numbered: Shop) -> None:
    before = numbered.project.lake.table(TABLE).metadata.current_snapshot_id
    [done] = sql(numbered, f"DELETE FROM {TABLE} WHERE id > 100")
    assert (done["status"], done["rows"]) == ("no such row", 0)
    assert numbered.project.lake.table(TABLE).metadata.current_snapshot_id == before


def test_a_condition_may_read_other_tables_and_end_in_a_comment(numbered: Shop) -> None:
    sql(numbered, "CREATE TABLE gold.gone AS VALUES (2), (5)")
    [done] = sql(numbered, f"DELETE FROM {TABLE} WHERE id IN (SELECT * FROM gold.gone) -- and no more")
    assert (done["rows"], ids(numbered)) == (2, [1, 3, 4, 6])


def test_all_rows_go_and_the_table_stays(numbered: Shop) -> None:
    assert sql(numbered, f"DELETE FROM {TABLE}")[0]["rows"] == 6
    assert rows(numbered) == []
    sql(numbered, f"INSERT INTO {TABLE} VALUES (7, 'g', 7.00)")
    assert sql(numbered, f"TRUNCATE TABLE {TABLE}")[0]["rows"] == 1
    assert rows(numbered) == []


def test_values_are_worked_out_of_the_row_as_it_was(numbered: Shop) -> None:
    [done] = sql(numbered, f"UPDATE {TABLE} SET price = price * 2, name = concat(name, '!', id) WHERE id BETWEEN 2 AND 4")
    assert (done["statement"], done["rows"]) == ("UPDATE", 3)
    changed = [(row[0], row[1], None if row[2] is None else float(row[2])) for row in rows(numbered)]
    assert changed[1:4] == [(2, "b!2", 5.0), (3, "!3", 7.0), (4, "d!4", None)]
    assert [row[0] for row in changed] == [1, 2, 3, 4, 5, 6]
    assert sql(numbered, f"UPDATE {TABLE} SET name = CASE WHEN id IN (1, 2) THEN 'low' ELSE 'high' END")[0]["rows"] == 6
    assert [row[1] for row in rows(numbered)] == ["low", "low", "high", "high", "high", "high"]


REFUSED = [
    (f"DELETE FROM {TABLE} WHERE nmae = 'a'", "nmae", 33),
    (f"DELETE FROM {TABLE} WHERE id = (SELECT max(id) FROM {TABLE})", "a subquery of it reads the table too", 0),
    (f"DELETE FROM {TABLE} WHERE", "expected a condition", 0),
    (f"DELETE FROM {TABLE} AS n WHERE id = 1", "expected WHERE or the end of the statement", 0),
    (f"DELETE FROM {TABLE} WHERE id = 1) OR (true", "syntax error", 0),
    (f"UPDATE {TABLE} SET nmae = 'a'", "'nmae'; did you mean 'name'", 0),
    (f"UPDATE {TABLE} SET id = 1, id = 2", "column 'id' is set twice", 0),
    (f"UPDATE {TABLE} SET id = nonsense + 1", "nonsense", 31),
    (f"UPDATE {TABLE} SET id = 'text'", "id", 0),
    (f"UPDATE {TABLE} WHERE id = 1", "expected SET", 0),
    (
        f"DELETE FROM {TABLE} WHERE id IN (SELECT 1 FROM ML_PREDICT(TABLE gold.texts, MODEL docs_embedding, DESCRIPTOR(text)))",
        "asks a model or an index",
        0,
    ),
    ("DELETE FROM lakeflow.runs", "lakeflow's own", 0),
    ("TRUNCATE TABLE gold.nowhere", "gold.nowhere", 0),
]


def test_what_cannot_be_meant_is_refused_and_changes_nothing(numbered: Shop) -> None:
    sql(numbered, "CREATE TABLE gold.texts AS SELECT 'a text' AS text")
    for statement, message, column in REFUSED:
        refused = numbered("sql", "-e", statement)
        assert refused.code != 0, statement
        assert message in refused.err, statement
        if column:
            assert f"line 1:{column}" in refused.err
    assert len(rows(numbered)) == 6
