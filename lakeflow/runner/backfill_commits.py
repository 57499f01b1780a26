"""The commits of one chunk of a backfill: to the steps of jobs they look like those of any step.

What moves in the target is the progress of the backfill, and the job's own stays. The chunk was computed from what the job
had read; where the job has come further by the time that the chunk would land, rows of the range may have come with it, so the
chunk is computed anew. Whether it has is looked up in the very snapshot that the commit is computed against.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lakeflow.errors import Fenced, Terminal
from lakeflow.job import Job
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import Change, CommitProtocol, Committed, Progress, fenced
from lakeflow.lake.history import progress_in
from lakeflow.lake.iceberg import delete_files
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.lake.write import DataWriter
from lakeflow.runner.backfill_ledger import ChunkDone, Done
from lakeflow.runner.letters import Kept, StepLetters, letters_writer
from lakeflow.runner.plan import backfill_writer

NUMBERS: Final = 20
"""Bits of a letter's number below those of its chunk: a step leaves fewer letters."""


class JobMoved(Fenced):
    """The job has read on since the chunk was begun."""


@dataclass(frozen=True, slots=True)
class ChunkOf:
    """A chunk: of which backfill, which of so many, and how far the job had read as it was begun."""

    number: int
    of: int
    chunk: int
    seen: str

    @property
    def begin(self) -> str:
        """What stands for the progress before the chunk; it is compared and never read."""
        return json.dumps({"backfill": self.number, "chunk": self.chunk}, separators=(",", ":"))

    @property
    def end(self) -> str:
        """The same after it."""
        return json.dumps({"backfill": self.number, "chunk": self.chunk, "done": True}, separators=(",", ":"))

    def progress(self, job: Job) -> Progress:
        """What the chunk's step believes to move."""
        return Progress(job.writer, self.begin, self.end)


class ChunkCommits:
    """The commit protocol of a chunk of `job`, over another."""

    def __init__(self, commits: CommitProtocol, lake: Lake, job: Job, of: ChunkOf) -> None:
        self._commits = commits
        self._lake = lake
        self._job = job
        self._of = of

    def progress(self, table: str, writer: str) -> str | None:
        """Of the job in its target: whether the chunk is done. Of the job's letters: those of the chunk."""
        of, job = self._of, self._job
        if table == job.target and writer == job.writer:
            done = Done.loads(self._commits.progress(table, backfill_writer(job)))
            over = done.number > of.number or (done.number == of.number and of.chunk in done)
            return of.end if over else of.begin
        if table == DEAD_LETTERS and writer.startswith(f"{job.writer}."):
            return _Letters.loads(self._commits.progress(table, _renamed(job, writer)), of.number).kept.get(of.chunk)
        return self._commits.progress(table, writer)

    def commit(self, change: Change) -> Committed:
        """Raises JobMoved where the job has read on, and as the protocol says."""
        of, job = self._of, self._job
        if change.table == job.target:
            table = self._lake.table(job.target)
            if table.metadata.current_snapshot_id == change.base and progress_in(table.metadata, job.writer) != of.seen:
                delete_files(table.io, [data_file.file_path for data_file in change.add])
                raise JobMoved(f"job {job.name!r} has read on while a part of it was made anew")
            facts = {"lakeflow.backfill": str(of.number), "lakeflow.backfill-chunk": f"{of.chunk + 1} of {of.of}"}
            done = ChunkDone(backfill_writer(job), of.number, of.of, of.chunk)
            change = replace(change, progress=done, on_base=True, summary={**change.summary, **facts})
        elif change.table == DEAD_LETTERS and isinstance(change.progress, Progress):
            moved = change.progress
            land = _LettersLand(_renamed(job, moved.writer), of.number, of.chunk, moved.start, moved.end)
            change = replace(change, progress=land)
        return self._commits.commit(change)


def _renamed(job: Job, writer: str) -> str:
    return backfill_writer(job) + writer.removeprefix(job.writer)


@dataclass(frozen=True, slots=True)
class _Letters:
    """The progress of a backfill's letters: by chunk, as a job's are."""

    number: int
    kept: Mapping[int, str] = field(default_factory=dict)

    def dumps(self) -> str:
        kept = {str(chunk): text for chunk, text in sorted(self.kept.items())}
        return json.dumps({"backfill": self.number, "kept": kept}, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None, number: int) -> _Letters:
        """Those of a backfill; of an earlier one, none. Raises Terminal where the string is of another form."""
        if text is None:
            return _Letters(number)
        try:
            fields = json.loads(text)
            found = _Letters(int(fields["backfill"]), {int(chunk): str(one) for chunk, one in fields["kept"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Terminal(f"progress of a backfill's dead letters is not readable: {text[:200]!r}") from error
        return _Letters(number) if found.number < number else found


@dataclass(frozen=True, slots=True)
class _LettersLand:
    """The Advance of a chunk's letters: those of other chunks stay as they are."""

    writer: str
    number: int
    chunk: int
    start: str | None
    end: str

    def onto(self, found: str | None, table: str) -> str:
        letters = _Letters.loads(found, self.number)
        if letters.number != self.number or letters.kept.get(self.chunk) != self.start:
            raise fenced(table, self.writer, self.start, letters.kept.get(self.chunk))
        return replace(letters, kept={**letters.kept, self.chunk: self.end}).dumps()


class ChunkLetters(StepLetters):
    """The letters of a chunk; chunks that are carried out side by side give theirs different numbers."""

    def __init__(self, job: Job, target: Table, of: ChunkOf, lake: Lake, commits: ChunkCommits, room: int) -> None:
        writer = letters_writer(job, str(target.metadata.table_uuid))
        kept = Kept.loads(commits.progress(DEAD_LETTERS, writer)) if lake.exists(DEAD_LETTERS) else None
        super().__init__(job, target, of.progress(job), kept, lake, commits, room)
        self._above = 0 if kept is not None else (of.chunk + 1) << NUMBERS

    def writer(self, part: int) -> DataWriter:
        made = super().writer(part)
        self._numbers, self._above = self._numbers + self._above, 0
        return made
