"""Rows of tables on stdout, as they are: aligned for people, or as JSON lines or CSV while they come."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any, assert_never

from lakeflow.cli.output import aligned, json_text

if TYPE_CHECKING:
    import pyarrow as pa

CELL_WIDTH = 80
FLOAT_DIGITS = 10


class RowFormat(StrEnum):
    """How rows are written to stdout."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


class Head:
    """Batches up to `rows` rows in all (None: all). `cut` tells afterwards whether there were more."""

    def __init__(self, batches: Iterable[pa.RecordBatch], rows: int | None) -> None:
        self._batches = batches
        self._rows = rows
        self.cut = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = self._rows
        for batch in self._batches:
            if left is not None and batch.num_rows > left:
                self.cut = True
                if left:
                    yield batch.slice(0, left)
                return
            yield batch
            left = None if left is None else left - batch.num_rows


def write_rows(
    batches: Iterable[pa.RecordBatch], columns: Sequence[str], form: RowFormat, on_rows: Callable[[int], None]
) -> None:
    """Write rows to stdout. Text is held until the last row is there, so the caller bounds the rows."""
    match form:
        case RowFormat.TEXT:
            _write_aligned(batches, columns, on_rows)
        case RowFormat.JSON:
            names = unlike(columns)
            for batch in batches:
                lines = (json_text(dict(zip(names, row, strict=True))) for row in _tuples(batch))
                sys.stdout.write("".join(f"{line}\n" for line in lines))
                on_rows(batch.num_rows)
        case RowFormat.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            for batch in batches:
                writer.writerows([csv_text(value) for value in row] for row in _tuples(batch))
                on_rows(batch.num_rows)
        case _:
            assert_never(form)


def _write_aligned(batches: Iterable[pa.RecordBatch], columns: Sequence[str], on_rows: Callable[[int], None]) -> None:
    cells: list[list[str]] = []
    for batch in batches:
        cells.extend([shortened(row_text(value)) for value in row] for row in _tuples(batch))
        on_rows(batch.num_rows)
    for line in aligned(columns, cells):
        sys.stdout.write(line + "\n")


def _tuples(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """By position: a query may give two columns one name."""
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def unlike(names: Sequence[str]) -> list[str]:
    """The names, a number behind one that is there already: a JSON object holds each once."""
    taken: dict[str, None] = {}
    for name in names:
        candidates = (f"{name}_{number}" for number in count(1))
        taken[name if name not in taken else next(other for other in candidates if other not in taken)] = None
    return list(taken)


def shortened(text: str, width: int = CELL_WIDTH) -> str:
    """`text` in one line of at most `width` characters."""
    line = " ".join(text.split()) if len(text) <= 2 * width else " ".join(text[: 2 * width].split()) + "…"
    return line if len(line) <= width else line[: width - 1] + "…"


def row_text(value: Any) -> str:
    """A value of a table for people: numbers without commas, bytes as text where they are, NULL as such."""
    match value:
        case None:
            return "NULL"
        case float():
            return f"{value:.{FLOAT_DIGITS}g}"
        case bytes():
            return _decoded(value)
        case _:
            return csv_text(value)


def csv_text(value: Any) -> str:
    """A value of a table for programs: nothing for NULL, ISO 8601 for times, JSON for nested ones, base64 for bytes."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return json_text(value)[1:-1]
        case Mapping() | list() | tuple():
            return json_text(value)
        case _:
            return str(value)


def _decoded(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return text if text.isprintable() else f"0x{value.hex()}"


def page(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A few rows of a table as aligned columns, as they are but shortened."""
    cells = [[shortened(row_text(row.get(column))) for column in columns] for row in rows]
    for line in aligned(columns, cells):
        sys.stdout.write(line + "\n")
