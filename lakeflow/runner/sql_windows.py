"""How a job in SQL works by windows: what its query says of them, as the values that jobs in Python say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from lakeflow.errors import DeclarationError
from lakeflow.job import Job
from lakeflow.sql.incremental_windows import WindowQuery
from lakeflow.window import Columns, Cumulate, Hop, Session, Tumble, Window, Windowed


def windowed_of(query: WindowQuery) -> Windowed:
    """The windows of a query, whose rows replace those of the windows that new rows touch."""
    return Windowed(_window(query), Columns(), outputs=query.outputs)


def _window(query: WindowQuery) -> Window:
    lengths = {name: timedelta(microseconds=length) for name, length in query.window.lengths.items()}
    time, offset = query.time, lengths.get("OFFSET", timedelta(0))
    match query.window.kind:
        case "TUMBLE":
            return Tumble(time, lengths["SIZE"], offset=offset)
        case "HOP":
            return Hop(time, lengths["SIZE"], lengths["SLIDE"], offset=offset)
        case "CUMULATE":
            return Cumulate(time, lengths["STEP"], lengths["SIZE"], offset=offset)
        case "SESSION":
            return Session(time, lengths["GAP"], by=query.by)
        case kind:
            raise AssertionError(f"{kind} is no window")


def in_case(windowed: Windowed, names: Sequence[str]) -> Windowed:
    """The same with the columns of the table as it writes them: a query may write them large or small."""
    known = {name.lower(): name for name in names}
    window = windowed.window
    column = known.get(window.column.lower(), window.column)
    match window:
        case Session(_, gap, by):
            own = tuple(known.get(name.lower(), name) for name in by)
            return replace(windowed, window=Session(column, timedelta(microseconds=gap), by=own))
        case Tumble() | Hop() | Cumulate():
            return replace(windowed, window=_of_column(window, column))


def _of_column(window: Tumble | Hop | Cumulate, column: str) -> Window:
    lengths = {name: timedelta(microseconds=getattr(window, name)) for name in window.__slots__ if name != "column"}
    return type(window)(column, **lengths)


def check_key(job: Job, key: Sequence[str], columns: Columns) -> None:
    """That rows of different windows have different keys. Raises DeclarationError."""
    missing = [name for name in columns.all if key and name not in key]
    if missing:
        raise DeclarationError(
            f"{job.origin}: job {job.name!r} works by windows, whose rows stand side by side in {job.target}; its PRIMARY KEY, "
            f"{', '.join(key)}, lacks {', '.join(missing)}",
            next_step="add them to the key, or take the key away",
        )
