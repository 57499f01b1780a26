"""`lakeflow models evaluate` and `evaluations`: how good a model's answers are, now and before."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import cell_text, note, show_facts, show_json, show_rows, show_table, show_text
from lakeflow.cli.progress import Bar
from lakeflow.errors import LakeflowError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakeflow.observe.evaluations import Row
    from lakeflow.runner.project import Project

MOST = 10_000
FINGERPRINT = 12
"""Characters of a fingerprint that people are shown."""
MOST_CLASSES = 20
HEADLINES = (
    "accuracy",
    "f1",
    "f1_macro",
    "log_loss",
    "roc_auc",
    "roc_auc_macro",
    "pr_auc",
    "pr_auc_macro",
    "mae",
    "rmse",
    "mape",
    "r2",
    "davies_bouldin",
    "intra_cluster_variance",
    "silhouette",
    "adjusted_rand",
    "mean_cosine",
    "mean_jaccard",
    "mean_euclidean",
    "bleu",
    "rouge_1",
    "rouge_2",
    "rouge_l",
    "exact_match",
)
"""Metrics that a list of evaluations shows; all stand in --output json."""
FACTS = ("model", "version", "fingerprint", "task", "table", "snapshot_id", "label", "prediction", "probability", "rows")
COLUMNS = ("evaluated", "model", "version", "fingerprint", "task", "label", "table", "rows", "left out", "metrics")
EVALUATE_HELP = """Ask a model for the rows of a table, and say how good its answers are.

--label names the column of what should have come out, --features the columns that fill INPUT, by position. Rows without
a label are left out, and so are those that get no answer; both are counted. The result is kept in the table
lakeflow.evaluations, which lakeflow models evaluations shows. docs/evaluation.md says what each metric is.

Examples:

  lakeflow models evaluate delay_classifier gold.departures --label late --features dep_hour,distance,carrier

  lakeflow models evaluate price gold.sales --label paid --features size,city --where "year = 2026" --plot price.png

  lakeflow models evaluate ticket_summary gold.tickets --label summary --features text --limit 200 --output json
"""
EVALUATIONS_HELP = """Show the evaluations so far, the last one first, all models and versions side by side.

Examples:

  lakeflow models evaluations

  lakeflow models evaluations delay_classifier --last 5
"""


class TaskName(StrEnum):
    """What the answers are measured as."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    CLUSTERING = "clustering"
    EMBEDDING = "embedding"
    TEXT_GENERATION = "text_generation"


def register(group: typer.Typer) -> None:
    """Add the verbs to the group `lakeflow models`."""
    group.command("evaluate", help=EVALUATE_HELP)(evaluate_verb)
    group.command("evaluations", help=EVALUATIONS_HELP)(evaluations_verb)


def evaluate_verb(
    model: Annotated[str, typer.Argument(help="The model.")],
    table: Annotated[str, typer.Argument(help="The table, namespace.table.")],
    features: Annotated[str, typer.Option("--features", help="Columns that fill INPUT, by position: a,b,c.")],
    label: Annotated[
        str, typer.Option("--label", help="The column of what should have come out; several, by commas, for several outputs.")
    ] = "",
    task: Annotated[TaskName | None, typer.Option("--task", help="Measure as this task, in place of the model's own.")] = None,
    prediction: Annotated[
        str,
        typer.Option("--prediction", help="The OUTPUT column held against the label; found by name and type without."),
    ] = "",
    probability: Annotated[
        str, typer.Option("--probability", help="The OUTPUT column of a classification's probability, or list of them.")
    ] = "",
    positive: Annotated[
        str | None, typer.Option("--positive", help="The label that a single probability is of; true or 1 without.")
    ] = None,
    classes: Annotated[str, typer.Option("--classes", help="The labels in the order of a list of probabilities: a,b,c.")] = "",
    threshold: Annotated[
        float, typer.Option("--threshold", help="The least probability that counts as the positive label.", min=0, max=1)
    ] = 0.5,
    where: Annotated[str | None, typer.Option("--where", help="Only rows that this condition in SQL is true of.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first rows.", min=1)] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw curves and confusion matrix, or predicted against actual: FILE.png.")
    ] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.models.evaluation.values import Question
    from lakeflow.models.spec import Task
    from lakeflow.observe.evaluations import record, rows_of
    from lakeflow.runner.evaluating import Rows, evaluate_model

    opened = open_project(project, target)
    question = Question(
        _names(label),
        _names(features),
        Task(task) if task else None,
        _names(prediction),
        _names(probability),
        positive,
        _names(classes),
        threshold,
    )
    with Bar("evaluate", limit) as bar, opened.models, _asked(opened, model, table):
        found = evaluate_model(opened, model, Rows(table, where, limit), question, picture=plot, on_rows=bar.advance)
    rows = rows_of(found)
    if output is Format.JSON:
        show_json(rows)
    else:
        for row in rows:
            _show(row)
        if len({row["version"] for row in rows}) > 1:
            _show_side_by_side(rows)
    for row in rows:
        _note_positive(row, positive)
    record(rows, opened.lake, opened.commits)
    if plot is not None:
        note(f"{plot} is written")


def evaluations_verb(
    model: Annotated[str | None, typer.Argument(help="Only of this model.")] = None,
    last: Annotated[int, typer.Option("--last", help="How many.", min=1, max=MOST)] = 20,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.observe.evaluations import recent_evaluations

    opened = open_project(project, target)
    rows = recent_evaluations(opened.lake, last=last, model=model)
    as_json = output is Format.JSON
    show_rows(rows if as_json else [_listed(row) for row in rows], COLUMNS, as_json=as_json)


@contextmanager
def _asked(project: Project, model: str, table: str) -> Iterator[None]:
    """What is asked within is recorded as a run, with what it cost; what is refused before any question is none."""
    from lakeflow.observe.runs import EVALUATION, Run, RunLog, Status

    run = Run(EVALUATION, model, table, "snapshot")
    refused: LakeflowError | None = None
    with RunLog(project.lake, project.commits, project.settings).recorded(run, even_empty=False):
        try:
            yield
        except LakeflowError as error:
            if not project.models.usage.of_run():
                run.status, refused = Status.EMPTY, error
            else:
                raise
        finally:
            run.usage, run.models = project.models.usage.of_run(), project.models.used
    if refused is not None:
        raise refused


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _listed(row: Row) -> Row:
    known = {name: row["metrics"].get(name) for name in HEADLINES}
    metrics = ", ".join(f"{name} {cell_text(value)}" for name, value in known.items() if value is not None)
    fingerprint = (row["fingerprint"] or "")[:FINGERPRINT]
    more = {"evaluated": row["evaluated_at"], "left out": row["left_out"], "fingerprint": fingerprint}
    return {**row, **more, "metrics": metrics}


def _show(row: Row) -> None:
    """An evaluation for people: what, how many rows, the metrics, the confusion matrix."""
    import json

    lacking = ("label", "feature", "answer")
    why = [f"{row[f'without_{what}']:,} without {what}" for what in lacking if row[f"without_{what}"]]
    left_out = f"{row['left_out']:,}" + (f" ({', '.join(why)})" if why else "")
    show_facts({name: _fact(name, row[name]) for name in FACTS} | {"left out": left_out})
    show_text("")
    show_facts(_counted(row["metrics"]))
    per_class: Mapping[str, Mapping[str, Any]] = json.loads(row["per_class"] or "{}")
    if 0 < len(per_class) <= MOST_CLASSES:
        show_text("")
        names = list(dict.fromkeys(name for values in per_class.values() for name in values))
        show_table([{"class": name, **_counted(values)} for name, values in per_class.items()], ["class", *names])
    if row["confusion_matrix"] is not None:
        _show_confusion(json.loads(row["confusion_matrix"]))
    show_text("")


def _show_side_by_side(rows: Sequence[Row]) -> None:
    """A line a metric, a column a version; by label where there are several."""
    several = len({row["label"] for row in rows}) > 1
    named = {
        f"{row['model']}${row['version']}{' ' + row['label'] if several else ''}": _counted(row["metrics"]) for row in rows
    }
    metrics = dict.fromkeys(name for values in named.values() for name in values)
    lines = [{"metric": name, **{column: values.get(name) for column, values in named.items()}} for name in metrics]
    show_table(lines, ["metric", *named])


def _counted(metrics: Mapping[str, float | None]) -> Mapping[str, float | int | None]:
    """Metrics with those that count something as whole numbers."""
    return {
        name: int(value) if value is not None and (name.endswith("rows") or name == "clusters") else value
        for name, value in metrics.items()
    }


def _note_positive(row: Row, positive: str | None) -> None:
    """Metrics of a label that no row bears say nothing, and it may be misspelt."""
    import json

    found = json.loads(row["per_class"] or "{}")
    if positive is not None and not found.get(positive, {}).get("rows"):
        note(f"no row has the label {positive!r} that --positive names; found: {', '.join(found)}")


def _fact(name: str, value: Any) -> Any:
    return str(value) if name == "snapshot_id" else value


def _show_confusion(confusion: Mapping[str, Sequence[Any]]) -> None:
    classes = confusion["classes"]
    if len(classes) > MOST_CLASSES:
        note(f"the confusion matrix of {len(classes):,} classes is in --output json and lakeflow.evaluations")
        return
    first = "label \\ prediction"
    show_text("")
    lines = [
        {first: label, **dict(zip(classes, counts, strict=True))}
        for label, counts in zip(classes, confusion["counts"], strict=True)
    ]
    show_table(lines, [first, *classes])
