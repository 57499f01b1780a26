"""Pictures of evaluations."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import imread

from lakeflow.errors import ConfigError, StorageFull, UsageError
from lakeflow.models.evaluation.choose import targets
from lakeflow.models.evaluation.evaluate import Evaluation
from lakeflow.models.evaluation.plot import check_plot, plot
from lakeflow.models.evaluation.values import Answered, Bounds, Question
from lakeflow.models.spec import ModelSpec, Task
from tests.unit.models.evaluation.answers import NONE

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.random(200)
TRUTHS = RANDOM.random(200) < SCORES


def evaluation(task: Task, output: pa.Schema, label: pa.Array, answers: Sequence[pa.Array | None]) -> Evaluation:
    spec = ModelSpec("late", "echo", task, pa.schema([("x", pa.float64())]), output)
    [target] = targets(spec, pa.schema([("y", label.type), ("x", pa.float64())]), Question(("y",), ("x",)))
    measure = target.measure(Bounds())
    prediction, probability = answers
    measure.add(Answered(label, prediction, probability, NONE))
    return Evaluation(spec, "f", task, ("x",), target, len(label), 0, 0, 0, measure.result())


def late() -> Evaluation:
    probability = pa.array(SCORES)
    return evaluation(Task.CLASSIFICATION, pa.schema([("p", pa.float64())]), pa.array(TRUTHS), (None, probability))


def names(count: int) -> Evaluation:
    labels = pa.array([f"class {number}" for number in range(count)])
    return evaluation(Task.CLASSIFICATION, pa.schema([("g", pa.string())]), labels, (labels, None))


def number() -> Evaluation:
    answers = pa.array(SCORES + 0.1), None
    return evaluation(Task.REGRESSION, pa.schema([("p", pa.float64())]), pa.array(SCORES), answers)


@pytest.mark.parametrize(
    ("evaluations", "panels"),
    [([late()], (3, 1)), ([number()], (1, 1)), ([names(2)], (1, 1)), ([names(80)], (1, 1)), ([late(), names(3)], (3, 2))],
    ids=["curves", "regression", "two classes", "many classes", "two labels"],
)
def test_a_picture_has_a_panel_each(tmp_path: Path, evaluations: list[Evaluation], panels: tuple[int, int]) -> None:
    plot(evaluations, tmp_path / "p.png")
    height, width = imread(tmp_path / "p.png").shape[:2]
    assert (width, height) == (500 * panels[0], 500 * panels[1])


def test_the_words_of_the_picture(tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot([late()], tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text()
    for words in ("late, y, 200 rows", "ROC", "precision and recall", "prediction", "false positives", "true"):
        assert words in text


@pytest.mark.parametrize(
    ("file", "task", "words"),
    [
        ("p.png", Task.EMBEDDING, "draws a classification or a regression; the task is 'embedding'"),
        ("p.jpg", Task.REGRESSION, "a picture is one of .png, .svg, .pdf"),
        ("p", Task.REGRESSION, "a picture is one of"),
        ("no/such/p.png", Task.REGRESSION, "there is no folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(tmp_path: Path, file: str, task: Task, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_plot(tmp_path / file, task)
    check_plot(tmp_path / "p.png", Task.CLASSIFICATION)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "p.png").mkdir()
    with pytest.raises(StorageFull, match="cannot be written"):
        plot([late()], tmp_path / "p.png")


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="matplotlib is not installed") as caught:
        check_plot(tmp_path / "p.png", Task.REGRESSION)
    assert caught.value.next_step == 'pip install "lakeflow[evaluate]"'
