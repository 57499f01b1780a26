"""Statements as frozen values: those of a file in tables/, and those that `lakeflow sql` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from lakeflow.declare import UNKNOWN, IndexSpec, ModelDeclaration, Origin, TableSpec
from lakeflow.sql.alterations import (
    AlterTable,
    AlterVectorIndex,
    DescribeTable,
    DescribeVectorIndex,
    DropTable,
    DropVectorIndex,
    Show,
    ShowCreateTable,
    ShowCreateVectorIndex,
)
from lakeflow.sql.row_changes import RowChange
from lakeflow.sql.tokens import place_in


@dataclass(frozen=True, slots=True)
class Query:
    """A query within a statement, as written and not judged yet. Where it stands tells no two queries apart.

    `offset` is the place of its first character in `file`, the whole text that it was read from; `path` is that file's.
    """

    text: str
    offset: int = field(default=0, compare=False)
    file: str = field(default="", compare=False, repr=False)
    path: Path | None = field(default=None, compare=False)

    @property
    def padded(self) -> str:
        """The query at its line and column of the file, blank before, so that messages name these."""
        line, column = place_in(self.file, self.offset)
        return "\n" * line + " " * column + self.text

    @property
    def origin(self) -> Origin:
        """The line that it begins on."""
        return Origin(self.path, place_in(self.file, self.offset)[0] + 1)


class Kept(StrEnum):
    """What CREATE TABLE .. LIKE may take over of the table that it names, beside its columns."""

    CONSTRAINTS = "CONSTRAINTS"
    GENERATED = "GENERATED"
    METADATA = "METADATA"
    OPTIONS = "OPTIONS"
    PARTITIONS = "PARTITIONS"
    WATERMARKS = "WATERMARKS"


@dataclass(frozen=True, slots=True)
class Like:
    """LIKE other [(INCLUDING | EXCLUDING | OVERWRITING ..)]: what is taken over, what of it may be said anew."""

    table: str
    including: frozenset[Kept] = frozenset(Kept)
    overwriting: frozenset[Kept] = frozenset({Kept.OPTIONS})


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE [IF NOT EXISTS]. With `like` the table is declared once that of the other is known (`liken`)."""

    table: TableSpec
    if_not_exists: bool = False
    like: Like | None = None


@dataclass(frozen=True, slots=True)
class CreateModel:
    """CREATE MODEL [IF NOT EXISTS]."""

    model: ModelDeclaration
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateVectorIndex:
    """CREATE VECTOR INDEX [IF NOT EXISTS]."""

    index: IndexSpec
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class SetModelOptions:
    """ALTER MODEL [IF EXISTS] m SET ('k' = 'v', ..): options as written."""

    name: str
    options: Mapping[str, str]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ResetModelOptions:
    """ALTER MODEL [IF EXISTS] m RESET ('k', ..)."""

    name: str
    options: tuple[str, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameModel:
    """ALTER MODEL [IF EXISTS] m RENAME TO n."""

    name: str
    to: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropModel:
    """DROP MODEL [IF EXISTS] m."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DescribeModel:
    """DESCRIBE MODEL [EXTENDED] m, `version` where m$version was said."""

    name: str
    version: int | None = None
    extended: bool = False


@dataclass(frozen=True, slots=True)
class ShowModels:
    """SHOW MODELS [[NOT] LIKE 'pattern']: % stands for any text, _ for any one character, a backslash takes that away."""

    like: str | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ShowCreateModel:
    """SHOW CREATE MODEL m, `version` where m$version was said."""

    name: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ReadRows:
    """A statement that reads, such as SELECT."""

    query: Query

    @property
    def text(self) -> str:
        """The query at its line and column, blank before."""
        return self.query.padded


@dataclass(frozen=True, slots=True)
class Insert:
    """INSERT INTO | OVERWRITE target [(columns)] query. No `columns`: all of the target, in its order."""

    target: str
    query: Query
    columns: tuple[str, ...] = ()
    overwrite: bool = False
    origin: Origin = field(default=UNKNOWN, compare=False)


@dataclass(frozen=True, slots=True)
class StatementSet:
    """BEGIN STATEMENT SET; insert; .. END; several targets of one run."""

    inserts: tuple[Insert, ...]
    origin: Origin = field(default=UNKNOWN, compare=False)


@dataclass(frozen=True, slots=True)
class CreateTableAs:
    """CREATE [OR REPLACE] TABLE [IF NOT EXISTS] t [(primary key)] [COMMENT] [PARTITIONED BY] [WITH] AS query.

    `table` has no columns: they are those of the query.
    """

    table: TableSpec
    query: Query
    if_not_exists: bool = False
    or_replace: bool = False


class RefreshMode(StrEnum):
    """How a materialized table follows what its query reads: CONTINUOUS is an incremental job, FULL a snapshot job."""

    CONTINUOUS = "CONTINUOUS"
    FULL = "FULL"


@dataclass(frozen=True, slots=True)
class CreateMaterializedTable:
    """CREATE MATERIALIZED TABLE t .. [FRESHNESS = INTERVAL '3' MINUTE] [REFRESH_MODE = CONTINUOUS | FULL] AS query.

    `table` has no columns: they are those of the query. `freshness` is how far it may be behind what it reads.
    """

    table: TableSpec
    query: Query
    freshness: timedelta | None = None
    refresh_mode: RefreshMode | None = None
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class SuspendTable:
    """ALTER MATERIALIZED TABLE t SUSPEND."""

    name: str


@dataclass(frozen=True, slots=True)
class ResumeTable:
    """ALTER MATERIALIZED TABLE t RESUME."""

    name: str


@dataclass(frozen=True, slots=True)
class RefreshTable:
    """ALTER MATERIALIZED TABLE t REFRESH."""

    name: str


@dataclass(frozen=True, slots=True)
class DropMaterializedTable:
    """DROP MATERIALIZED TABLE [IF EXISTS] t."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class SetOption:
    """SET 'key' = 'value'; SET alone has neither, and shows what is set."""

    key: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class ResetOption:
    """RESET 'key'; RESET alone takes back all that was set."""

    key: str | None = None


@dataclass(frozen=True, slots=True)
class Explain:
    """EXPLAIN query | insert | statement set: how it would be carried out."""

    statement: ReadRows | Insert | StatementSet | CreateTableAs | CreateMaterializedTable


Statement = CreateTable | CreateModel | CreateVectorIndex
"""What a file in tables/ holds."""

JobStatement = Insert | StatementSet | CreateTableAs | CreateMaterializedTable
"""What a file in jobs/ holds, beside SetOption."""

AlterModel = SetModelOptions | ResetModelOptions | RenameModel
ModelStatement = CreateModel | AlterModel | DropModel | DescribeModel | ShowModels | ShowCreateModel
TableStatement = CreateTable | AlterTable | DropTable | DescribeTable | ShowCreateTable
AlterMaterializedTable = SuspendTable | ResumeTable | RefreshTable
MaterializedStatement = SuspendTable | ResumeTable | DropMaterializedTable
IndexStatement = CreateVectorIndex | AlterVectorIndex | DropVectorIndex | DescribeVectorIndex | ShowCreateVectorIndex
DataStatement = TableStatement | IndexStatement | Show
"""What runner/statements.py carries out."""

ScriptStatement = (
    ReadRows
    | JobStatement
    | RefreshTable
    | Explain
    | SetOption
    | ResetOption
    | ModelStatement
    | DataStatement
    | MaterializedStatement
    | RowChange
)
"""What a text for `lakeflow sql` holds."""
