"""What became of each value of a batch, by its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lakeflow.topics.formats.format import Format
from tests.unit.topics.formats.known import sound

Outcome = tuple[Any, ...]


def outcomes(format_: Format, values: Sequence[bytes | None]) -> list[Outcome]:
    """Each value's row, delete or reject, in order. Fails where one has none or two, or where an array is not whole."""
    decoded = sound(format_.decode(values), len(values))
    found: dict[int, Outcome] = dict.fromkeys(decoded.truncates, ("truncate",))
    found |= dict.fromkeys(decoded.passed, ("passed",))
    found |= {reject.index: ("reject", reject.kind, reject.reason) for reject in decoded.rejects}
    for what, parts in (("row", decoded.parts), ("delete", decoded.deletes)):
        for part in parts:
            places = range(part.rows.num_rows) if part.kept is None else part.kept.to_pylist()
            rows = part.rows.to_pylist()
            found |= {place: (what, str(part.rows.schema), row) for place, row in zip(places, rows, strict=True)}
    return [found[place] for place in range(len(values))]
