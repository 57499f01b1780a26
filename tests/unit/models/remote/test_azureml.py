"""Provider azureml against a server that answers as an online endpoint does, with a model behind a gateway."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.providers.azureml import AzureMLProvider
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from tests.services.azureml import KEY, AzureML, model_error, plain
from tests.services.deployed import POISON
from tests.services.http import Reply, Server
from tests.unit.models.remote.asking import TEXT, VECTOR, ask_rows, declared, opened

FEATURES = pa.schema([("hour", pa.int64()), ("distance", pa.float64())])
SCORES = pa.schema([("label", pa.string()), ("score", pa.float64())])
ROWS: dict[str, list[Any]] = {"hour": [1, 2, 3], "distance": [1.5, 2.5, 3.5]}


@pytest.fixture
def service() -> AzureML:
    return AzureML()


def spec_of(
    server: Server,
    /,
    model: str = "scores",
    task: str = "classification",
    given: pa.Schema = FEATURES,
    output: pa.Schema = SCORES,
    **options: str,
) -> ModelSpec:
    place = {"provider": "azureml", "task": task, "endpoint": f"{server.url}/{model}/score", "api-key": KEY}
    return declared({**place, **options}, output, given)


def test_rows_go_out_in_the_form_of_mlflow(server: Server) -> None:
    rows = ask_rows(opened(spec_of(server, parameters='{"threshold": 0.5}')), ROWS)
    assert [set(row) for row in rows] == [{"label", "score"}] * 3
    data = {"columns": ["hour", "distance"], "index": [0, 1, 2], "data": [[1, 1.5], [2, 2.5], [3, 3.5]]}
    assert json.loads(server.asked[0].body) == {"input_data": data, "params": {"threshold": 0.5}}


@pytest.mark.parametrize("written", ["records", "json-array", "pandas_dataframe", "instances", "csv"])
def test_other_forms_give_the_same_answers(server: Server, written: str) -> None:
    assert ask_rows(opened(spec_of(server, input_format=written)), ROWS) == ask_rows(opened(spec_of(server)), ROWS)


def test_an_answer_that_a_script_wrote_as_a_text_of_json_is_read(server: Server) -> None:
    assert ask_rows(opened(spec_of(server, "wrapped")), ROWS) == ask_rows(opened(spec_of(server)), ROWS)


def test_a_deployment_is_named_in_a_header_and_is_another_model(server: Server, service: AzureML) -> None:
    assert spec_of(server).fingerprint() != spec_of(server, deployment="green").fingerprint()
    ask_rows(opened(spec_of(server, deployment="green")), ROWS)
    assert service.deployments == {"green": 1}
    with pytest.raises(ModelError, match="misused: HTTP 404: The specified deployment could not be found"):
        ask_rows(opened(spec_of(server, deployment="grene")), ROWS)


def test_texts_are_generated_and_embedded(server: Server) -> None:
    text = spec_of(server, "generate", "text_generation", TEXT, TEXT, outputs="[].generated_text:t", input_format="text")
    assert ask_rows(opened(text), {"t": ["a", None]}) == [{"t": "A"}, {"t": None}]
    vectors = spec_of(server, "embed", "embedding", TEXT, VECTOR, batch_size="8", input_format="text")
    rows = ask_rows(opened(vectors), {"t": ["a", " ", "b"]})
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [4, None, 4]


def test_a_row_over_which_the_model_fails_does_not_lose_the_others(server: Server) -> None:
    rows: dict[str, list[Any]] = {"hour": list(range(5)), "distance": [1.0, 2.0, POISON, 4.0, 5.0]}
    answers = ask_rows(opened(spec_of(server, on_error="ignore", error_columns="true", retry_num="0")), rows)
    assert [row["score"] is None for row in answers] == [False, False, True, False, False]
    assert answers[2]["error_message"] == "HTTP 424: the model answered 500: ValueError: negative distance in score.py line 31"


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (plain(401, "key_auth_access_denied"), "unauthorized", ModelError),
        (plain(403, "no"), "unauthorized", ModelError),
        (plain(404, "no deployment with traffic"), "misused", ModelError),
        (plain(408, "request_timeout_ms"), "timeout", ProviderUnavailable),
        (plain(409, "upstream conflict"), "unavailable", ProviderUnavailable),
        (plain(413, "long"), "too_large", ModelError),
        (plain(429, "Too many pending requests"), "rate_limited", ProviderUnavailable),
        (plain(400, "bad"), "refused", ModelError),
        (plain(500, "down"), "unavailable", ProviderUnavailable),
        (plain(503, "scaling"), "unavailable", ProviderUnavailable),
        (model_error(400, "bad row"), "refused", ModelError),
        (model_error(413, "long"), "too_large", ModelError),
        (model_error(429, "busy"), "rate_limited", ProviderUnavailable),
        (model_error(500, "raised"), "broken_answer", ModelError),
        (model_error(503, "loading"), "unavailable", ProviderUnavailable),
        (model_error(504, "slow"), "timeout", ProviderUnavailable),
        (Reply(424, b""), "broken_answer", ModelError),
        (Reply(502, b"<html>"), "unavailable", ProviderUnavailable),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b'"no JSON within"'), "broken_answer", ModelError),
        (Reply(200, b'"[1, 2"'), "broken_answer", ModelError),
        (Reply(200, b'[{"label": null, "score": "high"}]'), "broken_answer", ModelError),
        (Reply(200, b"{}" * 50, stall=9.0), "timeout", ProviderUnavailable),
    ],
)
def test_each_error_has_its_kind(server: Server, service: AzureML, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    model = opened(spec_of(server, retry_num="0", request_timeout="200 ms" if reply.stall else "30 s"))
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask_rows(model, {"hour": [1], "distance": [1.0]})
    assert KEY not in str(caught.value)
    assert getattr(caught.value, "next_step", None)


@pytest.mark.parametrize(("headers", "seconds"), [({"retry-after": "2"}, 2.0), ({"retry-after-ms": "250"}, 0.25), ({}, None)])
def test_a_wait_that_is_asked_for_is_read(server: Server, headers: dict[str, str], seconds: float | None) -> None:
    provider = AzureMLProvider(spec_of(server))
    assert provider._dialect.blame(429, headers, b"slow").retry_after == seconds
    assert provider._dialect.blame(404, headers, b"gone").retry_after is None


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: AzureML, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, on_error="ignore", error_columns="true", batch_size="1", max_concurrent_operations="1")
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    service.scripted = [model_error(400, f"you sent {KEY}"), None]
    rows = ask_rows(model, ROWS)
    provider = AzureMLProvider(spec)
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [
        repr(spec),
        str(spec),
        str(rows),
        caplog.text,
        repr(provider.identity()),
        kept,
        repr(provider._dialect.__dict__["_place"]),
    ]
    assert [text for text in texts if KEY in text] == []
    assert "***" in str(rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deploymnt": "blue"}, "did you mean 'deployment'"),
        ({"endpoint_name": "x"}, "unknown option"),
        ({"input_format": "input data"}, "did you mean 'input_data'"),
        ({"deployment": "a\nb"}, "characters that no header takes"),
        ({"parameters": '{"a": 1}', "input_format": "records"}, "has no place for 'parameters'"),
        ({"outputs": "predictions[].label:label"}, "says nothing of OUTPUT 'score'"),
        ({"task": "translation"}, "unknown task"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(server: Server, options: dict[str, str], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, **options)
    assert said in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_key": KEY}, "option 'endpoint' is missing"),
        ({"api_key": KEY, "endpoint": "late.westeurope.inference.ml.azure.com/score"}, "is no address"),
        ({"endpoint": "https://late.westeurope.inference.ml.azure.com/score"}, "option 'api_key' is missing"),
    ],
)
def test_an_endpoint_and_a_key_are_needed(options: dict[str, str], said: str) -> None:
    declared = ModelDeclaration("m", FEATURES, SCORES, {"provider": "azureml", "task": "classification", **options})
    with pytest.raises(DeclarationError) as caught:
        ModelSpec.from_declaration(declared, Path())
    assert said in str(caught.value)
    assert KEY not in str(caught.value)
