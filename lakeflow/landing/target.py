"""The table that a landing writes: made or evolved by its declaration, then with what its records bring."""

from __future__ import annotations

import logging

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import CommitConflict
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.commit import Advance, Change, CommitProtocol
from lakeflow.lake.evolution import Evolved
from lakeflow.lake.schema import storable
from lakeflow.lake.schema_change import SchemaChange, plan_schema
from lakeflow.landing.counts import Counts, Sizes
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.fitting import Fitting, places_of
from lakeflow.landing.sinks import AppendSink, Changes, Rows, Sink, UpsertSink
from lakeflow.landing.spec import ChangelogMode, LandingSpec
from lakeflow.landing.taking import Taken

logger = logging.getLogger("lakeflow.landing")


class Target:
    """One landed table, with the batch that waits for its commit."""

    def __init__(self, spec: LandingSpec, decoder: RecordDecoder, lake: Lake, commits: CommitProtocol, sizes: Sizes) -> None:
        self._spec = spec
        self._lake = lake
        self._commits = commits
        self._sizes = sizes
        self._planned: SchemaChange | None = None
        self._use(_landed_table(spec, decoder, lake))

    @property
    def table_uuid(self) -> str:
        return str(self._table.metadata.table_uuid)

    @property
    def fitting(self) -> Fitting:
        """Fits rows to the table as it will be after the next commit."""
        return self._fitting

    def renew(self) -> None:
        """To be called once a commit has been accounted for: where it brought columns, the table is loaded with them."""
        if self._planned is not None:
            self._use(self._lake.table(self._spec.table))

    def evolve(self, evolved: Evolved) -> None:
        """Give the table these columns with the next commit. Nothing may wait for one.

        Raises SchemaMismatch where the table's keys or partitions do not allow it, CommitConflict where another writer gave the
        table other columns since `evolved` was found.
        """
        if not arrow_schema(self._table).equals(arrow_schema(self._lake.table(self._spec.table)), check_metadata=True):
            raise CommitConflict(
                f"another writer gave table {self._spec.table} other columns meanwhile", next_step="run the same command again"
            )
        planned = plan_schema(self._table, evolved.schema)
        logger.info("table %s evolves with its next commit: %s", self._spec.table, "; ".join(evolved.changes))
        self._use(planned.table, planned.change)

    def write(self, taken: Taken) -> int:
        """Take what records came to, in a table that holds it; how many records there are a change of."""
        decoded, key = taken.decoded, self._spec.declared.primary_key
        changes = Changes(
            taken.mine,
            tuple(Rows(self._fitting.rows(part), places_of(part)) for part in decoded.parts),
            tuple(Rows(self._fitting.keys(part, key), places_of(part)) for part in decoded.deletes),
            decoded.truncates,
        )
        if changes.count:
            self._sink.write(changes)
        return changes.count

    def commit(self, progress: Advance, counts: Counts) -> int:
        """Land what was taken, with the progress that it came from; the snapshot's id. Raises as CommitProtocol does."""
        change = Change(
            self._spec.table,
            progress=progress,
            summary=counts.summary(),
            table_uuid=self.table_uuid,
            schema=self._planned,
        )
        return self._sink.commit(change).snapshot_id

    def abort(self) -> None:
        """Delete what was written and forget what was taken."""
        self._sink.abort()

    def _use(self, table: Table, planned: SchemaChange | None = None) -> None:
        self._table = table
        self._planned = planned
        self._fitting = fitting_of(self._spec, arrow_schema(table))
        self._sink: Sink = (
            UpsertSink(table, self._commits, self._sizes, self._spec.declared.primary_key)
            if self._spec.mode is ChangelogMode.UPSERT
            else AppendSink(table, self._commits, self._sizes)
        )


def fitting_of(spec: LandingSpec, columns: pa.Schema) -> Fitting:
    """What fits rows to a table of these columns, as stored.

    Required stay the primary key, and where the table does not follow its topic every column that is.
    """
    stored = storable(columns, f"table {spec.table}")
    required = [column.name for column in stored if not column.nullable] if not spec.evolves else []
    key = spec.declared.primary_key
    return Fitting(spec.table, columns, evolves=spec.evolves, required=dict.fromkeys([*key, *required]), key=key)


def shape_of(spec: LandingSpec, lake: Lake) -> tuple[TableSpec, bool]:
    """What a table that is there must at least be by its declaration, and whether it may be wider: one that follows its
    topic may have more columns, and wider ones, than are declared.
    """
    if spec.columns is not None:
        return spec.stored(spec.columns), spec.evolves
    present = arrow_schema(lake.table(spec.table))
    return spec.stored(pa.schema([column for column in present if column.name not in spec.metadata_columns])), True


def _landed_table(spec: LandingSpec, decoder: RecordDecoder, lake: Lake) -> Table:
    """The table, made where it is missing, evolved where its declaration asks for more."""
    if not lake.exists(spec.table):
        return lake.ensure(spec.stored(decoder.columns() if spec.columns is None else spec.columns))
    shape, wider = shape_of(spec, lake)
    return lake.ensure(shape, evolve=True, wider=wider)
