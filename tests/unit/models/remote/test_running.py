"""A service in trouble, and what stands in for it: errors as columns, a fallback that waits for nothing, halves of any size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.errors import ModelError
from lakeflow.models.answering import Leniency
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.failing import Failed, with_told
from lakeflow.models.providers.http_errors import MOST_SHOWN
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.dialect import ErrorKind
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec, Task
from tests.services import virtual
from tests.services.carried import Carried, asker, questions, text_spec
from tests.services.http import Reply, Server
from tests.services.openai import KEY, OpenAI, error

LENIENT = Leniency(strict=False)
REPLACED = Leniency(strict=False, replaced=True)


@pytest.fixture
def service() -> OpenAI:
    return OpenAI()


@pytest.fixture
def server(service: OpenAI) -> Iterator[Server]:
    with Server(service) as server:
        yield server


def ask(models: ModelSet, *texts: str | None) -> list[dict[str, object]]:
    model = models.get("m")
    rows: list[dict[str, object]] = model.predict(pa.RecordBatch.from_pydict({"t": texts}, schema=model.spec.input)).to_pylist()
    return rows


def test_an_error_is_told_in_flinks_columns(server: Server, service: OpenAI) -> None:
    columns = [
        ("a", pa.string()),
        ("error-string", pa.string()),
        ("http-status-code", pa.int32()),
        ("http-headers-map", pa.map_(pa.string(), pa.list_(pa.string()))),
    ]
    spec = text_spec(server.url, on_error="ignore", max_concurrent_operations="1")
    spec = ModelSpec("m", "openai", spec.task, spec.input, pa.schema(columns), spec.options)
    refused = error(400, f"no {KEY}", "invalid_request_error", param="messages")
    told = Reply(refused.status, refused.body, {**refused.headers, "x-request-id": f"r-{KEY}", "set-cookie": "session=1"})
    service.scripted = [None, told]
    with ModelSet([spec]) as models:
        fine, failed = ask(models, "x", "y")
    assert fine == {"a": "X", "error-string": None, "http-status-code": None, "http-headers-map": None}
    assert failed["a"] is None
    assert failed["http-status-code"] == 400
    headers = dict(failed["http-headers-map"])  # type: ignore[call-overload]
    assert headers["x-request-id"] == ["r-***"]
    assert "set-cookie" not in headers
    assert KEY not in str(failed)


@pytest.mark.parametrize("kept", range(1, len(KEY)))
def test_a_message_that_is_cut_within_a_key_shows_no_part_of_it(server: Server, service: OpenAI, kept: int) -> None:
    told = "x" * (MOST_SHOWN - kept) + KEY
    service.scripted = [error(400, told, "invalid_request_error", param="messages")]
    with ModelSet([text_spec(server.url)]) as models, pytest.raises(ModelError) as caught:
        ask(models, "a")
    assert told[: MOST_SHOWN - kept] in str(caught.value)
    assert KEY[:3] not in str(caught.value)


def test_a_count_of_tokens_that_cannot_be_is_none(server: Server, service: OpenAI, tmp_path: Path) -> None:
    said = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10**300}}
    service.scripted = [Reply(200, json.dumps(said).encode())]
    answers = SqliteAnswers(tmp_path / "answers.db")
    with ModelSet([text_spec(server.url)], surroundings=Surroundings(answers=answers)) as models:
        assert ask(models, "x") == [{"a": "hi"}]
        assert models.usage.by_model()["m"].input_tokens == 0
    assert answers.stats()[0].tokens == 0


def test_neither_does_an_answer_of_another_shape(server: Server, service: OpenAI) -> None:
    broken = {"choices": [], "note": "x" * 270 + KEY}
    service.scripted = [Reply(200, json.dumps(broken).encode())] * 4
    with ModelSet([text_spec(server.url, retry_num="0")]) as models, pytest.raises(ModelError, match="broken_answer") as caught:
        ask(models, "a")
    assert KEY[:3] not in str(caught.value)


def test_a_row_that_nobody_asks_about_can_fail_alone(server: Server) -> None:
    given = {**text_spec(server.url).options, "null_policy": "error", "on_error": "ignore", "error_columns": "true"}
    plain = text_spec(server.url)
    spec = ModelSpec("m", "openai", plain.task, plain.input, with_told(plain.output, given), given)
    with ModelSet([spec]) as models:
        fine, failed = ask(models, "x", None)
    assert fine["a"] == "X"
    assert (failed["error_kind"], failed["error_message"]) == ("misfit", "INPUT 't' is null")


def test_a_fallback_is_another_model_of_the_same_service(server: Server, service: OpenAI) -> None:
    big = text_spec(server.url, fallback_model="small", retry_num="0")
    plain = text_spec(server.url, model="gpt-4.1-nano")
    small = ModelSpec("small", "openai", Task.TEXT_GENERATION, plain.input, plain.output, plain.options)
    service.scripted = [error(500, "down", "server_error"), None]
    with ModelSet([big, small]) as models:
        assert ask(models, "x") == [{"a": "X"}]
        assert [json.loads(one.body)["model"] for one in server.asked] == ["gpt-4.1-mini", "gpt-4.1-nano"]
        usage = models.usage.by_model()
        assert (usage["m"].failed, usage["m"].requests, usage["small"].requests) == (1, 1, 1)


def test_while_the_breaker_is_open_what_stands_in_is_not_kept_waiting() -> None:
    service = OpenAI(scripted=[error(503, "overloaded", "server_error")] * 10_000)

    async def waits() -> float:
        one = asker(Carried(service), circuit_breaker_failures="5", circuit_breaker_pause="60 s", retry_num="0")
        outcomes = await one.ask(questions(500), REPLACED)
        assert all(isinstance(outcome, Failed) and outcome.kind is ErrorKind.UNAVAILABLE for outcome in outcomes.values())
        return asyncio.get_running_loop().time()

    assert virtual.run(waits()) < 1.0
    assert sum(service.statuses.values()) < 20, "the service is let alone"


def test_a_service_that_comes_back_is_asked_again() -> None:
    service = OpenAI(scripted=[error(503, "overloaded", "server_error")] * 5)

    async def asked() -> int:
        one = asker(Carried(service), circuit_breaker_failures="5", circuit_breaker_pause="10 s", retry_num="0")
        await one.ask(questions(50), REPLACED)
        await asyncio.sleep(11)
        later = await one.ask({b"later": {"t": "later"}}, REPLACED)
        again = await one.ask({b"again": {"t": "again"}}, REPLACED)
        return sum(isinstance(outcome, tuple) for outcome in [*later.values(), *again.values()])

    assert virtual.run(asked()) == 2


@pytest.mark.parametrize(
    ("reply", "stands_in"),
    [
        (error(429, "spent", "insufficient_quota", code="insufficient_quota"), True),
        (error(401, "who", "invalid_request_error", code="invalid_api_key"), False),
        (error(404, "no such model", "invalid_request_error", code="model_not_found"), False),
    ],
)
def test_a_spent_quota_is_stood_in_for_and_a_wrong_declaration_is_not(reply: Reply, stands_in: bool) -> None:
    async def asked() -> None:
        one = asker(Carried(OpenAI(scripted=[reply])), max_concurrent_operations="1")
        if not stands_in:
            with pytest.raises(ModelError):
                await one.ask(questions(1), REPLACED)
            return
        [outcome] = (await one.ask(questions(1), REPLACED)).values()
        assert isinstance(outcome, Failed)
        assert outcome.kind is ErrorKind.QUOTA

    virtual.run(asked())


def test_without_anything_that_stands_in_a_spent_quota_fails_whatever_on_error_says() -> None:
    reply = error(429, "spent", "insufficient_quota", code="insufficient_quota")

    async def asked() -> None:
        with pytest.raises(ModelError, match="quota"):
            await asker(Carried(OpenAI(scripted=[reply]))).ask(questions(1), LENIENT)

    virtual.run(asked())


@pytest.mark.parametrize("bad", [[0], [7], [3, 4], [0, 15, 16, 31]])
def test_of_a_request_of_many_rows_only_those_that_are_refused_fail(server: Server, service: OpenAI, bad: list[int]) -> None:
    output = pa.schema([("v", pa.list_(pa.float32()))])
    given = {"endpoint": f"{server.url}/v1", "api_key": KEY, "model": "text-embedding-3-small", "batch_size": "16"}
    spec = ModelSpec("m", "openai", Task.EMBEDDING, text_spec().input, output, {**given, "on_error": "ignore"})
    service.most_inputs = 8
    texts = [f"REFUSE ME {place}" if place in bad else f"row {place}" for place in range(32)]
    with ModelSet([spec]) as models:
        rows = ask(models, *texts)
    assert [place for place, row in enumerate(rows) if row["v"] is None] == bad
