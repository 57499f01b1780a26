"""Tables as of a moment: each is a view of its own, and a moment is what it says."""

from __future__ import annotations

import datetime as dt

import pytest

from lakeflow.errors import UsageError
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import AtRef, AtSnapshot, AtStart, AtTime, Moment
from tests.unit.sql.asked import Asked, FakeNames

NOON = int(dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC).timestamp()) * 1_000_000
HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("FOR VERSION AS OF 42", AtSnapshot(42)),
        ("FOR VERSION AS OF '42'", AtRef("42")),
        ("VERSION AS OF 'v1.2'", AtRef("v1.2")),
        ("FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-31 12:00:00'", AtTime(NOON)),
        ("FOR SYSTEM_TIME AS OF '2026-01-31 12:00:00'", AtTime(NOON)),
        ("FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2026-01-31 13:00:00+01:00'", AtTime(NOON)),
        ("FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-31 12:00:00.000001'", AtTime(NOON + 1)),
        ("FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-31 11:00:00' + INTERVAL '1' HOUR", AtTime(NOON)),
        ("FOR TIMESTAMP AS OF '2026-01-31 12:00:00'", AtTime(NOON)),
        ("FOR SYSTEM_TIME AS OF PROCTIME()", AtStart()),
    ],
)
@pytest.mark.parametrize("alias", ["", " AS c", " c"])
def test_a_moment(said: str, moment: Moment, alias: str) -> None:
    names = FakeNames()
    text = f"SELECT {'c' if alias else 'carriers'}.name FROM dim.carriers {said}{alias}"
    (read,) = compile_query(text, names).reads
    assert (read.name, read.at) == ("dim.carriers", moment)
    assert text[read.start : read.stop] == "dim.carriers"
    assert names.moments == [("dim.carriers", moment)]


def test_now_is_when_it_is_compiled() -> None:
    text = "FROM dim.carriers FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP - INTERVAL '1' HOUR"
    (read,) = compile_query(text, FakeNames()).reads
    assert isinstance(read.at, AtTime)
    assert abs(read.at.microseconds + HOUR - dt.datetime.now(dt.UTC).timestamp() * 1e6) < 60e6


def test_one_table_at_several_moments_is_read_once_for_each() -> None:
    asked = Asked()
    text = """
    SELECT a.name, b.name AS before, c.name AS again FROM dim.carriers AS a
    JOIN dim.carriers FOR VERSION AS OF 7 AS b ON a.carrier = b.carrier
    JOIN dim.carriers FOR VERSION AS OF 7 AS c ON c.carrier = a.carrier
    WHERE a.carrier = 'c1'
    """
    assert asked(text) == [{"name": "Carrier 1", "before": "Carrier 1", "again": "Carrier 1"}]
    assert asked.compiled is not None
    assert [read.at for read in asked.compiled.reads] == [None, AtSnapshot(7)]
    assert len({read.view for read in asked.compiled.reads}) == 2


@pytest.mark.parametrize("column", ["proc_time", "PROCTIME"])
def test_a_lookup_by_processing_time(column: str) -> None:
    asked = Asked()
    text = (
        f"SELECT f.id, c.name FROM bronze.flights f JOIN dim.carriers FOR SYSTEM_TIME AS OF f.{column} "
        f"AS c ON f.carrier = c.carrier WHERE f.id = 1"
    )
    assert asked(text) == [{"id": 1, "name": "Carrier 1"}]
    assert asked.compiled is not None
    assert asked.compiled.reads[1].at == AtStart()


def test_a_model_over_a_table_at_a_moment() -> None:
    asked = Asked()
    text = (
        "SELECT answer FROM ML_PREDICT(TABLE dim.carriers FOR VERSION AS OF 'may', MODEL llm, "
        "DESCRIPTOR(name)) WHERE carrier = 'c1'"
    )
    assert asked(text) == [{"answer": "CARRIER 1"}]
    assert asked.compiled is not None
    assert asked.compiled.reads[0].at == AtRef("may")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("FOR SYSTEM_TIME AS OF TIMESTAMP 'soon'", "a time that cannot be read"),
        ("FOR SYSTEM_TIME AS OF upper('2026')", "needs a constant"),
        ("FOR SYSTEM_TIME AS OF NULL", "needs a constant"),
        ("FOR VERSION AS OF 1.5", "a snapshot's id, or the name of a branch or tag in quotes"),
        ("FOR VERSION AS OF may", "a snapshot's id, or the name of a branch or tag in quotes"),
        ("FOR SYSTEM_TIME BETWEEN 1 AND 2", "one moment"),
    ],
)
def test_what_is_no_moment_is_refused(said: str, message: str) -> None:
    text = f"SELECT 1 FROM bronze.flights f JOIN dim.carriers {said} AS c ON true"
    with pytest.raises(UsageError) as raised:
        compile_query(text, FakeNames())
    assert message in str(raised.value)
    assert str(raised.value).startswith("line 1:37: ")
