"""How a job in SQL works by windows: what its query says of them, as the values that jobs in Python say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from lakeflow.errors import DeclarationError, UsageError
from lakeflow.job import Job
from lakeflow.window import Columns, Cumulate, Hop, Session, Tumble, Window, Windowed, windowed

if TYPE_CHECKING:  # it loads sqlglot
    from lakeflow.sql.incremental_windows import WindowQuery

LATE, LATENESS, EMIT = "lakeflow.late", "lakeflow.lateness", "lakeflow.emit"
DELAY, IDLE = "lakeflow.delay", "lakeflow.idle"
WINDOW_KEYS: Final = (LATE, LATENESS, EMIT, DELAY, IDLE)
"""What SET says of windows, as `@job` and the windows of Python do."""


def windowed_of(query: WindowQuery | None, options: Mapping[str, str], label: str) -> Windowed | None:
    """The windows of a query, whose rows replace those of the windows that new rows touch; None where it has none.

    `options` is what was SET, `label` the job's place and name. Raises DeclarationError where that contradicts itself, or is
    of windows that the query has not.
    """
    said = [key for key in WINDOW_KEYS if key in options]
    if query is None:
        if said:
            raise DeclarationError(
                f"{label}: SET '{said[0]}' = {options[said[0]]!r} is of jobs that go on by windows, and this one does not",
                next_step=f"RESET '{said[0]}' before it, or write a query over windows that runs incrementally",
            )
        return None
    try:
        window = _window(query, options.get(LATENESS))
        found = windowed(window, options.get(LATE), options.get(EMIT), options.get(DELAY), options.get(IDLE))
    except UsageError as error:
        raise DeclarationError(f"{label}: {error.message}") from error
    return replace(found, columns=Columns(), outputs=query.outputs)  # which are known when the target is


def _window(query: WindowQuery, lateness: str | None) -> Window:
    lengths = {name: timedelta(microseconds=length) for name, length in query.window.lengths.items()}
    time, offset, late = query.time, lengths.get("OFFSET", timedelta(0)), lateness or "0s"
    match query.window.kind:
        case "TUMBLE":
            return Tumble(time, lengths["SIZE"], lateness=late, offset=offset)
        case "HOP":
            return Hop(time, lengths["SIZE"], lengths["SLIDE"], lateness=late, offset=offset)
        case "CUMULATE":
            return Cumulate(time, lengths["STEP"], lengths["SIZE"], lateness=late, offset=offset)
        case "SESSION" if lateness is not None:
            raise UsageError(f"SESSION takes no lateness ('{LATENESS}' = {lateness!r}): a session grows by late rows")
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
