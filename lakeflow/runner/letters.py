"""Rows that models left without an answer, on their way to lakeflow.dead_letters.

The letters of a step land just before its rows, in a commit of their own with a progress of their own: which step they are of.
A run that dies in between takes the same step again, exactly as it was cut. The rows that have a letter are told by their key
and not asked again, so none gets both a letter and a row; those that fail only now get letters too.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import LakeflowError, ModelError, Terminal
from lakeflow.job import Job
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import Change, CommitProtocol, Progress, fenced
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import delete_files
from lakeflow.lake.letters import DEAD_LETTERS, OF_JOBS, SCHEMA, TABLE
from lakeflow.lake.read import position_at, read, splits_at
from lakeflow.lake.write import DataFile, DataWriter
from lakeflow.models.lost import LostRow

logger = logging.getLogger("lakeflow.runner")

MOST_LETTERS = 1_000_000
"""What one step may leave behind: more is a broken model and no matter of rows. It bounds memory as a step is taken again."""
NEW_TABLE = 32
"""Bits of `offset` below those that tell of which table of its name a letter is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The progress of a job's letters: the step from `start` to `end` (progress of the job) is the last that left some.

    Its letters are those from the number `first` on, `following` is the next one; all of them came after the commit `since`,
    a sequence number of lakeflow.dead_letters.
    """

    start: str | None
    end: str
    first: int
    following: int
    since: int

    def dumps(self) -> str:
        """A JSON object with the fields."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None) -> Kept | None:
        """The inverse of `dumps`; None where there are no letters yet. Raises Terminal where the string is of another form."""
        if text is None:
            return None
        try:
            fields = json.loads(text)
            numbers = (int(fields[name]) for name in ("first", "following", "since"))
            return Kept(fields["start"], str(fields["end"]), *numbers)
        except (ValueError, KeyError, TypeError) as error:
            raise Terminal(f"progress of a job's dead letters is not readable: {text[:200]!r}") from error


def letters_writer(job: Job, table_uuid: str) -> str:
    """Under which name lakeflow.dead_letters keeps the progress of a job's letters; a target made anew starts anew."""
    return f"{job.writer}.{table_uuid}"


def kept_of(job: Job, target: str, lake: Lake, commits: CommitProtocol) -> Kept | None:
    """The letters that the job left last. Raises as the catalog does."""
    if not lake.exists(DEAD_LETTERS) or not lake.exists(target):
        return None
    table_uuid = str(lake.table(target).metadata.table_uuid)
    return Kept.loads(commits.progress(DEAD_LETTERS, letters_writer(job, table_uuid)))


class StepLetters:
    """The letters of one step: each part of the work leaves its own, the driver lands them all at once.

    `kept` is the progress of the job's letters, `progress` what the step's rows will land with in `target`.
    """

    def __init__(
        self, job: Job, target: Table, progress: Progress, kept: Kept | None, lake: Lake, commits: CommitProtocol, room: int
    ) -> None:
        self._job = job
        self._target = target
        self._progress = progress
        self.kept = kept
        self._since = 0
        self._lake = lake
        self._commits = commits
        self._room = room
        self._lock = threading.Lock()
        self._table: Table | None = None
        self._numbers = kept.following if kept else 0
        self._count = 0
        self._again = kept is not None and kept.start == progress.start
        self._held = self._letters_there() if self._again else {}

    def part(self, number: int = 0) -> PartLetters:
        """Where one part of the step leaves rows."""
        return PartLetters(self, number)

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def held(self, keys: Sequence[bytes]) -> list[bool]:
        """See `Lost.held`."""
        with self._lock:
            return [self._take(key) for key in keys]

    def land(self, files: Sequence[DataFile]) -> None:
        """Land the letters in `files`; `kept` is the progress of the job's letters from then on.

        Raises Fenced where another process runs the same job, or ran this very step by now.
        """
        if left := sum(self._held.values()):
            logger.warning("job %s: %d rows with a dead letter of this step did not come again", self._job.name, left)
        if not files:
            return
        assert self._table is not None, "files are written for a table"
        name, progress, before = ".".join(self._target.name()), self._progress, self.kept
        found = self._commits.progress(name, progress.writer)
        if found != progress.start:
            self.discard(files)
            raise fenced(name, progress.writer, progress.start, found)
        since = before.since if before else self._since
        first = before.first if before and self._again else self._first_number()
        kept = Kept(progress.start, progress.end, first, self._numbers, since)
        writer = letters_writer(self._job, str(self._target.metadata.table_uuid))
        moved = Progress(writer, before.dumps() if before else None, kept.dumps())
        table_uuid = str(self._table.metadata.table_uuid)
        self._commits.commit(Change(DEAD_LETTERS, tuple(files), progress=moved, table_uuid=table_uuid))
        self.kept = kept

    def discard(self, files: Sequence[DataFile]) -> None:
        """Delete letters that no commit has taken. What fails here is logged and left."""
        if self._table is None or not files:
            return
        try:
            with lake_errors(DEAD_LETTERS):
                delete_files(self._table.io, [data_file.file_path for data_file in files])
        except LakeflowError as error:
            logger.warning("data files for %s are left behind, %d at the most: %s", DEAD_LETTERS, len(files), error.message)

    def writer(self, part: int) -> DataWriter:
        """For the letters of one part. The table is made for the first one."""
        with self._lock:
            if self._table is None:
                self._table = self._lake.ensure(TABLE, evolve=True)
                self._since = position_at(self._table, self._table.current_snapshot()).sequence
                if self.kept is None:
                    self._numbers = self._since << NEW_TABLE
            return DataWriter(self._table, buffer_bytes=self._room, part=part)

    def rows(self, lost: Sequence[LostRow]) -> pa.Table:
        """Lost rows as rows of the table, numbered. Raises ModelError where they are too many."""
        with self._lock:
            self._count += len(lost)
            first, self._numbers = self._numbers, self._numbers + len(lost)
        if self._count > MOST_LETTERS:
            last = lost[-1]
            raise ModelError(
                f"more than {MOST_LETTERS:,} rows of one step have no answer; the last: {last.why.kind}: {last.why.message}"
                if last.model is not None
                else f"more than {MOST_LETTERS:,} rows of one step are left out; the last: {last.why.message}",
                next_step=f"see to model {last.model!r}, or say 'on_error' = 'skip'; smaller steps: max_rows of the job"
                if last.model is not None
                else "see to what the job reads, or leave rows out without letters; smaller steps: max_rows of the job",
            )
        count, now = len(lost), datetime.now(UTC)
        columns = {
            "table": [".".join(self._target.name())] * count,
            "topic": [OF_JOBS + self._job.writer] * count,
            "partition": [0] * count,
            "offset": list(range(first, first + count)),
            "key": [one.key for one in lost],
            "value": [one.input for one in lost],
            "kind": [str(one.why.kind) for one in lost],
            "error": [one.why.message for one in lost],
            "rejected_at": [now] * count,
            "model": [one.model for one in lost],
        }
        given = {field.name: pa.array(columns[field.name], field.type) for field in SCHEMA if field.name in columns}
        return pa.table({field.name: given.get(field.name, pa.nulls(count, field.type)) for field in SCHEMA}, schema=SCHEMA)

    def _first_number(self) -> int:
        return self._numbers - self._count

    def _take(self, key: bytes) -> bool:
        left = self._held.get(key, 0)
        if left > 1:
            self._held[key] = left - 1
        elif left:
            del self._held[key]
        return left > 0

    def _letters_there(self) -> dict[bytes, int]:
        """How many letters of this step there are of each key."""
        held: dict[bytes, int] = {}
        for key in self._keys():
            held[key] = held.get(key, 0) + 1
        if held:
            logger.info("job %s: a step that left %d dead letters is taken again", self._job.name, sum(held.values()))
        return held

    def _keys(self) -> Iterator[bytes]:
        assert self.kept is not None, "there are letters"
        table = self._lake.table(DEAD_LETTERS)
        splits = [split for split in splits_at(table, table.current_snapshot()) if split.sequence > self.kept.since]
        for batch in read(table, splits, ["table", "topic", "offset", "key"]):
            mine = pc.and_(
                pc.equal(batch.column("table"), ".".join(self._target.name())),
                pc.equal(batch.column("topic"), OF_JOBS + self._job.writer),
            )
            mine = pc.and_(mine, pc.greater_equal(batch.column("offset"), self.kept.first))
            mine = pc.and_(mine, pc.less(batch.column("offset"), self.kept.following))
            yield from batch.filter(mine).column("key").to_pylist()


class PartLetters:
    """What one part of a step leaves. See `Lost`."""

    def __init__(self, step: StepLetters, number: int) -> None:
        self._step = step
        self._number = number
        self._lock = threading.Lock()
        self._writer: DataWriter | None = None
        self.skipped = 0
        self.dead_lettered = 0

    @property
    def holds(self) -> bool:
        return self._step.holds

    def held(self, keys: Sequence[bytes]) -> Sequence[bool]:
        held = self._step.held(keys)
        with self._lock:
            self.dead_lettered += sum(held)
        return held

    def skip(self, rows: int) -> None:
        with self._lock:
            self.skipped += rows

    def keep(self, rows: Sequence[LostRow]) -> None:
        with self._lock:
            if self._writer is None:
                self._writer = self._step.writer(self._number)
            self._writer.write(self._step.rows(rows))
            self.dead_lettered += len(rows)

    def finish(self) -> tuple[DataFile, ...]:
        """The files with its letters, which no commit has taken yet."""
        return self._writer.finish() if self._writer else ()

    def abort(self) -> None:
        """Delete what was written."""
        if self._writer is not None:
            self._writer.abort()
