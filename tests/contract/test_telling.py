"""What every provider keeps that tells of single rows why they have no answer, and so does one that is asked in halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pyarrow as pa
import pytest

from lakeflow.errors import LakeflowError
from lakeflow.models.answering import Answers
from lakeflow.models.providers.base import Provider
from lakeflow.models.providers.openai import OpenAIProvider
from lakeflow.models.registry import Model
from lakeflow.models.spec import ModelSpec, Task
from tests.failing import Failing, Strict, spec_of
from tests.services.carried import text_spec
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI

BAD = "REFUSE ME"
Ask = Callable[[str, list[bool]], Answers]
"""By 'on_error', a row for each, of which some are bad."""


def _fake(kind: type[Failing] | type[Strict], stack: ExitStack) -> Ask:
    def ask(on_error: str, bad: list[bool]) -> Answers:
        spec = spec_of(on_error=on_error)
        provider: Provider = kind(spec, lambda x: x < 0)
        rows = [-1.0 - place if one else float(place) for place, one in enumerate(bad)]
        return Model(spec, provider).answer(pa.RecordBatch.from_pydict({"x": rows}, schema=spec.input))

    return ask


def _remote(task: Task, stack: ExitStack) -> Ask:
    url = stack.enter_context(Server(OpenAI())).url

    def ask(on_error: str, bad: list[bool]) -> Answers:
        spec = text_spec(url, on_error=on_error)
        if task is Task.EMBEDDING:
            options = {"endpoint": f"{url}/v1", "api_key": KEY, "model": "text-embedding-3-small", "on_error": on_error}
            spec = ModelSpec("m", "openai", task, spec.input, pa.schema([("v", pa.list_(pa.float32()))]), options)
        provider = OpenAIProvider(spec)
        provider.check()
        stack.callback(provider.close)
        texts = [f"{BAD} {place}" if one else f"row {place}" for place, one in enumerate(bad)]
        return Model(spec, provider).answer(pa.RecordBatch.from_pydict({"t": texts}, schema=spec.input))

    return ask


CASES: list[Callable[[ExitStack], Ask]] = [
    lambda stack: _fake(Failing, stack),
    lambda stack: _fake(Strict, stack),
    lambda stack: _remote(Task.TEXT_GENERATION, stack),
    lambda stack: _remote(Task.EMBEDDING, stack),
]


@pytest.fixture(params=CASES, ids=["told", "in halves", "chat", "embeddings"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    with ExitStack() as stack:
        yield request.param(stack)


@pytest.mark.parametrize("bad", [[0, 1, 0, 0], [1], [1, 1, 1], [0, 0, 0], [1, 0, 1, 0, 1, 0, 0, 0, 0, 1], []])
@pytest.mark.parametrize("on_error", ["ignore", "skip", "dead_letter"])
def test_bad_rows_are_told_and_the_others_answered(ask: Ask, on_error: str, bad: list[int]) -> None:
    told = ask(on_error, [bool(one) for one in bad])
    assert [told.rows.column(0)[place].as_py() is None for place in range(len(bad))] == [bool(one) for one in bad]
    assert list(told.failed) == [place for place, one in enumerate(bad) if one]
    assert all(one.message for one in told.failed.values())


def test_by_default_one_bad_row_is_an_error(ask: Ask) -> None:
    with pytest.raises(LakeflowError, match=r"model 'm'|does not fit"):
        ask("fail", [False, True, False])
    assert not ask("fail", [False, False]).failed
