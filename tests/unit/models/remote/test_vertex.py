"""Provider vertex against a server that answers as Vertex AI and Google's token endpoint do, over real connections."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.fill import looks_secret
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.providers.vertex import VertexProvider
from lakeflow.models.providers.vertex_accounts import account_in
from lakeflow.models.providers.vertex_token import RenewedToken, Token
from lakeflow.models.registry import Model
from lakeflow.models.remote.dialect import Blame, ErrorKind
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Usage
from tests.services.google import TOKEN, Google, error, info, retry_info
from tests.services.google_tokens import METADATA, USER, key_file, refused_token
from tests.services.http import Reply, Server
from tests.unit.models.remote.asking import TEXT, VECTOR, ask, bodies, declared, opened

LABEL = pa.schema([("label", pa.string())])
SCORE = pa.schema([("score", pa.float64())])
ROW = pa.schema([("n", pa.int64()), ("t", pa.string())])
PLACE = {"project": "project-1", "location": "us-central1"}


@pytest.fixture
def service() -> Google:
    return Google()


@pytest.fixture
def server(service: Google) -> Iterator[Server]:
    with Server(service) as server:
        service.url = server.url
        yield server


def spec_of(
    server: Server,
    task: str = "text_generation",
    output: pa.Schema = TEXT,
    given: pa.Schema = TEXT,
    **options: str,
) -> ModelSpec:
    """As whom is said by `access_token`, where the options say nothing else."""
    fixed = {"provider": "vertex", "task": task, "endpoint": server.url, **PLACE}
    if not {"service_key", "service_account", "service_account_file", "access_token"}.intersection(options):
        fixed["access_token"] = TOKEN
    if "endpoint_id" not in options:
        fixed["model"] = "text-embedding-005" if task == "embedding" else "gemini-2.5-flash"
    return declared({**fixed, **options}, output, given)


def endpoint_spec(server: Server, task: str, output: pa.Schema, given: pa.Schema = ROW, **options: str) -> ModelSpec:
    return spec_of(server, task, output, given, endpoint_id="987", **options)


def score(model: Model, *rows: dict[str, object]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = model.predict(pa.RecordBatch.from_pylist(list(rows), model.spec.input)).to_pylist()
    return answers


def paths(server: Server) -> list[str]:
    return [asked.path for asked in server.asked]


def test_gemini_is_asked_at_the_place_of_the_project(server: Server) -> None:
    assert ask(opened(spec_of(server)), "a") == [{"t": "A"}]
    [row] = ask(opened(spec_of(server, "classification", LABEL, labels="good, bad", model="gemini-2.5-pro")), "a")
    assert row["label"] in ("good", "bad")
    start = "/v1/projects/project-1/locations/us-central1/publishers/google/models"
    assert paths(server) == [f"{start}/gemini-2.5-flash:generateContent", f"{start}/gemini-2.5-pro:generateContent"]
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/g"),
        (
            {"location": "global"},
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models/g",
        ),
        ({"location": "eu"}, "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/google/models/g"),
        (
            {"model": "endpoints/7", "api_version": "v1beta1"},
            "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/p/locations/us-central1/endpoints/7",
        ),
        (
            {"model": "projects/q/locations/l/endpoints/7"},
            "https://us-central1-aiplatform.googleapis.com/v1/projects/q/locations/l/endpoints/7",
        ),
    ],
)
def test_addresses_follow_the_location_and_the_model(options: dict[str, str], url: str) -> None:
    given = {"provider": "vertex", "task": "text_generation", "project": "p", "location": "us-central1", "model": "g"}
    declared = ModelDeclaration("m", TEXT, TEXT, {**given, "access_token": TOKEN, **options})
    spec = ModelSpec.from_declaration(declared, Path())
    assert VertexProvider(spec).identity()["url"] == f"{url}:generateContent"


def test_a_whole_address_needs_no_project(server: Server) -> None:
    url = f"{server.url}/v1/projects/p/locations/l"
    whole = {"provider": "vertex", "access_token": TOKEN}
    text = {**whole, "task": "text_generation", "endpoint": f"{url}/publishers/google/models/gemini-2.5-flash:generateContent"}
    assert ask(opened(ModelSpec.from_declaration(ModelDeclaration("m", TEXT, TEXT, text), Path())), "a") == [{"t": "A"}]
    deployed = {**whole, "task": "regression", "endpoint": f"{url}/endpoints/7:predict"}
    model = opened(ModelSpec.from_declaration(ModelDeclaration("m", ROW, SCORE, deployed), Path()))
    assert 0 <= score(model, {"n": 1, "t": "a"})[0]["score"] <= 1


def test_texts_are_embedded_by_predict_and_their_tokens_counted(server: Server) -> None:
    usage = Usage()
    options = {"batch_size": "3", "dimensions": "5", "task_type": "retrieval_document"}
    rows = ask(opened(spec_of(server, "embedding", VECTOR, **options), Surroundings(usage)), "a", "", "b b", None, "c", "d")
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [5, None, 5, None, 5, 5]
    assert sorted(len(body["instances"]) for body in bodies(server)) == [1, 3]
    assert bodies(server)[0]["instances"][0] == {"content": "a", "task_type": "RETRIEVAL_DOCUMENT"}
    assert bodies(server)[0]["parameters"] == {"autoTruncate": False, "outputDimensionality": 5}
    assert usage.by_model()["m"].input_tokens == 5


def test_models_named_after_gemini_are_embedded_by_their_own_calls(server: Server) -> None:
    one = opened(spec_of(server, "embedding", VECTOR, model="gemini-embedding-2", dimensions="3"))
    many = opened(spec_of(server, "embedding", VECTOR, model="gemini-embedding-2", batch_size="2", dimensions="3"))
    old = opened(spec_of(server, "embedding", VECTOR, model="gemini-embedding-001", embedding_api="predict", dimensions="3"))
    assert ask(one, "a", "b") == ask(many, "a", "b") == ask(old, "a", "b")
    calls = [path.rpartition(":")[2] for path in paths(server)]
    assert sorted(calls) == ["batchEmbedContents", "embedContent", "embedContent", "predict", "predict"]
    assert {path.split("/")[1] for path in paths(server)} == {"v1", "v1beta1"}
    config = {"outputDimensionality": 3, "autoTruncate": False}
    assert bodies(server)[0]["embedContentConfig"] == bodies(server)[2]["requests"][0]["embedContentConfig"] == config


def test_rows_are_instances_of_a_deployed_model(server: Server, service: Google) -> None:
    model = opened(endpoint_spec(server, "regression", SCORE, batch_size="2", parameters='{"threshold": 0.5}'))
    rows: list[dict[str, object]] = [{"n": 1, "t": "a"}, {"n": None, "t": "b"}, {"n": 2, "t": "c"}, {"n": 3, "t": "d"}]
    answers = score(model, *rows)
    assert [answer["score"] is None for answer in answers] == [False, True, False, False]
    sent = [body["instances"] for body in bodies(server)]
    assert sorted(map(len, sent)) == [1, 2]
    assert {"n": 1, "t": "a"} in [one for some in sent for one in some]
    assert bodies(server)[0]["parameters"] == {"threshold": 0.5}
    assert paths(server)[0] == "/v1/projects/project-1/locations/us-central1/endpoints/987:predict"


def test_instances_may_be_arrays_or_values(server: Server, service: Google) -> None:
    service.predictions = json.dumps
    output = pa.schema([("said", pa.string())])
    given = pa.schema([("d", pa.date32()), ("m", pa.decimal128(5, 2)), ("l", pa.list_(pa.float64()))])
    spec = endpoint_spec(server, "text_generation", output, given, instances="array")
    row = {"d": date(2026, 1, 31), "m": Decimal("1.50"), "l": [1.0, float("nan")]}
    assert score(opened(spec), row) == [{"said": '["2026-01-31", 1.5, [1.0, null]]'}]
    value = endpoint_spec(server, "text_generation", output, TEXT, instances="value")
    assert score(opened(value), {"t": "x"}) == [{"said": '"x"'}]


@pytest.mark.parametrize(
    ("prediction", "output", "outputs", "answer"),
    [
        ({"score": 0.5, "more": 1}, SCORE, "", {"score": 0.5}),
        (0.25, SCORE, "", {"score": 0.25}),
        (3.0, pa.schema([("class", pa.int64())]), "", {"class": 3}),
        ("late", LABEL, "", {"label": "late"}),
        ({"anything": "late"}, LABEL, "", {"label": "late"}),
        ([0.5, "late"], pa.schema([("p", pa.float64()), ("label", pa.string())]), "", {"p": 0.5, "label": "late"}),
        ([0.25, 0.75], pa.schema([("both", pa.list_(pa.float64()))]), "", {"both": [0.25, 0.75]}),
        ([1.0, 2.0], pa.schema([("ids", pa.list_(pa.int32()))]), "", {"ids": [1, 2]}),
        ({"classes": ["a", "b"], "scores": [0.25, 0.75]}, LABEL, "", {"label": "b"}),
        (
            {"displayNames": ["a", "b"], "confidences": [0.75, 0.25], "ids": ["1", "2"]},
            pa.schema([("label", pa.string()), ("p", pa.float64())]),
            "",
            {"label": "a", "p": 0.75},
        ),
        ({"value": 2.5, "lower_bound": 1.0, "upper_bound": 3.0}, SCORE, "", {"score": 2.5}),
        ({"a": {"b": [0.25, {"c": 0.75}]}}, SCORE, "a.b[1].c:score", {"score": 0.75}),
        ([[0.25, 0.75]], SCORE, "[0][1]:score", {"score": 0.75}),
        ({"a": [0.25]}, SCORE, "predictions[].a[0]:score", {"score": 0.25}),
        ([0.25, 0.75], SCORE, "predictions[][1]:score", {"score": 0.75}),
        (0.75, SCORE, "predictions[]:score", {"score": 0.75}),
        (
            {"classes": ["a", "b"], "scores": [0.25, 0.75]},
            pa.schema([("p", pa.float64()), ("first", pa.string())]),
            "scores[1]:p, classes[0]:first",
            {"p": 0.75, "first": "a"},
        ),
        (None, SCORE, "", {"score": None}),
    ],
)
def test_predictions_fill_columns(
    server: Server, service: Google, prediction: object, output: pa.Schema, outputs: str, answer: dict[str, object]
) -> None:
    service.predictions = lambda _: prediction
    options = {"outputs": outputs} if outputs else {}
    assert score(opened(endpoint_spec(server, "clustering", output, **options)), {"n": 1, "t": "a"}) == [answer]


@pytest.mark.parametrize(
    ("prediction", "output", "outputs", "said"),
    [
        ({"x": 0.5, "y": 1}, SCORE, "", r'misused: a prediction {"x": 0.5, "y": 1} does not say what fills score'),
        ({"x": 0.5}, SCORE, "y[0]:score", r"misused: a prediction .* has no 'y\[0\]'"),
        ([0.5], SCORE, "[1]:score", r"misused: a prediction .* has no '\[1\]'"),
        ([0.5, 0.5, 0.5], pa.schema([("a", pa.float64()), ("b", pa.float64())]), "", "misused: .* what fills a, b"),
        ({"score": "high"}, SCORE, "", "broken_answer: 'score' is 'high', which is no double"),
        (2.5, pa.schema([("class", pa.int64())]), "", "broken_answer: 'class' is 2.5, which is no int64"),
    ],
)
def test_predictions_that_do_not_fit_are_named(
    server: Server, service: Google, prediction: object, output: pa.Schema, outputs: str, said: str
) -> None:
    service.predictions = lambda _: prediction
    options = {"outputs": outputs} if outputs else {}
    with pytest.raises(ModelError, match=said):
        score(opened(endpoint_spec(server, "clustering", output, retry_num="0", **options)), {"n": 1, "t": "a"})
    assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [{"predictions": []}, {"predictions": 5}, {"outputs": [1]}, [], {"predictions": [1, 2]}])
def test_answers_of_another_shape_are_broken(server: Server, service: Google, answer: object) -> None:
    for task, output in (("regression", SCORE), ("embedding", VECTOR)):
        service.scripted = [Reply(200, json.dumps(answer).encode())]
        spec = (
            endpoint_spec(server, task, output, retry_num="0")
            if task == "regression"
            else spec_of(server, task, output, retry_num="0")
        )
        with pytest.raises(ModelError, match="broken_answer"):
            score(opened(spec), {"n": 1, "t": "a"} if task == "regression" else {"t": "a"})


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (error(401, "UNAUTHENTICATED", f"bad {TOKEN}", info("ACCESS_TOKEN_EXPIRED")), "unauthorized", ModelError),
        (error(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied"), "unauthorized", ModelError),
        (error(404, "NOT_FOUND", "The Endpoint does not exist."), "misused", ModelError),
        (error(400, "FAILED_PRECONDITION", "The model is not deployed"), "misused", ModelError),
        (error(400, "INVALID_ARGUMENT", "250 instance(s) is allowed per prediction. Actual: 251"), "too_large", ModelError),
        (error(400, "INVALID_ARGUMENT", '{"error": "Prediction failed: could not convert"}'), "refused", ModelError),
        (error(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."), "rate_limited", ProviderUnavailable),
        (error(503, "UNAVAILABLE", "overloaded"), "unavailable", ProviderUnavailable),
        (error(504, "DEADLINE_EXCEEDED", "late"), "timeout", ProviderUnavailable),
        (Reply(None), "unavailable", ProviderUnavailable),
    ],
)
def test_each_error_has_its_kind(server: Server, service: Google, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        score(opened(endpoint_spec(server, "regression", SCORE, retry_num="0")), {"n": 1, "t": "a"})
    assert TOKEN not in str(caught.value)


def test_a_batch_that_is_too_large_is_halved(server: Server, service: Google) -> None:
    service.scripted = [error(413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 1572864 bytes.")]
    rows: list[dict[str, object]] = [{"n": number, "t": "a"} for number in range(4)]
    assert len(score(opened(endpoint_spec(server, "regression", SCORE)), *rows)) == 4
    assert [len(body["instances"]) for body in bodies(server)] == [4, 2, 2]


def test_a_service_account_gets_a_token_once_for_many_requests(server: Server, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(json.dumps(key_file(server.url)))
    model = opened(replace(spec_of(server, service_account_file="key.json"), root=tmp_path))
    assert [row["t"] for row in ask(model, *"abcdefgh")] == list("ABCDEFGH")
    assert paths(server).count("/token") == 1
    by_text = opened(spec_of(server, service_key=json.dumps(key_file(server.url))))
    assert ask(by_text, "a") == [{"t": "A"}]


def account(server: Server, clock: list[float]) -> RenewedToken:
    """The tokens of a service account by that clock."""
    made = RenewedToken("model 'm'", lambda: account_in("model 'm'", json.dumps(key_file(server.url))), lambda: clock[0])
    made.open()
    return made


def asked_for(server: Server, times: list[float]) -> list[str | Blame]:
    """The tokens that a service account has at those times."""

    async def ask() -> list[str | Blame]:
        clock = [0.0]
        one = account(server, clock)
        found = []
        for clock[0] in times:
            found.append(await one.token())
        return found

    return asyncio.run(ask())


def test_a_token_is_renewed_before_it_runs_out(server: Server, service: Google) -> None:
    service.token_seconds = 3600
    tokens = asked_for(server, [1e9, 1e9 + 3290, 1e9 + 3310, 1e9 + 3311])
    assert tokens[0] == tokens[1] != tokens[2] == tokens[3]
    assert len(server.asked) == 2


def test_a_token_that_cannot_be_renewed_yet_is_used_to_its_end(server: Server, service: Google) -> None:
    service.token_seconds = 3600
    service.scripted_tokens = [None, Reply(503), Reply(503)]
    tokens = asked_for(server, [1e9, 1e9 + 3590, 1e9 + 3601])
    assert tokens[0] == tokens[1]
    assert isinstance(tokens[2], Blame)
    assert tokens[2].kind is ErrorKind.UNAVAILABLE


def test_short_tokens_are_not_renewed_at_each_request() -> None:
    assert not Token("t", 0.0, 60.0).is_due(50.0)
    assert Token("t", 0.0, 60.0).is_due(54.0)
    assert Token("t", 0.0, 3600.0).is_due(3300.0)


def test_a_refusal_that_comes_late_is_one_of_the_token_before(server: Server) -> None:
    async def ask() -> list[bool]:
        clock = [1e9]
        one = account(server, clock)
        before = await one.token()
        found = [one.refused()]
        clock[0] += 61
        found.append(one.refused())
        assert await one.token() != before
        clock[0] += 59
        found.append(one.refused())
        clock[0] += 1
        return [*found, one.refused()]

    assert asyncio.run(ask()) == [False, True, True, False]


def test_users_and_machines_get_tokens_too(
    server: Server, service: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = {**USER, "token_uri": f"{server.url}/token", "quota_project_id": "project-9"}
    (tmp_path / "adc.json").write_text(json.dumps(user))
    assert ask(opened(spec_of(server, service_account_file=str(tmp_path / "adc.json"))), "a") == [{"t": "A"}]
    assert server.asked[-1].headers["x-goog-user-project"] == "project-9"
    with pytest.raises(ModelError, match="unauthorized: the user in service_key gets no token"):
        ask(opened(spec_of(server, service_key=json.dumps({**user, "refresh_token": "1//gone"}))), "a")
    monkeypatch.setenv("GCE_METADATA_HOST", server.url.removeprefix("http://"))
    assert ask(opened(spec_of(server, service_account="default")), "b") == [{"t": "B"}]
    assert METADATA in paths(server)
    with pytest.raises(ModelError, match=r"unauthorized: service account 'other@.*' of this machine gets no token"):
        ask(opened(spec_of(server, service_account="other@project-1.iam.gserviceaccount.com")), "c")


def test_what_is_secret_is_given_by_reference_alone() -> None:
    hidden = {name: looks_secret(name) for name in ("access-token", "service-key", "service-account", "service-account-file")}
    assert hidden == {"access-token": True, "service-key": True, "service-account": False, "service-account-file": False}


def test_requests_at_once_wait_for_one_token(server: Server, service: Google) -> None:
    async def ask() -> set[str | Blame]:
        one = account(server, [1e9])
        return set(await asyncio.gather(*(one.token() for _ in range(8))))

    assert len(asyncio.run(ask())) == 1
    assert paths(server) == ["/token"]


def test_a_token_that_is_taken_back_is_replaced(server: Server, service: Google) -> None:
    clock = [1e9]
    spec = spec_of(server, service_key=json.dumps(key_file(server.url)), max_concurrent_operations="4")
    provider = VertexProvider(spec)
    provider._bearing._bearer = account(server, clock)
    model = Model(spec, provider)
    provider.check()
    assert ask(model, "a") == [{"t": "A"}]
    service.tokens.clear()
    with pytest.raises(ModelError, match="unauthorized"):
        ask(model, "b")
    clock[0] += 61
    assert ask(model, *"cdefgh") == [{"t": text} for text in "CDEFGH"]
    assert paths(server).count("/token") == 2
    provider.close()


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (refused_token("invalid_grant", "Invalid JWT Signature."), "unauthorized", ModelError),
        (refused_token("invalid_client", "The OAuth client was not found.", 401), "unauthorized", ModelError),
        (refused_token("internal_failure", "later"), "unavailable", ProviderUnavailable),
        (Reply(503, b"down"), "unavailable", ProviderUnavailable),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b'{"access_token": ""}'), "unavailable", ProviderUnavailable),
        (Reply(200, b"<html>"), "unavailable", ProviderUnavailable),
    ],
)
def test_what_the_token_endpoint_says_has_its_kind(
    server: Server, service: Google, reply: Reply, kind: str, raised: type[Exception]
) -> None:
    service.scripted_tokens = [reply]
    spec = spec_of(server, service_key=json.dumps(key_file(server.url)), retry_num="0")
    with pytest.raises(raised, match=f"model 'm': {kind}: "):
        ask(opened(spec), "a")
    assert paths(server) == ["/token"], "nothing is asked without a token"


def test_a_key_of_somebody_else_is_refused_by_the_service(server: Server) -> None:
    key = key_file(server.url, client_email="stranger@project-1.iam.gserviceaccount.com")
    with pytest.raises(ModelError, match=r"unauthorized: stranger@.* HTTP 400 invalid_grant Invalid grant: account not found"):
        ask(opened(spec_of(server, service_key=json.dumps(key))), "a")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"type": "external_account"}, "is of type 'external_account'; valid: service_account, authorized_user"),
        ({"type": "authorized_user"}, "it has no 'client_secret'"),
        ({"client_email": ""}, "it has no 'client_email'"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"}, "cannot be read"),
        ({"token_uri": "http://tokens.example/token"}, "names a token_uri without https"),
        ({"token_uri": "https://[h/token"}, "names a token_uri that is no address"),
    ],
)
def test_a_key_file_that_is_none_is_found_before_any_row_is_read(server: Server, other: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        opened(spec_of(server, service_key=json.dumps(key_file(server.url, **other))))
    assert "MIIE" not in str(caught.value)
    assert not server.asked


def test_a_key_file_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*nothing\.json: No such file"):
        opened(spec_of(server, service_account_file=str(tmp_path / "nothing.json")))
    with pytest.raises(ModelError, match="service_key is of type None"):
        opened(spec_of(server, service_key="not JSON"))


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: Google, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = key_file(server.url)
    spec = spec_of(server, service_key=json.dumps(key), on_error="ignore", error_columns="true")
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    ask(model, "a")
    service.scripted = [error(400, "INVALID_ARGUMENT", f"contents: you sent {service.tokens[-1]}", retry_info("1s"))]
    rows = ask(model, "b")
    provider = model.provider
    assert isinstance(provider, VertexProvider)
    held = repr(vars(provider._bearing._bearer)["_account"]) + repr(vars(provider._bearing._bearer)["_token"])
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [repr(spec), str(rows), caplog.text, repr(provider.identity()), held, kept]
    secrets = [service.tokens[-1], key["private_key"].splitlines()[1]]
    assert [text for text in texts for secret in secrets if secret in text] == []
    assert "***" in str(rows)


def test_a_cache_knows_a_change_of_what_is_asked_and_not_of_who_asks(server: Server, tmp_path: Path) -> None:
    def asked(**options: str) -> int:
        before = len(bodies(server))
        spec = endpoint_spec(server, "regression", SCORE, **options)
        score(opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db"))), {"n": 1, "t": "a"})
        return len(bodies(server)) - before

    changes: tuple[dict[str, str], ...] = (
        {},
        {"parameters": '{"x": 1}'},
        {"outputs": "score:score"},
        {"location": "europe-west4"},
    )
    assert [asked(**options) for options in changes] == [1] * 4
    assert [asked(**options) for options in changes] == [0] * 4
    assert asked(service_key=json.dumps(key_file(server.url)), batch_size="3") == 0


@pytest.mark.parametrize(
    ("task", "output", "options", "named"),
    [
        ("text_generation", TEXT, {"temperatur": "1"}, "did you mean 'temperature'"),
        ("text_generation", TEXT, {"project": ""}, "option 'project' is missing"),
        ("text_generation", TEXT, {"location": ""}, "option 'location' is missing"),
        ("text_generation", TEXT, {"access_token": ""}, "says not as whom the service is asked"),
        ("text_generation", TEXT, {"service_key": "{}", "access_token": "x"}, "it gives 'access_token' and 'service_key'"),
        ("text_generation", TEXT, {"access_token": "\u00e4"}, "characters that no header takes"),
        ("clustering", TEXT, {}, "is one of deployed models alone"),
        ("text_generation", TEXT, {"location": "evil.example/#"}, "valid: a region as 'us-central1'"),
        ("embedding", TEXT, {}, "OUTPUT of task 'embedding' is one column"),
        ("embedding", VECTOR, {"batch_size": "251"}, "valid: 1 to 250"),
        ("embedding", VECTOR, {"embedding_api": "predikt"}, "did you mean 'predict'"),
        ("regression", SCORE, {"endpoint_id": "7", "prompt": "{t}"}, "unknown option"),
        ("regression", SCORE, {"endpoint_id": "7", "outputs": "a..b:score"}, "valid: PATH:column"),
        ("regression", SCORE, {"endpoint_id": "7", "outputs": ":score"}, "valid: PATH:column"),
        ("regression", SCORE, {"endpoint_id": "7", "outputs": "score"}, "valid: PATH:column"),
        ("regression", SCORE, {"endpoint_id": "7", "outputs": "a:scor"}, "did you mean 'score'"),
        ("regression", SCORE, {"endpoint_id": "7", "parameters": "[1]"}, "valid: an object of JSON"),
        ("regression", SCORE, {"endpoint_id": "7", "instances": "objekt"}, "did you mean 'object'"),
        ("embedding", SCORE, {"endpoint_id": "7"}, "OUTPUT of task 'embedding' is one column"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(
    server: Server, task: str, output: pa.Schema, options: dict[str, str], named: str
) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, task, output, TEXT, **options)
    assert named in str(caught.value)


def test_what_does_not_go_together_is_said(server: Server) -> None:
    with pytest.raises(DeclarationError, match="takes one INPUT column, declared: n, t"):
        endpoint_spec(server, "regression", SCORE, instances="value")
    with pytest.raises(DeclarationError, match="does not say what fills 'b'"):
        endpoint_spec(server, "regression", pa.schema([("a", pa.float64()), ("b", pa.float64())]), outputs="x:a")
    with pytest.raises(DeclarationError, match="which a text cannot hold"):
        endpoint_spec(server, "regression", SCORE, pa.schema([("b", pa.binary())]))
    with pytest.raises(DeclarationError, match="ends with 'predict'; task 'text_generation' asks for 'generateContent'"):
        spec_of(server, endpoint=f"{server.url}/v1/projects/p/locations/l/publishers/google/models/m:predict")
