"""`lakeflow models evaluate` and `evaluations`, on the example's delay model over the flights of January."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from matplotlib.image import imread
from sklearn import metrics as reference

from lakeflow.declare import TableSpec
from lakeflow.models.predict import bound, ml_predict
from tests import lakes
from tests.integration.cli.conftest import CONFIG, REPOSITORY, Shop

FLIGHTS = REPOSITORY / "examples" / "flights"
JOB = runpy.run_path(str(REPOSITORY / "jobs" / "score_flights.py"))
FEATURES = ",".join(JOB["FEATURES"])
TABLE = "gold.departures"
QUALITY = f"""
import lakeflow as lf

@lf.job(target="gold.quality", mode="snapshot")
def quality(departures=lf.Read("gold.departures")):
    return lf.ml_evaluate(departures, "delay_classifier", "late", {JOB["FEATURES"]}).lazy()
"""
ASK = ("models", "evaluate", "delay_classifier", TABLE, "--label", "late", "--features", FEATURES)


@pytest.fixture(scope="module")
def departures() -> pl.DataFrame:
    """January's flights with the model's features and what came of them; those that were cancelled have no label."""
    flights, weather = (pl.scan_parquet(FLIGHTS / "data" / f"{name}.parquet") for name in ("flights", "weather"))
    frame: pl.LazyFrame = JOB["with_features"](flights, weather)
    late = pl.col("dep_delay") > 15
    word = pl.when(late).then(pl.lit("late")).when(late.not_()).then(pl.lit("in time"))
    return frame.select("day", *JOB["FEATURES"], "dep_delay", late.alias("late"), word.alias("word")).collect()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, departures: pl.DataFrame) -> Path:
    """The project, made once: the table is copied into each test's own."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "tables").mkdir()
    (folder / "jobs").mkdir()
    (folder / "lakeflow.toml").write_text(CONFIG, encoding="utf-8")
    text = (REPOSITORY / "tables" / "models.sql").read_text(encoding="utf-8")
    (folder / "tables" / "models.sql").write_text(text.replace("examples/flights", str(FLIGHTS)), encoding="utf-8")
    (folder / "tables" / "later.sql").write_text("CREATE TABLE bronze.later (late BOOLEAN);", encoding="utf-8")
    (folder / "jobs" / "quality.py").write_text(QUALITY, encoding="utf-8")
    return folder


@pytest.fixture
def site(folder: Path, departures: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    shop = Shop(folder, capsys)
    lake = shop.project.lake
    if not lake.exists(TABLE):
        rows = departures.to_arrow()
        lake.ensure(TableSpec(TABLE, rows.schema))
        lakes.append(lake, rows, name=TABLE)
    yield shop
    if lake.exists("lakeflow.evaluations"):
        lake.catalog.purge_table("lakeflow.evaluations")
    shutil.rmtree(folder / "pictures", ignore_errors=True)


def test_the_delay_model_is_as_good_as_its_training_wrote_down(site: Shop, departures: pl.DataFrame) -> None:
    [row] = site.json(*ASK)
    assert row["metrics"]["roc_auc"] == pytest.approx(
        json.loads((FLIGHTS / "models" / "delay.json").read_text())["january_auc"], abs=1e-4
    )
    cancelled = departures["late"].null_count()
    assert cancelled > 500
    assert (row["rows"], row["left_out"], row["without_label"]) == (departures.height - cancelled, cancelled, cancelled)
    with site.project.models as models, bound(models):
        scored = ml_predict(departures.lazy().drop_nulls("late"), "delay_classifier", JOB["FEATURES"]).collect()
    truths, scores = scored["late"].to_numpy(), scored["late_probability"].to_numpy()
    expected = {
        "roc_auc": reference.roc_auc_score(truths, scores),
        "pr_auc": reference.average_precision_score(truths, scores),
        "log_loss": reference.log_loss(truths, y_proba=scores),
        "accuracy": reference.accuracy_score(truths, scores >= 0.5),
        "f1": reference.f1_score(truths, scores >= 0.5),
        "f1_macro": reference.f1_score(truths, scores >= 0.5, average="macro"),
    }
    assert {name: row["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert json.loads(row["confusion_matrix"])["counts"] == reference.confusion_matrix(truths, scores >= 0.5).tolist()


def test_it_is_kept_with_snapshot_and_fingerprint_and_listed(site: Shop) -> None:
    [row] = site.json(*ASK, "--limit", "2000")
    snapshot = site.project.lake.table(TABLE).current_snapshot()
    assert snapshot is not None
    assert row["snapshot_id"] == snapshot.snapshot_id
    assert row["fingerprint"] == site.json("models", "show", "delay_classifier")["fingerprint"]
    assert row["rows"] + row["left_out"] == row["limit"] == 2000
    site.json(*ASK, "--where", "day = 2 AND carrier = 'UA'")
    listed = site.json("models", "evaluations", "delay_classifier")
    assert [one["where"] for one in listed] == ["day = 2 AND carrier = 'UA'", None]
    assert listed[1] == row
    assert site.json("models", "evaluations", "--last", "1") == listed[:1]
    assert site.json("models", "evaluations", "docs_embedding") == []
    text = site("models", "evaluations").out
    assert row["fingerprint"][:12] in text
    assert f"roc_auc {row['metrics']['roc_auc']:.4g}" in text
    asked = site(
        "query", "SELECT metrics['roc_auc'] AS auc FROM lakeflow.evaluations ORDER BY evaluated_at", "--output", "json"
    )
    assert json.loads(asked.out.splitlines()[0])["auc"] == row["metrics"]["roc_auc"]


def test_a_condition_chooses_rows(site: Shop, departures: pl.DataFrame) -> None:
    wanted = departures.filter(pl.col("day") == 2, pl.col("carrier") == "UA")
    [row] = site.json(*ASK, "--where", "day = 2 AND carrier = 'UA' -- a remark")
    assert row["rows"] + row["left_out"] == wanted.height
    [few] = site.json(*ASK, "--where", "day = 2", "--limit", "10")
    assert few["rows"] + few["left_out"] == 10


def test_words_as_labels_and_another_threshold(site: Shop) -> None:
    ask = [*ASK[:4], "--label", "word", "--features", FEATURES, "--limit", "3000"]
    [row] = site.json(*ask, "--positive", "late", "--threshold", "0.3")
    [same] = site.json(*ASK, "--limit", "3000", "--threshold", "0.3")
    assert row["metrics"] == same["metrics"]
    assert json.loads(row["confusion_matrix"])["classes"] == ["late", "not late"]
    assert "no row has the label 'lat' that --positive names" in site(*ask, "--positive", "lat").err
    [half] = site.json(*ASK, "--limit", "3000")
    assert half["metrics"]["recall"] < row["metrics"]["recall"]


def test_people_are_shown_metrics_and_the_confusion_matrix(site: Shop) -> None:
    shown = site(*ASK, "--limit", "3000")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert any(line.startswith("roc_auc ") for line in lines)
    assert [line.split() for line in lines if line.startswith("score_rows")] == [["score_rows", "2,978"]]
    assert any(line.startswith("left out") and "without label" in line for line in lines)
    assert "label \\ prediction  false" in shown.out


def test_a_job_evaluates_as_the_command_does(site: Shop) -> None:
    [row] = site.json(*ASK)
    assert site("run", "quality").code == 0
    asked = site("query", "FROM gold.quality", "--output", "json")
    [made] = [json.loads(line) for line in asked.out.splitlines()]
    assert {name: made[name] for name in row["metrics"]} == row["metrics"]
    assert (made["rows"], made["left_out"], made["fingerprint"]) == (row["rows"], row["left_out"], row["fingerprint"])


def test_a_plot_is_written(site: Shop) -> None:
    folder = site.folder / "pictures"
    folder.mkdir()
    shown = site(*ASK, "--limit", "3000", "--plot", str(folder / "late.png"))
    assert shown.code == 0
    assert "late.png is written" in shown.err
    assert imread(folder / "late.png").shape[:2] == (500, 1500)
    refused = site(*ASK, "--plot", str(folder / "late.jpg"))
    assert refused.code == 2
    assert "a picture is one of .png" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models", "evaluate", "delay", TABLE], "unknown model 'delay'"),
        (["models", "evaluate", "delay_classifier$2", TABLE], "unknown version of model 'delay_classifier' '2'"),
        (["models", "evaluate", "delay_classifier", "gold.departure"], "unknown table 'gold.departure'; did you mean"),
        (
            ["models", "evaluate", "delay_classifier", "bronze.later"],
            "it is declared and holds nothing yet",
        ),
        (["models", "evaluate", "delay_classifier", TABLE, "--where", "dya = 1"], "dya"),
        (["models", "evaluate", "delay_classifier", TABLE, "--where", "day = 77"], "there is no row to evaluate"),
        (["models", "evaluate", "delay_classifier", TABLE, "--where", "late IS NULL"], "column 'late' is null in each"),
        (["models", "evaluate", "delay_classifier", TABLE, "--where", "day = 1) UNION (SELECT 1"], "error"),
        (["models", "evaluate", "delay_classifier", TABLE, "--task", "embedding"], "the task 'embedding' needs vectors"),
        (["models", "evaluate", "delay_classifier", TABLE, "--task", "regression"], "the task 'regression' needs numbers"),
        (["models", "evaluate", "delay_classifier", TABLE, "--prediction", "late_probability"], "it needs labels"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_kept(site: Shop, words: list[str], said: str) -> None:
    ran = site(*words, "--label", "late", "--features", FEATURES)
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""
    assert site.json("models", "evaluations") == []


@pytest.mark.parametrize(
    ("label", "features", "said"),
    [
        ("lat", FEATURES, "unknown column of gold.departures 'lat'; did you mean 'late'"),
        ("late", FEATURES.replace("carrier", "carier"), "unknown column of gold.departures 'carier'; did you mean 'carrier'"),
        ("dep_delay", FEATURES, "label 'dep_delay' is double; the task 'classification' needs labels"),
        ("word", FEATURES, "nothing says which value of label 'word' it is of"),
        ("late", "day", "takes 11 columns, given: 1"),
        ("", FEATURES, "needs a label"),
    ],
)
def test_columns_that_do_not_fit(site: Shop, label: str, features: str, said: str) -> None:
    ran = site("models", "evaluate", "delay_classifier", TABLE, "--label", label, "--features", features)
    assert ran.code == 2
    assert said in ran.err


def test_a_feature_of_another_type_is_a_failure_of_the_model(site: Shop) -> None:
    ran = site(*ASK[:6], "--features", FEATURES.replace("origin", "day"))
    assert ran.code == 1
    assert "such a cast is not made" in ran.err
