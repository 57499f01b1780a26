"""Provider googleai against a server that answers as the Gemini API does, over real connections."""

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
from lakeflow.models.providers.gemini_errors import blame_of
from lakeflow.models.providers.gemini_schema import gemini_schema
from lakeflow.models.providers.googleai import GoogleAIProvider
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.shapes import json_schema
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Usage
from tests.services.google import KEY, Google, error, generated, info, limited, quota_failure, retry_info
from tests.services.http import Reply, Server
from tests.unit.models.remote.asking import TEXT, VECTOR, ask, bodies, declared, opened

LABEL = pa.schema([("label", pa.string())])
ORDER = pa.schema(
    [
        pa.field("vendor", pa.string(), nullable=False),
        ("total", pa.decimal128(10, 2)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
        ("lines", pa.list_(pa.struct([("sku", pa.string()), ("count", pa.int32())]))),
    ]
)


@pytest.fixture
def service() -> Google:
    return Google()


def spec_of(server: Server, task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> ModelSpec:
    given = {"provider": "googleai", "task": task, "endpoint": server.url, "api_key": KEY, "model": "gemini-2.5-flash"}
    return declared({**given, **options}, output)


def said(answer: object) -> Reply:
    return Reply(200, json.dumps(answer).encode())


def test_a_text_is_answered_with_a_text_and_each_option_goes_out(server: Server) -> None:
    options = {"temperature": "0.5", "top-k": "40", "top_p": "1", "max-tokens": "9", "stop": "X, Y", "seed": "7"}
    more = {"presence_penalty": "1", "frequency_penalty": "-1", "thinking_budget": "0", "safety_threshold": "block_none"}
    model = opened(spec_of(server, system_prompt="Be brief.", prompt="Say {{{t}}}: {t}", **options, **more))
    assert ask(model, "a") == [{"t": "SAY {A}: A"}]
    [body] = bodies(server)
    assert {one["threshold"] for one in body.pop("safetySettings")} == {"BLOCK_NONE"}
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Say {a}: a"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {
            "temperature": 0.5,
            "topP": 1.0,
            "topK": 40,
            "maxOutputTokens": 9,
            "presencePenalty": 1.0,
            "frequencyPenalty": -1.0,
            "seed": 7,
            "stopSequences": ["X", "Y"],
            "thinkingConfig": {"thinkingBudget": 0},
        },
    }


def test_the_key_stands_in_a_header_and_never_in_an_address(server: Server) -> None:
    ask(opened(spec_of(server)), "a")
    [asked] = server.asked
    assert asked.headers["x-goog-api-key"] == KEY
    assert asked.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert bodies(server) == [{"contents": [{"role": "user", "parts": [{"text": "a"}]}]}]


@pytest.mark.parametrize(
    ("end", "model"),
    [("/", "gemini-2.5-flash"), ("/v1", "models/gemini-2.5-flash"), ("/v1beta/models/gemini-2.5-flash:generateContent", "")],
)
def test_the_endpoint_may_be_written_in_any_length(server: Server, end: str, model: str) -> None:
    declared = spec_of(server, endpoint=f"{server.url}{end}", model=model or "gemini-2.5-flash")
    assert ask(opened(declared), "a") == [{"t": "A"}]
    assert server.asked[0].path.endswith("/models/gemini-2.5-flash:generateContent")


def test_typed_outputs_come_by_a_schema_in_geminis_words(server: Server) -> None:
    [row] = ask(opened(spec_of(server, output=ORDER)), "an order")
    assert set(row) == set(ORDER.names)
    config = bodies(server)[0]["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    schema = config["responseSchema"]
    assert schema["propertyOrdering"] == schema["required"] == ORDER.names
    assert schema["properties"]["vendor"] == {"type": "STRING"}
    assert schema["properties"]["total"] == {"type": "NUMBER", "nullable": True}
    assert schema["properties"]["at"] == {"type": "STRING", "nullable": True, "format": "date-time"}
    assert schema["properties"]["day"]["description"] == "a date as 2026-01-31"
    assert "additionalProperties" not in json.dumps(schema)


def test_labels_are_an_enum_without_null() -> None:
    schema = gemini_schema(json_schema(list(LABEL), "m", ["good", "bad"]))
    label = {"type": "STRING", "nullable": True, "format": "enum", "enum": ["good", "bad"]}
    assert schema == {"type": "OBJECT", "properties": {"label": label}, "required": ["label"], "propertyOrdering": ["label"]}


def test_labels_bind_a_classification(server: Server) -> None:
    model = opened(spec_of(server, "classification", LABEL, labels="good, bad"))
    assert {row["label"] for row in ask(model, *"abcdefgh")} == {"good", "bad"}


def test_a_model_without_schemas_is_told_in_words_and_its_answers_are_checked_all_the_same(server: Server) -> None:
    output = pa.schema([("label", pa.string()), ("score", pa.float64())])
    options = {"response_format": "json_object", "labels": "good, bad"}
    [row] = ask(opened(spec_of(server, "classification", output, **options)), "x")
    assert row["label"] in ("good", "bad")
    [body] = bodies(server)
    assert "JSON schema" in body["systemInstruction"]["parts"][0]["text"]
    assert "responseSchema" not in body["generationConfig"]
    with pytest.raises(ModelError, match="broken_answer: the answer has 'label', which OUTPUT does not declare"):
        ask(opened(spec_of(server, "regression", pa.schema([("p", pa.float64())]), response_format="json_object")), "x")


def test_thoughts_are_no_part_of_the_text_and_are_paid_for(server: Server, service: Google) -> None:
    service.thinks = True
    usage = Usage()
    assert ask(opened(spec_of(server, thinking_level="low"), Surroundings(usage)), "a b") == [{"t": "A B"}]
    asked = usage.by_model()["m"]
    assert (asked.input_tokens, asked.output_tokens) == (7, 1 + 11)
    assert bodies(server)[0]["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW"}


def test_vectors_come_in_the_order_of_their_texts_and_blank_texts_have_none(server: Server) -> None:
    options = {"batch_size": "3", "dimensions": "5", "task_type": "retrieval_document", "model": "gemini-embedding-001"}
    usage = Usage()
    rows = ask(opened(spec_of(server, "embedding", VECTOR, **options), Surroundings(usage)), "a", "", "b", None, "c", "d", "a")
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [5, None, 5, None, 5, 5, 5]
    assert rows[0] == rows[6] != rows[2]
    sent = [[one["content"]["parts"][0]["text"] for one in body["requests"]] for body in bodies(server)]
    assert sorted(sent) == [["a", "b", "c"], ["d"]]
    first = bodies(server)[0]["requests"][0]
    assert (first["model"], first["taskType"], first["outputDimensionality"]) == (
        "models/gemini-embedding-001",
        "RETRIEVAL_DOCUMENT",
        5,
    )
    assert usage.by_model()["m"].input_tokens == 4


def test_one_bad_row_does_not_lose_the_answers_of_the_others(server: Server, service: Google) -> None:
    options = {"on_error": "ignore", "error_columns": "true", "model": "gemini-embedding-001"}
    rows = ask(opened(spec_of(server, "embedding", VECTOR, **options)), "a", "REFUSE ME", "b", "c")
    assert [row["v"] is None for row in rows] == [False, True, False, False]
    assert [row["error_kind"] for row in rows] == [None, "refused", None, None]
    assert service.answered == {"a": 1, "b": 1, "c": 1}


def test_a_batch_that_is_too_large_is_halved(server: Server, service: Google) -> None:
    said = "* BatchEmbedContentsRequest.requests: at most 2 requests can be in one batch\n"
    service.scripted = [error(400, "INVALID_ARGUMENT", said)]
    rows = ask(opened(spec_of(server, "embedding", VECTOR, model="gemini-embedding-001")), *"abcd")
    assert all(row["v"] for row in rows)
    assert [len(body["requests"]) for body in bodies(server)] == [4, 2, 2]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}, "refused"),
        (generated([], "SAFETY"), "refused"),
        (generated([{"text": '{"lab'}], "RECITATION"), "refused"),
        (generated([{"text": "{}"}], "A_REASON_TO_COME"), "refused"),
        (generated([{"text": '{"lab'}], "MAX_TOKENS"), "truncated"),
        (generated([{"text": "hm", "thought": True}], "MAX_TOKENS"), "truncated"),
        (generated([], "MALFORMED_RESPONSE"), "broken_answer"),
        (generated([{"text": "not JSON"}]), "broken_answer"),
        (generated([{"text": '{"label": 5}'}]), "broken_answer"),
        (generated([{"text": '{"label": null, "more": 1}'}]), "broken_answer"),
        (generated([]), "broken_answer"),
        ({"candidates": [], "usageMetadata": {"promptTokenCount": 7}}, "broken_answer"),
        ({"candidates": "none", "usageMetadata": {"promptTokenCount": 7}}, "broken_answer"),
    ],
)
def test_what_a_model_does_not_say_is_named_and_paid_for(server: Server, service: Google, answer: object, kind: str) -> None:
    service.scripted = [said(answer)]
    usage = Usage()
    with pytest.raises(ModelError, match=f"model 'm': {kind}: "):
        ask(opened(spec_of(server, "classification", LABEL, retry_num="0"), Surroundings(usage)), "a")
    assert usage.by_model()["m"].input_tokens == 7


def test_a_text_may_end_before_its_time_but_not_before_it_began(server: Server, service: Google) -> None:
    service.scripted = [said(generated([{"text": "Once"}], "MAX_TOKENS")), said(generated([], "MAX_TOKENS"))]
    model = opened(spec_of(server))
    assert ask(model, "a") == [{"t": "Once"}]
    with pytest.raises(ModelError, match="truncated"):
        ask(model, "b")


@pytest.mark.parametrize(
    "answer",
    [
        {"embeddings": []},
        {"embeddings": [{"values": []}]},
        {"embeddings": [{"values": ["x"]}]},
        {"embeddings": [{}]},
        {"embeddings": [{"values": [1.0, 2.0]}, {"values": [1.0, 2.0]}]},
        {"embeddings": [{"values": [1.0, 2.0, 3.0]}]},
        [],
    ],
)
def test_vectors_of_another_shape_are_broken_answers(server: Server, service: Google, answer: object) -> None:
    service.scripted = [said(answer)]
    with pytest.raises(ModelError, match="broken_answer"):
        ask(opened(spec_of(server, "embedding", VECTOR, retry_num="0", dimensions="2")), "a")


DAY = quota_failure("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
MINUTE = quota_failure("GenerateRequestsPerMinutePerProjectPerModel")


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (error(400, "INVALID_ARGUMENT", f"API key not valid: {KEY}", info("API_KEY_INVALID")), "unauthorized", ModelError),
        (error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), "unauthorized", ModelError),
        (error(401, "UNAUTHENTICATED", "no"), "unauthorized", ModelError),
        (error(403, "PERMISSION_DENIED", "no", info("SERVICE_DISABLED")), "unauthorized", ModelError),
        (error(403, "PERMISSION_DENIED", "This API method requires billing", info("BILLING_DISABLED")), "quota", ModelError),
        (error(404, "NOT_FOUND", "models/gemini-9 is not found"), "misused", ModelError),
        (
            error(400, "INVALID_ARGUMENT", "Unknown name \"x\" at 'generation_config': Cannot find field."),
            "misused",
            ModelError,
        ),
        (
            error(400, "INVALID_ARGUMENT", "Developer instruction is not enabled for models/gemma-3-27b-it"),
            "misused",
            ModelError,
        ),
        (error(400, "INVALID_ARGUMENT", "Request contains an invalid argument."), "refused", ModelError),
        (
            error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens"),
            "too_large",
            ModelError,
        ),
        (error(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."), "too_large", ModelError),
        (Reply(413, b"<html>too large</html>"), "too_large", ModelError),
        (limited(), "rate_limited", ProviderUnavailable),
        (limited(MINUTE, retry_info("26s")), "rate_limited", ProviderUnavailable),
        (limited(DAY, retry_info("26s")), "quota", ModelError),
        (limited(quota_failure("GenerateRequestsPerMinutePerProject", "0")), "quota", ModelError),
        (error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), "quota", ModelError),
        (Reply(429, b'[{"error": {"code": 429, "message": "slowly"}}]'), "rate_limited", ProviderUnavailable),
        (error(500, "INTERNAL", "An internal error has occurred"), "unavailable", ProviderUnavailable),
        (error(503, "UNAVAILABLE", "The model is overloaded."), "unavailable", ProviderUnavailable),
        (error(504, "DEADLINE_EXCEEDED", "Deadline expired"), "timeout", ProviderUnavailable),
        (Reply(302, b"", {"location": "https://elsewhere"}), "misused", ModelError),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b'{"candidates": [{'), "broken_answer", ModelError),
    ],
)
def test_each_error_has_its_kind(server: Server, service: Google, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask(opened(spec_of(server, retry_num="0")), "a")
    assert KEY not in str(caught.value)
    assert getattr(caught.value, "next_step", None)


def test_what_the_service_refuses_of_itself_has_its_kind(server: Server) -> None:
    for kind, text, options in (
        ("unauthorized", "a", {"api_key": "AIza-wrong"}),
        ("misused", "a", {"model": "gemini-none"}),
        ("misused", "a", {"max_tokens": "99999"}),
        ("too_large", "word " * 1_001, {}),
        ("refused", "REFUSE ME", {}),
        ("refused", "", {}),
    ):
        with pytest.raises(ModelError, match=f"model 'm': {kind}: "):
            ask(opened(spec_of(server, **options)), text)


def test_how_long_to_wait_is_what_the_service_says() -> None:
    def waits(reply: Reply, status: int = 429) -> float | None:
        return blame_of(status, reply.headers, reply.body).retry_after

    assert waits(limited(MINUTE, retry_info("26s"))) == 26.0
    assert waits(limited(retry_info("0.5s"), retry_after="9")) == 0.5, "what stands in the body is the more precise"
    assert waits(limited(retry_after="9")) == 9.0
    assert waits(error(429, "RESOURCE_EXHAUSTED", "Quota exceeded. Please retry in 58.8s.")) == 58.8
    assert waits(error(503, "UNAVAILABLE", "Please retry in 120ms."), 503) == 0.12
    assert waits(limited(retry_info("soon"))) is None
    assert waits(limited(DAY, retry_info("26s"))) is None, "a day is not waited for"


def test_errors_are_read_in_each_way_that_they_are_written() -> None:
    for body in (b'[{"error": {"message": "slowly"}}]', b'{"error": "slowly"}', b"slowly", b'{"error": {"message": "slowly"}}'):
        assert blame_of(429, {}, body).message == "HTTP 429: slowly"
    assert blame_of(503, {}, b"").message == "HTTP 503: no reason given"
    for odd in (b'{"error": {"details": 5}}', b'{"error": {"details": [5, {"@type": 5}]}}', b"[[[]]]", b"\xff"):
        assert blame_of(429, {}, odd).retry_after is None


def test_a_limit_is_waited_out_and_the_row_is_answered(server: Server, service: Google) -> None:
    service.scripted = [limited(retry_info("0.01s")), error(503, "UNAVAILABLE", "overloaded", retry_info("0.01s"))]
    assert ask(opened(spec_of(server)), "a") == [{"t": "A"}]
    assert len(server.asked) == 3


def test_a_text_is_cut_to_the_room_beside_what_every_request_holds(server: Server) -> None:
    options = {"max-context-size": "24", "system-prompt": "Be brief."}
    assert ask(opened(spec_of(server, **options)), "abcdefghij", "abc") == [{"t": "ABCDEF"}, {"t": "ABC"}]
    with pytest.raises(ModelError, match="the fixed text alone takes"):
        opened(spec_of(server, "classification", LABEL, max_context_size="60"))


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: Google, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, on_error="ignore", error_columns="true")
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    service.scripted = [error(400, "INVALID_ARGUMENT", f"contents: you sent {KEY}"), None]
    rows = ask(model, "a", "b")
    provider = GoogleAIProvider(spec)
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [repr(spec), str(rows), caplog.text, repr(provider.identity()), repr(vars(provider._dialect)["_place"]), kept]
    assert [text for text in texts if KEY in text] == []
    assert "***" in str(rows)


def test_a_cache_knows_a_change_of_what_is_asked(server: Server, tmp_path: Path) -> None:
    def asked(task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> int:
        before = len(server.asked)
        ask(opened(spec_of(server, task, output, **options), Surroundings(answers=SqliteAnswers(tmp_path / "a.db"))), "a")
        return len(server.asked) - before

    changes: tuple[dict[str, Any], ...] = ({}, {"max_tokens": "7"}, {"safety_threshold": "off"}, {"model": "gemini-2.5-pro"})
    vectors = {"task": "embedding", "output": VECTOR}
    changes += (vectors, {**vectors, "dimensions": "3"}, {**vectors, "task_type": "clustering"})
    assert [asked(**options) for options in changes] == [1] * 7
    assert [asked(**options) for options in changes] == [0] * 7
    assert asked(timeout="9 s") == 0
    assert asked(**vectors, batch_size="7") == 0, "how many texts go together decides no vector"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperatur": "1"}, "did you mean 'temperature'"),
        ({"temperature": "2.5"}, "valid: a number from 0 to 2"),
        ({"thinking_budget": "-2"}, "valid: a whole number of at least -1"),
        ({"thinking_budget": "0", "thinking_level": "low"}, "give one of them"),
        ({"max_tokens": "5", "max_output_tokens": "5"}, "mean the same"),
        ({"stop": "a,b,c,d,e,f"}, "valid: 5 at the most"),
        ({"safety_threshold": "block_nothing"}, "did you mean 'block_none'"),
        ({"prompt": "hello"}, "names no INPUT column"),
        ({"endpoint": "ftp://x"}, "is no address"),
        ({"endpoint": "https://x/v1beta/models/gemini-2.5-flash:embedContent"}, "asks for 'generateContent'"),
        ({"endpoint": "https://x/v1beta/models/gemini-2.5-pro:generateContent"}, "names the model 'gemini-2.5-pro'"),
        ({"labels": "a"}, "goes with task 'classification'"),
        ({"task": "clustering"}, "unknown task"),
        ({"batch_size": "5"}, "unknown option"),
        ({"api_key": "AI\u00e4"}, "characters that no header takes"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(server: Server, options: dict[str, str], named: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, **options)
    assert named in str(caught.value)
    assert KEY not in str(caught.value)


def test_what_does_not_fit_the_task_is_said(server: Server) -> None:
    with pytest.raises(DeclarationError, match="valid: 1 to 100"):
        spec_of(server, "embedding", VECTOR, batch_size="101")
    with pytest.raises(DeclarationError, match="did you mean 'retrieval_query'"):
        spec_of(server, "embedding", VECTOR, task_type="retrieval_queri")
    with pytest.raises(DeclarationError, match="OUTPUT of task 'embedding' is one column"):
        spec_of(server, "embedding", TEXT)
    declared = ModelDeclaration(
        "m", TEXT, TEXT, {"provider": "googleai", "task": "text_generation", "model": "gemini-2.5-flash"}
    )
    with pytest.raises(DeclarationError, match="'api_key' is missing"):
        ModelSpec.from_declaration(declared, Path())
