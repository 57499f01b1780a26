"""lakeflow: a batch-and-stream job runner for a lakehouse on Apache Iceberg.

import lakeflow as lf

@lf.job(target="gold.scored_flights")
def score_flights(flights=lf.Read("bronze.flights")):
    return lf.ml_predict(flights, "delay_classifier", ["dep_hour", "distance", "carrier"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lakeflow.dimension import History
from lakeflow.expect import fresh, in_range, no_rows, not_null, one_of, references, row_count, satisfies, unique
from lakeflow.job import Job, Lookup, Mode, Output, Read, job
from lakeflow.lookup import LookupFile, LookupPostgres
from lakeflow.window import Cumulate, Hop, Session, Tumble
from lakeflow.within import Within

if TYPE_CHECKING:
    from lakeflow.models.evaluation.evaluate import ml_evaluate as ml_evaluate
    from lakeflow.models.predict import ml_embed as ml_embed
    from lakeflow.models.predict import ml_predict as ml_predict
    from lakeflow.runner.project import Project as Project
    from lakeflow.runner.splitting import split as split
    from lakeflow.runner.vector_search import vector_search as vector_search

__all__ = [
    "Cumulate",
    "History",
    "Hop",
    "Job",
    "Lookup",
    "LookupFile",
    "LookupPostgres",
    "Mode",
    "Output",
    "Project",
    "Read",
    "Session",
    "Tumble",
    "Within",
    "fresh",
    "in_range",
    "job",
    "ml_embed",
    "ml_evaluate",
    "ml_predict",
    "no_rows",
    "not_null",
    "one_of",
    "references",
    "row_count",
    "satisfies",
    "split",
    "unique",
    "vector_search",
]

_LOADED_WHEN_ASKED_FOR = {
    "Project": "lakeflow.runner.project",
    "ml_embed": "lakeflow.models.predict",
    "ml_evaluate": "lakeflow.models.evaluation.evaluate",
    "ml_predict": "lakeflow.models.predict",
    "split": "lakeflow.runner.splitting",
    "vector_search": "lakeflow.runner.vector_search",
}


def __getattr__(name: str) -> Any:
    """Names that need Polars and more are loaded when they are first used, so that `import lakeflow` stays cheap."""
    if name not in _LOADED_WHEN_ASKED_FOR:
        raise AttributeError(f"module 'lakeflow' has no attribute {name!r}")
    return getattr(import_module(_LOADED_WHEN_ASKED_FOR[name]), name)


def __dir__() -> list[str]:
    return __all__
