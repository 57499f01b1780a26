"""A job as a plain value, and the decorator that makes one out of a Python function.

    @job(target="gold.scored", mode="incremental")
    def score(flights=Read("bronze.flights"), carriers=Lookup("dim.carriers")) -> pl.LazyFrame: ...

The function is called with a LazyFrame for each parameter and returns the LazyFrame whose rows go to the target. A job may be
a query of SQL in place of a function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lakeflow.declare import UNKNOWN, Origin, TableSpec
from lakeflow.dimension import History, check_history, no_history
from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.expect import Expectation, distinct
from lakeflow.lookup import Lookup as Lookup
from lakeflow.lookup import LookupFile, LookupPostgres, Outside
from lakeflow.schedule import Cron, cron_of, duration_of
from lakeflow.window import Emit, Length, Window, Windowed, windows_of
from lakeflow.within import Within, check_within, no_recompute

if TYPE_CHECKING:
    import polars as pl


class Mode(StrEnum):
    """What a run reads: what was appended since its progress, or the table as of one moment."""

    INCREMENTAL = "incremental"
    SNAPSHOT = "snapshot"


class Output(StrEnum):
    """How a run's rows meet the target's: added, merged by key, or in place of all that was there."""

    APPEND = "append"
    UPDATE = "update"
    COMPLETE = "complete"


class OnChange(StrEnum):
    """What an incremental run does where rows of the table that it reads were changed or removed since: refuse, pass over
    commits that only remove rows, or follow, so that the target is what a snapshot run would make."""

    FAIL = "fail"
    IGNORE_DELETES = "ignore_deletes"
    RECOMPUTE = "recompute"


@dataclass(frozen=True, slots=True)
class Read:
    """The table that a job reads: incrementally in incremental mode, whole in snapshot mode."""

    table: str


@dataclass(frozen=True, slots=True)
class Caps:
    """What one batch of an incremental run may hold at the most; a batch holds one file at the least. None: no cap."""

    files: int | None = None
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """The body of a job in SQL.

    `text` is the query, with blanks before it in place of what stands there in its file, so that messages name line and
    column of the file. Its columns go to `columns` of the target by place; none named: to all of the target. `texts` are the
    names and texts that stand in its calls of models, `values` those in calls that are values of expressions or joined by LEFT,
    where no row can be left out. `obstacle` says, pointing into the text, why the query cannot run incrementally; None where
    it can. `is_keyed` tells that it then goes on from what it keeps of earlier rows by key. `searched` are the tables and
    columns that it searches for vectors.
    """

    text: str
    columns: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    obstacle: str | None = None
    is_keyed: bool = False
    searched: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Materialized:
    """The target is a materialized table, which may be behind what it reads by `freshness`; None: as `--every` has it.

    `is_free` tells that its statement leaves open whether it is refreshed incrementally.
    """

    freshness: timedelta | None = None
    is_free: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One transformation of tables into one table.

    `on_change` says what becomes of rows that were changed or removed in the table that is read; to follow them, the columns
    of `key` are columns of that table: those of `key_from`, in the order of `key`, or of the same names where it is empty.

    With `by` it makes the rows of whole keys: it is given all rows of the keys that new rows have in these columns, and its
    rows replace those that the target has of them.

    `inputs` maps the function's parameters to what they read; those of a query are the tables' names. `key` is set for
    output update. `caps` of None leaves the caps to the settings. `creates` is how the target is made where `tables/`
    declares none, but for its columns, which are those of the rows. `statement_set` is where the set of statements
    that it is of begins. `outside` are dimensions that are no tables of the lake, by parameter. `schedule` says when it is due,
    or how old its target may get; None: whenever it is asked for. `source` is the function's text, as it was declared. `within`
    is how it joins the two tables that it reads, in the order of `inputs`, where both bring new rows.
    """

    name: str
    target: str
    inputs: dict[str, Read | Lookup]
    body: Callable[..., pl.LazyFrame] | SqlQuery = field(repr=False)
    mode: Mode = Mode.INCREMENTAL
    output: Output = Output.APPEND
    key: tuple[str, ...] = ()
    caps: Caps | None = None
    description: str = ""
    origin: Origin = UNKNOWN
    creates: TableSpec | None = None
    materialized: Materialized | None = None
    windowed: Windowed | None = None
    statement_set: Origin | None = None
    schedule: Cron | timedelta | None = None
    on_change: OnChange = OnChange.FAIL
    key_from: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    expect: tuple[Expectation, ...] = ()
    outside: dict[str, Outside] = field(default_factory=dict)
    source: str = field(default="", repr=False, compare=False)
    history: History | None = None
    within: Within | None = None

    @property
    def function(self) -> Callable[..., pl.LazyFrame]:
        """The function of a job in Python. Raises DeclarationError for one in SQL."""
        if isinstance(self.body, SqlQuery):
            raise DeclarationError(f"{self.origin}: job {self.name!r} is a query of SQL and has no function")
        return self.body

    @property
    def is_row_wise(self) -> bool:
        """Whether its rows may be computed part by part. A function that appends promises so; a query is known to."""
        if isinstance(self.body, SqlQuery) and self.body.obstacle is not None:
            return False
        return self.mode is Mode.INCREMENTAL and self.output is Output.APPEND and self.windowed is None and self.within is None

    @property
    def reads(self) -> tuple[str, ...]:
        """Every table that the job needs, in the order of its parameters."""
        return tuple(source.table for source in self.inputs.values())

    @property
    def writer(self) -> str:
        """The name under which the target keeps this job's progress."""
        return f"job.{self.name}"


JobFunction = Callable[..., "pl.LazyFrame"]


def job(
    *,
    target: str,
    mode: str = "incremental",
    output: str | None = None,
    key: str | list[str] | tuple[str, ...] = (),
    by: str | list[str] | tuple[str, ...] = (),
    max_files: int | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    name: str | None = None,
    window: Window | None = None,
    late: str | None = None,
    emit: str | None = None,
    delay: Length | None = None,
    idle: Length | None = None,
    lateness: Length | None = None,
    schedule: str | None = None,
    timezone: str = "UTC",
    freshness: str | None = None,
    expect: Sequence[Expectation] = (),
    on_change: str = "fail",
    history: History | None = None,
    within: Within | None = None,
) -> Callable[[JobFunction], Job]:
    """Declare a job. Raises DeclarationError where the declaration contradicts itself.

    `target` is the table that the rows go to, created on the first run where it is missing. `output` is append or
    update (with `key`) in incremental mode, complete or update in snapshot mode; without it, append and complete.
    The caps bound one batch of an incremental run; without them, those of [run] in lakeflow.toml hold.
    With `by` the function sees all rows of the keys that new rows have, and its rows replace theirs (docs/state.md).
    With `window` the function sees complete windows, and its rows replace theirs; `late`, `emit`, `delay` and `idle` say which
    (docs/windows.md); `lateness` is said of the window itself.
    `schedule` is a cron expression of five fields in `timezone`, `freshness` how old the target may get, such as "10m":
    when the job is due for `lakeflow run --due` and `lakeflow start`.
    `expect` is what must hold of its rows, and of the table that they make: lf.not_null("carrier"), and others of expect.py.
    `on_change` is what becomes of rows that were changed or removed in the table that is read: fail, ignore_deletes or
    recompute (docs/jobs.md). With `history` the target keeps every version of a key's row, as lf.History says.
    With `within` the function joins two tables, both lf.Read, within a bound on their times (docs/joins.md).
    """

    def declare(function: JobFunction) -> Job:
        origin = _origin_of(function)
        label = name or function.__name__
        said = {"late": late, "emit": emit, "delay": delay, "idle": idle, "lateness": lateness}
        by_windows = windows_of(window, said, bool(key) or output is not None, f"{origin}: job {label!r}")
        by_keys = (by,) if isinstance(by, str) else tuple(by)
        made = Job(
            name=label,
            target=_checked_name(target, f"target of job {label!r}", origin),
            inputs=_inputs_of(function, label, origin),
            outside=_outside_of(function),
            body=function,
            mode=_choice(Mode, mode, f"mode of job {label!r}", origin),
            output=Output.UPDATE if _keeps(within, mode) else _output(mode, output, key, by_keys, by_windows, label, origin),
            by=by_keys,
            windowed=by_windows,
            key=(key,) if isinstance(key, str) else tuple(key),
            caps=Caps(max_files, max_rows, max_bytes) if (max_files or max_rows or max_bytes) else None,
            description=inspect.getdoc(function) or "",
            origin=origin,
            source=_source_of(function),
            schedule=schedule_of(schedule, timezone, freshness, label, origin),
            expect=distinct(expect, f"{origin}: job {label!r}"),
            on_change=_choice(OnChange, on_change, f"on_change of job {label!r}", origin),
            history=history,
            within=within if mode == Mode.INCREMENTAL else None,
        )
        reads = [source.table for source in made.inputs.values() if isinstance(source, Read)]
        others = {"key": key, "by": by, "output": output, "window": window, "history": history}
        check_within(within, reads, [f"{name}=" for name, said in others.items() if said], f"{origin}: job {label!r}")
        check_history(history, made.key, output, f"{origin}: job {label!r}")
        check_on_change(made)
        return made

    return declare


def schedule_of(cron: str | None, timezone: str, freshness: str | None, label: str, origin: Origin) -> Cron | timedelta | None:
    """When job `label` is due. Raises DeclarationError where an expression is wrong, or both are given."""
    if cron is not None and freshness is not None:
        raise DeclarationError(
            f"{origin}: job {label!r} has a schedule, {cron!r}, and a freshness, {freshness!r}; valid: one of them"
        )
    if freshness is not None:
        return duration_of(freshness, f"freshness of job {label!r}", origin)
    if cron is None and timezone != "UTC":
        raise DeclarationError(f"{origin}: job {label!r} has the timezone {timezone!r} and no schedule that it could be of")
    return cron_of(cron, timezone, f"schedule of job {label!r}", origin) if cron is not None else None


def _keeps(within: object, mode: str) -> bool:
    """Whether rows that have no match are there until it comes."""
    return mode == Mode.INCREMENTAL and isinstance(within, Within) and within.keeps


def is_keyed(job: Job) -> bool:
    """Whether the job goes on by what it keeps of groups or ranks."""
    return isinstance(job.body, SqlQuery) and job.body.is_keyed


def check_on_change(job: Job) -> None:
    """Raises DeclarationError where a job cannot do what its `on_change` says."""
    if job.history is not None and (job.windowed is not None or is_keyed(job)):
        raise no_history(job.origin, job.name)
    if job.on_change is OnChange.FAIL:
        return
    label = f"{job.origin}: job {job.name!r}: on_change = '{job.on_change}'"
    if job.mode is Mode.SNAPSHOT:
        raise DeclarationError(f"{label} is for incremental runs; a snapshot run reads the table as it is")
    if job.on_change is OnChange.RECOMPUTE and (is_keyed(job) or (job.windowed is not None and not job.windowed.follows)):
        raise DeclarationError(
            f"{label} is for jobs whose rows each come of one row, or of a window that no watermark closes; this one keeps "
            "groups, sessions or a watermark between its runs",
            next_step="say on_change = 'fail', and run the job with --mode snapshot after such changes, or 'ignore_deletes'",
        )
    if job.on_change is OnChange.RECOMPUTE and job.within is not None:
        raise no_recompute(label)
    if job.on_change is OnChange.RECOMPUTE and job.history is not None:
        raise DeclarationError(
            f"{label}: the history of a key does not forget what was once said of it; valid: 'fail', 'ignore_deletes'"
        )
    if job.on_change is OnChange.RECOMPUTE and not (job.key or job.by) and job.windowed is None:
        raise DeclarationError(
            f"{label} needs a key: by none could the rows be found that came of rows which were changed or removed",
            next_step="give the job a key (Python: key=; SQL: PRIMARY KEY of the target), or say on_change = 'ignore_deletes'",
        )


def _output(
    mode: str, output: str | None, key: object, by: tuple[str, ...], windowed: Windowed | None, label: str, origin: Origin
) -> Output:
    if by and (key or output is not None or windowed is not None):
        raise DeclarationError(
            f"{origin}: job {label!r}: by= says that the rows of whole keys replace others; key=, output= and window= do not "
            "go with it"
        )
    if by and mode == Mode.INCREMENTAL:
        return Output.UPDATE
    return _output_of_windows(mode, windowed) if windowed else _output_of(mode, output, key, label, origin)


def _output_of_windows(mode: str, by_windows: Windowed) -> Output:
    """Of an incremental job whole windows replace others, or are added once; a snapshot replaces all."""
    if mode != Mode.INCREMENTAL:
        return Output.COMPLETE
    return Output.APPEND if by_windows.emit is Emit.APPEND else Output.UPDATE


def _output_of(mode: str, output: str | None, key: object, label: str, origin: Origin) -> Output:
    if output is None:
        return Output.UPDATE if key else Output.APPEND if mode == Mode.INCREMENTAL else Output.COMPLETE
    chosen = _choice(Output, output, f"output of job {label!r}", origin)
    if (chosen is Output.UPDATE) != bool(key):
        raise DeclarationError(
            f"{origin}: job {label!r}: output 'update' and key= go together; output is {output!r}, key is {key!r}"
        )
    if mode == Mode.INCREMENTAL and chosen is Output.COMPLETE:
        raise DeclarationError(
            f"{origin}: job {label!r}: output 'complete' replaces the whole table, which an incremental run has not read; "
            "valid with mode 'incremental': append, update"
        )
    if mode == Mode.SNAPSHOT and chosen is Output.APPEND:
        raise DeclarationError(
            f"{origin}: job {label!r}: output 'append' would add every row again at each snapshot run; "
            "valid with mode 'snapshot': complete, update"
        )
    return chosen


def _inputs_of(function: JobFunction, label: str, origin: Origin) -> dict[str, Read | Lookup]:
    inputs: dict[str, Read | Lookup] = {}
    for parameter in inspect.signature(function).parameters.values():
        source: Any = parameter.default
        if isinstance(source, LookupFile | LookupPostgres):
            continue
        if not isinstance(source, Read | Lookup):
            has = f"has the default {source!r}" if source is not parameter.empty else "has no default"
            raise DeclarationError(
                f"{origin}: job {label!r}: parameter {parameter.name!r} {has}; valid: "
                'lf.Read("namespace.table"), lf.Lookup("namespace.table"), lf.LookupFile(path), lf.LookupPostgres(url, table)'
            )
        _checked_name(source.table, f"parameter {parameter.name!r} of job {label!r}", origin)
        inputs[parameter.name] = source
    if not any(isinstance(source, Read) for source in inputs.values()):
        raise DeclarationError(f'{origin}: job {label!r} reads no table; give it a parameter = lf.Read("namespace.table")')
    return inputs


def _outside_of(function: JobFunction) -> dict[str, Outside]:
    given = {parameter.name: parameter.default for parameter in inspect.signature(function).parameters.values()}
    return {name: source for name, source in given.items() if isinstance(source, LookupFile | LookupPostgres)}


def _checked_name(table: str, what: str, origin: Origin) -> str:
    parts = table.split(".")
    if len(parts) != 2 or not all(parts):
        raise DeclarationError(
            f"{origin}: {what} is {table!r}; a table is named namespace.table, for instance 'bronze.flights'"
        )
    return table


Choice = TypeVar("Choice", bound=StrEnum)


def _choice(kind: type[Choice], value: str, what: str, origin: Origin) -> Choice:
    if value not in list(kind):
        raise DeclarationError(f"{origin}: {what} is {value!r}{did_you_mean(value, [str(k) for k in kind])}")
    return kind(value)


def _source_of(function: JobFunction) -> str:
    """The function's text as it is when it is declared: its file may be another by the time it runs."""
    try:
        return inspect.getsource(function)
    except (OSError, SyntaxError):  # it was typed in, or its file went while it was loaded
        return function.__code__.co_code.hex()


def _origin_of(function: JobFunction) -> Origin:
    code = function.__code__
    return Origin(Path(code.co_filename), code.co_firstlineno)
