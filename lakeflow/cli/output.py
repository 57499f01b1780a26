"""What goes to stdout and stderr: data there, errors and progress here, secrets nowhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from lakeflow.errors import LakeflowError

if TYPE_CHECKING:
    from lakeflow.config import Settings

STDOUT, STDERR = 1, 2

_settings: list[Settings] = []


def keep_secret(settings: Settings) -> None:
    """From now on, take the secrets of these settings out of all that is printed but rows of tables."""
    _settings.append(settings)


def without_secrets(text: str) -> str:
    """The text with all secrets taken out that were kept."""
    for settings in _settings:
        from lakeflow.config import redact

        text = redact(text, settings)
    return text


class WithoutSecrets(logging.Formatter):
    """Log lines of lakeflow and of every library, with secrets taken out, and stack traces unless `traces`.

    Libraries log a trace with what they then go on from; its last line says as much.
    """

    def __init__(self, text: str, *, traces: bool = False) -> None:
        super().__init__(text)
        self._traces = traces

    def formatException(self, ei: Any) -> str:
        return super().formatException(ei) if self._traces else f"{ei[0].__name__}: {ei[1]}"

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


@contextmanager
def aside() -> Iterator[None]:
    """Within it, what prints to stdout prints to stderr, in this process and in those that it starts: a job may print."""
    sys.stdout.flush()
    kept = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, STDOUT)
        os.close(kept)


def note(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(without_secrets(text) + "\n")


def show_error(error: LakeflowError) -> None:
    """An error on stderr: the message, what was left behind, what to run next."""
    note(f"error: {error}")


def show_json(document: object) -> None:
    """One JSON document on stdout, in one line."""
    sys.stdout.write(without_secrets(json_text(document)) + "\n")


def show_text(text: str) -> None:
    """Text on stdout."""
    sys.stdout.write(without_secrets(text) + "\n")


def show_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as aligned columns on stdout, with a header; numbers to the right."""
    for line in aligned(columns, [[cell_text(row.get(column)) for column in columns] for row in rows]):
        show_text(line)


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A list of things: one JSON array, or a table of the chosen columns."""
    if as_json:
        show_json(list(rows))
    else:
        show_table(rows, columns)


def show_facts(facts: Mapping[str, Any]) -> None:
    """Name and value, a line each, on stdout."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        show_text(f"{name:<{width}}  {cell_text(value)}")


def json_text(document: object) -> str:
    """JSON: times as ISO 8601, bytes as base64, decimals as numbers, NaN as null."""
    return _encoder()(document).decode()


@cache
def _encoder() -> Callable[[object], bytes]:
    from msgspec.json import Encoder

    return Encoder(decimal_format="number", enc_hook=str).encode


def aligned(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a header and cells, each column as wide as its widest; columns of numbers to the right."""
    right = [all(_is_number(row[at]) for row in cells) and bool(cells) for at in range(len(columns))]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(columns)]
    for row in [columns, *cells]:
        line = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        yield "  ".join(line).rstrip()


def cell_text(value: Any) -> str:
    """A value in a report: large numbers with commas, times in local time, no line breaks."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case list() | tuple():
            return ", ".join(map(cell_text, value)) or "-"
        case _:
            return " ".join(str(value).split()) or "-"


def size_text(size: int) -> str:
    """Bytes in the unit that leaves the fewest digits."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return cell in ("-", "NULL")
    return True
