"""Provider azure_openai against a server that answers as Azure does, at both kinds of its addresses."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.providers.azure_openai import AzureOpenAIProvider
from lakeflow.models.providers.azure_openai_settings import read_azure
from lakeflow.models.providers.openai_errors import blame_of
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Price, Usage
from tests.services.azure_openai import AZURE_KEY, AZURE_TOKEN, AzureOpenAI, azure_error, azure_limited, prompt_filtered
from tests.services.http import Reply, Server
from tests.unit.models.remote.asking import TEXT, VECTOR, ask_once, declared

LATE = pa.schema([pa.field("label", pa.string(), nullable=False), ("minutes", pa.int32())])


@pytest.fixture
def service() -> AzureOpenAI:
    return AzureOpenAI()


def spec_of(url: str, task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> ModelSpec:
    """An option of "" is left out."""
    given = {"provider": "azure_openai", "task": task, "endpoint": url, "api-key": AZURE_KEY, "deployment": "my-gpt", **options}
    given = {name: value for name, value in given.items() if value}
    return declared(given, output)


def url_of(endpoint: str, **options: str) -> str:
    spec = spec_of(endpoint, **options)
    return read_azure(spec, list(spec.output)).place.url


@pytest.mark.parametrize("version", ["", "preview", "2025-04-01-preview"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_texts_and_typed_columns_are_answered_at_both_kinds_of_addresses(server: Server, version: str, api: str) -> None:
    options = {"api-version": version, "api": api, "max-tokens": "50", "system_prompt": "Be brief."}
    assert ask_once(spec_of(server.url, **options), "hello there", None) == [{"t": "HELLO THERE"}, {"t": None}]
    [row] = ask_once(spec_of(server.url, "classification", LATE, labels="late, early", **options), "x")
    assert row["label"] in ("late", "early")
    for asked in server.asked:
        assert asked.headers["api-key"] == AZURE_KEY
        assert "authorization" not in asked.headers
        is_named = not version.startswith("2025") or api == "responses"
        assert json.loads(asked.body).get("model") == ("my-gpt" if is_named else None)


@pytest.mark.parametrize("version", ["", "2024-10-21"])
def test_vectors_come_in_the_order_of_their_texts(server: Server, version: str) -> None:
    spec = spec_of(
        server.url, "embedding", VECTOR, deployment="my-embeddings", api_version=version, dimensions="5", batch_size="2"
    )
    rows = ask_once(spec, "a", "", "b", None, "a")
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [5, None, 5, None, 5]
    assert rows[0] == rows[4]
    assert rows[0] != rows[2]


def test_a_token_of_entra_goes_as_a_bearers(server: Server) -> None:
    assert ask_once(spec_of(server.url, **{"api-key": "", "azure-ad-token": AZURE_TOKEN}), "a") == [{"t": "A"}]
    assert server.asked[0].headers["authorization"] == f"Bearer {AZURE_TOKEN}"
    assert "api-key" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("endpoint", "options", "url"),
    [
        ("https://n.openai.azure.com", {}, "https://n.openai.azure.com/openai/v1/chat/completions"),
        ("https://n.openai.azure.com/openai/v1/", {}, "https://n.openai.azure.com/openai/v1/chat/completions"),
        ("https://n.openai.azure.com/openai/v1/responses", {}, "https://n.openai.azure.com/openai/v1/responses"),
        ("https://n.openai.azure.com/openai", {"api": "responses"}, "https://n.openai.azure.com/openai/v1/responses"),
        ("https://h/openai/v1/responses?api-version=preview", {}, "https://h/openai/v1/responses?api-version=preview"),
        ("https://gateway/team/openai/v1", {}, "https://gateway/team/openai/v1/chat/completions"),
        (
            "https://h/",
            {"api_version": "2024-10-21"},
            "https://h/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://h/openai/deployments/my%20own/chat/completions?api-version=2024-10-21",
            {"deployment": ""},
            "https://h/openai/deployments/my%20own/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://h/openai/responses?api-version=2025-04-01-preview",
            {},
            "https://h/openai/responses?api-version=2025-04-01-preview",
        ),
        ("https://h", {"model": "my-gpt"}, "https://h/openai/v1/chat/completions"),
    ],
)
def test_an_endpoint_may_give_any_part_of_an_address(endpoint: str, options: dict[str, str], url: str) -> None:
    assert url_of(endpoint, **options) == url


@pytest.mark.parametrize(
    ("endpoint", "options", "said"),
    [
        ("", {}, "'endpoint' is missing, which provider 'azure_openai' needs"),
        ("https://me:pw@h", {}, "is no address"),
        ("https://h/v1/chat/completions", {}, "there is no /openai in its path"),
        ("https://h/openai/v1?key=x", {}, "more in its query than an api-version: 'key'"),
        ("https://h", {"deployment": ""}, "'deployment' is missing"),
        ("https://h", {"model": "other"}, "do not name the same deployment: my-gpt, other"),
        ("https://h/openai/deployments/other", {"api_version": "2024-10-21"}, "do not name the same deployment: my-gpt, other"),
        ("https://h/openai/deployments/my-gpt", {}, "addresses of that kind need a dated 'api_version'"),
        ("https://h/openai/v1", {"api_version": "2024-10-21"}, "takes no dated 'api_version'"),
        ("https://h?api-version=2024-10-21", {"api_version": "2024-06-01"}, "and option 'api_version' '2024-06-01'"),
        ("https://h", {"api_version": "24-10-21"}, "valid: a date as '2024-10-21'"),
        ("https://h", {"api_version": "2024-10-21", "api": "responses"}, "without Responses API; valid: '2025-03-01-preview'"),
        ("https://h", {"api-key": ""}, "neither of 'api_key' and 'azure_ad_token' is given"),
        ("https://h", {"azure_ad_token": AZURE_TOKEN}, "both of 'api_key' and 'azure_ad_token' are given"),
        ("https://h", {"azure_ad_tokn": AZURE_TOKEN}, "did you mean 'azure_ad_token'"),
        ("https://h", {"azure_ad_token": "ä", "api-key": ""}, "characters that no header takes"),
        ("https://h", {"deploymnt": "x"}, "did you mean 'deployment'"),
        ("https://h", {"seed": "1", "api": "responses"}, "option 'seed' goes with 'api' = 'chat'"),
        ("https://h", {"task": "clustering"}, "unknown task"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(endpoint: str, options: dict[str, str], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(endpoint, **options)
    assert said in str(caught.value)
    assert AZURE_KEY not in str(caught.value)
    assert AZURE_TOKEN not in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_what_the_content_filter_took_is_said_with_its_category(server: Server, service: AzureOpenAI, api: str) -> None:
    options = {"on_error": "ignore", "error_columns": "true", "api": api}
    rows = ask_once(spec_of(server.url, **options), "a", service.filtered_prompt, service.filtered_answer)
    assert [row["t"] for row in rows] == ["A", None, None]
    assert [row["error_kind"] for row in rows] == [None, "refused", "refused"]
    assert rows[1]["error_message"].startswith("HTTP 400 content_filter: The response was filtered")
    assert rows[1]["error_message"].endswith("(filtered: violence medium)")
    assert rows[2]["error_message"] == "the service's content filter took the answer away (filtered: sexual high)"


@pytest.mark.parametrize("content", ["", None])
def test_an_answer_that_ended_before_its_first_word_is_none(server: Server, service: AzureOpenAI, content: str | None) -> None:
    """So do models that spend all of max_tokens on reasoning."""
    choice = {"finish_reason": "length", "message": {"role": "assistant", "content": content}}
    service.scripted = [Reply(200, json.dumps({"choices": [choice]}).encode())]
    with pytest.raises(ModelError, match="model 'm': truncated: the answer is longer than max_tokens"):
        ask_once(spec_of(server.url), "a")


def test_categories_without_a_severity_are_named_too() -> None:
    results = {"jailbreak": {"filtered": True, "detected": True}, "hate": {"filtered": False, "severity": "safe"}, "odd": 5}
    body = {"error": {"code": "content_filter", "message": "no", "innererror": {"content_filter_result": results}}}
    assert blame_of(400, {}, json.dumps(body).encode(), ()).message == "HTTP 400 content_filter: no (filtered: jailbreak)"


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (azure_error(401, "401", f"Access denied: {AZURE_KEY}"), "unauthorized", ModelError),
        (azure_error(401, "PermissionDenied", "The principal lacks the required data action"), "unauthorized", ModelError),
        (Reply(401, b'{"statusCode": 401, "message": "Unauthorized. Access token is missing"}'), "unauthorized", ModelError),
        (azure_error(403, "403", "Out of call volume quota. Quota will be exceeded"), "quota", ModelError),
        (Reply(403, b'{"statusCode": 403, "message": "Token quota is exceeded. Try again in 5 hours."}'), "quota", ModelError),
        (azure_error(403, "AccessDenied", "Public access is disabled."), "unauthorized", ModelError),
        (azure_error(404, "DeploymentNotFound", "The API deployment does not exist"), "misused", ModelError),
        (azure_error(404, "404", "Resource not found"), "misused", ModelError),
        (azure_error(400, "BadRequest", "API version not supported"), "misused", ModelError),
        (
            azure_error(400, "BadRequest", "Model gpt-4o is enabled only for api versions 2024-08-01 and later"),
            "misused",
            ModelError,
        ),
        (azure_error(400, "OperationNotSupported", "The embeddings operation does not work with gpt-4"), "misused", ModelError),
        (azure_error(400, "context_length_exceeded", "maximum context length is 128000 tokens"), "too_large", ModelError),
        (prompt_filtered("hate"), "refused", ModelError),
        (azure_limited(0), "rate_limited", ProviderUnavailable),
        (azure_error(503, "ServiceUnavailable", "overloaded"), "unavailable", ProviderUnavailable),
        (azure_error(408, "Timeout", "The operation was timeout."), "timeout", ProviderUnavailable),
        (azure_error(500, "InternalServerError", "Backend returned unexpected response."), "unavailable", ProviderUnavailable),
        (Reply(200, b'{"choices": [{"finish_reason": "stop", "message": {}}]}'), "broken_answer", ModelError),
    ],
)
def test_each_error_has_its_kind(
    server: Server, service: AzureOpenAI, reply: Reply, kind: str, raised: type[Exception]
) -> None:
    service.scripted = [reply]
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask_once(spec_of(server.url, retry_num="0"), "a")
    assert AZURE_KEY not in str(caught.value)
    assert getattr(caught.value, "next_step", None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "9"}, 9.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "12"}, 12.0),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m5s"}, 65.0),
        ({"x_ratelimit_remaining_tokens": "-1", "x_ratelimit_reset_tokens": "0"}, 37.0),
        ({}, 37.0),
    ],
)
def test_how_long_to_wait_is_taken_from_headers_and_then_from_the_message(headers: dict[str, str], seconds: float) -> None:
    reply = azure_limited(37, **headers)
    blame = blame_of(429, dict(reply.headers), reply.body, ())
    assert (blame.kind, blame.retry_after) == ("rate_limited", seconds)
    assert blame.message.startswith("HTTP 429: Requests to the ChatCompletions_Create Operation"), "Azure's code is the status"


def test_a_limit_is_waited_for_and_tokens_are_counted_by_the_deployments_price(server: Server, service: AzureOpenAI) -> None:
    service.scripted = [azure_limited(37, retry_after_ms="1"), None]
    usage = Usage()
    ask_once(spec_of(server.url), "a b c", surroundings=Surroundings(usage, prices={"my-gpt": Price(1.0, 10.0)}))
    asked = usage.by_model()["m"]
    assert (asked.requests, asked.input_tokens, asked.output_tokens) == (2, 8, 1)
    assert asked.cost == pytest.approx(18e-6)


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: AzureOpenAI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = SqliteAnswers(tmp_path / "a.db")
    for secret in ({"api-key": AZURE_KEY}, {"api-key": "", "azure-ad-token": AZURE_TOKEN}):
        spec = spec_of(server.url, on_error="ignore", error_columns="true", system_prompt=str(len(secret)), **secret)
        value = max(secret.values())
        service.scripted = [azure_error(400, "BadRequest", f"you sent {value}"), None]
        rows = ask_once(spec, "a", "b", surroundings=Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
        settings = read_azure(spec, list(spec.output)[:1])
        seen = [repr(spec), str(spec), str(rows), caplog.text, repr(AzureOpenAIProvider(spec).identity()), repr(settings)]
        seen.append((tmp_path / "a.db").read_bytes().decode("latin-1"))
        assert [text for text in seen if value in text] == []
        assert "***" in str(rows)
    store.close()


def test_the_key_has_no_part_in_what_is_kept(server: Server, tmp_path: Path) -> None:
    for secret in ({"api-key": AZURE_KEY}, {"api-key": "", "azure-ad-token": AZURE_TOKEN}):
        ask_once(spec_of(server.url, **secret), "a", surroundings=Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    assert len(server.asked) == 1
