"""Debezium's change events: an envelope {before, after, source, op, ts_ms, transaction} taken apart into rows and deletes.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-change-events-value

    c, r, u     create, read (a snapshot), update: the row of `after`
    d           delete: the row of `before`, by its key
    t           truncate        m   a message that changes no row
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.topics.formats.debezium_options import UNAVAILABLE, DebeziumOptions
from lakeflow.topics.formats.format import Decoded, Format, Part, Reject, RejectKind
from lakeflow.topics.formats.logical import Flags, Logical, Places, converted, shown, valid

OPERATIONS = pa.array(["c", "r", "u", "d", "t", "m"])
UPSERT, DELETE, TRUNCATE, MESSAGE = range(2, 6)
"""Places in OPERATIONS; those of upserts end at the first."""

PLACEHOLDER = "__debezium_unavailable_value"
"""What stands for a value that the connector could not read: in PostgreSQL, a TOASTed one that an update left as it was."""

NO_BEFORE = (
    "op is 'd', and there is no row in `before` to delete; "
    "in PostgreSQL: ALTER TABLE .. REPLICA IDENTITY FULL, or give the table a primary key"
)
NO_ENVELOPE = "wanted op, one of c, r, u, d, t, m; where values are {schema, payload}: 'debezium.schema-include' = 'true'"


@dataclass(frozen=True, slots=True)
class Envelopes:
    """Envelopes by columns. `after` is a struct array of `Shape.after` as written, `extras` those of the options as written.

    `before` gives, for places in these arrays, the rows before the change as written, and the rejects of those that have none,
    both by their place in what was asked for.
    """

    op: pa.Array
    after: pa.StructArray
    extras: Sequence[pa.Array]
    has_before: pa.Array
    before: Callable[[Places], tuple[Part, Sequence[Reject]]]


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns that envelopes give: the fields of `after`, and the options' beside them."""

    after: Sequence[Logical]
    options: DebeziumOptions

    @property
    def columns(self) -> list[Logical]:
        """All columns."""
        return [*self.after, *(extra.logical for extra in self.options.extras)]

    @property
    def schema(self) -> pa.Schema:
        """All columns, as they are kept."""
        return pa.schema([column.kept for column in self.columns])

    @property
    def before(self) -> list[Logical]:
        """The fields of `before`. Where it only says which row to delete, all but the key may be missing."""
        return list(self.after) if self.options.changes else [field.nullable() for field in self.after]


def taken_apart(envelopes: Envelopes, places: Places, shape: Shape) -> Decoded:
    """Rows, deletes, truncates and rejects of envelopes that stand at `places` among the values."""
    codes = pc.index_in(envelopes.op, OPERATIONS).fill_null(-1).to_numpy()
    there = valid(envelopes.after)
    is_upsert = (codes >= 0) & (codes <= UPSERT)
    upserts = np.flatnonzero(is_upsert & there)
    rows, misfits = _upserts(envelopes, upserts, shape)
    parts = [_at(rows, places, upserts)]
    deletes: list[Part] = []
    rejects = [_placed(reject, places, upserts) for reject in misfits]
    for place in np.flatnonzero(is_upsert & ~there).tolist():
        op = envelopes.op[place].as_py()
        rejects.append(Reject(int(places[place]), RejectKind.MISFIT, f"op is {op!r}, and there is no row in `after`"))
    if (codes == DELETE).any():
        gone, more = _deletes(envelopes, codes == DELETE, places, shape)
        (parts if shape.options.changes else deletes).append(gone)
        rejects += more
    for place in np.flatnonzero(codes < 0).tolist():
        rejects.append(Reject(int(places[place]), RejectKind.MISFIT, f"op is {shown(envelopes.op[place])}; {NO_ENVELOPE}"))
    return Decoded(
        tuple(parts),
        tuple(sorted(rejects, key=lambda reject: reject.index)),
        tuple(deletes),
        tuple(places[codes == TRUNCATE].tolist()),
        tuple(places[codes == MESSAGE].tolist()),
    )


def _upserts(envelopes: Envelopes, upserts: Places, shape: Shape) -> tuple[Part, Sequence[Reject]]:
    everything = len(upserts) == len(envelopes.op)
    index = pa.array(upserts)
    after = envelopes.after if everything else envelopes.after.take(index)
    extras = [extra if everything else extra.take(index) for extra in envelopes.extras]
    arrays = [*(after.field(place) for place in range(len(shape.after))), *extras]
    return _rows(Part(_batch(arrays, shape.columns, len(upserts))), shape.columns, "$.after", shape.options)


def _deletes(envelopes: Envelopes, wanted: Flags, places: Places, shape: Shape) -> tuple[Part, list[Reject]]:
    there = valid(envelopes.has_before)
    asked = np.flatnonzero(wanted & there)
    before, misfits = envelopes.before(asked)
    kept = np.arange(len(asked)) if before.kept is None else before.kept.to_numpy()
    columns = [*shape.before, *(extra.logical for extra in shape.options.extras)]
    extras = [extra.take(pa.array(asked[kept])) for extra in envelopes.extras]
    written = Part(_batch([*before.rows.columns, *extras], columns, len(kept)), pa.array(kept))
    part, more = _rows(written, columns, "$.before", replace(shape.options, reject_unavailable=False))
    rejects = [_placed(reject, places, asked) for reject in [*misfits, *more]]
    lost = np.flatnonzero(wanted & ~there).tolist()
    rejects += [Reject(int(places[place]), RejectKind.MISFIT, NO_BEFORE) for place in lost]
    return _at(part, places, asked), rejects


def _batch(arrays: Sequence[pa.Array], columns: Sequence[Logical], count: int) -> pa.RecordBatch:
    assert all(len(array) == count for array in arrays), "columns of one length"
    return pa.RecordBatch.from_arrays(list(arrays), names=[column.written.name for column in columns])


def _rows(part: Part, columns: Sequence[Logical], path: str, options: DebeziumOptions) -> tuple[Part, list[Reject]]:
    """The rows as kept, less those that do not fit or hold the placeholder."""
    part, rejects = converted(part, columns, path)
    if not options.reject_unavailable:
        return part, rejects
    lost = {name: flags for name in part.rows.schema.names if (flags := _unavailable(part.rows.column(name))) is not None}
    if not lost:
        return part, rejects
    kept = np.arange(part.rows.num_rows) if part.kept is None else part.kept.to_numpy()
    for row in np.flatnonzero(np.any(list(lost.values()), axis=0)).tolist():
        name = next(name for name, flags in lost.items() if flags[row])
        reason = f"{path}.{name} is {PLACEHOLDER!r}: the connector could not read it (an unchanged TOASTed value); "
        reason += f"REPLICA IDENTITY FULL, or {UNAVAILABLE!r} = 'keep'"
        rejects.append(Reject(int(kept[row]), RejectKind.MISFIT, reason))
    good = pa.array(np.flatnonzero(~np.any(list(lost.values()), axis=0)))
    return Part(part.rows.take(good), pa.array(kept).take(good)), rejects


def _unavailable(column: pa.Array) -> Flags | None:
    if column.type not in (pa.string(), pa.binary()):
        return None
    same = pc.equal(column, pa.scalar(PLACEHOLDER.encode() if column.type == pa.binary() else PLACEHOLDER, column.type))
    if not pc.any(same).as_py():
        return None
    found: Flags = same.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _at(part: Part, places: Places, asked: Places) -> Part:
    """`part` of the envelopes `asked`, by the places of the values."""
    rows = asked if part.kept is None else asked[part.kept.to_numpy()]
    return Part(part.rows, pa.array(places[rows]))


def _placed(reject: Reject, places: Places, asked: Places) -> Reject:
    return replace(reject, index=int(places[asked[reject.index]]))


class TombstonesPass:
    """A format of which tombstones change nothing: Debezium writes one after each delete, for the topic's compaction."""

    def __init__(self, inner: Format) -> None:
        self._inner = inner

    def schema(self) -> pa.Schema:
        """The columns."""
        return self._inner.schema()

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`; see the protocol."""
        decoded = self._inner.decode(values)
        passed = [reject.index for reject in decoded.rejects if reject.kind is RejectKind.TOMBSTONE]
        if not passed:
            return decoded
        rejects = tuple(reject for reject in decoded.rejects if reject.kind is not RejectKind.TOMBSTONE)
        return replace(decoded, rejects=rejects, passed=tuple(sorted([*decoded.passed, *passed])))
