"""Provider python: the life of a class, its options, its rows and what becomes of its failures."""

from __future__ import annotations

import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, LakeflowError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.providers.python import PythonProvider
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec
from tests.unit.models.classes import GIVEN, SUM, answers, opened, spec, write

NAN = float("nan")


def made(root: Path, source: str, name: str = "Mine", **options: str) -> tuple[PythonProvider, ModelSpec]:
    write(root, source)
    declared = spec(root, f"models.mine:{name}", **options)
    return opened(declared), declared


def test_a_class_of_the_project_answers(tmp_path: Path) -> None:
    provider, declared = made(tmp_path, SUM, "Sum")
    assert answers(provider, declared, a=[1.0, 2.5], b=[1, 2]) == [{"score": 2.0}, {"score": 4.5}]


def test_nulls_and_nan_are_not_asked_unless_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, SUM)
    rows = {"a": [1.0, None, NAN, 4.0], "b": [1, 2, 3, None]}
    declared = spec(tmp_path)
    assert [row["score"] for row in answers(opened(declared), declared, **rows)] == [2.0, None, None, None]
    declared = spec(tmp_path, null_policy="ask")
    asked = [row["score"] for row in answers(opened(declared), declared, **rows)]
    assert asked[:2] == [2.0, None]
    assert np.isnan(float(str(asked[2])))
    declared = spec(tmp_path, null_policy="error", batch_size="2")
    with pytest.raises(ModelError, match=r"INPUT 'a' is null in row 2 of those handed over") as caught:
        answers(opened(declared), declared, a=[1.0, 2.0, NAN], b=[1, 2, 3])
    assert caught.value.next_step is not None


def test_a_list_with_a_hole_in_it_is_a_missing_value(tmp_path: Path) -> None:
    source = """
        class Mine:
            def predict(self, rows):
                return [sum(one) for one in rows.column(0).to_pylist()]
    """
    write(tmp_path, source)
    vectors = [[1.0, 2.0], None, [None, 1.0], [NAN, 1.0], [3.0, 4.0]]
    for kind in (pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 2)):
        declared = spec(tmp_path, "models.mine:Mine", {"v": kind})
        given = pa.RecordBatch.from_pydict({"v": [[9.0, 9.0], *vectors]}, schema=declared.input).slice(1)
        assert opened(declared).predict(given).column(0).to_pylist() == [3.0, None, None, None, 7.0]


def test_the_class_gets_no_more_rows_than_batch_size_and_never_none(tmp_path: Path) -> None:
    source = """
        class Mine:
            def predict(self, rows):
                return [float(rows.num_rows)] * rows.num_rows
    """
    provider, declared = made(tmp_path, source, batch_size="3")
    rows = answers(provider, declared, a=[0.0, 0.0, 0.0, None, None, None, 0.0], b=[0] * 7)
    assert [row["score"] for row in rows] == [3.0, 3.0, 3.0, None, None, None, 1.0]
    assert answers(provider, declared, a=[], b=[]) == []


def test_load_and_close_are_called_once_each_time(tmp_path: Path) -> None:
    source = """
        class Mine:
            def __init__(self, diary: str):
                self.diary = diary
                self.note("made")

            def note(self, word):
                with open(self.diary, "a") as file:
                    file.write(word + " ")

            def load(self):
                self.note("loaded")

            def predict(self, rows):
                return [0.0] * rows.num_rows

            def close(self):
                self.note("closed")
    """
    provider, _ = made(tmp_path, source, diary=str(tmp_path / "diary"))
    provider.check()
    provider.close()
    provider.close()
    provider.check()
    provider.close()
    assert (tmp_path / "diary").read_text().split() == ["made", "loaded", "closed"] * 2


OVERLAP = """
    import threading
    import time

    class Mine:
        thread_safe = {safe}

        def __init__(self):
            self.inside = 0
            self.most = 0
            self.meet = threading.Barrier(2)

        def predict(self, rows):
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.thread_safe:
                self.meet.wait(30)
            else:
                time.sleep(0.05)
            most = self.most
            self.inside -= 1
            return [float(most)] * rows.num_rows
"""


@pytest.mark.parametrize(("safe", "most"), [(False, 1.0), (True, 2.0)])
def test_one_thread_at_a_time_unless_the_class_says_otherwise(tmp_path: Path, safe: bool, most: float) -> None:
    provider, declared = made(tmp_path, OVERLAP.format(safe=safe))
    before = threading.active_count()
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda _: answers(provider, declared, a=[0.0], b=[0])[0]["score"], range(2))
        assert max(map(float, map(str, found))) == most
    assert threading.active_count() == before


TYPED = """
    from __future__ import annotations

    from pathlib import Path
    from typing import Optional

    class Mine:
        def __init__(self, weights: Path, factor: float = 1.0, *, times: int = 1, up: bool = True,
                     label: str | None = None, plain="x", other: Optional[int] = None):
            self.said = dict(weights=weights.read_text(), factor=factor, times=times, up=up)
            self.said |= dict(label=label, plain=plain, other=other)

        def predict(self, rows):
            return [repr(self.said)] * rows.num_rows
"""


def typed(root: Path, **options: str) -> ModelSpec:
    write(root, TYPED)
    (root / "w.txt").write_text("heavy")
    return spec(root, "models.mine:Mine", output={"said": pa.string()}, task="text_generation", **options)


def test_options_become_what_the_constructor_asks_for(tmp_path: Path) -> None:
    declared = typed(tmp_path, weights="w.txt", factor="2", times="-3", up="no", label="5", plain="6", other="7")
    said = answers(opened(declared), declared, a=[0.0], b=[0])[0]["said"]
    assert said == "{'weights': 'heavy', 'factor': 2.0, 'times': -3, 'up': False, 'label': '5', 'plain': '6', 'other': 7}"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weights": "w.txt", "facto": "1"}, UnknownName, "did you mean 'factor'"),
        ({"weights": "w.txt", "factor": "nan"}, DeclarationError, "'factor' is 'nan'; valid: a number"),
        ({"weights": "w.txt", "times": "1.5"}, DeclarationError, "'times' is '1.5'; valid: a whole number"),
        ({"weights": "w.txt", "up": "maybe"}, DeclarationError, "valid: true, false"),
        ({}, DeclarationError, "'weights' is missing, which the constructor of 'Mine' needs"),
        ({"weights": "none.txt"}, ModelError, "none.txt is not there"),
    ],
)
def test_a_slip_in_the_options_of_a_class_is_refused(
    tmp_path: Path, options: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match="model 'm'") as caught:
        opened(typed(tmp_path, **options))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("place", "options", "error", "words"),
    [
        ("", {}, DeclarationError, "'class' is missing"),
        ("models/mine.py:Sum", {}, DeclarationError, "valid: 'models.risk:Risk'"),
        ("models.mine:Sum", {"batch-size": "0"}, DeclarationError, "'batch_size' is '0'"),
        ("models.mine:Sum", {"null-policy": "nul"}, DeclarationError, "did you mean 'null'"),
    ],
)
def test_a_declaration_is_judged_without_importing(
    tmp_path: Path, place: str, options: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        spec(tmp_path, place, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("models.other:Sum", "models/other.py is not there"),
        ("models.mine:Summ", "'Summ' is not there in models.mine; did you mean 'Sum'?"),
        ("models.mine:pc", "'pc' is no class"),
        ("models.mine:Odd", "has no method predict"),
        ("models.mine:Strange", "the constructor's parameter 'words' is list[str]; valid: str, int, float, bool, Path"),
        ("models.mine:Unread", "cannot be read: name 'Missing' is not defined"),
    ],
)
def test_a_class_that_does_not_fit_is_refused(tmp_path: Path, place: str, words: str) -> None:
    more = """
    class Odd:
        pass

    class Strange(Sum):
        def __init__(self, words: list[str] = ()):
            pass

    class Unread(Sum):
        def __init__(self, words: "Missing" = ""):
            pass
    """
    write(tmp_path, SUM + more)
    options = {"words": "a"} if "Strange" in place or "Unread" in place else {}
    with pytest.raises(ModelError) as caught:
        opened(spec(tmp_path, place, **options))
    assert words in str(caught.value)


def test_open_ended_options_come_as_texts(tmp_path: Path) -> None:
    source = """
        class Mine:
            def __init__(self, **rest):
                self.rest = rest

            def predict(self, rows):
                return [float(self.rest["factor"])] * rows.num_rows
    """
    provider, declared = made(tmp_path, source, factor="3")
    assert answers(provider, declared, a=[0.0], b=[0]) == [{"score": 3.0}]


FAILING = """
    from lakeflow.errors import ProviderUnavailable

    class Mine:
        def __init__(self, where: str):
            self.where = where
            self.fail("constructor")

        def fail(self, place):
            if self.where == place:
                raise ValueError("broken in " + place)
            if self.where == place + " exits":
                raise SystemExit(2)
            if self.where == place + " is busy":
                raise ProviderUnavailable("come back later")

        def load(self):
            self.fail("load")

        def identity(self):
            self.fail("identity")
            return {}

        def predict(self, rows):
            self.fail("predict")
            return [0.0] * rows.num_rows

        def close(self):
            self.fail("close")
"""


def run(root: Path, where: str) -> None:
    write(root, FAILING)
    declared = spec(root, "models.mine:Mine", where=where)
    provider = opened(declared)
    provider.identity()
    answers(provider, declared, a=[0.0], b=[0])
    provider.close()


@pytest.mark.parametrize("where", ["constructor", "load", "identity", "predict", "close"])
def test_what_a_class_raises_names_its_own_file_and_line(tmp_path: Path, where: str) -> None:
    with pytest.raises(ModelError) as caught:
        run(tmp_path, where)
    assert f"class 'models.mine:Mine' failed in {'its ' if where == 'constructor' else ''}{where}" in str(caught.value)
    assert f"models/mine.py:10: ValueError: broken in {where}" in str(caught.value)
    cause = caught.value.__cause__
    assert cause is not None
    shown = "".join(traceback.format_exception(type(cause), cause, cause.__traceback__))
    assert "models/mine.py" in shown
    assert "lakeflow/models" not in shown


def test_an_exit_is_a_failure_and_errors_of_the_tree_pass(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SystemExit: 2"):
        run(tmp_path, "predict exits")
    with pytest.raises(ProviderUnavailable, match="come back later"):
        run(tmp_path, "predict is busy")
    run(tmp_path, "nowhere")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import json\nimport not_installed_anywhere\n", "models/mine.py:2: ModuleNotFoundError: No module named 'not_in"),
        ("x = (1,\n", "models/mine.py:1: SyntaxError: '(' was never closed"),
        ("pass\nraise SystemExit\n", "models/mine.py:2: SystemExit"),
        ("from models import broken\n", "models/broken.py:3: ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_imported_names_the_line_at_fault(tmp_path: Path, source: str, words: str) -> None:
    write(tmp_path, source)
    write(tmp_path, "# one\n# two\n1 / 0\n", "models/broken.py")
    with pytest.raises(ModelError, match="could not be imported") as caught:
        opened(spec(tmp_path))
    assert words in str(caught.value)


def test_no_secret_is_in_an_identity_or_a_message(tmp_path: Path) -> None:
    source = """
        class Mine:
            def __init__(self, api_key: str, secret_number: int = 0):
                pass

            def predict(self, rows):
                return [0.0] * rows.num_rows
    """
    write(tmp_path, source)
    one, other = (spec(tmp_path, "models.mine:Mine", api_key=key) for key in ("hush", "quiet"))
    assert one.fingerprint() == other.fingerprint()
    assert "hush" not in str(PythonProvider(one).identity())
    with pytest.raises(LakeflowError) as caught:
        opened(spec(tmp_path, "models.mine:Mine", api_key="hush", secret_number="whisper"))
    assert "whisper" not in str(caught.value)


IMPORTING = """
    from models.shared import FACTOR
    from pathlib import Path

    class Mine:
        def __init__(self, weights: Path = Path(), factor: float = 1.0):
            pass

        def identity(self):
            return {"factor": FACTOR}

        def predict(self, rows):
            return [float(FACTOR)] * rows.num_rows
"""


def test_the_fingerprint_follows_code_what_it_imports_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    seen: list[str] = []

    def look(**options: str) -> None:
        seen.append(spec(tmp_path, "models.mine:Mine", **options).fingerprint())

    write(tmp_path, "FACTOR = 1\n", "models/shared.py")
    write(tmp_path, IMPORTING)
    weights = write(tmp_path, "1", "weights/a.txt")
    look()
    look(factor="2")
    look(weights="weights")
    weights.write_text("2")
    look(weights="weights")
    look(weights="weights/a.txt")
    look(null_policy="ask")
    write(tmp_path, "FACTOR = 2\n", "models/shared.py")
    look()
    write(tmp_path, IMPORTING + "    # a change\n")
    look()
    assert len(set(seen)) == len(seen)
    same = spec(tmp_path, "models.mine:Mine", batch_size="7").fingerprint()
    assert same == seen[-1]


def test_a_changed_file_answers_anew_in_the_same_process(tmp_path: Path) -> None:
    write(tmp_path, "FACTOR = 1\n", "models/shared.py")
    first, declared = made(tmp_path, IMPORTING)
    write(tmp_path, "FACTOR = 2\n", "models/shared.py")
    second = opened(declared)
    found = [answers(provider, declared, a=[0.0], b=[0])[0]["score"] for provider in (first, second)]
    assert found == [1.0, 2.0]
    assert first.identity() != second.identity()


def test_a_package_is_named_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, SUM, "site/scoring_kit/sums.py")
    write(tmp_path, "Name: scoring-kit\nVersion: 1.2\n", "site/scoring_kit-1.2.dist-info/METADATA")
    points = "[lakeflow.models]\nsums = scoring_kit.sums:Sum\nnone = scoring_kit.sums:pc\n"
    write(tmp_path, points, "site/scoring_kit-1.2.dist-info/entry_points.txt")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    declared = spec(tmp_path, "sums")
    provider = opened(declared)
    assert answers(provider, declared, a=[1.0], b=[2]) == [{"score": 3.0}]
    identity = provider.identity()
    assert identity["package"] == "scoring-kit 1.2"
    assert identity["code"] == tmp_path / "site" / "scoring_kit" / "sums.py"
    with pytest.raises(UnknownName, match=r"group lakeflow.models 'sum'; did you mean 'sums'\?"):
        opened(spec(tmp_path, "sum"))
    with pytest.raises(ModelError, match="which is no class"):
        opened(spec(tmp_path, "none"))
    for name in [one for one in sys.modules if one.startswith("scoring_kit")]:
        monkeypatch.delitem(sys.modules, name)


def test_an_answer_of_null_where_output_says_not_null_is_refused(tmp_path: Path) -> None:
    write(tmp_path, SUM)
    declared = spec(tmp_path, output=pa.schema([pa.field("score", pa.float64(), nullable=False)]))
    provider = opened(declared)
    assert answers(provider, declared, a=[1.0], b=[2]) == [{"score": 3.0}]
    with pytest.raises(ModelError, match="OUTPUT 'score' is NOT NULL, and 1 rows have no answer"):
        answers(provider, declared, a=[1.0, None], b=[2, 2])


def test_a_task_without_its_output_is_refused(tmp_path: Path) -> None:
    write(tmp_path, SUM)
    for task, needed in (("embedding", "exactly one column, ARRAY<FLOAT>"), ("clustering", "a column of INT")):
        with pytest.raises(ModelError, match=f"task '{task}' needs {needed}"):
            opened(spec(tmp_path, task=task))


LEARNED = """
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LinearRegression, LogisticRegression

    X = np.random.default_rng(3).normal(size=(200, 2))

    class Fitted:
        def matrix(self, rows):
            return np.column_stack([column.to_numpy() for column in rows.columns])

    class Late(Fitted):
        def load(self):
            self.model = LogisticRegression().fit(X, X[:, 0] + X[:, 1] > 0)

        def predict(self, rows):
            given = self.matrix(rows)
            return {"late": self.model.predict(given), "probability": self.model.predict_proba(given)[:, 1]}

    class Delay(Fitted):
        def load(self):
            self.model = LinearRegression().fit(X, (X @ [[2.0], [3.0]]) + 1)

        def predict(self, rows):
            return self.model.predict(self.matrix(rows))

    class Kind(Fitted):
        def load(self):
            self.model = KMeans(2, n_init=1, random_state=0).fit(X)

        def predict(self, rows):
            return self.model.predict(self.matrix(rows))

    class Place(Fitted):
        def predict(self, rows):
            return self.matrix(rows).astype(np.float32)
"""


@pytest.mark.parametrize(
    ("name", "task", "output"),
    [
        ("Late", "classification", {"late": pa.bool_(), "probability": pa.float64()}),
        ("Delay", "regression", {"minutes": pa.float32()}),
        ("Kind", "clustering", {"cluster": pa.int64()}),
        ("Place", "embedding", {"v": pa.list_(pa.float32(), 2)}),
    ],
)
def test_models_of_scikit_learn_answer_each_task(tmp_path: Path, name: str, task: str, output: dict[str, pa.DataType]) -> None:
    write(tmp_path, LEARNED)
    declared = spec(tmp_path, f"models.mine:{name}", {"x": pa.float64(), "y": pa.float64()}, output, task, batch_size="2")
    rows = answers(opened(declared), declared, x=[2.0, None, -2.0, 0.5], y=[2.0, 1.0, -2.0, 0.25])
    assert set(rows[1].values()) == {None}
    match name:
        case "Late":
            assert [row["late"] for row in rows] == [True, None, False, True]
        case "Delay":
            assert [row["minutes"] for row in rows] == [pytest.approx(11.0), None, pytest.approx(-9.0), pytest.approx(2.75)]
        case "Kind":
            assert rows[0]["cluster"] != rows[2]["cluster"]
        case _:
            assert rows[3]["v"] == [0.5, 0.25]


def test_only_the_rows_that_a_class_fails_on_have_no_answer_where_that_is_said(tmp_path: Path) -> None:
    source = """
        class Mine:
            def predict(self, rows):
                return [1.0 / value for value in rows.column("a").to_pylist()]
    """
    write(tmp_path, source)
    declared = spec(tmp_path, "models.mine:Mine", on_error="ignore", error_columns="true")
    rows = pa.RecordBatch.from_pydict({"a": [2.0, 0.0, 4.0, None], "b": [0] * 4}, schema=declared.input)
    with ModelSet([declared]) as models:
        answered = models.get("m").predict(rows).to_pylist()
    assert [row["score"] for row in answered] == [0.5, None, 0.25, None]
    assert "models/mine.py:3: ZeroDivisionError" in answered[1]["error_message"]
    assert [row["error_message"] is None for row in answered] == [True, False, True, True]


def test_models_are_listed_without_importing_their_classes(tmp_path: Path) -> None:
    write(tmp_path, "raise RuntimeError('imported')\n")
    assert spec(tmp_path).name == "m"
    assert set(GIVEN) == {"a", "b"}
