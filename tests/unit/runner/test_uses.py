# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
"""The models that a job's code names."""

from __future__ import annotations

import lakeflow as lf
from lakeflow.job import Job
from lakeflow.runner.uses import models_named

MODELS = ("classifier", "embedder")


@lf.job(target="a.b")
def direct(rows=lf.Read("x.y")):
    return lf.ml_predict(rows, "classifier", ["a"])


def helper(rows):
    return lf.ml_embed(rows, model="embedder", column="text")


@lf.job(target="a.b")
def by_a_function_of_the_file(rows=lf.Read("x.y")):
    return next(helper(one) for one in (rows,))


@lf.job(target="a.b")
def only_a_word(rows=lf.Read("x.y")):
    return rows.with_columns(kind="classifier")


@lf.job(target="a.b")
def other_words(rows=lf.Read("x.y")):
    return lf.ml_predict(rows, "put_together_elsewhere", ["a"])


def named(job: Job) -> tuple[str, ...]:
    return models_named(job, MODELS)


def test_models_are_found_where_they_are_named() -> None:
    assert named(direct) == ("classifier",)
    assert named(by_a_function_of_the_file) == ("embedder",)


def test_a_word_alone_is_no_use_of_a_model() -> None:
    assert named(only_a_word) == ()
    assert named(other_words) == ()
