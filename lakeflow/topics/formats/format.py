"""What every format is: a batch of record values in, rows and rejects out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import pyarrow as pa


class RejectKind(StrEnum):
    """Why a record gives no row: it has no value, its bytes are not of the format, or they do not fit the schema."""

    TOMBSTONE = "tombstone"
    MALFORMED = "malformed"
    MISFIT = "misfit"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that gives no row. `index` is its place in the decoded values; `reason` names the field and the value."""

    index: int
    kind: RejectKind
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The rows of a batch of values, in their order, and what gave none.

    `kept` (int64, ascending) holds for each row the place of its value, None where every value gave its row; so
    `len(values) == rows.num_rows + len(rejects)`. `rejects` are in the order of the values.
    """

    rows: pa.RecordBatch
    kept: pa.Int64Array | None
    rejects: tuple[Reject, ...]


class Format(Protocol):
    """Turns record values into rows of one schema.

    A record is accepted or rejected on its own bytes alone: its neighbours and the cutting into batches change nothing.
    """

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`. Never raises because of what a value holds."""
        ...
