"""The committed models do what the files beside them say, run by the project's own declarations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from waves import DATA

from lakeflow.config import load_settings
from lakeflow.models.predict import bound
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec
from lakeflow.runner.load import Declarations, load_project
from tests.unit.examples.conftest import REPOSITORY

MODELS = REPOSITORY / "examples" / "flights" / "models"


def figures(path: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((MODELS / path).read_text())
    return read


@pytest.fixture(scope="module")
def project() -> Declarations:
    return load_project(load_settings(REPOSITORY, None, {}))


@pytest.fixture(scope="module")
def models(project: Declarations) -> Iterator[ModelSet]:
    with ModelSet(ModelSpec.from_declaration(one, REPOSITORY) for one in project.models.values()) as models, bound(models):
        yield models


def test_the_jobs_read_tables_that_are_declared_or_made(project: Declarations) -> None:
    made = {job.target for job in project.jobs.values()}
    assert {table for job in project.jobs.values() for table in job.reads} <= made | set(project.tables)
    assert {index.table for index in project.indexes.values()} <= made


def test_scored_flights_of_january_have_the_auc_that_training_wrote_down(project: Declarations, models: ModelSet) -> None:
    tables = {name: pl.scan_parquet(DATA / f"{name}.parquet") for name in ("flights", "weather", "carriers")}
    scored = project.jobs["score_flights"].function(**tables).collect()
    flights = pl.read_parquet(DATA / "flights.parquet")
    same = ["time_hour", "carrier", "flight", "origin", "dest"]
    assert scored.select(same).equals(flights.select(same))
    assert scored["late_probability"].is_between(0, 1).all()
    assert scored["carrier_name"].null_count() == 0
    assert auc(scored) == pytest.approx(figures("delay.json")["january_auc"], abs=1e-4)


def auc(scored: pl.DataFrame) -> float:
    """Mann and Whitney's statistic, ties counted half."""
    left = scored.drop_nulls("dep_delay").with_columns(pl.col("late_probability").rank("average").alias("place"))
    late = left.filter(pl.col("dep_delay") > 15)
    return float(
        (float(late["place"].sum()) - late.height * (late.height + 1) / 2) / (late.height * (left.height - late.height))
    )


def test_the_classifier_beats_its_baselines_on_held_out_months() -> None:
    written = figures("delay.json")
    assert written["held_out_auc"] == written["held_out_auc_of_candidates"][written["model"]]
    assert written["held_out_auc"] > max(written["held_out_auc_of_baselines"].values()) + 0.05
    assert max(written["validation_auc"], key=written["validation_auc"].get) == written["model"]
    assert written["onnx_difference"] <= 1e-5


def test_no_feature_is_unknown_before_departure(project: Declarations) -> None:
    assert project.models["delay_classifier"].input.names == figures("delay.json")["features"]
    unknown = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"}
    assert not unknown & set(figures("delay.json")["features"])


def test_the_weather_is_that_of_the_hour_before(project: Declarations) -> None:
    hour = pl.datetime(2013, 1, 1, 12, time_zone="UTC")
    flights = pl.select(hour.alias("time_hour"), origin=pl.lit("JFK"), hour=7, minute=30, year=2013, month=1, day=1).lazy()
    seen = {"humid": 50.0, "wind_speed": 5.0, "wind_gust": None, "precip": 0.0, "visib": 3.0}
    weather = pl.concat(
        pl.select(hour.dt.offset_by(by).alias("time_hour"), origin=pl.lit("JFK")).with_columns(
            *(pl.lit(value, pl.Float64).alias(name) for name, value in (seen | {"visib": miles}).items())
        )
        for by, miles in (("-1h", 3.0), ("0h", 9.0))
    ).lazy()
    with_features = project.jobs["score_flights"].function.__globals__["with_features"]
    row = with_features(flights, weather).collect().to_dicts()
    assert len(row) == 1
    assert {name: row[0][name] for name in ("visib", "wind_gust", "dep_hour", "day_of_week")} == {
        "visib": 3.0,
        "wind_gust": 0.0,
        "dep_hour": 7.5,
        "day_of_week": 2,
    }


@pytest.mark.parametrize(("path", "most"), [("delay.onnx", 2_000_000), ("docs-embedding", 10_000_000)])
def test_the_files_are_small(path: str, most: int) -> None:
    assert sum(file.stat().st_size for file in [MODELS / path, *(MODELS / path).rglob("*")] if file.is_file()) < most


def test_the_embedding_beats_tfidf_where_its_quality_file_says_so() -> None:
    written = figures("docs-embedding/quality.json")
    for task in ("name", "name, kept", "first sentence"):
        assert written["held_out"][task]["recall@10"] > written["held_out_of_tfidf"][task]["recall@10"]
    best = max(written["tried_mean_mrr"], key=lambda tried: tried["mean_mrr"])
    assert {name: best[name] for name in written["setting"]} == written["setting"]
    assert written["bytes"] == (MODELS / "docs-embedding" / "model.onnx").stat().st_size


QUESTIONS = {
    "delay execution for a number of seconds": "time.sleep. sleep(seconds) Delay execution for a given number of seconds.",
    "turn an object into a JSON string": "json.dumps. Serialize obj to a JSON formatted str.",
    "send a signal to a process": "os.kill. Kill a process with a signal.",
}


def test_a_question_is_nearest_to_its_own_answer(models: ModelSet) -> None:
    texts = [*QUESTIONS, *QUESTIONS.values(), "", "数据"]
    vectors = embedded(models, texts)
    assert [sum(x * x for x in vector) for vector in vectors] == pytest.approx([1.0] * len(texts), abs=1e-5)
    near = [[sum(x * y for x, y in zip(q, d, strict=True)) for d in vectors[3:6]] for q in vectors[:3]]
    assert [row.index(max(row)) for row in near] == [0, 1, 2]


def test_a_text_without_words_is_near_to_nothing(models: ModelSet) -> None:
    nothing, *others = embedded(models, ["", *QUESTIONS.values()])
    assert [sum(x * y for x, y in zip(nothing, other, strict=True)) for other in others] == pytest.approx([0.0] * 3, abs=1e-3)


def test_a_vector_does_not_depend_on_the_texts_beside_it(models: ModelSet) -> None:
    alone, beside = embedded(models, ["send a signal"]), embedded(models, ["send a signal", "x " * 400])
    assert alone[0] == pytest.approx(beside[0], abs=1e-6)


def embedded(models: ModelSet, texts: list[str]) -> list[list[float]]:
    model = models.get("docs_embedding")
    answers = model.predict(pa.RecordBatch.from_pydict({"text": texts}, schema=model.spec.input))
    vectors: list[list[float]] = answers.column("embedding").to_pylist()
    return vectors


def test_the_folder_is_laid_out_as_sentence_transformers_publish() -> None:
    folder = MODELS / "docs-embedding"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "modules.json",
        "1_Pooling/config.json",
        "config.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "model.onnx",
    } <= names
    width = json.loads((folder / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"]
    assert width == figures("docs-embedding/quality.json")["setting"]["width"]
    assert Path(folder / "tokenizer.json").stat().st_size > 0
