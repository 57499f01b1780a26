"""What `lakeflow sql` does with a statement, from a file or from the shell: carry it out, and write what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lakeflow.cli.output import aside, note
from lakeflow.cli.query import TEXT_ROWS
from lakeflow.cli.rows import Head, RowFormat
from lakeflow.cli.sql_output import show_facts_of, show_lines, show_records, write_batches
from lakeflow.sql.row_changes import DeleteRows, TruncateTable, UpdateRows
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateTableAs,
    Explain,
    Insert,
    ReadRows,
    RefreshTable,
    ResetOption,
    ScriptStatement,
    SetOption,
    StatementSet,
)

if TYPE_CHECKING:
    from lakeflow.cli.signals import StopSignals
    from lakeflow.runner.model_statements import Outcome
    from lakeflow.runner.project import Project
    from lakeflow.runner.sql_once import Once
    from lakeflow.sql.execute import Limits

WROTE: Final = ("statement", "table", "status", "read", "written", "dead_lettered", "skipped", "seconds")
CHANGED: Final = ("statement", "table", "status", "rows")


@dataclass(slots=True)
class Style:
    """How results are written: `rows` bounds those of a text, `expanded` gives each a line a column."""

    form: RowFormat = RowFormat.TEXT
    rows: int = TEXT_ROWS
    expanded: bool = False


@dataclass(slots=True)
class Session:
    """Statements on one project. `confirm` answers whether a table is dropped, `hint` says how more rows are shown than
    `style` has, `tell` takes what is to be said of a result, `models` closes those that were opened, `set` is what SET said."""

    project: Project
    style: Style
    confirm: Callable[[str], bool]
    hint: str
    models: ExitStack
    tell: Callable[[str], None] = note
    set: dict[str, str] = field(default_factory=dict)

    def carry_out(self, statement: ScriptStatement, signals: StopSignals, held: ExitStack) -> None:
        """Carry out one statement. What it spills is gone once `held` is closed. Raises what it fails of."""
        match statement:
            case ReadRows():
                self._read(statement.text, signals, held)
            case Insert() | StatementSet() | CreateTableAs() | CreateMaterializedTable():
                from lakeflow.runner.sql_once import declared_as_job, parts_of, stands

                if isinstance(statement, CreateMaterializedTable) or stands(statement, self.set):
                    self._records([asdict(one) for one in declared_as_job(statement, self.set, self.project)], WROTE)
                else:
                    self._records([self._write(part, signals, held) for part in parts_of(statement)], WROTE)
            case RefreshTable(name):
                self._records([self._refresh(name, signals)], WROTE)
            case DeleteRows() | UpdateRows() | TruncateTable():
                from lakeflow.runner.row_changes import change_rows

                done = change_rows(self.project, statement, self.limits(held))
                self._records([{**asdict(done), "status": "done" if done.rows else "no such row"}], CHANGED)
            case Explain():
                self._explain(statement)
            case SetOption(key, value):
                self._set(key, value)
            case ResetOption(key):
                self._reset(key)
            case _:
                from lakeflow.runner.statements import carry_out

                self._show(carry_out(self.project, statement, self.confirm))

    def limits(self, held: ExitStack) -> Limits:
        """What a query may use."""
        from lakeflow.runner.querying import spilling

        settings = self.project.settings
        return held.enter_context(spilling(settings.root / ".lakeflow" / "tmp", settings.run.memory_bytes))

    def _read(self, text: str, signals: StopSignals, held: ExitStack) -> None:
        from lakeflow.runner.sql_query import query_project

        with query_project(text, self.project, self.limits(held), self.models, signals.requested) as reader:
            head = Head(reader, self.style.rows if self.style.form is RowFormat.TEXT else None)
            write_batches(head, reader.schema.names, self.style.form, expanded=self.style.expanded)
        if head.cut:
            self.tell(f"the first {self.style.rows:,} rows are shown; {self.hint}")

    def _write(self, statement: Once, signals: StopSignals, held: ExitStack) -> dict[str, Any]:
        from lakeflow.cli.run import run_recorded
        from lakeflow.runner.plan import Request
        from lakeflow.runner.sql_once import check_target, insert_rows, is_made, job_once, whole_or_not_made

        if isinstance(statement, Insert):
            told = {"statement": "INSERT OVERWRITE" if statement.overwrite else "INSERT INTO", "table": statement.target}
        else:
            told = {"statement": "CREATE TABLE AS", "table": statement.table.name}
        if is_made(statement, self.project):
            return told | {"status": "there already"}
        check_target(statement, self.project)
        job = job_once(statement, self.project.declared_tables.tables)
        if job is None:
            rows = insert_rows(statement, self.project, self.limits(held), self.models)
            return told | {"status": "done", "written": rows}
        self.models.enter_context(self.project.models)
        with whole_or_not_made(statement, self.project), aside():
            row = run_recorded(self.project, job, Request(), signals)
        return {**told, **{name: row[name] for name in WROTE if name in row}}

    def _refresh(self, name: str, signals: StopSignals) -> dict[str, Any]:
        """A materialized table made anew, as a snapshot run of its job."""
        from lakeflow.cli.run import run_recorded
        from lakeflow.job import Mode
        from lakeflow.runner.plan import Request
        from lakeflow.runner.statements import materialized_job

        job = materialized_job(self.project, name)
        self.models.enter_context(self.project.models)
        with aside():
            row = run_recorded(self.project, job, Request(mode=Mode.SNAPSHOT), signals)
        return {"statement": "ALTER MATERIALIZED TABLE", **{column: row[column] for column in WROTE if column in row}}

    def _explain(self, statement: Explain) -> None:
        from lakeflow.runner.sql_once import explained
        from lakeflow.sql.explain import explain_lines

        for number, one in enumerate(explained(statement, self.project)):
            if self.style.form is RowFormat.JSON:
                show_facts_of({"plan": asdict(one.step)}, self.style.form)
                continue
            gap = [""] if number and self.style.form is RowFormat.TEXT else []
            show_lines([*gap, *explain_lines(one.step, one.compiled)], self.style.form, "plan", headed=number == 0)

    def _set(self, key: str | None, value: str | None) -> None:
        from lakeflow.runner.sql_once import check_set

        if key is not None and value is not None:
            check_set(key, value, self.set)
            self.set[key] = value
        self._records([{"key": name, "value": said} for name, said in self.set.items()], ("key", "value"))

    def _reset(self, key: str | None) -> None:
        from lakeflow.runner.sql_once import check_key

        if key is None:
            self.set.clear()
        else:
            check_key(key)
            self.set.pop(key, None)

    def _show(self, outcome: Outcome) -> None:
        if outcome.columns:
            self._records(outcome.rows, outcome.columns)
        if outcome.facts is not None:
            show_facts_of(outcome.facts, self.style.form)
        if outcome.sql is not None:
            show_lines([outcome.sql], self.style.form, "sql")

    def _records(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        known = [column for column in columns if not rows or any(column in row for row in rows)]
        show_records(rows, known, self.style.form, expanded=self.style.expanded)
