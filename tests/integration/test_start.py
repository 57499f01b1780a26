"""`lakeflow start` as a process: from the topic to the index, edits while it runs, isolation, back-pressure, the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.cli.app import main
from lakeflow.lake.catalog import arrow_schema
from lakeflow.runner.project import Project
from lakeflow.topics.embedded import EmbeddedBroker
from tests.chaos.processes import TERMINATED, Nursery
from tests.chaos.start_project import JOBS, LANDED, Service, Started
from tests.lakes import append

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    with EmbeddedBroker(partitions=2) as broker:
        yield Started(tmp_path / "project", broker)


@pytest.fixture
def nursery(started: Started, tmp_path: Path) -> Iterator[Nursery]:
    with Nursery(started.root, tmp_path / "logs") as nursery:
        yield nursery


def test_rows_reach_tables_and_index_while_a_job_is_broken_and_mended(started: Started, nursery: Nursery) -> None:
    started.write()
    started.produce(300)
    service = Service.start(nursery)
    service.wait_for(kind="index", status="done")
    service.until(lambda: started.is_caught_up, "all rows")
    assert service.get("/readyz")[0] == 200

    started.put("jobs/points.py", "def (")
    refused = service.wait_for(status="not reloaded: what ran before goes on")
    assert (refused["changed"], "jobs/points.py:1" in refused["error"]) == (["jobs/points.py"], True)
    started.produce(100)
    service.until(lambda: started.is_caught_up, "what was loaded before to go on")

    started.put("jobs/points.py", JOBS["points"].replace('"embedding"', '"embeding"'))
    service.wait_for(status="reloaded")
    started.produce(100)
    given_up = service.wait_for(kind="job", name="points", status="given up")
    assert given_up["held_up"] == ["points_index"]
    service.until(lambda: service.get("/readyz")[0] == 503, "it to be not ready")
    assert "job points is given up" in json.loads(service.get("/readyz")[1])["reasons"][0]
    assert service.get("/healthz")[0] == 200, "it lives, and the others go on:"
    service.until(lambda: started.rows("gold.large") == len(started.expected["gold.large"]), "the others")

    started.put("jobs/points.py", JOBS["points"])
    service.until(lambda: started.is_caught_up, "the mended job")
    service.until(lambda: service.get("/readyz")[0] == 200, "it to be ready again")
    metrics = service.get("/metrics")[1]
    assert 'lakeflow_landing_records_total{outcome="written",table="bronze.events"} 500.0' in metrics
    assert 'lakeflow_part_state{kind="job",name="points",state="given up"} 0.0' in metrics
    wanted = len(started.expected["gold.points"])
    service.until(lambda: started.indexed() == wanted, "the index")

    service.child.end()
    assert service.child.process.returncode == TERMINATED, service.child.said()
    assert service.wait_for(status="stopped")["left"] == []
    started.check()
    assert started.column("gold.counts", "events") in ([500], [400]), "at the most its freshness behind"


def without_topics(started: Started, large: str, start: str = "") -> None:
    """The project with a table that is there already, and one job."""
    started.write(start=start)
    started.put("tables/tables.sql", f"CREATE TABLE {LANDED} (id BIGINT NOT NULL, amount INT);")
    started.put("jobs/large.py", large)
    for name in ("points", "counts"):
        (started.root / f"jobs/{name}.py").unlink()
    project = Project.open(started.root)
    made = project.lake.ensure(project.declared_tables.tables[LANDED])
    append(project.lake, pa.table([[1], [99]], schema=arrow_schema(made)), name=LANDED)


def test_what_is_given_up_at_the_end_ends_it_with_1(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    without_topics(started, JOBS["large"].replace('"amount"', '"amuont"'))
    assert main(["start", "--listen", "off", "--project", str(started.root)]) == 1, "no part is left that could go on"
    assert "job large, GIVEN UP" in capsys.readouterr().err


def test_what_does_not_end_in_time_is_left_and_done_anew(started: Started, nursery: Nursery) -> None:
    slow = JOBS["large"].replace("    return", "    Path('begun').touch()\n    time.sleep(600)\n    return")
    without_topics(started, f"import time\nfrom pathlib import Path\n{slow}", start="stop_seconds = 0.5")
    service = Service.start(nursery, "off")
    service.until((started.root / "begun").exists, "the job to begin")
    service.child.end()
    assert service.child.process.returncode == TERMINATED, service.child.said()
    assert service.wait_for(status="stopped")["left"] == ["job large"]
    started.put("jobs/large.py", JOBS["large"])
    assert main(["run", "large", "--project", str(started.root)]) == 0
    assert started.column("gold.large") == [1]


def test_a_landing_waits_for_its_slowest_reader(started: Started, nursery: Nursery) -> None:
    started.write(start="most_ahead = 50")
    started.put("jobs/large.py", "import time\n" + JOBS["large"].replace("    return", "    time.sleep(1)\n    return"))
    service = Service.start(nursery)
    service.wait_for(status="opened")
    for _ in range(4):
        started.produce(100)
        time.sleep(0.7)
    assert service.wait_for(status="waits for its readers")["rows_ahead"] > 50
    service.until(lambda: started.is_caught_up, "the landing to go on")
    service.until(lambda: started.indexed() == len(started.expected["gold.points"]), "the index")
    service.child.end()
    started.check()


@pytest.mark.parametrize(
    ("name", "text", "words", "said"),
    [
        ("jobs/large.py", "def (", [], "jobs/large.py:1 cannot be loaded"),
        ("jobs/large.py", JOBS["large"].replace("gold.large", "gold.points"), [], "give it a table of its own"),
        ("jobs/large.py", JOBS["large"].replace('large")', 'large", schedule="61 * * * *")'), [], "the minute is '61'"),
        ("jobs/large.py", JOBS["large"], ["--listen", "everywhere"], "--listen is 'everywhere'"),
        ("lakeflow.toml", "[start]\njobs = 0", [], "jobs in [start] is 0; valid: integer, 1 to 64"),
        ("lakeflow.toml", "[start]\njob = 1", [], "did you mean 'jobs'"),
    ],
)
def test_what_cannot_be_started_is_refused(
    started: Started, capsys: pytest.CaptureFixture[str], name: str, text: str, words: list[str], said: str
) -> None:
    started.write()
    started.put(name, text)
    code = main(["start", "--project", str(started.root), *(words or ["--listen", "off"])])
    assert (code, said in capsys.readouterr().err) == (2, True)


def test_a_project_without_parts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lakeflow.toml").touch()
    assert main(["start", "--project", str(tmp_path), "--listen", "off"]) == 2
    assert "no landing, job, index or sink to keep going" in capsys.readouterr().err
