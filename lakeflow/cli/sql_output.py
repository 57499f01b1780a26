"""Results of statements on stdout: as text, as lines of JSON, as CSV, or with each row as lines of name and value."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakeflow.cli.output import cell_text, show_facts, show_json, show_table, show_text
from lakeflow.cli.progress import Bar
from lakeflow.cli.rows import RowFormat, csv_text, row_text, shortened, write_rows

if TYPE_CHECKING:
    import pyarrow as pa


def write_batches(batches: Iterable[pa.RecordBatch], columns: Sequence[str], form: RowFormat, *, expanded: bool) -> None:
    """The rows of a query. As text they are held until the last is there, so the caller bounds them."""
    wanted = form is RowFormat.TEXT or not sys.stdout.isatty()
    with Bar("query", wanted=wanted) as bar:
        if form is not RowFormat.TEXT or not expanded:
            write_rows(batches, columns, form, bar.advance)
            return
        cells: list[list[str]] = []
        for batch in batches:
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            cells.extend([shortened(row_text(value)) for value in row] for row in rows)
            bar.advance(batch.num_rows)
    for line in expanded_lines(columns, cells):
        sys.stdout.write(f"{line}\n")


def expanded_lines(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Each row below a line with its number, a line a column. Pure."""
    width = max(map(len, columns), default=0)
    for number, row in enumerate(cells, start=1):
        yield f"- row {number} ".ljust(width + 20, "-")
        for name, cell in zip(columns, row, strict=True):
            yield f"{name:<{width}}  {cell}".rstrip()


def show_records(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: RowFormat, *, expanded: bool = False) -> None:
    """What a statement about things has to show, with secrets taken out."""
    match form:
        case RowFormat.JSON:
            for row in rows:
                show_json(row)
        case RowFormat.CSV:
            _show_csv([columns, *([row.get(column) for column in columns] for row in rows)])
        case RowFormat.TEXT if expanded:
            for line in expanded_lines(columns, [[cell_text(row.get(column)) for column in columns] for row in rows]):
                show_text(line)
        case _:
            show_table(rows, columns)


def show_facts_of(facts: Mapping[str, Any], form: RowFormat) -> None:
    """Name and value, a line each. Options and the files of a model come as such lines too."""
    if form is RowFormat.JSON:
        show_json(facts)
        return
    options = {f"'{option}'": value for option, value in (facts.get("options") or {}).items()}
    hashes = {f"SHA-256 of {name}": found for name, found in (facts.get("artifacts") or {}).items()}
    flat = {name: value for name, value in facts.items() if name not in ("options", "artifacts")} | options | hashes
    if form is RowFormat.CSV:
        _show_csv([("name", "value"), *flat.items()])
    else:
        show_text("")
        show_facts(flat)


def show_lines(lines: Sequence[str], form: RowFormat, name: str, *, headed: bool = True) -> None:
    """Lines of a text: as they are, or as a row each under `name`; `headed` where it is the first of a statement."""
    if form is RowFormat.JSON:
        for line in lines:
            show_json({name: line})
    elif form is RowFormat.CSV:
        _show_csv([*([(name,)] if headed else []), *((line,) for line in lines)])
    else:
        for line in lines:
            show_text(line)


class _Lines:
    """Lines of CSV by way of the secrets that are taken out."""

    def write(self, line: str) -> None:
        show_text(line)


def _show_csv(rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(_Lines(), lineterminator="")
    writer.writerows([csv_text(value) for value in row] for row in rows)
