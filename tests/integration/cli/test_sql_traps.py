"""The traps of read-only queries on the command line: `lakeflow query`, `lakeflow sql` and a job, over a real lake."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from tests import lakes
from tests.integration.cli.conftest import Shop

SECRET = "a secret that stands in a file of nobody's table"
TRAPS = (
    "COPY bronze.orders TO '{path}'",
    "WITH x AS (COPY (SELECT 1) TO '{path}') SELECT * FROM x",
    "SELECT 1; COPY (SELECT 1) TO '{path}'",
    "ATTACH '{path}'",
    "SELECT * FROM read_text('{other}')",
    "SELECT * FROM bronze.orders, LATERAL read_text('{other}') AS r",
    "SELECT * FROM '{other}'",
    "SELECT (SELECT max(content) FROM read_text('{other}')) AS x",
    "SELECT getenv('HOME') AS home",
    "SELECT current_setting('temp_directory') AS x",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM glob('{folder}/*')",
)


@pytest.mark.parametrize("text", TRAPS)
def test_no_way_of_the_command_line_does_more_than_read(stocked: Shop, tmp_path: Path, text: str) -> None:
    place = tmp_path / "outside"
    place.mkdir()
    path, other = place / "written", place / "other.txt"
    other.write_text(SECRET)
    written = text.format(path=path, other=other, folder=place)
    job = stocked.folder / "jobs" / "trap.sql"
    for words in (
        ("query", written),
        ("sql", "-e", written),
        ("sql", "-e", f"EXPLAIN {written}"),
        ("sql", "-e", f"EXPLAIN ANALYZE {written}"),
        ("sql", "-e", f"INSERT INTO gold.trapped {written}"),
        ("run", "trap"),
        ("plan", "trap"),
    ):
        job.write_text(f"INSERT INTO gold.trapped {written};") if words[0] in ("run", "plan") else job.unlink(missing_ok=True)
        ran = stocked(*words)
        assert ran.code in (1, 2), f"{words}: {ran.out}"
        assert SECRET not in ran.out + ran.err
        assert sorted(place.iterdir()) == [other]
    assert "gold.trapped" not in stocked.project.lake.names()


VECTORS = pa.table({"id": ["it's", "b"], "embedding": pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32()))})


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("id = ''it''''s''", ["it's"]),
        ("id = ''b'' OR 1 = 1", None),
        ("id = ''b''); COPY (SELECT 1) TO ''{path}''; --", None),
        ("id IN (SELECT content FROM read_text(''{other}''))", None),
        ("id = getenv(''HOME'')", None),
    ],
)
def test_the_filter_of_a_search_is_a_condition_and_no_sql(
    stocked: Shop, tmp_path: Path, condition: str, found: list[str] | None
) -> None:
    lake = stocked.project.lake
    lake.ensure(TableSpec("gold.vectors", VECTORS.schema))
    lakes.append(lake, VECTORS, name="gold.vectors")
    filtered = condition.format(path=tmp_path / "written", other=tmp_path / "other.txt")
    ran = stocked(
        "query",
        f"SELECT id FROM VECTOR_SEARCH(TABLE gold.vectors, DESCRIPTOR(embedding), [1.0, 1.0], 5, MAP['filter', '{filtered}'])",
        "--output",
        "csv",
    )
    assert not (tmp_path / "written").exists()
    if found is None:
        assert ran.code == 2, ran.out
    else:
        assert ran.out.splitlines() == ["id", *found]


def test_secrets_and_variables_are_not_filled_into_a_query(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_KEY", SECRET)
    monkeypatch.setenv("KEY", SECRET)
    ran = stocked("query", "SELECT '{{ secret.KEY }} ${KEY}' AS said", "--output", "csv")
    assert ran.out.splitlines() == ["said", "{{ secret.KEY }} ${KEY}"]
    assert stocked("sql", "-e", "SELECT '${KEY}' AS said", "--output", "json").json == {"said": "${KEY}"}
