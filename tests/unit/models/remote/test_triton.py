"""Provider triton against a server that answers as Triton does, in JSON and with binary tensors."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, LakeflowError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.providers.triton import TritonProvider
from lakeflow.models.remote.dialect import Blame, Reading
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from tests.services.http import Reply, Server
from tests.services.triton import POISON, TOKEN, Triton, error
from tests.unit.models.remote.asking import ask_rows, declared, opened

FLIGHT = pa.schema([("hour", pa.int64()), ("distance", pa.float32()), ("carrier", pa.string())])
MATRIX = pa.schema([("a", pa.float32()), ("b", pa.int32()), ("c", pa.bool_())])
SCORES = pa.schema([("label", pa.string()), ("p", pa.float64()), ("both", pa.list_(pa.float32())), ("is_late", pa.bool_())])
OUTPUTS = "probabilities[1]:p, probabilities:both"
X = pa.schema([("x", pa.float64())])
Y = pa.schema([("y", pa.float64())])
ROWS: dict[str, list[Any]] = {"hour": [1, 2, 3], "distance": [0.5, 1.5, 2.5], "carrier": ["AA", "é", ""]}


@pytest.fixture
def service() -> Triton:
    return Triton()


def spec_of(
    server: Server,
    /,
    model: str = "scores",
    given: pa.Schema = FLIGHT,
    output: pa.Schema = SCORES,
    task: str = "classification",
    **options: str,
) -> ModelSpec:
    place = {"provider": "triton", "task": task, "endpoint": server.url, "model-name": model}
    chosen = {"outputs": OUTPUTS} if output is SCORES else {}
    return declared({**place, **chosen, **options}, output, given)


def inferred(server: Server) -> list[dict[str, Any]]:
    return [json.loads(asked.body.split(b"\n")[0]) for asked in server.asked if asked.path.endswith("/infer")]


def test_columns_go_out_as_tensors_and_outputs_come_back_by_name(server: Server) -> None:
    rows = ask_rows(opened(spec_of(server)), ROWS)
    for row in rows:
        assert row["both"] == pytest.approx([1 - row["p"], row["p"]], abs=1e-6)
        assert row["is_late"] == (row["label"] == "late") == (row["p"] > 0.5)
    assert inferred(server) == [
        {
            "inputs": [
                {"name": "hour", "shape": [3, 1], "datatype": "INT64", "data": [1, 2, 3]},
                {"name": "distance", "shape": [3, 1], "datatype": "FP32", "data": [0.5, 1.5, 2.5]},
                {"name": "carrier", "shape": [3, 1], "datatype": "BYTES", "data": ["AA", "é", ""]},
            ],
            "outputs": [{"name": "label"}, {"name": "probabilities"}, {"name": "is_late"}],
        }
    ]


def test_binary_tensors_give_the_same_answers(server: Server) -> None:
    by_json = ask_rows(opened(spec_of(server)), ROWS)
    by_bytes = ask_rows(opened(spec_of(server, binary_data="true")), ROWS)
    assert by_bytes == by_json
    sent = server.asked[-1]
    assert sent.headers["content-type"] == "application/octet-stream"
    assert int(sent.headers["inference-header-content-length"]) < len(sent.body)
    assert all("data" not in tensor for tensor in inferred(server)[-1]["inputs"])
    assert spec_of(server).fingerprint() == spec_of(server, binary_data="true").fingerprint(), "it changes only speed"


@pytest.mark.parametrize("binary", ["false", "true"])
def test_several_columns_may_be_one_tensor_of_their_datatype(server: Server, binary: str) -> None:
    output = pa.schema([("total", pa.float32()), ("rank", pa.int64())])
    options = {"input-name": "input__0", "input-types": "b:FP32, c:fp32", "outputs": "output__0:total", "binary-data": binary}
    rows = ask_rows(
        opened(spec_of(server, "matrix", MATRIX, output, **options)), {"a": [0.5, 1.5], "b": [2, 1], "c": [True, False]}
    )
    assert rows == [{"total": 3.5, "rank": 1}, {"total": 2.5, "rank": 0}]


def test_one_column_may_be_the_only_value_of_a_tensor_of_another_name(server: Server) -> None:
    given = pa.schema([("number", pa.float64())])
    assert ask_rows(opened(spec_of(server, "one", given, Y, input_name="x")), {"number": [1.5]}) == [{"y": 3.0}]
    assert inferred(server)[0]["inputs"] == [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.5]}]


def test_halves_go_as_bytes_since_json_has_none(server: Server) -> None:
    rows = ask_rows(opened(spec_of(server, "half", X, Y, "regression", input_types="x:FP16")), {"x": [1.5, -2.0]})
    assert rows == [{"y": 3.0}, {"y": -4.0}]
    vector = pa.schema([("v", pa.list_(pa.float32()))])
    text = pa.schema([("text", pa.string())])
    rows = ask_rows(
        opened(spec_of(server, "embed", text, vector, "embedding", outputs="vector:v")), {"text": ["a", "", None, "é", "a"]}
    )
    assert [None if row["v"] is None else len(row["v"]) for row in rows] == [4, None, None, 4, 4]
    assert inferred(server)[-1]["inputs"] == [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "é"]}]


@pytest.mark.parametrize("binary", ["false", "true"])
def test_lists_of_other_lengths_are_asked_apart(server: Server, service: Triton, binary: str) -> None:
    given = pa.schema([("v", pa.list_(pa.float64()))])
    output = pa.schema([("total", pa.float64()), ("twice", pa.list_(pa.float64()))])
    lists: list[Any] = [[1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0, 8.0], None, [1.0, None]]
    options = {"binary_data": binary, "on_error": "ignore", "error_columns": "true"}
    rows = ask_rows(opened(spec_of(server, "lists", given, output, **options)), {"v": lists})
    assert [row["total"] for row in rows] == [3.0, 7.0, 5.0, 21.0, None, None]
    assert rows[3]["twice"] == [12.0, 14.0, 16.0]
    assert [row["error_kind"] for row in rows] == [None, None, None, None, None, "refused"]
    assert max(service.rows) == 2


def test_a_model_without_a_dimension_of_rows_is_asked_a_row_at_a_time(server: Server) -> None:
    given, output = pa.schema([("v", pa.list_(pa.float32(), 3))]), pa.schema([("w", pa.list_(pa.float32()))])
    spec = spec_of(server, "flat", given, output, flatten_batch_dim="true")
    assert ask_rows(opened(spec), {"v": [[1, 2, 3], [4, 5, 6]]}) == [{"w": [2.0, 4.0, 6.0]}, {"w": [8.0, 10.0, 12.0]}]
    assert inferred(server)[0]["inputs"][0]["shape"] == [3]
    with pytest.raises(ModelError, match=r"whose first dimension is not that of rows") as caught:
        opened(spec_of(server, "flat", given, output))
    assert "'flatten_batch_dim' = 'true'" in str(caught.value)
    assert ask_rows(opened(spec_of(server, "one", X, Y)), {"x": [1.0, 2.0]}) == [{"y": 2.0}, {"y": 4.0}], (
        "its shape says one row"
    )


def test_more_rows_than_the_model_takes_are_halved(server: Server, service: Triton) -> None:
    rows: dict[str, list[Any]] = {"hour": list(range(60)), "distance": [0.5] * 60, "carrier": ["AA"] * 60}
    assert all(row["label"] for row in ask_rows(opened(spec_of(server, max_concurrent_operations="1")), rows))
    assert sum(service.rows) == 60
    assert max(service.rows) == 15


def test_a_row_over_which_the_model_fails_does_not_lose_the_others(server: Server) -> None:
    rows: dict[str, list[Any]] = {"hour": list(range(5)), "distance": [1.0, 2.0, POISON, 4.0, 5.0], "carrier": ["AA"] * 5}
    answers = ask_rows(opened(spec_of(server, on_error="ignore", error_columns="true", retry_num="0")), rows)
    assert [row["label"] is None for row in answers] == [False, False, True, False, False]
    assert "ValueError: negative distance" in answers[2]["error_message"]


def test_versions_priority_and_the_address_of_flink_go_out(server: Server) -> None:
    place = {"endpoint": f"{server.url}/v2/models", "model-version": "2", "priority": "200", "auth-token": f"Bearer {TOKEN}"}
    ask_rows(opened(spec_of(server, **place)), ROWS)
    assert [asked.path for asked in server.asked] == [
        "/v2/health/ready",
        "/v2/models/scores/versions/2",
        "/v2/models/scores/versions/2/infer",
    ]
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {TOKEN}"}
    assert inferred(server)[0]["parameters"] == {"priority": 200}
    assert spec_of(server).fingerprint() != spec_of(server, model_version="2").fingerprint()
    assert spec_of(server).fingerprint() == spec_of(server, model_version="latest").fingerprint()


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"model": "scored"}, "has no model 'scored': HTTP 404: Request for unknown model"),
    ({"model_version": "7"}, "has no model 'scores@7'"),
    ({"auth_token": "wrong"}, "does not let it in: HTTP 401"),
    ({"given": pa.schema([("hours", pa.int64())])}, "unknown input of model 'm' on the server 'hours'; did you mean 'hour'?"),
    ({"given": pa.schema([("hour", pa.int64())])}, "the model also reads 'carrier', which INPUT does not declare"),
    (
        {"given": pa.schema([("hour", pa.int64()), ("distance", pa.float64()), ("carrier", pa.string())])},
        "'distance' is sent as FP64, and the model reads FP32",
    ),
    (
        {"model": "matrix", "given": pa.schema([("input__0", pa.float32())])},
        "is one value a row, and the model reads the shape [-1, 3]",
    ),
    (
        {"model": "matrix", "given": pa.schema([("a", pa.float32()), ("b", pa.float32())]), "input_name": "input__0"},
        "is 2 values a row, and the model reads the shape [-1, 3]",
    ),
    (
        {"model": "embed", "given": pa.schema([("text", pa.list_(pa.string()))])},
        "is a list a row, and the model reads the shape [-1]",
    ),
    ({"outputs": "probability:p, probabilities:both"}, "'probability'; did you mean 'probabilities'?"),
    ({"outputs": "label:p, probabilities:both"}, "OUTPUT 'p' is double, and 'label' is BYTES"),
    ({"outputs": "probabilities[2]:p, probabilities:both"}, "takes place 2 of 'probabilities', which has 2 a row"),
]


@pytest.mark.parametrize(("changed", "said"), MISFITS)
def test_a_model_that_does_not_fit_is_found_before_any_row_is_asked(server: Server, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(LakeflowError) as caught:
        opened(spec_of(server, **changed))
    assert said in str(caught.value)
    assert not inferred(server)


def test_the_token_is_not_repeated_by_the_check(server: Server) -> None:
    with pytest.raises(ModelError, match=r"the token \*\*\* is not known"):
        opened(spec_of(server, auth_token="another-token"))


def test_a_server_that_is_away_or_not_ready_is_named_at_the_check(server: Server, service: Triton) -> None:
    service.ready = False
    with pytest.raises(ProviderUnavailable, match="is not ready: HTTP 503") as caught:
        opened(spec_of(server))
    assert str(caught.value.next_step).startswith("curl ")
    with pytest.raises(ProviderUnavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        opened(spec_of(server, endpoint="http://127.0.0.1:9"))


def said_by(*outputs: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps({"model_name": "one", "outputs": list(outputs)}).encode())


@pytest.mark.parametrize(
    ("reply", "kind", "raised"),
    [
        (error(400, "inference request batch-size must be <= 0 for 'one'"), "too_large", ModelError),
        (error(400, "unexpected shape for input 'x'"), "refused", ModelError),
        (error(400, "Request for unknown model: 'one' has no available versions"), "misused", ModelError),
        (error(404, "Request for unknown model: 'one' is not found"), "misused", ModelError),
        (error(401, "who"), "unauthorized", ModelError),
        (error(403, "no"), "unauthorized", ModelError),
        (error(413, "long"), "too_large", ModelError),
        (error(429, "busy"), "rate_limited", ProviderUnavailable),
        (error(500, "Failed to process the request(s): ValueError"), "broken_answer", ModelError),
        (error(503, "Exceeds maximum queue size"), "unavailable", ProviderUnavailable),
        (error(503, "Request timeout expired"), "timeout", ProviderUnavailable),
        (Reply(502, b"<html>"), "unavailable", ProviderUnavailable),
        (Reply(302, b"", {"location": "https://elsewhere"}), "misused", ModelError),
        (Reply(None), "unavailable", ProviderUnavailable),
        (Reply(200, b"{}" * 50, stall=9.0), "timeout", ProviderUnavailable),
        (Reply(200, b"no JSON"), "broken_answer", ModelError),
        (said_by(), "broken_answer", ModelError),
        (said_by({"name": "y", "datatype": "FP64", "shape": [1, 1]}), "broken_answer", ModelError),
        (said_by({"name": "y", "datatype": "FP64", "shape": [2, 1], "data": [1.0, 2.0]}), "broken_answer", ModelError),
        (said_by({"name": "y", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}), "broken_answer", ModelError),
        (said_by({"name": "y", "datatype": "FP64", "shape": [1, 1], "data": [1.0, 2.0]}), "broken_answer", ModelError),
        (said_by({"name": "y", "datatype": "FP64", "shape": [1, 1], "data": ["high"]}), "broken_answer", ModelError),
        (
            Reply(200, b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [1, 1], "data": [NaN]}]}'),
            "broken_answer",
            ModelError,
        ),
    ],
)
def test_each_error_has_its_kind(server: Server, service: Triton, reply: Reply, kind: str, raised: type[Exception]) -> None:
    service.scripted = [reply]
    model = opened(spec_of(server, "one", X, Y, retry_num="0", request_timeout="200 ms" if reply.stall else "30 s"))
    with pytest.raises(raised, match=f"model 'm': {kind}: ") as caught:
        ask_rows(model, {"x": [1.0]})
    assert getattr(caught.value, "next_step", None)


def packed(shape: list[int], kind: str, content: bytes) -> bytes:
    parameters = {"binary_data_size": len(content)}
    output = {"name": "y", "datatype": kind, "shape": shape, "parameters": parameters}
    return json.dumps({"outputs": [output]}).encode() + content


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (packed([1, 1], "FP64", b"\0" * 7), "FP64 in 7 bytes"),
        (packed([1, 1], "BF16", b"\0" * 2), "BF16 in 2 bytes"),
        (packed([1, 1], "BYTES", b"\5\0\0\0abc"), "ends within a text"),
        (packed([1, 1], "BYTES", b"\1\0"), "ends within a text"),
        (packed([1, 1], "BYTES", b"\1\0\0\0\xff"), "no text in UTF-8"),
        (packed([2, 1], "FP64", b"\0" * 8), "has the shape [2, 1] and 1 values"),
        (packed([1, -1], "FP64", b"\0" * 8), "has the shape [1, -1]"),
        (packed([1, 1], "FP64", b"\0\0\0\0\0\0\xf8\x7f"), "which is no double"),
        (b"\xff\xfe", "begins with no JSON"),
        (b'{"outputs": 5}', "has no outputs"),
    ],
)
def test_binary_answers_of_another_shape_are_named(server: Server, body: bytes, said: str) -> None:
    model = TritonProvider(spec_of(server, "one", X, Y, binary_data="true"))._model
    blame = model.read(body, 1)
    assert isinstance(blame, Blame)
    assert said in blame.message


def test_a_binary_tensor_may_hold_anything_that_ends_json(server: Server) -> None:
    model = TritonProvider(spec_of(server, "one", X, Y, binary_data="true"))._model
    for number in (1.0, 2.5e-300, -0.0, *struct.unpack("<d", b'"}]}\\}}@')):
        content = struct.pack("<d", number)
        assert model.read(packed([1, 1], "FP64", content), 1) == Reading(((number,),))
    assert asyncio.run(model.sign("", b'{"inputs":[]}')) == {}


def test_secrets_are_in_no_text_that_anybody_sees(
    server: Server, service: Triton, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = spec_of(
        server, "one", X, Y, on_error="ignore", error_columns="true", max_concurrent_operations="1", auth_token=TOKEN
    )
    model = opened(spec, Surroundings(answers=SqliteAnswers(tmp_path / "a.db")))
    service.scripted = [error(400, f"you sent {TOKEN}"), None]
    rows = ask_rows(model, {"x": [1.0, 2.0]})
    provider = TritonProvider(spec)
    kept = (tmp_path / "a.db").read_bytes().decode("latin-1")
    texts = [repr(spec), str(spec), str(rows), caplog.text, repr(provider.identity()), kept, repr(provider._triton)]
    assert [text for text in texts if TOKEN in text] == []
    assert "***" in str(rows)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_nam": "x"}, "did you mean 'model_name'"),
        ({"compression": "gzip"}, "unknown option"),
        ({"sequence_id": "1"}, "unknown option"),
        ({"null_policy": "ask"}, "a tensor holds no null"),
        ({"batch_size": "4", "flatten_batch_dim": "true"}, "valid with 'flatten_batch_dim' = 'true': 1"),
        ({"input_types": "distance:FLOAT32"}, "valid: BOOL, BYTES, FP16"),
        ({"input_types": "distence:FP32"}, "did you mean 'distance'"),
        ({"input_types": "distance:INT32"}, "is float, whose values are not all INT32"),
        ({"input_types": "hour:INT32"}, "is int64, whose values are not all INT32"),
        ({"input_types": "carrier:FP32"}, "is string, whose values are not all FP32"),
        ({"input_name": "x"}, "which has one datatype; they are hour INT64, distance FP32"),
        ({"outputs": ":p"}, "names no tensor for column 'p'"),
        ({"outputs": "x:q"}, "unknown column in option 'outputs'"),
        ({"given": pa.schema([("d", pa.date32())])}, "which no tensor holds"),
        ({"given": pa.schema([("b", pa.binary())])}, "add 'binary_data' = 'true'"),
        ({"endpoint": "localhost:8000"}, "is no address"),
        ({"auth_token": "a\nb"}, "characters that no header takes"),
        ({"priority": "-1"}, "a whole number of at least 0"),
        ({"task": "embedding"}, "OUTPUT of task 'embedding' is one column"),
    ],
)
def test_slips_in_a_declaration_are_found_when_it_is_read(server: Server, changed: dict[str, Any], said: str) -> None:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(server, **changed)
    assert said in str(caught.value)
    assert not server.asked


def test_smaller_numbers_go_into_wider_ones(server: Server) -> None:
    kinds = [("a", pa.int32()), ("b", pa.uint8()), ("c", pa.bool_()), ("d", pa.float16())]
    given = pa.schema(kinds)
    spec = spec_of(server, given=given, input_types="a:INT64, b:INT16, c:INT8, d:FP64", binary_data="true")
    assert [tensor.datatype for tensor in TritonProvider(spec)._triton.inputs] == ["INT64", "INT16", "INT8", "FP64"]
    with pytest.raises(DeclarationError, match="whose values are not all UINT64"):
        spec_of(server, given=given, input_types="a:UINT64")
