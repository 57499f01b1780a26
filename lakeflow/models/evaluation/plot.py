"""An evaluation as a picture, by matplotlib: curves and a confusion matrix, or predicted against actual numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lakeflow.errors import ConfigError, StorageFull, UsageError
from lakeflow.models.evaluation.text import INSTALL
from lakeflow.models.evaluation.values import Confusion, Line
from lakeflow.models.spec import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lakeflow.models.evaluation.evaluate import Evaluation

KINDS = (".png", ".svg", ".pdf")
TASKS = (Task.CLASSIFICATION, Task.REGRESSION)
PANEL_INCHES = 5.0
MOST_CELLS = 20
"""Classes whose counts are written into a confusion matrix; of more, it shows colours alone."""
MOST_NAMES = 60
MOST_LINES = 12
"""Curves that are drawn and named; those of the first classes."""


def check_plot(file: Path, task: Task) -> None:
    """Before any row is read: raises UsageError for a file that cannot be meant or a task that has no picture,
    ConfigError where matplotlib is not installed."""
    if task not in TASKS:
        raise UsageError(f"--plot draws a {' or a '.join(TASKS)}; the task is '{task}'")
    if file.suffix.lower() not in KINDS:
        raise UsageError(f"--plot {str(file)!r}: a picture is one of {', '.join(KINDS)}")
    if not file.resolve().parent.is_dir():
        raise UsageError(f"--plot {str(file)!r}: there is no folder {file.resolve().parent}")
    try:
        import matplotlib.figure  # noqa: F401  whether it can be used is known now, not once the model was asked
    except ImportError as error:
        raise ConfigError(f"a plot needs matplotlib; {error.name} is not installed", next_step=INSTALL) from error


def plot(evaluations: Sequence[Evaluation], file: Path) -> None:
    """Write a row of panels an evaluation. Raises StorageFull where the file cannot be written."""
    from matplotlib.figure import Figure

    rows = len(evaluations)
    panels = max(_panels(one) for one in evaluations)
    figure = Figure(figsize=(PANEL_INCHES * panels, PANEL_INCHES * rows), layout="constrained")
    for axes, one in zip(figure.subplots(rows, panels, squeeze=False), evaluations, strict=True):
        _draw(list(axes), one)
    try:
        figure.savefig(file, format=file.suffix[1:].lower())
    except OSError as error:
        raise StorageFull(f"the plot {str(file)!r} cannot be written: {error.strerror}") from error


def _panels(one: Evaluation) -> int:
    if one.result.confusion is None:
        return 1
    return 3 if one.target.probability is not None else 1


def _draw(axes: list[Axes], one: Evaluation) -> None:
    title = f"{one.spec.name}, {one.target.label}, {one.rows:,} rows"
    if one.result.confusion is None:
        _draw_actual(axes[0], one.result.actual, title)
    else:
        _draw_confusion(axes[0], one.result.confusion, title)
    if _panels(one) > 1:
        _draw_lines(axes[1], one.result.rocs, "ROC", ("false positives", "true positives"))
        axes[1].plot([0, 1], [0, 1], color="grey", linestyle=":")
        _draw_lines(axes[2], one.result.precisions, "precision and recall", ("recall", "precision"))
    for unused in axes[_panels(one) :]:
        unused.set_axis_off()


def _draw_lines(axes: Axes, lines: Sequence[Line], title: str, names: tuple[str, str]) -> None:
    for line in lines[:MOST_LINES]:
        axes.plot(line.x, line.y, label=line.name)
    axes.set(title=title, xlabel=names[0], ylabel=names[1], xlim=(0, 1), ylim=(0, 1.02))
    if lines:
        axes.legend(loc="lower right" if title == "ROC" else "lower left")


def _draw_confusion(axes: Axes, confusion: Confusion, title: str) -> None:
    counts = np.array(confusion.counts)
    axes.imshow(counts, cmap="Blues")
    axes.set(title=title, xlabel="prediction", ylabel="label")
    if len(confusion.classes) <= MOST_NAMES:
        places = range(len(confusion.classes))
        axes.set_xticks(places, confusion.classes, rotation=90)
        axes.set_yticks(places, confusion.classes)
    if len(confusion.classes) <= MOST_CELLS:
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts.max() / 2
            axes.text(column, row, f"{count:,}", ha="center", va="center", color="white" if dark else "black")


def _draw_actual(axes: Axes, points: Line | None, title: str) -> None:
    axes.set(title=title, xlabel="actual", ylabel="predicted")
    if points is None:
        return
    axes.scatter(points.x, points.y, s=6, alpha=0.4, linewidths=0)
    low, high = float(min(points.x.min(), points.y.min())), float(max(points.x.max(), points.y.max()))
    axes.plot([low, high], [low, high], color="grey", linestyle=":")
