"""Runs of jobs as the threads of `lakeflow start` carry them out, and how far a landing is ahead of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakeflow.errors import Interrupted, JobFailed, Terminal
from lakeflow.observe.past import recent_runs
from lakeflow.observe.runs import Status
from lakeflow.start.generation import Generation, load
from lakeflow.start.parts import Kind, Part
from lakeflow.start.pressure import rows_ahead
from lakeflow.start.upkeep import maintained
from lakeflow.start.work import Ended, Looked, Message, Stop, guarded, run_node
from tests.lakes import append, id_rows, ids, made, stored_files

TABLES = "CREATE TABLE raw.a (id BIGINT);\nCREATE TABLE raw.b (id BIGINT);"
COPY = """
import helper
import lakeflow as lf


@lf.job(target="gold.copy")
def copy(a=lf.Read("raw.a")):
    return helper.changed(a)


@lf.job(target="gold.all", mode="snapshot")
def all_of_it(a=lf.Read("raw.a"), b=lf.Lookup("raw.b")):
    return a
"""
SEARCHES = """
import lakeflow as lf


@lf.job(target="gold.found")
def found(a=lf.Read("raw.a")):
    return lf.vector_search(a, "near", "vector")
"""
HELPER = "def changed(frame):\n    return frame\n"


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Generation]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, text in {"tables/a.sql": TABLES, "jobs/copy.py": COPY, "helper.py": HELPER, "lakeflow.toml": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    now = load(tmp_path, None)
    for table in ("raw.a", "raw.b"):
        made(now.project.lake, name=table)
        append(now.project.lake, ids(1, 2, 3), name=table)
    yield now
    sys.modules.pop("helper", None)


def stop() -> Stop:
    return Stop(threading.Event(), threading.Event())


def run(now: Generation, name: str, looked: dict[str, Looked] | None = None, how: Stop | None = None) -> Ended:
    [part] = [part for part in now.parts if part.name == name]
    project = now.take()
    try:
        return run_node(project, part, now.nodes[part.label], how or stop(), {} if looked is None else looked)
    finally:
        now.give_back(project)


def status(ended: Ended) -> Status:
    assert ended.error is None
    assert ended.run is not None
    return ended.run.status


class TestRuns:
    def test_what_a_run_did_is_recorded_and_that_it_found_nothing_is_not(self, loaded: Generation) -> None:
        assert [status(run(loaded, "copy")), status(run(loaded, "copy"))] == [Status.DONE, Status.EMPTY]
        assert id_rows(loaded.project.lake.table("gold.copy")) == [1, 2, 3]
        assert [row["status"] for row in recent_runs(loaded.project.lake, last=9)] == ["done"]

    def test_a_snapshot_is_taken_again_once_a_table_that_it_reads_has_changed(self, loaded: Generation) -> None:
        looked: dict[str, Looked] = {}
        found = [status(run(loaded, "all_of_it", looked)) for _ in range(2)]
        append(loaded.project.lake, ids(4), name="raw.b")
        found += [status(run(loaded, "all_of_it", looked)) for _ in range(2)]
        assert found == [Status.DONE, Status.EMPTY] * 2, "a lookup counts as well"

    def test_a_table_that_is_still_to_be_made_is_waited_for(self, loaded: Generation) -> None:
        loaded.project.lake.drop("raw.b")
        ended = run(loaded, "all_of_it")
        assert (ended.run, ended.error, ended.waits) == (None, None, ("raw.b",))

    def test_an_index_that_is_still_to_be_built_is_waited_for(self, loaded: Generation) -> None:
        root = loaded.project.settings.root
        (root / "tables" / "index.sql").write_text("CREATE VECTOR INDEX near ON raw.b (vector) WITH ('key' = 'id');")
        (root / "jobs" / "found.py").write_text(SEARCHES)
        ended = run(load(root, None, loaded), "found")
        assert (ended.run, ended.error, ended.waits) == (None, None, ("index near",))

    def test_what_fails_is_handed_on(self, loaded: Generation) -> None:
        root = loaded.project.settings.root
        (root / "helper.py").write_text("def changed(frame):\n    return frame.select('no_such_column')\n")
        ended = run(load(root, None, loaded), "copy")
        assert isinstance(ended.error, JobFailed)
        assert ended.run is not None
        assert ended.run.status is Status.FAILED

    def test_a_stop_ends_before_the_next_step_and_a_late_one_within_it(self, loaded: Generation) -> None:
        asked = stop()
        asked.all.set()
        assert status(run(loaded, "copy", how=asked)) is Status.STOPPED
        late = stop()
        late.late.set()
        assert status(run(loaded, "copy", how=late)) is Status.STOPPED
        assert stored_files(loaded.project.lake.table("gold.copy")) == set(), "nothing of the step is left"
        with pytest.raises(Interrupted):
            late.hurry(1)

    def test_a_thread_that_would_die_unheard_tells_so(self, caplog: pytest.LogCaptureFixture) -> None:
        told: list[Message] = []
        part = Part(Kind.JOB, "a")

        def work() -> Ended:
            raise SystemExit("of a library")

        guarded(part, work, told.append)
        [ended] = told
        assert isinstance(ended, Ended)
        assert isinstance(ended.error, Terminal)
        assert "job a ended with SystemExit: of a library" in ended.error.message
        assert "ended in an unforeseen way" in caplog.text


class TestPressure:
    def test_a_table_is_ahead_by_what_its_slowest_reader_has_not_read(self, loaded: Generation) -> None:
        assert rows_ahead(loaded.project, "raw.a") == 3, "nobody has begun"
        run(loaded, "copy")
        assert rows_ahead(loaded.project, "raw.a") == 0
        append(loaded.project.lake, ids(4, 5), name="raw.a")
        assert rows_ahead(loaded.project, "raw.a") == 2

    @pytest.mark.parametrize("table", ["raw.b", "raw.not_there"])
    def test_one_that_nobody_reads_incrementally_is_not_ahead(self, loaded: Generation, table: str) -> None:
        assert rows_ahead(loaded.project, table) == 0


class TestGenerations:
    def test_a_change_of_a_module_that_a_job_imports_is_taken_up(self, loaded: Generation) -> None:
        root = loaded.project.settings.root
        assert "helper" in loaded.modules
        (root / "helper.py").write_text(
            "import polars as pl\n\n\ndef changed(frame):\n    return frame.select(pl.col('id') * 10)\n"
        )
        run(load(root, None, loaded), "copy")
        assert id_rows(loaded.project.lake.table("gold.copy")) == [10, 20, 30]

    def test_one_that_cannot_be_loaded_leaves_the_modules_as_they_were(self, loaded: Generation) -> None:
        root = loaded.project.settings.root
        (root / "helper.py").write_text("def (")
        with pytest.raises(Terminal, match=r"jobs/copy\.py:2 cannot be loaded: SyntaxError"):
            load(root, None, loaded)
        assert sys.modules["helper"] is loaded.modules["helper"]
        assert run(loaded, "copy").error is None

    def test_a_landing_differs_by_its_declaration_and_the_settings_alone(self, loaded: Generation) -> None:
        root = loaded.project.settings.root
        landed = "CREATE TABLE raw.l (id BIGINT) WITH ('connector' = 'kafka', 'topic' = 'l', 'value.format' = 'json');"
        part = Part(Kind.LANDING, "raw.l", (), "raw.l")
        found = []
        (root / "tables" / "l.sql").write_text(landed)
        first = load(root, None, loaded)
        for name, text in (
            ("tables/l.sql", f"\n\n-- lower down\n{landed}"),
            ("tables/l.sql", landed.replace("'l'", "'other'")),
            ("tables/l.sql", ""),
            ("tables/l.sql", landed),
            ("lakeflow.toml", "[run]\nmax_rows = 7"),
        ):
            (root / name).write_text(text)
            found.append(first.differs(load(root, None, first), part))
        assert found == [False, True, True, False, True]


def test_maintenance_tells_of_what_it_did_alone(loaded: Generation) -> None:
    for _ in range(6):
        append(loaded.project.lake, ids(9), name="raw.b")
    [event] = maintained(loaded.project, False, lambda: False)
    assert (event.name, event.status, event.facts["files_after"]) == ("raw.b", "done", 1)
