"""TUMBLE, HOP, CUMULATE and SESSION over the rows at hand: each row and the windows that it falls in. Pure.

    TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE [, offset])    HOP(TABLE t, DESCRIPTOR(ts), slide, size [, offset])
    CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset])           SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap)

After the row's columns come window_start, window_end (the first moment behind the window) and window_time, a millisecond before
that, all of the type of the time column. Windows are counted from 1970-01-01 00:00 UTC and the offset. Rows without a time are
dropped. Meanings and names of arguments are Flink's (windowing table-valued functions; TimeWindow for sessions, of which two
that touch are one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlglot import exp

from lakeflow.sql.calls_arguments import Arguments
from lakeflow.sql.flink import AiCall, Argument, Flink, TableArgument
from lakeflow.sql.relations import name_text

SLOTS: Final = {
    "TUMBLE": ("DATA", "TIMECOL", "SIZE", "OFFSET"),
    "HOP": ("DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"),
    "CUMULATE": ("DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"),
    "SESSION": ("DATA", "TIMECOL", "GAP"),
}
USAGES: Final = {
    "TUMBLE": "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE)",
    "HOP": "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE), the slide first",
    "CUMULATE": "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '1' HOUR), the step first",
    "SESSION": "SESSION(TABLE t PARTITION BY key, DESCRIPTOR(ts), INTERVAL '5' MINUTE)",
}
ADDED: Final = ("window_start", "window_end", "window_time")
TIMES: Final = {"TIMESTAMP": "make_timestamp({})", "TIMESTAMP WITH TIME ZONE": "make_timestamptz({})"}
"""The types of a time column, and how microseconds become one of them."""

UNITS: Final = {
    **dict.fromkeys(("MICROSECOND", "MICROSECONDS"), timedelta(microseconds=1)),
    **dict.fromkeys(("MILLISECOND", "MILLISECONDS"), timedelta(milliseconds=1)),
    **dict.fromkeys(("SECOND", "SECONDS"), timedelta(seconds=1)),
    **dict.fromkeys(("MINUTE", "MINUTES"), timedelta(minutes=1)),
    **dict.fromkeys(("HOUR", "HOURS"), timedelta(hours=1)),
    **dict.fromkeys(("DAY", "DAYS"), timedelta(days=1)),
    **dict.fromkeys(("WEEK", "WEEKS"), timedelta(weeks=1)),
}


@dataclass(frozen=True, slots=True)
class Window:
    """A call: its kind, its rows, the time column, and the lengths by slot in microseconds."""

    kind: str
    rows: TableArgument
    time: exp.Identifier
    lengths: Mapping[str, int]
    partition: Sequence[exp.Expr]


def read_window(text: str, call: AiCall) -> Window:
    """What a call means. Raises UsageError, pointing at the argument."""
    kind = str(call.this)
    arguments = Arguments(text, call, USAGES[kind])
    names = SLOTS[kind]
    slots = arguments.slots(names, len(names) - ("OFFSET" in names))
    lengths = {name: _microseconds(arguments, slots[name]) for name in names[2:] if name in slots}
    for name, length in lengths.items():
        if name != "OFFSET" and length <= 0:
            arguments.fail(f"{kind}: the {name.lower()} of a window is longer than nothing", slots[name])
    part = next((name for name in ("SLIDE", "STEP") if name in lengths), None)
    if part is not None and lengths["SIZE"] % lengths[part]:
        arguments.fail(f"{kind}: SIZE is to be a multiple of {part}: {USAGES[kind]}", slots["SIZE"])
    rows = arguments.rows(slots["DATA"])
    partition = rows.args.get("partition") or []
    if partition and kind != "SESSION":
        arguments.fail(f"{kind} has no PARTITION BY: its windows are the same for every key", slots["DATA"])
    return Window(kind, rows, arguments.descriptor(slots["TIMECOL"], 1)[0], lengths, partition)


def window_text(window: Window, relation: str, columns: Sequence[str], time: str, made: str, added: Sequence[str]) -> str:
    """The SELECT that a window is: `time` the column, `made` how microseconds become its type, `added` what the new columns
    are called."""
    moment = f"epoch_us({name_text(time)})"
    lengths = window.lengths
    if window.kind == "SESSION":
        return _session_text(window, relation, columns, name_text(time), made, added)
    offset = lengths.get("OFFSET", 0)
    match window.kind:
        case "TUMBLE":
            start, end = _floor(moment, lengths["SIZE"], offset), f"__start + {lengths['SIZE']}"
        case "HOP":
            first = _floor(moment, lengths["SLIDE"], offset)
            start = f"UNNEST(range({first}, {moment} - {lengths['SIZE']}, -{lengths['SLIDE']}))"
            end = f"__start + {lengths['SIZE']}"
        case _:
            start, size, step = _floor(moment, lengths["SIZE"], offset), lengths["SIZE"], lengths["STEP"]
            first = f"{start} + (({moment} - ({start})) // {step} + 1) * {step}"
            end = f"UNNEST(range({first}, {start} + {size} + 1, {step}))"
            inner = (
                f"SELECT *, {start} AS __start, {end} AS __end FROM {relation} AS __rows WHERE {name_text(time)} IS NOT NULL"
            )
            return _outer(inner, columns, made, added)
    inner = f"SELECT *, {start} AS __start FROM {relation} AS __rows WHERE {name_text(time)} IS NOT NULL"
    return _outer(f"SELECT *, {end} AS __end FROM ({inner}) AS __started", columns, made, added)


def placed_text(relation: str, columns: Sequence[str]) -> str:
    """The SELECT over rows that are in their windows already: `columns` has window_start and window_end."""
    start, end, time = ADDED
    kept = [name_text(name) for name in columns if name not in (start, end)]
    last = f"{name_text(end)} - INTERVAL '1 millisecond' AS {name_text(time)}"
    return f"SELECT {', '.join([*kept, name_text(start), name_text(end), last])} FROM {relation} AS __rows"


def _outer(inner: str, columns: Sequence[str], made: str, added: Sequence[str]) -> str:
    kept = list(map(name_text, columns))
    moments = ("__start", "__end", "__end - 1000")
    windows = [f"{made.format(value)} AS {name_text(name)}" for value, name in zip(moments, added, strict=True)]
    return f"SELECT {', '.join([*kept, *windows])} FROM ({inner}) AS __windows"


def _floor(moment: str, length: int, offset: int) -> str:
    """The last multiple of `length`, counted from `offset`, that is not behind `moment`; before 1970 too."""
    return f"{moment} - ((({moment} - {offset}) % {length} + {length}) % {length})"


def _session_text(window: Window, relation: str, columns: Sequence[str], time: str, made: str, added: Sequence[str]) -> str:
    gap = window.lengths["GAP"]
    keys = ", ".join(key.sql(dialect=Flink) for key in window.partition)
    by = f"PARTITION BY {keys}" if keys else ""
    before = f"epoch_us(lag({time}) OVER ({by} ORDER BY {time}))"
    begun = f"CASE WHEN epoch_us({time}) - {before} <= {gap} THEN 0 ELSE 1 END AS __begun"
    rows = f"SELECT *, {begun} FROM {relation} AS __rows WHERE {time} IS NOT NULL"
    counted = f"SELECT *, sum(__begun) OVER ({by} ORDER BY {time}) AS __session FROM ({rows}) AS __marked"
    session = f"PARTITION BY {keys}, __session" if keys else "PARTITION BY __session"
    start, end = (f"epoch_us({side}({time}) OVER ({session}))" for side in ("min", "max"))
    inner = f"SELECT *, {start} AS __start, {end} + {gap} AS __end FROM ({counted}) AS __counted"
    return _outer(inner, columns, made, added)


def _microseconds(arguments: Arguments, argument: Argument) -> int:
    """The length of INTERVAL '5' MINUTE; also of one with a sign."""
    value = argument.this
    negative = isinstance(value, exp.Neg)
    interval = value.this if negative else value
    if not isinstance(interval, exp.Interval) or not isinstance(interval.this, exp.Literal):
        arguments.fail(f"{arguments.function}: expected INTERVAL 'n' UNIT: {arguments.usage}", argument)
    unit = interval.unit.name.upper() if interval.unit else ""
    if unit not in UNITS:
        arguments.fail(
            f"{arguments.function}: a window of {unit or 'no unit'} has no one length; valid: {', '.join(UNITS)}", argument
        )
    try:
        length = float(interval.this.this) * UNITS[unit]
    except (ValueError, OverflowError):
        arguments.fail(f"{arguments.function}: {interval.this.this!r} is no number", argument)
    return (-1 if negative else 1) * (length // timedelta(microseconds=1))
