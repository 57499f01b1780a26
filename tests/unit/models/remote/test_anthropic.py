"""Provider anthropic against a server that answers as the service does, over real connections."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.providers.anthropic import AnthropicProvider
from lakeflow.models.providers.anthropic_errors import blame_of
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Usage
from tests.services.anthropic import KEY, Anthropic, error, limited, message
from tests.services.http import Reply, Server
from tests.unit.models.remote.asking import TEXT, ask, bodies, declared, opened

LABEL = pa.schema([("label", pa.string())])
ORDER = pa.schema(
    [
        pa.field("vendor", pa.string(), nullable=False),
        ("total", pa.decimal128(10, 2)),
        ("day", pa.date32()),
        ("lines", pa.list_(pa.struct([("sku", pa.string()), ("count", pa.int32())]))),
    ]
)
USED = {"input_tokens": 11, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 30, "output_tokens": 5}


@pytest.fixture
def service() -> Anthropic:
    return Anthropic()


def spec_of(server: Server, task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> ModelSpec:
    given = {"provider": "anthropic", "task": task, "endpoint": server.url, "api_key": KEY, "model": "claude-haiku-4-5"}
    return declared({**given, **options}, output)


def said(answer: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(answer).encode())


def test_a_text_is_answered_with_a_text_and_each_option_goes_out(server: Server) -> None:
    options = {
        "temperature": "0.5",
        "top-k": "40",
        "top_p": "1",
        "max-tokens": "9",
        "stop": "X, Y",
        "system-prompt": "Be brief.",
    }
    model = opened(spec_of(server, prompt="Say {{{t}}}: {t}", effort="low", thinking="disabled", **options))
    assert ask(model, "a") == [{"t": "SAY {A}: A"}]
    [body] = bodies(server)
    assert body == {
        "model": "claude-haiku-4-5",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 40,
        "stop_sequences": ["X", "Y"],
        "system": "Be brief.",
        "output_config": {"effort": "low"},
        "thinking": {"type": "disabled"},
        "messages": [{"role": "user", "content": "Say {a}: a"}],
    }
    assert server.asked[0].headers["x-api-key"] == KEY
    assert server.asked[0].headers["anthropic-version"] == "2023-06-01", "later versions take no temperature"


def test_without_options_only_what_the_service_needs_goes_out(server: Server) -> None:
    ask(opened(spec_of(server)), "a")
    assert bodies(server) == [
        {"model": "claude-haiku-4-5", "max_tokens": 4096, "messages": [{"role": "user", "content": "a"}]},
    ]
    assert server.asked[0].headers["anthropic-version"] == "2026-10-21"


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/messages"])
def test_the_endpoint_may_be_written_in_any_length(server: Server, end: str) -> None:
    assert ask(opened(spec_of(server, endpoint=f"{server.url}{end}")), "a") == [{"t": "A"}]


def test_typed_outputs_are_what_a_forced_tool_is_called_with(server: Server) -> None:
    [row] = ask(opened(spec_of(server, output=ORDER)), "an order")
    assert set(row) == set(ORDER.names)
    [body] = bodies(server)
    assert body["tool_choice"] == {"type": "tool", "name": "answer", "disable_parallel_tool_use": True}
    [tool] = body["tools"]
    assert tool["strict"] is True
    assert tool["input_schema"]["properties"]["vendor"] == {"type": "string"}
    assert tool["input_schema"]["properties"]["total"] == {"type": ["number", "null"]}
    assert tool["input_schema"]["properties"]["lines"]["items"]["required"] == ["sku", "count"]


def test_a_tool_may_be_lenient_and_the_answer_is_checked_all_the_same(server: Server, service: Anthropic) -> None:
    model = opened(spec_of(server, "regression", pa.schema([("price", pa.float64())]), strict="false"))
    assert isinstance(ask(model, "a")[0]["price"], float)
    assert "strict" not in bodies(server)[0]["tools"][0]
    wrong = message([{"type": "tool_use", "id": "t", "name": "answer", "input": {"price": "12"}}], "tool_use")
    service.scripted = [said(wrong)] * 9
    with pytest.raises(ModelError, match="broken_answer: 'price' is '12', which is no double"):
        ask(model, "b")
    assert len(server.asked) == 1 + 4


def test_models_that_think_are_asked_by_a_schema(server: Server, service: Anthropic) -> None:
    service.thinks = True
    options = {"response_format": "json_schema", "thinking": "adaptive", "model": "claude-fable-5", "effort": "low"}
    [row] = ask(opened(spec_of(server, output=ORDER, **options)), "an order")
    assert set(row) == set(ORDER.names)
    [body] = bodies(server)
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["output_config"]["effort"] == "low"
    assert "tools" not in body
    assert ask(opened(spec_of(server)), "a") == [{"t": "A"}], "a thought is no part of the text"
    with pytest.raises(ModelError, match=r"misused: HTTP 400 .*Thinking may not be enabled"):
        ask(opened(spec_of(server, output=ORDER, model="claude-fable-5")), "an order")


def test_labels_bind_a_classification(server: Server) -> None:
    model = opened(spec_of(server, "classification", LABEL, labels="good, bad"))
    assert {row["label"] for row in ask(model, *"abcdefgh")} == {"good", "bad"}


def test_what_all_rows_share_is_marked_for_the_services_cache(server: Server) -> None:
    ask(opened(spec_of(server, system_prompt="Be brief.", prompt_caching="true")), "a")
    ask(opened(spec_of(server, output=ORDER, prompt_caching="true")), "a")
    mark = {"cache_control": {"type": "ephemeral"}}
    assert bodies(server)[0]["system"] == [{"type": "text", "text": "Be brief.", **mark}]
    assert bodies(server)[1]["tools"][0]["cache_control"] == mark["cache_control"]


def test_tokens_that_came_from_the_services_cache_are_counted_as_input(server: Server, service: Anthropic) -> None:
    usage = Usage()
    model = opened(spec_of(server, price_input="10", price_output="100"), Surroundings(usage))
    service.scripted = [said(message([{"type": "text", "text": "A"}], "end_turn", usage=USED))]
    ask(model, "a")
    asked = usage.by_model()["m"]
    assert (asked.input_tokens, asked.output_tokens) == (241, 5)
    assert asked.cost == pytest.approx(241 * 10e-6 + 5 * 100e-6)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (message([], "refusal", stop_details={"type": "refusal", "category": "bio", "explanation": "Not this."}), "refused"),
        (message([], "refusal"), "refused"),
        (message([{"type": "tool_use", "id": "t", "name": "answer", "input": {}}], "max_tokens"), "truncated"),
        (message([], "model_context_window_exceeded"), "truncated"),
        (message([{"type": "text", "text": "I would rather not."}], "end_turn"), "broken_answer"),
        (message([{"type": "tool_use", "id": "t", "name": "other", "input": {}}], "tool_use"), "broken_answer"),
        (message([{"type": "tool_use", "id": "t", "name": "answer", "input": None}], "tool_use"), "broken_answer"),
        (
            message([{"type": "tool_use", "id": "t", "name": "answer", "input": {"label": None, "x": 1}}], "tool_use"),
            "broken_answer",
        ),
        ({"type": "message"}, "broken_answer"),
        ({"content": "text", "stop_reason": "end_turn"}, "broken_answer"),
    ],
)
def test_what_a_model_does_not_say_is_named(server: Server, service: Anthropic, answer: dict[str, Any], kind: str) -> None:
    service.scripted = [said(answer)]
    usage = Usage()
    with pytest.raises(ModelError, match=f"model 'm': {kind}: "):
        ask(opened(spec_of(server, "classification", LABEL, retry_num="0"), Surroundings(usage)), "a")
    assert usage.by_model()["m"].input_tokens == (7 if "usage" in answer else 0), "it is paid for nonetheless"


def test_a_text_may_end_before_its_time_but_not_before_it_began(server: Server, service: Anthropic) -> None:
    thought = {"type": "thinking", "thinking": "", "signature": "c2ln"}
    service.scripted = [said(message([{"type": "text", "text": "Once"}], "max_tokens")), said(message([thought], "max_tokens"))]
    model = opened(spec_of(server))
    assert ask(model, "a") == [{"t": "Once"}]
    with pytest.raises(ModelError, match="truncated"):
        ask(model, "b")
    service.scripted = [said(message([], "end_turn")), said(message([thought], "end_turn"))]
    model = opened(spec_of(server, retry_num="0"))
    assert ask(model, "c") == [{"t": ""}], "a model may have nothing to say"
    with pytest.raises(ModelError, match="broken_answer"):
        ask(model, "d")


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (error(401, "authentication_error", f"invalid x-api-key {KEY}"), "unauthorized", ModelError),
        (error(403, "permission_error", "Your API key does not have permission"), "unauthorized", ModelError),
        (error(402, "billing_error", "There is an issue with your billing"), "quota", ModelError),
        (error(403, "billing_error", "There is an issue with your billing"), "quota", ModelError),
        (
            error(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            "quota",
            ModelError,
        ),
        (error(400, "invalid_request_error", "You have reached your specified API usage limits."), "quota", ModelError),
        (
            error(400, "invalid_request_error", "You have reached your specified workspace API usage limits."),
            "quota",
            ModelError,
        ),
        (error(429, "rate_limit_error", "no", code="enforced_spend_limit_reached"), "quota", ModelError),
        (error(400, "invalid_request_error", "no", code="organization_on_hold"), "unauthorized", ModelError),
        (error(404, "not_found_error", "model: claude-9"), "misused", ModelError),
        (error(400, "invalid_request_error", "max_tokens: 99999 > 64000, which is the maximum"), "misused", ModelError),
        (error(400, "invalid_request_error", "`max_tokens` is too low for this model."), "misused", ModelError),
        (error(400, "invalid_request_error", "messages.0: must have non-empty content"), "refused", ModelError),
        (error(400, "invalid_request_error", "Output blocked by content filtering policy"), "refused", ModelError),
        (error(400, "invalid_request_error", "prompt is too long: 201 tokens > 200 maximum"), "too_large", ModelError),
        (
            error(400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 190 + 20 > 200"),
            "too_large",
            ModelError,
        ),
        (error(413, "request_too_large", "Request exceeds the maximum size"), "too_large", ModelError),
        (Reply(413, b"<html>413 Request Entity Too Large</html>"), "too_large", ModelError),
        (limited(), "rate_limited", ProviderUnavailable),
        (error(429, "rate_limit_error", "slowly", code="ramp_limit_exceeded"), "rate_limited", ProviderUnavailable),
        (error(500, "api_error", "Internal server error"), "unavailable", ProviderUnavailable),
        (error(504, "timeout_error", "Request timed out"), "timeout", ProviderUnavailable),
        (error(529, "overloaded_error", "Overloaded"), "unavailable", ProviderUnavailable),
        (Reply(520, b"<html>cloudflare</html>"), "unavailable", ProviderUnavailable),
        (Reply(302, b"", {"location": "https://elsewhere"}), "misused", ModelError),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b'{"type": "mess'), "broken_answer", ModelError),
    ],
)
def test_each_error_has_its_kind(server: Server, service: Anthropic, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask(opened(spec_of(server, retry_num="0")), "a")
    assert KEY not in str(caught.value)
    assert getattr(caught.value, "next_step", None)


def test_what_the_service_refuses_of_itself_has_its_kind(server: Server) -> None:
    for kind, text, options in (
        ("unauthorized", "a", {"api_key": "sk-ant-wrong"}),
        ("misused", "a", {"model": "claude-none"}),
        ("misused", "a", {"model": "claude-opus-5", "temperature": "0.5"}),
        ("misused", "a", {"anthropic_version": "1999-01-01"}),
        ("too_large", "word " * 1_001, {}),
        ("refused", "REFUSE ME", {}),
        ("refused", "", {}),
    ):
        with pytest.raises(ModelError, match=f"model 'm': {kind}: "):
            ask(opened(spec_of(server, **options)), text)


def waits(**headers: str) -> float | None:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return blame_of(429, given, limited().body, []).retry_after


def test_how_long_to_wait_is_what_the_service_says() -> None:
    later = [(datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z") for seconds in (30, 90)]
    assert waits(retry_after="7") == 7.0
    assert waits() is None
    requests = {"anthropic_ratelimit_requests_remaining": "0", "anthropic_ratelimit_requests_reset": later[0]}
    tokens = {"anthropic_ratelimit_input_tokens_remaining": "0", "anthropic_ratelimit_input_tokens_reset": later[1]}
    assert waits(**requests) == pytest.approx(30, abs=2)
    assert waits(**requests, **tokens) == pytest.approx(90, abs=2), "both limits have to be renewed"
    assert waits(**{**requests, "anthropic_ratelimit_requests_remaining": "3"}) is None, "that limit is not used up"
    assert waits(anthropic_ratelimit_requests_remaining="0", anthropic_ratelimit_requests_reset="soon") is None
    assert waits(anthropic_ratelimit_requests_remaining="0", anthropic_ratelimit_requests_reset="2026-01-31T00:00:00Z") == 0.0
    assert blame_of(400, {"retry-after": "7"}, b"{}", []).retry_after is None


def test_a_limit_is_waited_out_and_the_row_is_answered(server: Server, service: Anthropic) -> None:
    service.scripted = [limited(retry_after="0.01"), error(529, "overloaded_error", "Overloaded", retry_after="0.01")]
    assert ask(opened(spec_of(server)), "a") == [{"t": "A"}]
    assert len(server.asked) == 3


def test_one_bad_row_does_not_lose_the_answers_of_the_others_and_nulls_are_not_asked(server: Server) -> None:
    model = opened(spec_of(server, on_error="ignore", error_columns="true"))
    rows = ask(model, "a", None, "REFUSE ME", "", "b", "a")
    assert [row["t"] for row in rows] == ["A", None, None, None, "B", "A"]
    assert [row["error_kind"] for row in rows] == [None, None, "refused", "refused", None, None]
    assert len(server.asked) == 4


def test_a_text_is_cut_to_the_room_beside_what_every_request_holds(server: Server) -> None:
    options = {"max-context-size": "31", "system-prompt": "Be brief."}
    assert ask(opened(spec_of(server, **options)), "abcdefghij", "abc") == [{"t": "ABCDEF"}, {"t": "ABC"}]
    skipped = opened(spec_of(server, "classification", LABEL, max_context_size="600", context_overflow_action="skipped"))
    assert [row["label"] is None for row in ask(skipped, "a", "b" * 300)] == [False, True]
    with pytest.raises(ModelError, match="the fixed text alone takes"):
        opened(spec_of(server, "classification", LABEL, max_context_size="300"))


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: Anthropic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, on_error="ignore", error_columns="true")
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    service.scripted = [error(400, "invalid_request_error", f"messages: you sent {KEY}"), None]
    rows = ask(model, "a", "b")
    provider = AnthropicProvider(spec)
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [repr(spec), str(rows), caplog.text, repr(provider.identity()), repr(vars(provider._dialect)["_settings"]), kept]
    assert [text for text in texts if KEY in text] == []
    assert "***" in str(rows)


def test_a_cache_knows_a_change_of_what_is_asked(server: Server, tmp_path: Path) -> None:
    def asked(**options: str) -> int:
        before = len(server.asked)
        ask(opened(spec_of(server, **options), Surroundings(answers=SqliteAnswers(tmp_path / "a.db"))), "a")
        return len(server.asked) - before

    changes: tuple[dict[str, str], ...] = (
        {},
        {"max_tokens": "7"},
        {"system_prompt": "x"},
        {"anthropic_version": "2023-01-01"},
        {"prompt": "{t}!"},
    )
    assert [asked(**options) for options in changes] == [1] * 5
    assert [asked(**options) for options in changes] == [0] * 5
    assert asked(timeout="9 s", api_key=KEY) == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperatur": "1"}, "did you mean 'temperature'"),
        ({"temperature": "1.5"}, "valid: a number from 0 to 1"),
        ({"max_tokens": "0"}, "valid: a whole number of at least 1"),
        ({"response_format": "jsonschema"}, "did you mean 'json_schema'"),
        ({"effort": "hi"}, "valid: high, low, max, medium, xhigh"),
        ({"stop": "a", "stop_sequences": "b"}, "mean the same"),
        ({"prompt": "hello"}, "names no INPUT column"),
        ({"prompt_caching": "true"}, "rows share no text"),
        ({"endpoint": "ftp://x"}, "is no address"),
        ({"endpoint": "http://[h"}, "is no address"),
        ({"endpoint": "http://h:port"}, "is no address"),
        ({"endpoint": "http://ex..ample"}, "is no address"),
        ({"labels": "a"}, "goes with task 'classification'"),
        ({"task": "embedding"}, "unknown task"),
        ({"api_key": "sk-\u00e4"}, "characters that no header takes"),
        ({"anthropic_version": "a\nb"}, "characters that no header takes"),
        ({"model": " "}, "option 'model' is missing"),
        ({"top_k": "4", "anthropic-version": "2026-10-21"}, "is not taken by the service since version 2026-10-21"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(server: Server, options: dict[str, str], named: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, **options)
    assert named in str(caught.value)
    assert KEY not in str(caught.value)


def test_what_does_not_go_together_is_said(server: Server) -> None:
    with pytest.raises(DeclarationError, match="forces no tool on a model that thinks"):
        spec_of(server, output=ORDER, thinking="adaptive")
    with pytest.raises(DeclarationError, match="fills one STRING column"):
        spec_of(server, output=ORDER, response_format="text")
    with pytest.raises(DeclarationError, match="which an answer of JSON cannot hold"):
        spec_of(server, output=pa.schema([("b", pa.binary())]))
    declared = ModelDeclaration(
        "m", TEXT, TEXT, {"provider": "anthropic", "task": "text_generation", "model": "claude-haiku-4-5"}
    )
    with pytest.raises(DeclarationError, match="'api_key' is missing") as caught:
        ModelSpec.from_declaration(declared, Path())
    assert "secret.ANTHROPIC_API_KEY" in str(caught.value)
