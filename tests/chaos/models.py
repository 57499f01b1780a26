"""Runs that ask a model, killed at random points: what was answered is not asked again, and the table is what it would be.

    python -m tests.chaos.models --kills 50 --seed 7
    python -m tests.chaos.models --trouble 10000 --seed 7

With kills, `lakeflow run` of an incremental job is killed by SIGKILL as it starts, as it asks or as it writes, and started
again, while rows are appended; the service answers at random. With trouble, nobody is killed, and the service fails, cuts
connections, breaks its JSON and hangs. The seed repeats the choices, not the moments that the machine makes of them.
test_models.py is the short form of both.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.chaos.models_project import AT_ONCE, JOB, SOURCE, TARGET, Project
from tests.chaos.processes import Child, Nursery, wait_for
from tests.services.http import Reply, Server
from tests.services.openai import Faults, OpenAI

Row = tuple[int, str]


class Moment(StrEnum):
    """When a run is killed."""

    STARTING = "as it starts"
    ASKING = "as it asks"
    WRITING = "as it writes and commits"


@dataclass
class Heard(OpenAI):
    """The service, with all that it said, in order, and the trouble that it made."""

    said: list[tuple[str, str]] = field(default_factory=list)
    trouble: Counter[str] = field(default_factory=Counter)

    def _wrong(self) -> Reply | None:
        wrong = super()._wrong()
        match wrong:
            case Reply(status=None):
                self.trouble["connections cut"] += 1
            case Reply(status=500):
                self.trouble["errors of status 500"] += 1
            case Reply(seconds=seconds) if seconds:
                self.trouble["hung until given up"] += 1
            case Reply():
                self.trouble["answers of broken JSON"] += 1
            case None:
                pass
        return wrong

    def _content(self, text: str, response_format: object) -> str:
        content = super()._content(text, response_format)  # type: ignore[arg-type]
        self.said.append((text, content))
        return content


@dataclass(slots=True)
class Tally:
    """What was done. `kept` holds for each kill how much the service had said, and which questions were kept.

    `again` are questions that were kept and asked again, `lost` answers that the service gave and nobody kept,
    `asked_undisturbed` requests of a run over the same rows and answers that nobody killed.
    """

    kills: Counter[Moment] = field(default_factory=Counter)
    ended: int = 0
    kept: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    again: int = 0
    lost: int = 0
    asked_undisturbed: int = 0


@dataclass(slots=True)
class Rows:
    """Makes rows: some texts are new, some were there before."""

    roll: random.Random
    made: list[Row] = field(default_factory=list)
    files: list[list[Row]] = field(default_factory=list)

    def file(self) -> list[Row]:
        """The rows of one more data file."""
        count = self.roll.randrange(30, 200)
        rows = [
            (len(self.made) + place, f"review {self.roll.randrange((len(self.made) + place) + 10)}") for place in range(count)
        ]
        self.made += rows
        self.files.append(rows)
        return rows


@dataclass(frozen=True, slots=True)
class Outcome:
    """A form that held, with what was counted."""

    seed: int
    seconds: float
    facts: Mapping[str, int]

    def report(self) -> str:
        lines = [f"{name:<72}{value:>10,}" for name, value in self.facts.items()]
        return "\n".join([f"seed {self.seed}: {self.seconds:.0f} s", *lines])


def kill_and_count(folder: Path, seed: int, kills: int) -> Outcome:
    """Kill a run so often, then let it end, and check all that was promised. Raises AssertionError."""
    began = time.monotonic()
    roll = random.Random(seed)
    service, tally, rows = Heard(latency=0.05, random_answers=True), Tally(), Rows(roll)
    with Server(service) as server, Nursery(folder / "killed", folder / "logs") as nursery:
        project = Project(folder / "killed", server.url)
        while tally.kills.total() < kills:
            while len(rows.made) - len(project.triaged()) < 300:
                project.append(rows.file())
            _strike(nursery.start("run", JOB), project, service, roll, tally)
        nursery.run("run", JOB)
        asked = len(server.asked)
        nursery.run("run", JOB, "--mode", "snapshot", "--into", "audit.triaged")
        undisturbed = _undisturbed(folder, server.url, project, rows)
        tally.asked_undisturbed = len(server.asked) - asked
    triaged = project.triaged()
    assert triaged == undisturbed, "the table is not that of an undisturbed run"
    _check(triaged, rows, service, tally, project)
    return Outcome(seed, time.monotonic() - began, _facts(tally, rows, service, project))


def _strike(child: Child, project: Project, service: Heard, roll: random.Random, tally: Tally) -> None:
    """Kill a run at some moment, unless it ends before."""
    moment = roll.choices(list(Moment), (2, 5, 3))[0]
    said, files = len(service.said), project.data_files()
    answers, pause = roll.randrange(1, 150), roll.uniform(0.0, 0.03)
    match moment:
        case Moment.STARTING:
            time.sleep(roll.uniform(0.0, 1.5))
        case Moment.ASKING:
            wait_for(lambda: not child.is_live() or len(service.said) - said >= answers, "the run to ask")
        case Moment.WRITING:
            wait_for(lambda: not child.is_live() or bool(project.data_files() - files), "the run to write")
            time.sleep(pause)
    if child.kill():
        tally.kills[moment] += 1
        tally.kept.append((len(service.said), frozenset(project.kept())))
    else:
        assert child.process.returncode == 0, child.said()
        tally.ended += 1


def _undisturbed(folder: Path, url: str, killed: Project, rows: Rows) -> list[tuple[int, str, str | None]]:
    """What a run that nobody disturbs makes of the same rows and answers, elsewhere."""
    project = Project(folder / "undisturbed", url)
    project.take_cache_of(killed)
    for file in rows.files:
        project.append(file)
    with Nursery(project.root, folder / "logs-undisturbed") as nursery:
        nursery.run("run", JOB)
    return project.triaged()


def _check(triaged: Sequence[tuple[int, str, str | None]], rows: Rows, service: Heard, tally: Tally, project: Project) -> None:
    """Every row once, with an answer that the service gave, equal ones for equal texts; nothing kept is asked again."""
    assert [(number, text) for number, text, _ in triaged] == rows.made, "rows are missing, repeated or changed"
    given = set(service.said)
    notes: dict[str, str | None] = {}
    for _, text, note in triaged:
        assert (text, note) in given, f"{note!r} is no answer to {text!r}"
        assert notes.setdefault(text, note) == note, f"{text!r} has two answers"
    tally.again = sum(len(kept & {text for text, _ in service.said[place:]}) for place, kept in tally.kept)
    tally.lost = len(service.said) - len(service.answered)
    assert tally.again == 0, f"{tally.again} questions were kept and asked again"
    assert tally.asked_undisturbed == 0, "a run that nobody killed asked what was answered before"
    assert tally.lost <= tally.kills.total() * AT_ONCE, f"{tally.lost} answers lost: more than were under way"
    assert project.lake.table("audit.triaged").scan().to_arrow().num_rows == len(triaged)


def _facts(tally: Tally, rows: Rows, service: Heard, project: Project) -> dict[str, int]:
    return {
        "killed by SIGKILL": tally.kills.total(),
        **{f"  {moment}": tally.kills[moment] for moment in Moment},
        "ended before the blow": tally.ended,
        f"rows in {SOURCE}, each once in {TARGET}": len(rows.made),
        "  of them distinct inputs": len(service.answered),
        "commits of the job": len(project.lake.table(TARGET).snapshots()),
        "answers of the service": len(service.said),
        "  lost: under way at a kill, and not kept": tally.lost,
        "  asked again though kept": tally.again,
        "asked by an undisturbed run over the same rows with these answers": tally.asked_undisturbed,
    }


def trouble_and_count(folder: Path, seed: int, rows: int, faults: Faults, request_timeout: str = "1 s") -> Outcome:
    """One run over so many distinct rows, asked of a service in trouble. Raises AssertionError where a row is missing."""
    began = time.monotonic()
    service = Heard(latency=0.02, faults=faults, _random=random.Random(seed))
    with Server(service) as server, Nursery(folder / "troubled", folder / "logs") as nursery:
        project = Project(folder / "troubled", server.url, **{"request-timeout": request_timeout, "retry-num": "20"})
        made = [(number, f"review {number}") for number in range(rows)]
        for start in range(0, rows, max(1, rows // 5)):
            project.append(made[start : start + max(1, rows // 5)])
        nursery.run("run", JOB)
    assert project.triaged() == [(number, text, text.upper()) for number, text in made]
    troubles = {f"  {what}": count for what, count in sorted(service.trouble.items())}
    facts = {"rows, each in the table once with its own answer": rows, "requests": len(server.asked), **troubles}
    [usage] = project.lake.table("lakeflow.usage").scan().to_arrow().to_pylist()
    assert (usage["rows"], usage["answered"], usage["failed"], usage["calls"]) == (rows, rows, 0, len(server.asked))
    return Outcome(seed, time.monotonic() - began, facts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--trouble", type=int, default=0, metavar="ROWS")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeflow-chaos-") as folder:
        if told.kills:
            print(kill_and_count(Path(folder), told.seed, told.kills).report())
        if told.trouble:
            faults = Faults(error=0.01, slow=0.01, broken=0.01, cut=0.002, slow_seconds=3600.0)
            print(trouble_and_count(Path(folder), told.seed, told.trouble, faults, "2 s").report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
