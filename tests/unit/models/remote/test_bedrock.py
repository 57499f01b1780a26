"""Provider bedrock against a server that answers as the service does, and checks each signature as it does."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.fill import Options
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.providers.aws_access import Access, read_access
from lakeflow.models.providers.aws_signing import Signer
from lakeflow.models.providers.bedrock import BedrockProvider
from lakeflow.models.remote.dialect import Blame, ErrorKind
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Usage
from tests.services.aws import ACCESS_KEY, REGION, SECRET_KEY, SESSION_TOKEN, error
from tests.services.bedrock import API_KEY, COHERE, COHERE_4, PROFILE, TEXT_MODEL, TITAN, Bedrock, throttled
from tests.services.http import Reply, Server
from tests.unit.models.remote.asking import TEXT, VECTOR, ask, bodies, declared, opened

ORDER = pa.schema([pa.field("vendor", pa.string(), nullable=False), ("total", pa.decimal128(10, 2)), ("paid", pa.bool_())])
KEYS = {"aws_access_key": ACCESS_KEY, "aws_secret_key": SECRET_KEY, "aws_session_token": SESSION_TOKEN}


@pytest.fixture
def service() -> Bedrock:
    return Bedrock()


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests has no part in them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def of_account(
    account: Mapping[str, str], server: Server, /, task: str = "text_generation", output: pa.Schema = TEXT, **options: str
) -> ModelSpec:
    given = {"provider": "bedrock", "task": task, "endpoint": server.url, "region": REGION}
    model = TITAN if task == "embedding" else TEXT_MODEL
    return declared({**given, "model": model, **account, **options}, output)


def spec_of(server: Server, task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> ModelSpec:
    return of_account(KEYS, server, task, output, **options)


def test_a_text_is_answered_with_a_text_and_each_option_goes_out(server: Server) -> None:
    options = {"temperature": "0.5", "max-tokens": "9", "stop": "X, Y", "top_p": "1", "system_prompt": "Be brief."}
    options |= {"additional_model_request_fields": '{"top_k": 50}', "guardrail_identifier": "gr1a2b", "guardrail_version": "3"}
    assert ask(opened(spec_of(server, **options, prompt="Say {{{t}}}")), "a") == [{"t": "SAY {A}"}]
    assert bodies(server) == [
        {
            "system": [{"text": "Be brief."}],
            "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 1.0, "stopSequences": ["X", "Y"]},
            "guardrailConfig": {"guardrailIdentifier": "gr1a2b", "guardrailVersion": "3"},
            "additionalModelRequestFields": {"top_k": 50},
            "messages": [{"role": "user", "content": [{"text": "Say {a}"}]}],
        }
    ]


@pytest.mark.parametrize("model", [TEXT_MODEL, PROFILE])
def test_a_models_name_is_encoded_once_on_the_wire_and_twice_where_it_is_signed(server: Server, model: str) -> None:
    assert ask(opened(spec_of(server, model=model)), "a") == [{"t": "A"}]
    [asked] = server.asked
    assert asked.path.count("/") == 3
    assert ":" not in asked.path
    assert "%3A" in asked.path


def test_typed_outputs_come_as_the_input_of_a_tool_that_has_to_be_called(server: Server) -> None:
    [row] = ask(opened(spec_of(server, "text_generation", ORDER)), "an order")
    assert set(row) == set(ORDER.names)
    assert row["vendor"].startswith("word")
    config = bodies(server)[0]["toolConfig"]
    assert config["toolChoice"] == {"tool": {"name": "answer"}}
    assert set(config["tools"][0]["toolSpec"]["inputSchema"]["json"]) == {"type", "properties", "required"}
    ask(opened(spec_of(server, "text_generation", ORDER, tool_choice="any")), "an order")
    assert bodies(server)[1]["toolConfig"]["toolChoice"] == {"any": {}}


def test_typed_outputs_come_by_a_schema_where_the_model_takes_one(server: Server) -> None:
    [row] = ask(opened(spec_of(server, "text_generation", ORDER, response_format="json_schema")), "an order")
    assert set(row) == set(ORDER.names)
    assert "toolConfig" not in bodies(server)[0]


def test_labels_bind_a_classification(server: Server) -> None:
    model = opened(spec_of(server, "classification", pa.schema([("label", pa.string())]), labels="good, bad"))
    assert {row["label"] for row in ask(model, *"abcdefgh")} == {"good", "bad"}


def test_titan_is_asked_a_text_at_a_time_and_counts_its_tokens(server: Server) -> None:
    usage = Usage()
    model = opened(spec_of(server, "embedding", VECTOR, dimensions="256", normalize="true"), Surroundings(usage))
    rows = ask(model, "a b", "", "c", None, "a b")
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [256, None, 256, None, 256]
    assert sorted(body["inputText"] for body in bodies(server)) == ["a b", "c"]
    assert bodies(server)[0] | {"inputText": ""} == {"dimensions": 256, "normalize": True, "inputText": ""}
    assert usage.by_model()["m"].input_tokens == 3


@pytest.mark.parametrize(("model", "dimensions", "width"), [(COHERE, {}, 8), (COHERE_4, {"dimensions": "512"}, 512)])
def test_cohere_is_asked_many_texts_at_a_time(server: Server, model: str, dimensions: dict[str, str], width: int) -> None:
    usage = Usage()
    options = {"batch_size": "3", "input-type": "search_query", **dimensions}
    rows = ask(opened(spec_of(server, "embedding", VECTOR, model=model, **options), Surroundings(usage)), *"abcde", "a")
    assert {len(row["v"]) for row in rows} == {width}
    assert rows[0] == rows[5] != rows[1]
    assert sorted(body["texts"] for body in bodies(server)) == [["a", "b", "c"], ["d", "e"]]
    assert bodies(server)[0]["input_type"] == "search_query"
    assert bodies(server)[0]["truncate"] == "NONE"


def test_a_request_that_is_too_large_is_halved_and_a_text_that_is_too_long_alone_is_left(
    server: Server, service: Bedrock
) -> None:
    service.most_texts = 3
    options = {"max_concurrent_operations": "1", "on_error": "ignore", "error_columns": "true"}
    model = opened(spec_of(server, "embedding", VECTOR, model=COHERE, **options))
    texts = [f"text {number}" for number in range(8)]
    assert all(row["v"] for row in ask(model, *texts))
    rows = ask(model, "x", "long " * 1000, "y")
    assert [row["error_kind"] for row in rows] == [None, "refused", None]
    assert service.answered == dict.fromkeys([*texts, "x", "y"], 1)


def test_tokens_of_the_cache_are_paid_for_too(server: Server, service: Bedrock) -> None:
    used = {"inputTokens": 3, "outputTokens": 2, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20}
    said = {"output": {"message": {"content": [{"text": "x"}]}}, "stopReason": "end_turn", "usage": used}
    service.scripted = [Reply(200, json.dumps(said).encode())]
    usage = Usage()
    ask(opened(spec_of(server), Surroundings(usage)), "a")
    asked = usage.by_model()["m"]
    assert (asked.input_tokens, asked.output_tokens) == (123, 2)


def said_with(stopped: str, *content: dict[str, Any]) -> Reply:
    body = {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": stopped}
    return Reply(200, json.dumps({**body, "usage": {"inputTokens": 1, "outputTokens": 1}}).encode())


@pytest.mark.parametrize(
    ("reply", "output", "kind"),
    [
        (said_with("guardrail_intervened", {"text": "Sorry."}), TEXT, "refused"),
        (said_with("content_filtered", {"text": ""}), TEXT, "refused"),
        (said_with("max_tokens", {"toolUse": {"toolUseId": "x", "name": "answer", "input": {}}}), ORDER, "truncated"),
        (said_with("model_context_window_exceeded", {"text": "{"}), ORDER, "truncated"),
        (said_with("malformed_tool_use", {"text": "{"}), ORDER, "broken_answer"),
        (said_with("end_turn", {"text": "I would rather not."}), ORDER, "broken_answer"),
        (
            said_with("tool_use", {"toolUse": {"toolUseId": "x", "name": "answer", "input": {"vendor": 5}}}),
            ORDER,
            "broken_answer",
        ),
        (said_with("end_turn", {"reasoningContent": {"reasoningText": {"text": "hm"}}}), TEXT, "broken_answer"),
        (Reply(200, b'{"output": null}'), TEXT, "broken_answer"),
        (Reply(200, b'{"output": {"mess'), TEXT, "broken_answer"),
    ],
)
def test_what_a_model_does_not_say_is_named(
    server: Server, service: Bedrock, reply: Reply, output: pa.Schema, kind: str
) -> None:
    service.scripted = [reply]
    with pytest.raises(ModelError, match=f"model 'm': {kind}: "):
        ask(opened(spec_of(server, output=output, retry_num="0")), "a")


def test_an_answer_that_is_cut_is_an_answer_where_any_text_is(server: Server, service: Bedrock) -> None:
    service.scripted = [said_with("max_tokens", {"reasoningContent": {}}, {"text": "so"}, {"text": " far"})]
    assert ask(opened(spec_of(server)), "a") == [{"t": "so far"}]


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (throttled(), "rate_limited", ProviderUnavailable),
        (throttled("Too many tokens, please wait before trying again."), "rate_limited", ProviderUnavailable),
        (throttled("Too many tokens per day, please wait before trying again."), "quota", ModelError),
        (error(429, "ModelNotReadyException", "The model is not ready"), "unavailable", ProviderUnavailable),
        (error(408, "ModelTimeoutException", "The request took too long"), "timeout", ProviderUnavailable),
        (error(424, "ModelErrorException", "The model failed", originalStatusCode=500), "unavailable", ProviderUnavailable),
        (error(424, "ModelErrorException", "The model refused", originalStatusCode=400), "refused", ModelError),
        (error(500, "InternalServerException", "down"), "unavailable", ProviderUnavailable),
        (error(503, "ServiceUnavailableException", "busy"), "unavailable", ProviderUnavailable),
        (error(400, "ValidationException", "Input is too long for requested model."), "too_large", ModelError),
        (error(400, "ValidationException", "The model returned: prompt is too long: 9 tokens > 8"), "too_large", ModelError),
        (error(400, "ValidationException", "The provided model identifier is invalid."), "misused", ModelError),
        (error(400, "ValidationException", "Invocation with on-demand throughput isn't supported."), "misused", ModelError),
        (error(400, "ValidationException", "The text field at messages.0.content.0 is blank."), "refused", ModelError),
        (error(400, "ServiceQuotaExceededException", "pay"), "quota", ModelError),
        (error(403, "AccessDeniedException", "no access to the model"), "unauthorized", ModelError),
        (error(403, "ExpiredTokenException", "old"), "unauthorized", ModelError),
        (error(404, "ResourceNotFoundException", "no such model"), "misused", ModelError),
        (Reply(403, b'{"message":"Forbidden"}'), "unauthorized", ModelError),
        (
            Reply(400, b'{"__type":"com.amazon.coral#ThrottlingException","message":"slow"}'),
            "rate_limited",
            ProviderUnavailable,
        ),
        (Reply(502, b"<html>Bad Gateway</html>"), "unavailable", ProviderUnavailable),
        (Reply(302, b"", {"location": "https://elsewhere"}), "misused", ModelError),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b"{}" * 50, stall=9.0), "timeout", ProviderUnavailable),
    ],
)
def test_each_error_has_its_kind(server: Server, service: Bedrock, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask(opened(spec_of(server, retry_num="0", request_timeout="200 ms" if reply.stall else "30 s")), "a")
    assert SECRET_KEY not in str(caught.value)
    assert getattr(caught.value, "next_step", None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"x_amz_retry_after": "1500"}, 1.5), ({"retry_after": "3"}, 3.0), ({"retry_after": "soon"}, None), ({}, None)],
)
def test_a_wait_that_is_asked_for_is_read(server: Server, headers: dict[str, str], seconds: float | None) -> None:
    reply = throttled(**headers)
    provider = BedrockProvider(spec_of(server))
    blame = provider._aws.blame(429, reply.headers, reply.body)
    assert blame == Blame(ErrorKind.RATE_LIMITED, blame.message, seconds)


def test_a_request_that_is_sent_again_is_signed_again(server: Server, service: Bedrock) -> None:
    service.scripted = [throttled(retry_after="0.01")]
    assert ask(opened(spec_of(server)), "a") == [{"t": "A"}]
    assert all(one.headers["x-amz-security-token"] == SESSION_TOKEN for one in server.asked)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ({**KEYS, "aws_secret_key": "another"}, "InvalidSignatureException"),
        ({**KEYS, "aws_access_key": "AKIAOTHER"}, "UnrecognizedClientException"),
        ({**KEYS, "aws_session_token": "old"}, "ExpiredTokenException"),
        ({"api_key": "wrong-api-key"}, "MissingAuthenticationTokenException"),
        ({**KEYS, "region": "us-east-1"}, "InvalidSignatureException"),
    ],
)
def test_a_wrong_account_is_refused_and_tried_once(server: Server, account: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=f"unauthorized: HTTP 403 {said}"):
        ask(opened(of_account(account, server, max_concurrent_operations="1")), *"abcd")
    assert len(server.asked) == 1


def test_an_api_key_takes_the_place_of_a_signature(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(opened(of_account({"api-key": API_KEY}, server)), "a") == [{"t": "A"}]
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", API_KEY)
    assert ask(opened(of_account({}, server)), "b") == [{"t": "B"}]
    assert "x-amz-date" not in server.asked[1].headers


def test_the_account_of_the_environment_and_of_a_profile_is_found(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no account of AWS is found") as caught:
        opened(of_account({}, server))
    assert "aws_access_key" in str(caught.value.next_step)
    profile = f"[work]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    (tmp_path / "credentials").write_text(profile)
    assert ask(opened(of_account({"profile": "work"}, server)), "a") == [{"t": "A"}]
    with pytest.raises(UnknownName, match=r"unknown profile of model 'm' 'wrok'; did you mean 'work'\?"):
        opened(of_account({"profile": "wrok"}, server))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert ask(opened(of_account({}, server)), "b") == [{"t": "B"}]


def test_keys_need_the_extra_and_an_api_key_does_not(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.credentials", None)
    with pytest.raises(ModelError, match="needs a package that is not installed") as caught:
        opened(spec_of(server))
    assert caught.value.next_step == 'pip install "lakeflow[aws]"'
    assert ask(opened(of_account({"api_key": API_KEY}, server)), "a") == [{"t": "A"}]


def renewing(refresh: Any) -> Signer:
    """A signer whose credentials have run out, and are renewed by `refresh`."""
    from botocore.credentials import RefreshableCredentials

    signer = Signer(Access(REGION), "bedrock", takes_api_keys=True)
    past = datetime.now(UTC) - timedelta(hours=1)
    signer._credentials = RefreshableCredentials("AKIAOLD", "old-secret", "old-token", past, refresh, "test")
    return signer


def test_credentials_that_run_out_are_renewed_and_are_secrets_from_then_on() -> None:
    def refresh() -> dict[str, str]:
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return {"access_key": "AKIANEW", "secret_key": "new-secret", "token": "new-token", "expiry_time": until}

    signer = renewing(refresh)
    signed = asyncio.run(signer.sign("https://host/model/a%3A0/converse", b"{}", {}))
    assert not isinstance(signed, Blame)
    assert signed["x-amz-security-token"] == "new-token"
    assert "Credential=AKIANEW/" in signed["authorization"]
    assert signer.secrets == ("AKIANEW", "new-secret", "new-token")


def test_credentials_that_cannot_be_renewed_are_no_crash() -> None:
    from botocore.exceptions import CredentialRetrievalError, SSOTokenLoadError

    def away() -> dict[str, str]:
        raise CredentialRetrievalError(provider="test", error_msg="no answer")

    def logged_out() -> dict[str, str]:
        raise SSOTokenLoadError(error_msg="run aws sso login")

    for refresh, kind in ((away, ErrorKind.UNAVAILABLE), (logged_out, ErrorKind.UNAUTHORIZED)):
        said = asyncio.run(renewing(refresh).sign("https://host/", b"{}", {}))
        assert isinstance(said, Blame)
        assert said.kind is kind


def test_a_question_longer_than_the_context_is_cut_or_left_out(server: Server) -> None:
    options = {"max_context_size": "40", "system_prompt": "Be brief."}
    [row] = ask(opened(spec_of(server, **options)), "x" * 100)
    assert row == {"t": "X" * 22}
    assert ask(opened(spec_of(server, **options, context_overflow_action="skipped")), "x" * 100) == [{"t": None}]


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: Bedrock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, on_error="ignore", error_columns="true", max_concurrent_operations="1")
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    service.scripted = [error(400, "ValidationException", f"messages.0: you sent {SECRET_KEY} and {SESSION_TOKEN}"), None]
    rows = ask(model, "a", "b")
    assert [row["error_kind"] for row in rows] == ["refused", None]
    provider = BedrockProvider(spec)
    provider.check()
    provider.close()
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [repr(spec), str(spec), str(rows), caplog.text, repr(provider.identity()), kept, repr(provider._aws._settings)]
    for secret in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN):
        assert [text for text in texts if secret in text] == []
    assert "***" in str(rows)


def test_who_asks_has_no_part_in_the_answers(server: Server) -> None:
    spec = spec_of(server)
    other = of_account({"api_key": API_KEY}, server)
    assert spec.fingerprint() == other.fingerprint()
    assert spec.fingerprint() != spec_of(server, temperature="0.1").fingerprint()
    assert spec.fingerprint() == replace(spec, options=Options({**spec.options, "timeout": "9 s"})).fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperatur": "1"}, "did you mean 'temperature'"),
        ({"temperature": "1.5"}, "valid: a number from 0 to 1"),
        ({"region": "frankfurt"}, "valid: a region of AWS"),
        ({"region": ""}, "option 'region' is missing"),
        ({"aws_secret_key": ""}, "'aws_access_key' and 'aws_secret_key' go together, given: aws_access_key, aws_session_token"),
        ({"api_key": API_KEY}, "two ways to say who asks"),
        ({"profile": "work"}, "two ways to say who asks"),
        ({"aws_secret_key": "a\nb"}, "characters that no header takes"),
        ({"endpoint": "https://bedrock-runtime.eu-central-1.amazonaws.com/model/x/invoke"}, "is the service's base"),
        ({"endpoint": "https://me:pw@host"}, "without user and query"),
        ({"additional_model_request_fields": "[1]"}, "valid: an object of JSON"),
        ({"guardrail_identifier": "x"}, "option 'guardrail_version' is missing"),
        ({"response_format": "tools"}, "did you mean 'tool'"),
        ({"tool_choice": "any"}, "goes with 'response_format' = 'tool'"),
        ({"labels": "a"}, "goes with task 'classification'"),
        ({"prompt": "hello"}, "names no INPUT column"),
        ({"dimensions": "256"}, "unknown option"),
        ({"task": "clustering"}, "unknown task"),
        ({"model": " "}, "option 'model' is missing"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(server: Server, options: dict[str, str], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, **options)
    assert said in str(caught.value)
    assert SECRET_KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "acme.embed"}, "does not tell how it is asked"),
        ({"model": "acme.embed", "model_family": "titan"}, "valid: cohere_v3, cohere_v4, titan_v1, titan_v2"),
        ({"dimensions": "300"}, "valid for titan_v2: 256, 512, 1024"),
        ({"dimensions": "256", "model": COHERE}, "valid for cohere_v3: none"),
        ({"batch_size": "2"}, "valid for titan_v2: 1 to 1"),
        ({"batch_size": "97", "model": COHERE}, "1 to 96"),
        ({"input_type": "clustering"}, "is none of a model of the family titan_v2"),
        ({"normalize": "true", "model": COHERE}, "is none of a model of the family cohere_v3"),
        ({"temperature": "1"}, "unknown option"),
    ],
)
def test_slips_in_a_declaration_of_embeddings_are_found(server: Server, options: dict[str, str], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, "embedding", VECTOR, **options)
    assert said in str(caught.value)


def test_the_services_own_address_is_made_of_the_region(server: Server) -> None:
    for region, host in (("us-east-1", "us-east-1.amazonaws.com"), ("cn-north-1", "cn-north-1.amazonaws.com.cn")):
        spec = spec_of(server)
        provider = BedrockProvider(replace(spec, options=Options({**spec.options, "endpoint": "", "region": region})))
        encoded = TEXT_MODEL.replace(":", "%3A")
        assert provider._aws.url == f"https://bedrock-runtime.{host}/model/{encoded}/converse"
    for host in ("bedrock-runtime-fips.us-west-2.amazonaws.com", "vpce-0a1b.bedrock-runtime.us-west-2.vpce.amazonaws.com"):
        given = Options({**KEYS, "model": TEXT_MODEL, "endpoint": f"https://{host}"})
        assert read_access(replace(spec_of(server), options=given)).region == "us-west-2"
