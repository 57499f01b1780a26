"""What goes to stdout and stderr: data there, errors and progress here, secrets nowhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from lakeflow.errors import LakeflowError

if TYPE_CHECKING:
    from lakeflow.config import Settings

_settings: list[Settings] = []


def keep_secret(settings: Settings) -> None:
    """From now on, take the secrets of these settings out of all that is printed."""
    _settings.append(settings)


def _redacted(text: str) -> str:
    for settings in _settings:
        from lakeflow.config import redact

        text = redact(text, settings)
    return text


def note(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(_redacted(text) + "\n")


def show_error(error: LakeflowError) -> None:
    """An error on stderr: the message, what was left behind, what to run next."""
    note(f"error: {error}")


def show_json(document: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(_redacted(json.dumps(document, default=_plain, ensure_ascii=False)) + "\n")


def show_text(text: str) -> None:
    """Text on stdout."""
    sys.stdout.write(_redacted(text) + "\n")


def show_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as aligned columns on stdout, with a header; numbers to the right."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    right = [all(_is_number(row[at]) for row in cells) and bool(cells) for at in range(len(columns))]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(columns)]
    for row in [list(columns), *cells]:
        line = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        show_text("  ".join(line).rstrip())


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A list of things: one JSON array, or a table of the chosen columns."""
    if as_json:
        show_json(list(rows))
    else:
        show_table(rows, columns)


def _cell(value: Any) -> str:
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
        case _:
            return " ".join(str(value).split())


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").lstrip("-").isdigit()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
