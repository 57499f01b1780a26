"""What every format is: a batch of record values (or keys) in, rows and rejects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.expect import OnViolation

if TYPE_CHECKING:
    from lakeflow.topics.registered import Registry

Side = Literal["value", "key"]
"""Which bytes of a record a format reads."""


class RejectKind(StrEnum):
    """Why a record gives no row.

    It has no value; its bytes are not of the format; they do not fit the schema; the schema that it was written with
    is not known to the registry, or is one that no table can hold; or its row is not as the table expects.
    """

    TOMBSTONE = "tombstone"
    MALFORMED = "malformed"
    MISFIT = "misfit"
    SCHEMA = "schema"
    EXPECTATION = "expectation"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that gives no row. `index` is its place in the decoded values; `reason` names the field and the value.

    `on_violation` is what the expectation says that it violates; None: the table's 'on_error' holds.
    """

    index: int
    kind: RejectKind
    reason: str
    on_violation: OnViolation | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one schema. `kept` (int64, ascending) holds for each the place of its value; None: row i is of value i."""

    rows: pa.RecordBatch
    kept: pa.Int64Array | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of values came to; each value is in one of these, once.

    `parts` are rows to keep, a part for each schema that they were written with, in no order between the parts. `deletes`
    are rows to take away by their key, of which columns beside the key may hold anything. `truncates` are the places of
    values that take away every row before them. `passed` are the places of values that change nothing by the rules of
    their format. `rejects` are in the order of the values. `violations` counts those of each expectation, by its name.
    """

    parts: tuple[Part, ...]
    rejects: tuple[Reject, ...] = ()
    deletes: tuple[Part, ...] = ()
    truncates: tuple[int, ...] = ()
    passed: tuple[int, ...] = ()
    violations: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> pa.RecordBatch:
        """The rows, where they are of one schema."""
        (part,) = self.parts
        return part.rows

    @property
    def kept(self) -> pa.Int64Array | None:
        """The places of `rows`."""
        (part,) = self.parts
        return part.kept


class Format(Protocol):
    """Turns record values into rows.

    A record is accepted or rejected on its own bytes alone: its neighbours and the cutting into batches change nothing.
    """

    def schema(self) -> pa.Schema:
        """The columns of the rows, as far as they are known before any record: those declared, or the registry's latest.

        Raises SourceUnavailable where the registry does not answer, UnknownName where it knows no schema of the topic,
        SchemaMismatch for a schema that no table can hold.
        """
        ...

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`. Never raises because of what a value holds; SourceUnavailable where the registry is away."""
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What a format is opened with.

    `columns` are those declared; None where they are to be taken from the registry. `options` are the table's WITH pairs,
    of which the format reads those named `<format>.*` (for keys: `key.<format>.*`, handed over without the `key.`).
    """

    columns: pa.Schema | None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    side: Side = "value"
    topics: tuple[str, ...] = ()
    registry: Registry | None = None

    @property
    def named(self) -> str:
        """The topics as messages name them; those of a pattern are not known."""
        return ", ".join(map(repr, self.topics)) or "a pattern of topics"


def declared_columns(opening: Opening, name: str) -> pa.Schema:
    """The declared columns. Raises DeclarationError where none are, for a format that takes them from nowhere else."""
    if opening.columns is None:
        raise DeclarationError(
            f"a table over {opening.named} declares no columns, and format {name!r} knows of no others",
            next_step="lakeflow tables infer TABLE, which proposes columns from the topic's records",
        )
    return opening.columns
