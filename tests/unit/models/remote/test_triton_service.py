"""That the server of the tests is faithful: Triton's own client asks it, in JSON and with binary tensors, and reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.services.http import Server
from tests.services.triton import Triton

triton: Any = pytest.importorskip("tritonclient.http")


@pytest.fixture
def client() -> Iterator[Any]:
    with Server(Triton()) as server, triton.InferenceServerClient(url=f"127.0.0.1:{server.port}") as client:
        yield client


def tensor(name: str, values: Any, datatype: str, binary: bool) -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def test_health_and_metadata_are_read(client: Any) -> None:
    assert client.is_server_ready()
    assert client.is_model_ready("scores")
    metadata = client.get_model_metadata("scores", "2")
    assert [one["name"] for one in metadata["inputs"]] == ["hour", "distance", "carrier"]


@pytest.mark.parametrize("binary", [True, False])
def test_answers_are_read_in_both_forms(client: Any, binary: bool) -> None:
    inputs = [
        tensor("hour", np.array([[1], [2]], np.int64), "INT64", binary),
        tensor("distance", np.array([[0.5], [1.5]], np.float32), "FP32", binary),
        tensor("carrier", np.array([[b"AA"], ["é".encode()]], object), "BYTES", binary),
    ]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities", "is_late")]
    answer = client.infer("scores", inputs, outputs=outputs)
    assert answer.as_numpy("probabilities").sum(1) == pytest.approx([1.0, 1.0])
    labels = [text.decode() if isinstance(text, bytes) else text for text in answer.as_numpy("label")[:, 0]]
    assert [label == "late" for label in labels] == answer.as_numpy("is_late")[:, 0].tolist()


def test_errors_are_read(client: Any) -> None:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="unknown model"):
        client.get_model_metadata("gone")
    wrong = tensor("x", np.array([[1.0]], np.float32), "FP32", True)
    with pytest.raises(InferenceServerException, match="data-type is 'FP32', but model 'one' expects 'FP64'"):
        client.infer("one", [wrong])
    many = tensor("v", np.zeros((17, 2)), "FP64", True)
    with pytest.raises(InferenceServerException, match="batch-size must be <= 16"):
        client.infer("lists", [many])
