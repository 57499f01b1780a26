"""Provider sagemaker against a server that answers as the service does, and checks each signature as it does."""

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
from lakeflow.models.providers.sagemaker import SageMakerProvider
from lakeflow.models.providers.scoring_output import read_outputs
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.models.usage import Usage
from tests.services.aws import ACCESS_KEY, REGION, SECRET_KEY, error
from tests.services.deployed import POISON
from tests.services.http import Reply, Server
from tests.services.sagemaker import SageMaker, model_error
from tests.unit.models.remote.asking import TEXT, VECTOR, ask_rows, declared, opened

FEATURES = pa.schema([("hour", pa.int64()), ("distance", pa.float64()), ("carrier", pa.string())])
SCORES = pa.schema([("label", pa.string()), ("score", pa.float64())])
X = pa.schema([("x", pa.float64())])
ROWS: dict[str, list[Any]] = {"hour": [1, 2, 3], "distance": [1.5, 2.5, 3.5], "carrier": ["AA", 'D"L,', "UA"]}


@pytest.fixture
def service() -> SageMaker:
    return SageMaker()


def spec_of(
    server: Server,
    /,
    endpoint_name: str = "scores",
    task: str = "classification",
    given: pa.Schema = FEATURES,
    output: pa.Schema = SCORES,
    **options: str,
) -> ModelSpec:
    account = {"region": REGION, "aws-access-key": ACCESS_KEY, "aws-secret-key": SECRET_KEY}
    place = {"provider": "sagemaker", "task": task, "endpoint": server.url, "endpoint-name": endpoint_name}
    return declared({**place, **account, **options}, output, given)


def test_rows_go_out_as_csv_and_come_back_by_the_columns_names(server: Server) -> None:
    rows = ask_rows(opened(spec_of(server)), ROWS)
    assert [asked.body for asked in server.asked] == [b'1,1.5,AA\n2,2.5,"D""L,"\n3,3.5,UA\n']
    assert server.asked[0].headers["content-type"] == "text/csv"
    assert [set(row) for row in rows] == [{"label", "score"}] * 3
    assert len({row["score"] for row in rows}) == 3


BODIES: dict[str, Any] = {
    "records": [{"hour": 1, "distance": 1.5, "carrier": "AA"}],
    "json_array": [[1, 1.5, "AA"]],
    "JSON-ARRAY": [[1, 1.5, "AA"]],
    "instances": {"instances": [{"hour": 1, "distance": 1.5, "carrier": "AA"}]},
    "tf-serving": {"instances": [{"hour": 1, "distance": 1.5, "carrier": "AA"}]},
    "features": {"instances": [{"features": [1, 1.5, "AA"]}]},
    "pandas-dataframe": {"dataframe_split": {"columns": ["hour", "distance", "carrier"], "data": [[1, 1.5, "AA"]]}},
    "input_data": {"input_data": {"columns": ["hour", "distance", "carrier"], "index": [0], "data": [[1, 1.5, "AA"]]}},
}


@pytest.mark.parametrize("written", BODIES)
def test_each_form_of_json_holds_the_same_rows(server: Server, written: str) -> None:
    first = {name: values[:1] for name, values in ROWS.items()}
    by_csv = ask_rows(opened(spec_of(server)), first)
    assert ask_rows(opened(spec_of(server, input_format=written)), first) == by_csv
    assert json.loads(server.asked[1].body) == BODIES[written]


def test_parameters_stand_where_the_form_has_them(server: Server) -> None:
    for written, field, value in (
        ("input_data", "params", {"p": 0.5}),
        ("pandas_dataframe", "params", {"p": 0.5}),
        ("instances", "configuration", {"k": 1}),
    ):
        options = {"parameters": json.dumps({field: value} if written == "instances" else value)}
        ask_rows(opened(spec_of(server, input_format=written, **options)), ROWS)
        assert json.loads(server.asked[-1].body)[field] == value
    spec = spec_of(server, "generate", "text_generation", TEXT, TEXT, parameters='{"max_new_tokens": 20}')
    assert ask_rows(opened(spec), {"t": ["a"]}) == [{"t": "A"}]
    assert json.loads(server.asked[-1].body) == {"inputs": "a", "parameters": {"max_new_tokens": 20}}


def test_values_that_json_does_not_have_are_said_as_json_can(server: Server) -> None:
    import datetime
    import decimal

    kinds = [
        ("f", pa.float64()),
        ("d", pa.date32()),
        ("n", pa.decimal128(9, 2)),
        ("l", pa.list_(pa.float64())),
        ("b", pa.bool_()),
    ]
    values: dict[str, list[Any]] = {"f": [float("nan"), float("inf")], "d": [datetime.date(2026, 1, 31)] * 2}
    values |= {"n": [decimal.Decimal("1.25")] * 2, "l": [[1.0, 2.0]] * 2, "b": [True, None]}
    for written in ("records", "json_array", "csv"):
        ask_rows(opened(spec_of(server, given=pa.schema(kinds), input_format=written, null_policy="ask")), values)
    records, arrays, lines = (asked.body for asked in server.asked)
    assert json.loads(records)[0] == {"f": None, "d": "2026-01-31", "n": 1.25, "l": [1.0, 2.0], "b": True}
    assert json.loads(arrays)[1] == ["inf", "2026-01-31", 1.25, 1.0, 2.0, None]
    assert lines == b",2026-01-31,1.25,1.0,2.0,true\ninf,2026-01-31,1.25,1.0,2.0,\n"


def test_paths_say_where_values_stand(server: Server) -> None:
    pairs = spec_of(server, "pairs", output=pa.schema([("p", pa.float64()), ("q", pa.float64())]), retry_num="0")
    with pytest.raises(ModelError, match="OUTPUT declares p, q; say 'outputs'"):
        ask_rows(opened(pairs), ROWS)
    output = pa.schema([("p", pa.float64()), ("q", pa.float64())])
    for row in ask_rows(opened(spec_of(server, "pairs", "classification", output=output, outputs="[][0]:p, [][1]:q")), ROWS):
        assert row["p"] + row["q"] == pytest.approx(1.0)
    by_name = ask_rows(opened(spec_of(server)), ROWS)
    by_column = spec_of(server, "columns", outputs="outputs.p[]:score, outputs.label[]:label")
    assert ask_rows(opened(by_column), ROWS) == by_name
    one = spec_of(server, "single", outputs="score:score, label:label", batch_size="1")
    assert ask_rows(opened(one), ROWS) == by_name


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[].a", [{"b": 1}, {"a": 2}]),
        ("[][0]", ["ab", "cd"]),
        ("[][1]", [[1], [2]]),
        ("[].a", [["a"], ["a"]]),
        ("x.y[]", {"x": [1, 2]}),
        ("x[]", {"x": [1]}),
        ("x[]", {"x": {"0": 1, "1": 2}}),
    ],
)
def test_a_path_leads_nowhere_in_an_answer_of_another_shape(text: str, answer: object) -> None:
    spec = ModelSpec("m", "sagemaker", Task.REGRESSION, FEATURES, X, {"outputs": f"{text}:x"})
    with pytest.raises(ModelError, match=r"the answer has no |2 rows were asked, and"):
        read_outputs(spec, list(X), 2).read(answer, 2)


def test_a_path_leads_through_lists_and_objects() -> None:
    spec = ModelSpec("m", "sagemaker", Task.REGRESSION, FEATURES, X, {"outputs": "out.0.rows[].p[1].v:x"})
    answer = {"out": {"0": {"rows": [{"p": [0, {"v": 1}]}, {"p": [0, {"v": 2}]}]}}}
    assert read_outputs(spec, list(X), 2).read(answer, 2) == ((1,), (2,))


def test_a_model_that_takes_one_row_at_a_time_is_found_out(server: Server, service: SageMaker) -> None:
    rows = {name: values * 3 for name, values in ROWS.items()}
    rows["hour"] = list(range(9))
    by_name = ask_rows(opened(spec_of(server)), rows)
    service.statuses.clear()
    assert ask_rows(opened(spec_of(server, "single", max_concurrent_operations="1")), rows) == by_name
    assert service.statuses == {200: 9 + 3}, "9, 4 and 2 rows gave one answer; those behind them go alone"
    service.statuses.clear()
    assert ask_rows(opened(spec_of(server, "single", batch_size="1")), rows) == by_name
    assert service.statuses == {200: 9}


def test_texts_are_generated_embedded_and_talked_over(server: Server) -> None:
    usage = Usage()
    assert ask_rows(opened(spec_of(server, "generate", "text_generation", TEXT, TEXT, prompt="say {t}")), {"t": ["a"]}) == [
        {"t": "SAY A"}
    ]
    chat = spec_of(server, "chat", "text_generation", TEXT, TEXT, input_format="openai-chat", parameters='{"max_token": 5}')
    with pytest.raises(ModelError, match=r"refused: HTTP 424 ModelError: .*unexpected field max_token"):
        ask_rows(opened(chat), {"t": ["a"]})
    chat = spec_of(server, "chat", "text_generation", TEXT, TEXT, input_format="openai-chat", parameters='{"max_tokens": 5}')
    assert ask_rows(opened(chat, Surroundings(usage)), {"t": ["a"]}) == [{"t": "A"}]
    assert usage.by_model()["m"].input_tokens == 5
    rows = ask_rows(
        opened(spec_of(server, "embed", "embedding", TEXT, VECTOR, batch_size="8")), {"t": ["a", "", None, "b", "a"]}
    )
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [4, None, None, 4, 4]
    assert json.loads(server.asked[-1].body) == {"inputs": ["a", "b"]}


@pytest.mark.parametrize("task", ["regression", "clustering"])
def test_a_single_value_a_row_fills_a_single_column(server: Server, service: SageMaker, task: str) -> None:
    service.scripted = [Reply(200, b'{"predictions": [1.5, 2, -3e2]}')]
    assert ask_rows(opened(spec_of(server, task=task, output=pa.schema([("y", pa.float64())]))), ROWS) == [
        {"y": 1.5},
        {"y": 2.0},
        {"y": -300.0},
    ]


def test_labels_that_are_written_as_reals_are_whole_numbers(server: Server, service: SageMaker) -> None:
    clusters = b'{"predictions": [{"closest_cluster": 2.0}, {"closest_cluster": 0.0}, {"closest_cluster": 7}]}'
    service.scripted = [Reply(200, clusters)]
    output = pa.schema([("closest_cluster", pa.int32())])
    assert [row["closest_cluster"] for row in ask_rows(opened(spec_of(server, task="clustering", output=output)), ROWS)] == [
        2,
        0,
        7,
    ]
    service.scripted = [Reply(200, b'{"predictions": [{"closest_cluster": 2.5}]}')]
    with pytest.raises(ModelError, match=r"'closest_cluster' is 2\.5, which is no int32"):
        ask_rows(
            opened(spec_of(server, task="clustering", output=output, retry_num="0")),
            {name: one[:1] for name, one in ROWS.items()},
        )


def test_headers_choose_the_variant_and_are_signed(server: Server) -> None:
    options = {"target-variant": "v2", "target-model": "a.tar.gz", "inference-component": "c1", "custom-attributes": "x=1"}
    ask_rows(opened(spec_of(server, **options)), ROWS)
    sent = server.asked[0].headers
    assert sent["x-amzn-sagemaker-target-variant"] == "v2"
    assert "x-amzn-sagemaker-custom-attributes" in sent["authorization"]
    assert spec_of(server).fingerprint() != spec_of(server, target_variant="v2").fingerprint()


def test_a_row_over_which_the_model_fails_does_not_lose_the_others(server: Server) -> None:
    rows: dict[str, list[Any]] = {
        "hour": list(range(8)),
        "distance": [1.0, 2.0, POISON, 4.0, 5.0, 6.0, 7.0, 8.0],
        "carrier": ["AA"] * 8,
    }
    options = {"on_error": "ignore", "error_columns": "true", "retry_num": "0"}
    answers = ask_rows(opened(spec_of(server, **options)), rows)
    assert [row["score"] is None for row in answers] == [False, False, True, False, False, False, False, False]
    assert answers[2]["error_kind"] == "broken_answer"
    assert "ValueError: negative distance" in answers[2]["error_message"]


def test_a_body_that_is_too_large_is_halved(server: Server, service: SageMaker) -> None:
    service.most_bytes = 60
    rows: dict[str, list[Any]] = {"hour": list(range(16)), "distance": [1.0] * 16, "carrier": ["AA"] * 16}
    assert len({row["score"] for row in ask_rows(opened(spec_of(server, max_concurrent_operations="1")), rows)}) == 16
    assert service.statuses[400] == 2, "16 and 8 rows are too many; those behind them know it"


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (model_error(400, "bad row"), "refused", ModelError),
        (model_error(413, "long"), "too_large", ModelError),
        (model_error(429, "busy"), "rate_limited", ProviderUnavailable),
        (model_error(500, "raised"), "broken_answer", ModelError),
        (model_error(503, "loading"), "unavailable", ProviderUnavailable),
        (
            model_error(0, "Your invocation timed out while waiting for a response from container primary."),
            "timeout",
            ProviderUnavailable,
        ),
        (error(530, "InternalDependencyException", "down"), "unavailable", ProviderUnavailable),
        (error(500, "InternalFailure", "down"), "unavailable", ProviderUnavailable),
        (error(503, "ServiceUnavailable", "busy"), "unavailable", ProviderUnavailable),
        (error(429, "ModelNotReadyException", "loading"), "unavailable", ProviderUnavailable),
        (error(400, "ThrottlingException", "Rate exceeded"), "rate_limited", ProviderUnavailable),
        (error(400, "ValidationError", "Endpoint x of account 1 not found."), "misused", ModelError),
        (error(400, "ValidationError", "another"), "refused", ModelError),
        (error(403, "AccessDeniedException", "no"), "unauthorized", ModelError),
        (error(403, "ExpiredTokenException", "old"), "unauthorized", ModelError),
        (Reply(413, b""), "too_large", ModelError),
        (Reply(502, b"<html>"), "unavailable", ProviderUnavailable),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b'{"predictions": [{"label": 5, "score": 1}]}'), "broken_answer", ModelError),
        (Reply(200, b'{"predictions": [{"label": "x"}]}'), "broken_answer", ModelError),
        (Reply(200, b'{"predictions": []}'), "broken_answer", ModelError),
        (Reply(200, b"0.5,0.7"), "broken_answer", ModelError),
        (Reply(200, b"{}" * 50, stall=9.0), "timeout", ProviderUnavailable),
    ],
)
def test_each_error_has_its_kind(server: Server, service: SageMaker, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    one = {name: values[:1] for name, values in ROWS.items()}
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask_rows(opened(spec_of(server, retry_num="0", request_timeout="200 ms" if reply.stall else "30 s")), one)
    assert SECRET_KEY not in str(caught.value)
    assert getattr(caught.value, "next_step", None)


def test_an_endpoint_that_is_not_there_is_no_rows_error(server: Server) -> None:
    with pytest.raises(ModelError, match="misused: HTTP 400 ValidationError: Endpoint gone of account 123456789012 not found"):
        ask_rows(opened(spec_of(server, "gone", on_error="ignore")), ROWS)


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: SageMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(server, on_error="ignore", error_columns="true", batch_size="1", max_concurrent_operations="1")
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    service.scripted = [model_error(400, f"you sent {SECRET_KEY}"), None]
    rows = ask_rows(model, ROWS)
    provider = SageMakerProvider(spec)
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [repr(spec), str(spec), str(rows), caplog.text, repr(provider.identity()), kept, repr(provider._aws._place)]
    assert [text for text in texts if SECRET_KEY in text] == []
    assert "***" in str(rows)


def test_an_account_is_needed(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    given = {"aws_access_key": "", "aws_secret_key": ""}
    with pytest.raises(DeclarationError, match="option 'aws_access_key' is given twice"):
        spec_of(server, **given)
    place = {"provider": "sagemaker", "task": "regression", "region": REGION, "endpoint_name": "scores", "endpoint": server.url}
    declared = ModelDeclaration("m", FEATURES, pa.schema([("y", pa.float64())]), place)
    with pytest.raises(ModelError, match="no account of AWS is found"):
        opened(ModelSpec.from_declaration(declared, Path()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_formt": "csv"}, "did you mean 'input_format'"),
        ({"input_format": "cvs"}, "did you mean 'csv'"),
        ({"endpoint_name": "not a name"}, "valid: the name of an endpoint in 127.0.0.1"),
        ({"outputs": "[].label:late"}, "unknown column in option 'outputs'"),
        ({"outputs": "[].label:label"}, "says nothing of OUTPUT 'score'"),
        ({"outputs": "label:label, score:score"}, "has no [], so it tells of one row only"),
        ({"outputs": "[]..label:label, [].score:score"}, "is no path"),
        ({"outputs": "[].a[]:label, [].score:score"}, "is no path"),
        ({"prompt": "{carrier}"}, "goes with 'input_format' = 'text'"),
        ({"parameters": '{"a": 1}'}, "'input_format' = 'csv' has no place for 'parameters'; valid: features"),
        ({"parameters": "1", "input_format": "instances"}, "valid: an object of JSON"),
        ({"batch_size": "2", "input_format": "openai_chat"}, "valid for 'openai_chat': 1"),
        ({"batch_size": "0"}, "valid: a whole number of at least 1"),
        ({"task": "embedding"}, "OUTPUT of task 'embedding' is one column"),
        ({"api_key": "x"}, "unknown option"),
        ({"target_variant": "a\nb"}, "characters that no header takes"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(server: Server, options: dict[str, str], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, **options)
    assert said in str(caught.value)


def test_a_row_without_names_holds_no_struct(server: Server) -> None:
    nested = pa.schema([("s", pa.struct([("a", pa.int64())]))])
    with pytest.raises(DeclarationError, match="which a row of csv cannot hold"):
        spec_of(server, given=nested)
    assert spec_of(server, given=nested, input_format="records").options["input_format"] == "records"
    with pytest.raises(DeclarationError, match="which a text cannot hold"):
        spec_of(server, given=pa.schema([("b", pa.binary())]), input_format="records")


def test_the_whole_address_may_be_given_as_the_endpoint() -> None:
    url = "https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/late/invocations"
    given = {"provider": "sagemaker", "task": "regression", "endpoint": url, "aws_access_key": "a", "aws_secret_key": "b"}
    spec = ModelSpec.from_declaration(ModelDeclaration("m", FEATURES, pa.schema([("y", pa.float64())]), given), Path())
    place = SageMakerProvider(spec)._aws._place
    assert (place.url, place.name, place.access.region) == (url, "late", "us-east-1")
    plain = {**given, "endpoint": "", "endpoint_name": "late", "region": "us-east-1"}
    spec = ModelSpec.from_declaration(ModelDeclaration("m", FEATURES, pa.schema([("y", pa.float64())]), plain), Path())
    assert SageMakerProvider(spec)._aws.url == url
