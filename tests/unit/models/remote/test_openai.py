"""Provider openai against a server that answers as the service does, over real connections."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import ConfigError, DeclarationError, Interrupted, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.predict import bound, ml_predict
from lakeflow.models.providers.openai import OpenAIProvider
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Budget, Price, Usage
from tests.services.http import Reply, Server
from tests.services.openai import KEY, OpenAI, error, limited
from tests.unit.models.remote.asking import TEXT, VECTOR, ask, bodies, declared, opened

ORDER = pa.schema(
    [
        pa.field("vendor", pa.string(), nullable=False),
        ("total", pa.decimal128(10, 2)),
        ("paid", pa.bool_()),
        ("day", pa.date32()),
        ("lines", pa.list_(pa.struct([("sku", pa.string()), ("count", pa.int32())]))),
    ]
)


@pytest.fixture
def service() -> OpenAI:
    return OpenAI()


def spec_of(server: Server, task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> ModelSpec:
    given = {"provider": "openai", "task": task, "endpoint": f"{server.url}/v1", "api-key": KEY, "model": "gpt-4.1-mini"}
    return declared({**given, **options}, output)


def test_a_text_is_answered_with_a_text_and_each_option_goes_out(server: Server) -> None:
    options = {"temperature": "0.5", "max-tokens": "9", "seed": "7", "stop": "X, Y", "top_p": "1"}
    model = opened(spec_of(server, **options, system_prompt="Be brief.", prompt="Say {{{t}}} twice: {t}"))
    assert ask(model, "a") == [{"t": "SAY {A} TWICE: A"}]
    assert bodies(server) == [
        {
            "model": "gpt-4.1-mini",
            "temperature": 0.5,
            "top_p": 1.0,
            "max_tokens": 9,
            "seed": 7,
            "stop": ["X", "Y"],
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say {a} twice: a"}],
        }
    ]


def test_equal_questions_are_asked_once_and_nulls_never(server: Server) -> None:
    model = opened(spec_of(server))
    assert ask(model, "a", None, "b", "a", "a") == [{"t": "A"}, {"t": None}, {"t": "B"}, {"t": "A"}, {"t": "A"}]
    assert len(server.asked) == 2


def test_equal_questions_of_calls_at_the_same_time_are_asked_once(server: Server, service: OpenAI, tmp_path: Path) -> None:
    service.latency = 0.2
    for store in (None, SqliteAnswers(tmp_path / "a.db")):
        before = len(server.asked)
        model = opened(spec_of(server, system_prompt=str(store is None)), Surroundings(answers=store))
        threads = [threading.Thread(target=ask, args=(model, "a", "b", str(number))) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.asked) - before == 8


def test_typed_outputs_come_by_a_strict_schema(server: Server) -> None:
    [row] = ask(opened(spec_of(server, output=ORDER)), "an order")
    assert set(row) == set(ORDER.names)
    response_format = bodies(server)[0]["response_format"]
    assert response_format["json_schema"]["strict"] is True
    properties = response_format["json_schema"]["schema"]["properties"]
    assert properties["vendor"] == {"type": "string"}
    assert properties["total"] == {"type": ["number", "null"]}
    assert properties["lines"]["items"]["required"] == ["sku", "count"]


def test_a_service_without_schemas_is_told_in_words_and_its_answers_are_checked_all_the_same(server: Server) -> None:
    output = pa.schema([("label", pa.string()), ("score", pa.float64())])
    options = {"response_format": "json_object", "labels": "good, bad"}
    [row] = ask(opened(spec_of(server, "classification", output, **options)), "x")
    assert row["label"] in ("good", "bad")
    assert "JSON schema" in bodies(server)[0]["messages"][0]["content"]
    with pytest.raises(ModelError, match=r"broken_answer: the answer has 'label', which OUTPUT does not declare"):
        ask(opened(spec_of(server, "regression", pa.schema([("price", pa.float64())]), response_format="json_object")), "x")


def test_labels_bind_a_classification(server: Server) -> None:
    model = opened(spec_of(server, "classification", pa.schema([("label", pa.string())]), labels="good, bad"))
    assert {row["label"] for row in ask(model, *"abcdefgh")} == {"good", "bad"}


def test_vectors_come_in_the_order_of_their_texts_and_blank_texts_have_none(server: Server) -> None:
    model = opened(spec_of(server, "embedding", VECTOR, batch_size="3", dimensions="5"))
    rows = ask(model, "a", "", "b", None, "c", "d", "a")
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [5, None, 5, None, 5, 5, 5]
    assert rows[0] == rows[6]
    assert sorted(body["input"] for body in bodies(server)) == [["a", "b", "c"], ["d"]]


def test_a_request_that_is_too_large_is_halved_and_so_are_those_after_it(server: Server, service: OpenAI) -> None:
    service.most_inputs = 3
    model = opened(spec_of(server, "embedding", VECTOR, batch_size="16", max_concurrent_operations="1"))
    texts = [f"text {number}" for number in range(40)]
    assert all(row["v"] for row in ask(model, *texts))
    assert [len(body["input"]) for body in bodies(server)][:3] == [16, 8, 4]
    assert all(len(body["input"]) <= 2 for body in bodies(server)[3:])
    assert service.answered == dict.fromkeys(texts, 1)


def test_one_bad_row_does_not_lose_the_answers_of_the_others(server: Server, service: OpenAI) -> None:
    model = opened(spec_of(server, "embedding", VECTOR, on_error="ignore", error_columns="true"))
    rows = ask(model, "a", "REFUSE ME", "b", "c")
    assert [row["v"] is None for row in rows] == [False, True, False, False]
    assert [row["error_kind"] for row in rows] == [None, "refused", None, None]
    assert rows[1]["error_message"] == "HTTP 400: '$.input' is invalid."
    assert service.answered == {"a": 1, "b": 1, "c": 1}


def test_what_was_answered_before_a_failure_is_not_asked_again(server: Server, service: OpenAI, tmp_path: Path) -> None:
    surroundings = Surroundings(answers=SqliteAnswers(tmp_path / "a.db"))
    spec = spec_of(server, max_concurrent_operations="2")
    texts = [*map(str, range(20)), "REFUSE ME", *map(str, range(20, 40))]
    with pytest.raises(ModelError, match="refused"):
        ask(opened(spec, surroundings), *texts)
    assert 20 <= sum(service.answered.values()) < 40
    service.refused_text = "nothing"
    again = Surroundings(answers=SqliteAnswers(tmp_path / "a.db"))
    assert len(ask(opened(spec, again), *texts)) == 41
    assert set(service.answered.values()) == {1}
    assert again.usage.by_model()["m"].cached >= 20


def test_a_cache_knows_a_change_of_the_model_and_not_of_its_speed(server: Server, tmp_path: Path) -> None:
    store = SqliteAnswers(tmp_path / "a.db")
    for options in ({}, {"temperature": "0.1"}, {"timeout": "9 s"}, {"temperature": "0.10", "max_concurrent_operations": "3"}):
        ask(opened(spec_of(server, **options), Surroundings(answers=store)), "a")
    assert len(server.asked) == 2
    ask(opened(spec_of(server, cache="off"), Surroundings(answers=store)), "a")
    assert len(server.asked) == 3


def test_answers_of_another_shape_are_asked_for_again_and_then_an_error(server: Server, service: OpenAI) -> None:
    broken = Reply(200, b'{"choices": [{"finish_reason": "stop", "message": {"content": 5}}], "usage": {"prompt_tokens": 7}}')
    service.scripted = [broken]
    usage = Usage()
    assert ask(opened(spec_of(server), Surroundings(usage)), "a") == [{"t": "A"}]
    assert usage.by_model()["m"].input_tokens == 7 + 6, "a broken answer is paid for"
    service.scripted = [broken] * 9
    with pytest.raises(ModelError, match=r"broken_answer: the answer has no choices\[0\]"):
        ask(opened(spec_of(server)), "b")
    assert len(server.asked) == 2 + 4


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ({"finish_reason": "length", "message": {"content": '{"vendor'}}, "truncated"),
        ({"finish_reason": "content_filter", "message": {"content": ""}}, "refused"),
        ({"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot help with that."}}, "refused"),
    ],
)
def test_what_a_model_does_not_say_is_named(server: Server, service: OpenAI, choice: dict[str, Any], kind: str) -> None:
    service.scripted = [Reply(200, json.dumps({"choices": [choice]}).encode())]
    with pytest.raises(ModelError, match=f"model 'm': {kind}: "):
        ask(opened(spec_of(server, output=ORDER)), "a")


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (error(401, "Incorrect API key provided: sk-test-4f1c9a7e2b8d.", "invalid_request_error"), "unauthorized", ModelError),
        (error(403, "no", "permission_error"), "unauthorized", ModelError),
        (error(404, "The model does not exist", "invalid_request_error", code="model_not_found"), "misused", ModelError),
        (error(400, "bad", "invalid_request_error", param="model"), "misused", ModelError),
        (error(400, "bad", "invalid_request_error", param="messages"), "refused", ModelError),
        (error(400, "long", "invalid_request_error", code="context_length_exceeded"), "too_large", ModelError),
        (error(429, "Request too large for gpt-x", "tokens", code="rate_limit_exceeded"), "too_large", ModelError),
        (error(429, "pay", "insufficient_quota", code="insufficient_quota"), "quota", ModelError),
        (limited(), "rate_limited", ProviderUnavailable),
        (error(500, "down", "server_error"), "unavailable", ProviderUnavailable),
        (Reply(502, b"<html>Bad Gateway</html>"), "unavailable", ProviderUnavailable),
        (Reply(302, b"", {"location": "https://elsewhere"}), "misused", ModelError),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b"{}" * 50, stall=9.0), "timeout", ProviderUnavailable),
        (Reply(400, b'{"object":"error","message":"too long","code":400}'), "refused", ModelError),
        (Reply(422, b'{"detail":"no such field"}'), "refused", ModelError),
    ],
)
def test_each_error_has_its_kind(server: Server, service: OpenAI, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask(opened(spec_of(server, retry_num="0", request_timeout="200 ms")), "a")
    assert KEY not in str(caught.value)
    assert getattr(caught.value, "next_step", None)


def test_what_would_fail_every_row_is_no_rows_error(server: Server, service: OpenAI) -> None:
    service.scripted = [error(401, "no", "invalid_request_error")] * 9
    with pytest.raises(ModelError, match="unauthorized"):
        ask(opened(spec_of(server, on_error="ignore", max_concurrent_operations="1")), *"abcdefgh")
    assert len(server.asked) == 1


def test_a_signal_stops_within_a_moment_and_keeps_what_came(server: Server, service: OpenAI, tmp_path: Path) -> None:
    service.latency = 0.05
    store = SqliteAnswers(tmp_path / "a.db")
    surroundings = Surroundings(answers=store, stop=lambda: len(service.answered) > 10)
    with ModelSet([spec_of(server)], surroundings=surroundings) as models, bound(models):
        frame = ml_predict(pl.LazyFrame({"t": [str(number) for number in range(1000)]}), "m", ["t"])
        with pytest.raises(Interrupted, match="stopped by a signal"):
            frame.collect()
    assert 10 < len(service.answered) < 200
    assert store.stats()[0].answers > 0


def test_closing_leaves_no_connection(server: Server) -> None:
    models = ModelSet([spec_of(server)])
    ask(models.get("m"), "a")
    models.close()
    with pytest.raises(ModelError, match="closed"):
        ask(Model(models.specs["m"], OpenAIProvider(models.specs["m"])), "a")


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: OpenAI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, on_error="ignore", error_columns="true")
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    service.scripted = [error(400, f"you sent {KEY}", "invalid_request_error", param="messages"), None]
    rows = ask(model, "a", "b")
    provider = OpenAIProvider(spec)
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [repr(spec), str(spec), str(rows), caplog.text, repr(provider.identity()), kept]
    assert [text for text in texts if KEY in text] == []
    assert "***" in str(rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperatur": "1"}, "did you mean 'temperature'"),
        ({"temperature": "9"}, "valid: a number from 0 to 2"),
        ({"timeout": "5"}, "valid: a duration with its unit"),
        ({"on_error": "skipp"}, "did you mean 'skip'"),
        ({"error_columns": "true"}, "needs 'on_error' = 'ignore'"),
        ({"cache": "maybe"}, "valid: on, off"),
        ({"prompt": "{tt}"}, "unknown INPUT column in option 'prompt'"),
        ({"prompt": "{t} }"}, "lone '}' at character 5"),
        ({"prompt": "hello"}, "names no INPUT column"),
        ({"endpoint": "ftp://x"}, "is no address"),
        ({"endpoint": "http://ex..ample/v1"}, "is no address"),
        ({"endpoint": f"http://{'a' * 64}.example/v1"}, "is no address"),
        ({"endpoint": "http://exa mple/v1"}, "is no address"),
        ({"endpoint": "https://me:pw@host/v1"}, "without user and query"),
        ({"max_tokens": "5", "max_completion_tokens": "5"}, "mean the same"),
        ({"labels": "a"}, "goes with task 'classification'"),
        ({"batch_size": "5"}, "unknown option"),
        ({"task": "clustering"}, "unknown task"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(server: Server, options: dict[str, str], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, **options)
    assert said in str(caught.value)
    assert KEY not in str(caught.value)


def test_an_output_that_json_cannot_hold_is_refused(server: Server) -> None:
    with pytest.raises(DeclarationError, match="which an answer of JSON cannot hold"):
        spec_of(server, output=pa.schema([("b", pa.binary())]))
    with pytest.raises(DeclarationError, match="OUTPUT of task 'embedding' is one column"):
        spec_of(server, "embedding", TEXT)


def test_the_service_itself_needs_a_key() -> None:
    declared = ModelDeclaration("m", TEXT, TEXT, {"provider": "openai", "task": "text_generation", "model": "gpt-4.1-mini"})
    with pytest.raises(DeclarationError, match="'api_key' is missing"):
        ModelSpec.from_declaration(declared, Path())


def test_a_limited_cost_needs_a_price_and_takes_one_from_either_place(server: Server) -> None:
    def under_a_limit(prices: dict[str, Price], **options: str) -> Usage:
        surroundings = Surroundings(Usage(Budget(cost=1.0)), prices=prices)
        ask(opened(spec_of(server, **options), surroundings), "a b c")
        return surroundings.usage

    with pytest.raises(ConfigError, match=r"needs the price of 'gpt-4\.1-mini'"):
        under_a_limit({})
    assert under_a_limit({"gpt-4.1-mini": Price(1.0, 10.0)}).by_model()["m"].cost == pytest.approx(18e-6)
    assert under_a_limit({}, price_input="2", price_output="20").by_model()["m"].cost == pytest.approx(36e-6)
