"""Provider openai by its Responses API: against a server that answers as the service does, and on answers as it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, ModelError, UnknownName
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.providers.openai import OpenAIProvider
from lakeflow.models.providers.openai_responses import OpenAIResponses
from lakeflow.models.providers.openai_settings import ChatSettings, read_openai
from lakeflow.models.remote.dialect import Blame, ErrorKind, Reading
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Tokens
from tests.services.http import Reply, Server
from tests.services.openai import KEY, OpenAI, error, message_of, response_of
from tests.unit.models.remote.asking import TEXT, ask_once, bodies, declared

LATE = pa.schema([pa.field("label", pa.string(), nullable=False), ("minutes", pa.int32())])
USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


@pytest.fixture
def service() -> OpenAI:
    return OpenAI()


def spec_of(url: str, task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> ModelSpec:
    given = {
        "provider": "openai",
        "task": task,
        "endpoint": f"{url}/v1",
        "api_key": KEY,
        "model": "gpt-4.1-mini",
        "api": "responses",
    }
    return declared({**given, **options}, output)


def dialect(output: pa.Schema = TEXT, **options: str) -> OpenAIResponses:
    spec = spec_of("http://service", output=output, **options)
    settings = read_openai(spec, list(spec.output))
    assert isinstance(settings, ChatSettings)
    return OpenAIResponses(settings)


def read(answer: object, output: pa.Schema = TEXT) -> Reading | Blame:
    return dialect(output).read(json.dumps(answer).encode(), 1)


def test_a_text_is_answered_and_each_option_goes_out_by_the_name_that_this_api_has(server: Server) -> None:
    options = {"temperature": "0.5", "max-tokens": "90", "top_p": "1", "reasoning-effort": "Low", "system-prompt": "Be brief."}
    assert ask_once(spec_of(server.url, **options), "a b", None) == [{"t": "A B"}, {"t": None}]
    assert server.asked[0].path == "/v1/responses"
    assert bodies(server) == [
        {
            "model": "gpt-4.1-mini",
            "temperature": 0.5,
            "top_p": 1.0,
            "max_output_tokens": 90,
            "reasoning": {"effort": "low"},
            "store": False,
            "instructions": "Be brief.",
            "input": "a b",
        }
    ]


def test_an_endpoint_may_be_the_whole_address_and_then_names_the_api(server: Server) -> None:
    with_address = {"endpoint": f"{server.url}/v1/responses", "api": "responses"}
    ask_once(spec_of(server.url, **with_address), "a")
    declared = {"provider": "openai", "task": "text_generation", "api_key": KEY, "model": "gpt-4.1-mini"}
    for endpoint in ("/v1/responses", "/v1/chat/completions", "/v1"):
        declaration = ModelDeclaration("m", TEXT, TEXT, {**declared, "endpoint": server.url + endpoint})
        ask_once(ModelSpec.from_declaration(declaration, Path()), "a")
    assert [one.path for one in server.asked] == [
        "/v1/responses",
        "/v1/responses",
        "/v1/chat/completions",
        "/v1/chat/completions",
    ]


def test_typed_outputs_come_by_a_strict_schema(server: Server) -> None:
    [row] = ask_once(spec_of(server.url, "classification", LATE, labels="late, early"), "x")
    assert row["label"] in ("late", "early")
    text_format = bodies(server)[0]["text"]["format"]
    assert (text_format["type"], text_format["name"], text_format["strict"]) == ("json_schema", "answer", True)
    assert text_format["schema"]["required"] == ["label", "minutes"]


def test_a_service_without_schemas_is_told_in_the_input(server: Server) -> None:
    output = pa.schema([("label", pa.string()), ("score", pa.float64())])
    [row] = ask_once(
        spec_of(server.url, "classification", output, response_format="json_object", system_prompt="Be brief."), "x"
    )
    assert row["label"] in ("good", "bad")
    [body] = bodies(server)
    assert body["instructions"] == "Be brief."
    assert [one["role"] for one in body["input"]] == ["system", "user"]
    assert "JSON schema" in body["input"][0]["content"]


def test_texts_of_all_messages_are_the_answer_and_tokens_are_counted() -> None:
    said = response_of({}, [message_of("output_text", "one "), message_of("output_text", "two")], USAGE)
    assert read(said) == Reading((("one two",),), Tokens(7, 3))
    typed = response_of({}, [message_of("output_text", '{"label": "late", "minutes": null}')], USAGE)
    assert read(typed, LATE) == Reading((("late", None),), Tokens(7, 3))


def early(reason: str, *texts: str, **other: object) -> dict[str, Any]:
    given = {"status": "incomplete", "incomplete_details": {"reason": reason}, **other}
    return response_of({}, [message_of("output_text", text) for text in texts], USAGE, **given)


def failed(code: str) -> dict[str, Any]:
    return response_of({}, [], USAGE, status="failed", error={"code": code, "message": "it did not work"})


@pytest.mark.parametrize(
    ("answer", "output", "kind", "said"),
    [
        (response_of({}, [message_of("refusal", "I cannot.")], USAGE), TEXT, ErrorKind.REFUSED, "the model refused: I cannot."),
        (early("max_output_tokens", '{"label'), LATE, ErrorKind.TRUNCATED, "longer than max_tokens"),
        (early("max_output_tokens"), TEXT, ErrorKind.TRUNCATED, "longer than max_tokens"),
        (early("content_filter", "so"), TEXT, ErrorKind.REFUSED, "content filter took the answer away"),
        (failed("server_error"), TEXT, ErrorKind.UNAVAILABLE, "the response failed: server_error: it did not work"),
        (failed("rate_limit_exceeded"), TEXT, ErrorKind.RATE_LIMITED, "the response failed"),
        (failed("invalid_prompt"), TEXT, ErrorKind.REFUSED, "the response failed"),
        (response_of({}, [], USAGE), TEXT, ErrorKind.BROKEN_ANSWER, "no output[].content[].text"),
        (response_of({}, [], USAGE, status="queued"), TEXT, ErrorKind.BROKEN_ANSWER, "no status of a response that has ended"),
        (response_of({}, [message_of("output_audio", "x")], USAGE), TEXT, ErrorKind.BROKEN_ANSWER, "no text in a message"),
        (response_of({}, [message_of("output_text", "{}")], USAGE), LATE, ErrorKind.BROKEN_ANSWER, "has no 'label'"),
        (response_of({}, [message_of("output_text", "no")], USAGE), LATE, ErrorKind.BROKEN_ANSWER, "is no JSON"),
    ],
)
def test_what_a_model_does_not_say_is_named_and_paid_for(answer: object, output: pa.Schema, kind: ErrorKind, said: str) -> None:
    blame = read(answer, output)
    assert isinstance(blame, Blame)
    assert (blame.kind, blame.tokens) == (kind, Tokens(7, 3))
    assert said in blame.message


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"status": "completed", "output": 5}', b"\xff"])
def test_what_is_no_response_is_broken(body: bytes) -> None:
    said = dialect().read(body, 1)
    assert isinstance(said, Blame)
    assert said.kind is ErrorKind.BROKEN_ANSWER


def test_a_text_that_was_cut_is_the_answer_where_a_text_was_asked_for() -> None:
    assert read(early("max_output_tokens", "half a")) == Reading((("half a",),), Tokens(7, 3))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(400, "Unsupported parameter: 'temperature'", "x", param="temperature", code="unsupported_parameter"), "misused"),
        (error(400, "below minimum", "x", param="max_output_tokens", code="integer_below_min_value"), "misused"),
        (error(400, "bad", "x", param="text.format.schema"), "misused"),
        (error(400, "Unknown parameter: 'store'.", "invalid_request_error", code="unknown_parameter"), "misused"),
        (error(400, "bad", "x", param="input", code="invalid_prompt"), "refused"),
        (error(400, "too long", "x", param="input", code="context_length_exceeded"), "too_large"),
    ],
)
def test_each_error_has_its_kind(server: Server, service: OpenAI, reply: Reply, kind: str) -> None:
    service.scripted = [reply]
    with pytest.raises(ModelError, match=f"model 'm': {kind}: ") as caught:
        ask_once(spec_of(server.url, "classification", LATE, retry_num="0", temperature="1", max_tokens="20"), "a")
    assert KEY not in str(caught.value)


def test_the_cache_knows_the_api_but_not_whether_the_service_keeps_answers(server: Server, tmp_path: Path) -> None:
    for options in ({}, {"store": "true"}, {"api": "chat"}):
        ask_once(spec_of(server.url, **options), "a", surroundings=Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    assert [one.path for one in server.asked] == ["/v1/responses", "/v1/chat/completions"]


def test_no_secret_is_in_what_decides_the_answers() -> None:
    spec = spec_of("http://service")
    assert KEY not in repr(OpenAIProvider(spec).identity()) + repr(read_openai(spec, list(spec.output)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api": "response"}, "did you mean 'responses'"),
        ({"api": "chat", "endpoint": "http://h/v1/responses"}, "ends in /responses, and 'api' = 'chat' is asked at /chat/comp"),
        ({"endpoint": "http://h/v1/chat/completions"}, "ends in /chat/completions, and 'api' = 'responses'"),
        ({"seed": "1"}, "option 'seed' goes with 'api' = 'chat'"),
        ({"stop": "a"}, "option 'stop' goes with 'api' = 'chat'"),
        ({"api": "chat", "store": "true"}, "option 'store' goes with 'api' = 'responses'"),
        ({"api": "chat", "max_output_tokens": "20"}, "option 'max_output_tokens' goes with 'api' = 'responses'"),
        ({"max_tokens": "5", "max_output_tokens": "5"}, "mean the same"),
        ({"reasoning_effort": " "}, "'reasoning_effort' is missing"),
        ({"store": "maybe"}, "valid: true, false"),
        ({"endpoint": "http://h:port/v1"}, "is no address"),
        ({"endpoint": "http://[h/v1"}, "is no address"),
        ({"endpoint": "http://h/v1?key=x"}, "is no address"),
        ({"endpoint": "https://h/openai/deployments/d?api-version=2024-10-21"}, "say 'provider' = 'azure_openai'"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(options: dict[str, str], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of("http://service", **options)
    assert said in str(caught.value)


def test_embeddings_are_not_asked_at_the_address_of_a_chat() -> None:
    vector = pa.schema([("v", pa.list_(pa.float32()))])
    given = {"provider": "openai", "task": "embedding", "api_key": KEY, "model": "m"}
    for path in ("/chat/completions", "/responses"):
        declared = ModelDeclaration("m", TEXT, vector, {**given, "endpoint": f"http://h/v1{path}"})
        with pytest.raises(DeclarationError, match=f"ends in {path}, and task 'embedding' is asked at /embeddings"):
            ModelSpec.from_declaration(declared, Path())
