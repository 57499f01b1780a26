"""Windows of event time, as plain values, and how a job works by them.

    Tumble("event_time", "1h", lateness="10m")          each row in one window
    Hop("event_time", "1h", "15m")                      windows of an hour, one every 15 minutes
    Cumulate("event_time", "1h", "1d")                  of an hour, two hours .. up to the day
    Session("event_time", "30m", by="user")             rows of a key with no pause longer than the gap

Windows are counted from 1970-01-01 00:00 UTC and the offset; their first moment is in them, their last
is not. Meanings are those
of Apache Flink's windowing table-valued functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from lakeflow.errors import DeclarationError, UsageError, did_you_mean

Length = str | timedelta
"""A length of time: '90s', '10m', '1h', '1d', '1h30m', or a timedelta."""

START, END = "window_start", "window_end"
LATE, UNTIMED = "late", "untimed"
"""Kinds of dead letters: too late for every window, and without an event time."""
LATENESS, OFFSET = "lateness of a window", "offset of a window"
UNITS: Final = {"us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6, "w": 7 * 86400 * 10**6}
_PART: Final = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")


def microseconds(length: Length, what: str) -> int:
    """A length in microseconds. Raises UsageError, naming `what` it is of."""
    if isinstance(length, timedelta):
        return length // timedelta(microseconds=1)
    text = length.strip().removeprefix("-")
    if not text or _PART.sub("", text):
        raise UsageError(f"{what} is {length!r}; valid: a number and one of {', '.join(UNITS)}, for instance '10m' or '1h30m'")
    found = sum(int(number) * UNITS[unit] for number, unit in _PART.findall(text))
    return -found if length.strip().startswith("-") else found


def _positive(length: Length, what: str) -> int:
    found = microseconds(length, what)
    if found <= 0:
        raise UsageError(f"{what} is {length!r}; valid: longer than nothing")
    return found


def _not_negative(length: Length, what: str) -> int:
    found = microseconds(length, what)
    if found < 0:
        raise UsageError(f"{what} is {length!r}; valid: nothing or longer")
    return found


def _in_parts(size: int, part: int, kind: str, name: str) -> None:
    if part > size or size % part:
        whole, one = timedelta(microseconds=size), timedelta(microseconds=part)
        raise UsageError(f"{kind}: the size, {whole}, is no multiple of the {name}, {one}")


def _keep(window: object, **fields: object) -> None:
    """The fields of a frozen value, as it is made."""
    for name, value in fields.items():
        object.__setattr__(window, name, value)


@dataclass(frozen=True, slots=True, init=False)
class Tumble:
    """Windows of `size` behind each other. All lengths are kept in microseconds.

    Raises UsageError for lengths that make no windows.
    """

    column: str
    size: int
    lateness: int
    offset: int

    def __init__(self, column: str, size: Length, *, lateness: Length = "0s", offset: Length = "0s") -> None:
        _keep(self, column=column, size=_positive(size, "size of Tumble"))
        _keep(self, lateness=_not_negative(lateness, LATENESS), offset=microseconds(offset, OFFSET))


@dataclass(frozen=True, slots=True, init=False)
class Hop:
    """Windows of `size`, one every `slide`: a row is in size / slide of them. Raises UsageError as Tumble does."""

    column: str
    size: int
    slide: int
    lateness: int
    offset: int

    def __init__(self, column: str, size: Length, slide: Length, *, lateness: Length = "0s", offset: Length = "0s") -> None:
        _keep(self, column=column, size=_positive(size, "size of Hop"), slide=_positive(slide, "slide of Hop"))
        _keep(self, lateness=_not_negative(lateness, LATENESS), offset=microseconds(offset, OFFSET))
        _in_parts(self.size, self.slide, "Hop", "slide")


@dataclass(frozen=True, slots=True, init=False)
class Cumulate:
    """Windows that begin together, every `size`, and end one `step` after the other. Raises UsageError as Tumble does."""

    column: str
    step: int
    size: int
    lateness: int
    offset: int

    def __init__(self, column: str, step: Length, size: Length, *, lateness: Length = "0s", offset: Length = "0s") -> None:
        _keep(self, column=column, step=_positive(step, "step of Cumulate"), size=_positive(size, "size of Cumulate"))
        _keep(self, lateness=_not_negative(lateness, LATENESS), offset=microseconds(offset, OFFSET))
        _in_parts(self.size, self.step, "Cumulate", "step")


@dataclass(frozen=True, slots=True, init=False)
class Session:
    """Rows of one key, `by`, of which none is more than `gap` behind the one before. Raises UsageError as Tumble does.

    It begins with its first row and ends `gap` behind its last one.
    """

    column: str
    gap: int
    by: tuple[str, ...]

    def __init__(self, column: str, gap: Length, by: str | Sequence[str] = ()) -> None:
        _keep(self, column=column, gap=_positive(gap, "gap of Session"), by=(by,) if isinstance(by, str) else tuple(by))


Window = Tumble | Hop | Cumulate | Session


class Late(StrEnum):
    """What becomes of a row that comes when the watermark has passed all of its windows by the lateness."""

    RECOMPUTE = "recompute"
    DROP = "drop"
    DEAD_LETTER = "dead_letter"


class Emit(StrEnum):
    """When a window's rows are written: whenever rows come to it, or once, when the watermark has passed it."""

    UPDATE = "update"
    APPEND = "append"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the target in which a job's rows bear their window, and the key of a session."""

    start: str = START
    end: str = END
    by: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.by, self.start, self.end)


@dataclass(frozen=True, slots=True)
class Windowed:
    """How a job works by windows. `delay` and `idle` are in microseconds.

    The watermark is the greatest event time seen less `delay` (None: as the source's WATERMARK has it). A partition of
    the topic that brings nothing while the others move on by `idle` does not hold it back. `outputs` are, of a query, the names
    in small letters of those of its columns that go to `columns` of the target.
    """

    window: Window
    columns: Columns
    late: Late = Late.RECOMPUTE
    emit: Emit = Emit.UPDATE
    delay: int | None = None
    idle: int = 5 * UNITS["m"]
    outputs: tuple[str, ...] = ()

    @property
    def by(self) -> tuple[str, ...]:
        """The columns of the source that are the key of a session."""
        return self.window.by if isinstance(self.window, Session) else ()

    def named(self, given: Sequence[str], target: Sequence[str]) -> Windowed:
        """The same with the columns of the target, where those of a query, `given`, go to `target` by place."""
        if not self.outputs:
            return self
        known = [name.lower() for name in given]
        *by, start, end = (target[known.index(name)] for name in self.outputs)
        return replace(self, columns=Columns(start, end, tuple(by)))

    @property
    def waits(self) -> bool:
        """Whether what is written depends on the watermark."""
        return self.late is not Late.RECOMPUTE or self.emit is Emit.APPEND

    @property
    def follows(self) -> bool:
        """Whether a window's rows are those of its time that the table has, so that rows which changed can be followed."""
        return not self.waits and not isinstance(self.window, Session)


def windows_of(window: object, said: Mapping[str, Any], merges: bool, job: str) -> Windowed | None:
    """What a job says of windows: `said` has late, emit, delay, idle and lateness as given, None where they were not.

    `merges` tells that it says too how its rows meet the target's, `job` is its place and name for messages.
    Raises DeclarationError where it contradicts itself.
    """
    alone = next((name for name, value in said.items() if value is not None), None)
    if window is None and alone is not None:
        raise DeclarationError(
            f"{job} has {alone}= and no window that it could be of", next_step='say which: window=lf.Tumble("event_time", "1h")'
        )
    if window is None:
        return None
    if not isinstance(window, Window):
        raise DeclarationError(f"{job}: window is {window!r}; valid: lf.Tumble, lf.Hop, lf.Cumulate, lf.Session")
    if (lateness := said.get("lateness")) is not None:
        raise DeclarationError(
            f"{job} has lateness={lateness!r}, which is said of its window",
            next_step=f'write it there: window=lf.{type(window).__name__}(.., lateness="{lateness}"), and late="drop"',
        )
    if merges:
        raise DeclarationError(f"{job} has window=, whose rows replace whole windows, and key= or output=; valid: one of them")
    try:
        return windowed(window, **{name: value for name, value in said.items() if name != "lateness"})
    except UsageError as error:
        raise DeclarationError(f"{job}: {error.message}") from error


def windowed(
    window: Window,
    late: str | None = None,
    emit: str | None = None,
    delay: Length | None = None,
    idle: Length | None = None,
) -> Windowed:
    """What `@job` says of windows. Raises UsageError where it contradicts itself."""
    chosen_emit = _one_of(Emit, emit or Emit.UPDATE, "emit")
    chosen = _one_of(Late, late or (Late.RECOMPUTE if chosen_emit is Emit.UPDATE else Late.DROP), "late")
    if chosen is Late.RECOMPUTE and chosen_emit is Emit.APPEND:
        raise UsageError(
            "emit='append' writes a window once, so that late='recompute' cannot correct it; valid with it: drop, dead_letter"
        )
    by = window.by if isinstance(window, Session) else ()
    if isinstance(window, Session) and (chosen is not Late.RECOMPUTE or chosen_emit is Emit.APPEND):
        raise UsageError(
            "a session grows by late rows, so that what is late depends on what was; "
            "valid with Session: late='recompute', emit='update'"
        )
    return Windowed(
        window,
        Columns(by=tuple(by)),
        chosen,
        chosen_emit,
        None if delay is None else _not_negative(delay, "delay"),
        _positive(idle or "5m", "idle"),
    )


Kind = TypeVar("Kind", bound=StrEnum)


def _one_of(kind: type[Kind], value: str, what: str) -> Kind:
    if value not in list(kind):
        raise UsageError(f"{what} is {value!r}{did_you_mean(value, map(str, kind))}")
    return kind(value)
