"""`lakeflow deadletters`: the records that no landing could make a row of, and another try at them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, exit_code_of, open_project, verbs
from lakeflow.cli.output import cell_text, note, show_error, show_json, show_rows
from lakeflow.cli.progress import Bar
from lakeflow.cli.rows import shortened
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import LakeflowError, UnknownName

if TYPE_CHECKING:
    from lakeflow.landing.counts import Counts
    from lakeflow.landing.replay import Left, Replay, Replayed
    from lakeflow.landing.spec import LandingSpec
    from lakeflow.observe.runs import Run
    from lakeflow.runner.project import Project

LISTED = ("table", "topic", "partition", "offset", "timestamp", "kind", "error", "rejected_at", "state")
REPLAYED = ("table", "status", "read", "written", "filtered", "left", "commits", "seconds")
MOST = 10_000
ERROR_WIDTH = 60
LIST_HELP = """List dead letters, the newest first.

A letter waits until a replay lands it, or was replayed; one of an earlier table of the name is neither any more.

Examples:

  lakeflow deadletters

  lakeflow deadletters list bronze.orders --kind malformed --since 2026-01-31

  lakeflow deadletters list gold.triaged --kind refused
"""
SHOW_HELP = """Show a dead letter whole: where it stood, why it gave no row, its key, value and headers.

Text is shown as it is, other bytes as hexadecimal digits; in JSON these are base64, and key_encoding and value_encoding say so.

Example:

  lakeflow deadletters show bronze.orders orders:0:17
"""
REPLAY_HELP = """Decode a table's dead letters again, as it is declared now, and land those that give a row. Exactly once.

The others stay. A landing of the table may run beside. Not for tables that are kept by key.

Examples:

  lakeflow deadletters replay bronze.orders --dry-run

  lakeflow deadletters replay bronze.orders --kind misfit --partition orders:0
"""
KIND_HELP = "Only of this kind: tombstone, malformed, misfit, schema, expectation"
ListedKindOption = Annotated[
    str | None,
    typer.Option("--kind", help=f"{KIND_HELP}; of jobs what became of the question, as refused, too_large, timeout."),
]
ReplayedKindOption = Annotated[str | None, typer.Option("--kind", help=f"{KIND_HELP}.")]


def register(app: typer.Typer) -> None:
    group = verbs("deadletters", "List, show and replay dead letters.", listed=True)
    group.command("list", help=LIST_HELP)(list_verb)
    group.command("show", help=SHOW_HELP)(show_verb)
    group.command("replay", help=REPLAY_HELP)(replay_verb)
    app.add_typer(group)


def list_verb(
    tables: Annotated[list[str] | None, typer.Argument(help="Only of these tables.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many.", min=1, max=MOST)] = 20,
    since: Annotated[datetime | None, typer.Option("--since", help="Rejected at this moment or later, local time.")] = None,
    kind: ListedKindOption = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.landing.letters_read import Wanted, newest_letters

    opened = open_project(project, target)
    wanted = Wanted(tuple(tables or ()), _checked_kind(kind, of_jobs=True), since.astimezone() if since else None)
    rows = newest_letters(opened.lake, opened.commits, wanted, limit)
    if not rows:
        _require_known(opened, tables or [])
    if output is Format.JSON:
        show_json(rows)
    else:
        show_rows([{**row, "error": shortened(row["error"], ERROR_WIDTH)} for row in rows], LISTED, as_json=False)


def show_verb(
    table: Annotated[str, typer.Argument(help="The table, as namespace.table.")],
    place: Annotated[str, typer.Argument(help="Where the record stood, as TOPIC:PARTITION:OFFSET.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.landing.letters_read import letter_at, place_of

    opened = open_project(project, target)
    row = letter_at(opened.lake, opened.commits, table, place_of(place))
    if output is Format.JSON:
        show_json(_document(row))
    else:
        _show(row)


def replay_verb(
    table: Annotated[str, typer.Argument(help="The table, as namespace.table.")],
    kind: ReplayedKindOption = None,
    partition: Annotated[
        str | None, typer.Option("--partition", help="Only of this partition, as TOPIC:PARTITION.", metavar="TOPIC:PARTITION")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be landed, and change nothing.")] = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    asked = _Asked(opened, table, _checked_kind(kind, of_jobs=False), partition, dry_run)
    with StopSignals() as signals:
        result, errors = asked.replay(signals)
    if output is Format.JSON:
        show_json(result)
    else:
        show_rows([result], REPLAYED, as_json=False)
    if errors:
        raise typer.Exit(exit_code_of(errors))
    if signals.requested():
        raise typer.Exit(signals.exit_code)


def _require_known(project: Project, tables: Sequence[str]) -> None:
    """Letters of a table that was dropped and is declared no more stay, so only an empty answer is doubted."""
    known = {*project.declared_tables.tables, *project.lake.names()}
    for table in tables:
        if table not in known:
            raise UnknownName("table", table, known, next_step="lakeflow tables")


class _Asked:
    """A replay as it was asked for. Raises UsageError for what cannot be meant, before anything is opened."""

    def __init__(self, project: Project, table: str, kind: str | None, partition: str | None, dry_run: bool) -> None:
        from lakeflow.landing.letters_read import partition_of
        from lakeflow.landing.plan import declared_landing
        from lakeflow.landing.replay import Which, require_appends
        from lakeflow.landing.spec import is_landed

        landed = {name: spec for name, spec in project.declared_tables.tables.items() if is_landed(spec)}
        if table not in landed:
            raise UnknownName("table with connector 'kafka'", table, landed, next_step="lakeflow tables")
        self._project = project
        self._dry_run = dry_run
        self._which = Which(kind, None if partition is None else partition_of(partition))
        self._spec: LandingSpec = declared_landing(landed[table], project.settings)
        require_appends(self._spec)

    def replay(self, signals: StopSignals) -> tuple[dict[str, Any], list[LakeflowError]]:
        from lakeflow.observe.runs import Run, RunLog, Status

        project, table = self._project, self._spec.table
        run = Run("replay", table, table, "dry-run" if self._dry_run else "available-now")
        done: Replayed | None = None
        if self._dry_run:
            done = self._done(run, signals)
            run.status = Status.DONE if done.counts.read else Status.EMPTY
            return _result(run, done), []
        try:
            with RunLog(project.lake, project.commits, project.settings).recorded(run):
                done = self._done(run, signals)
                if signals.requested():
                    run.status = Status.STOPPED
                elif run.read == 0:
                    run.status = Status.EMPTY
        except LakeflowError as error:
            show_error(error)
            return {**_result(run, done), "error": str(error)}, [error]
        return _result(run, done), []

    def _done(self, run: Run, signals: StopSignals) -> Replayed:
        """The replay itself. What it did before a failure counts too."""
        with ExitStack() as held, Bar(f"replaying {self._spec.table}") as bar:
            replay = self._opened(held, lambda counts: bar.reach(counts.read, None))
            try:
                done = replay.preview(signals.requested) if self._dry_run else replay.run(signals.requested)
            finally:
                _fill_in(run, replay.done)
        for left in done.left:
            note(_still(left))
        return done

    def _opened(self, held: ExitStack, on_progress: Any) -> Replay:
        from lakeflow.landing.open import open_decoder, open_registry, sizes_of
        from lakeflow.landing.replay import Replay

        project, settings = self._project, self._project.settings
        return Replay(
            self._spec,
            open_decoder(self._spec, open_registry(settings, held)),
            project.lake,
            project.commits,
            which=self._which,
            sizes=sizes_of(self._spec, settings),
            on_progress=on_progress,
        )


def _fill_in(run: Run, done: Replayed) -> None:
    counts: Counts = done.counts
    run.read, run.written, run.filtered, run.dead_lettered = counts.read, counts.written, counts.filtered, counts.dead_lettered
    run.start_position, run.end_position, run.snapshot_ids = done.start, done.end, done.snapshots


def _result(run: Run, done: Replayed | None) -> dict[str, Any]:
    left: Sequence[Left] = done.left if done is not None else ()
    return {
        "table": run.table,
        "status": str(run.status),
        "mode": run.mode,
        "read": run.read,
        "written": run.written,
        "filtered": run.filtered,
        "left": run.dead_lettered,
        "first_left": [
            {"topic": one.place[0], "partition": one.place[1], "offset": one.place[2], "kind": one.kind, "error": one.reason}
            for one in left
        ],
        "commits": len(run.snapshot_ids),
        "seconds": round(run.seconds, 2),
    }


def _still(left: Left) -> str:
    from lakeflow.landing.letters_read import place_text

    return f"{place_text(left.place)} still gives no row: {shortened(left.reason)}"


def _checked_kind(kind: str | None, *, of_jobs: bool) -> str | None:
    """Raises UnknownName. `of_jobs`: also why a model gave a row no answer, and why a row is in no window."""
    from lakeflow.models.remote.dialect import ErrorKind
    from lakeflow.topics.formats.format import RejectKind
    from lakeflow.window import LATE, UNTIMED

    known = [str(one) for one in RejectKind]
    if of_jobs:
        known += [str(one) for one in ErrorKind if not one.of_all_rows and str(one) not in known]
        known += [LATE, UNTIMED]
    if kind is not None and kind not in known:
        raise UnknownName("kind of dead letter", kind, known)
    return kind


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    """The letter for JSON: bytes are text where they are UTF-8, and base64 otherwise."""
    document: dict[str, Any] = dict(row)
    for name in ("key", "value"):
        document[name], document[f"{name}_encoding"] = _text_of(row[name])
    if row.get("headers") is not None:
        document["headers"] = [
            {"key": pair["key"], "value": _text_of(pair["value"])[0], "value_encoding": _text_of(pair["value"])[1]}
            for pair in row["headers"]
        ]
    return document


def _text_of(value: bytes | None) -> tuple[str | bytes | None, str | None]:
    if value is None:
        return None, None
    try:
        return value.decode(), "utf-8"
    except UnicodeDecodeError:
        return value, "base64"


def _show(row: Mapping[str, Any]) -> None:
    """Facts a line each, then key, headers and value as they are."""
    long = ("key", "value", "headers")
    facts = {name: cell_text(value) for name, value in row.items() if name not in long and name != "error"}
    facts["offset"] = str(row["offset"])
    facts["error"] = row["error"]
    facts["key"] = _shown(row["key"])
    for pair in row.get("headers") or ():
        facts[f"header {pair['key']}"] = _shown(pair["value"])
    width = max(map(len, facts))
    for name, text in facts.items():
        sys.stdout.write(f"{name:<{width}}  {text}\n")
    sys.stdout.write(f"\n{_shown(row['value'])}\n")


def _shown(value: bytes | None) -> str:
    """Text as it is, unless it would steer a terminal; other bytes as hexadecimal digits."""
    if value is None:
        return "-"
    text, encoding = _text_of(value)
    is_plain = encoding == "utf-8" and isinstance(text, str) and all(sign.isprintable() or sign in "\n\t" for sign in text)
    return str(text) if is_plain else f"0x{value.hex()}"
