"""Models in a real object store, reached as the catalog's storage is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.errors import ModelError, StorageUnavailable
from lakeflow.models.providers.onnx_fetch import checksum_of
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from tests.rig.storage import BUCKET, Storage
from tests.unit.models import graphs

ONE = {"a": pa.float64()}
PROBABILITY = {"p": pa.float64()}
PREFIX = "models-of-tests"


def put(storage: Storage, path: Path, name: str) -> str:
    """The URL of an object with a file's bytes."""
    with storage.files().open_output_stream(f"{BUCKET}/{PREFIX}/{name}") as stream:
        stream.write(path.read_bytes())
    return f"s3://{BUCKET}/{PREFIX}/{name}"


def answers(spec: ModelSpec, options: dict[str, str], column: str, values: list[object]) -> list[object]:
    with ModelSet([spec], surroundings=Surroundings(storage=options)) as models:
        rows = pa.RecordBatch.from_pydict({column: values}, schema=spec.input)
        found: list[object] = models.get("m").predict(rows).column(0).to_pylist()
    return found


def graph_at(root: Path, url: str, checksum: str) -> ModelSpec:
    return graphs.spec(root, Path("x"), ONE, PROBABILITY, model_path=url, checksum=f"sha256:{checksum}")


def test_a_graph_and_a_text_model_are_fetched_once(storage: Storage, tmp_path: Path) -> None:
    graph = graphs.classifier(tmp_path / "m.onnx", [0.5])
    url = put(storage, graph, "delay.onnx")
    spec = graph_at(tmp_path, url, hashlib.sha256(graph.read_bytes()).hexdigest())
    first = answers(spec, storage.catalog_options(), "a", [1.0, None])
    assert first[0] is not None
    assert answers(spec, {"s3.endpoint": "http://127.0.0.1:9", "s3.region": "x"}, "a", [1.0, None]) == first

    folder = graphs.text_model(tmp_path / "model", normalize=True)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, path in files.items():
        put(storage, path, f"text/{name}")
    options = {"model_path": f"s3://{BUCKET}/{PREFIX}/text/", "checksum": f"sha256:{checksum_of(files)}"}
    text = graphs.spec(tmp_path, Path("x"), {"t": pa.string()}, {"v": pa.list_(pa.float32())}, "embedding", **options)
    near = graphs.spec(tmp_path, folder, {"t": pa.string()}, {"v": pa.list_(pa.float32())}, "embedding")
    given: list[object] = ["late flight", None, ""]
    assert answers(text, storage.catalog_options(), "t", given) == answers(near, {}, "t", given)


def test_what_is_not_there_or_may_not_be_read_is_told_apart(storage: Storage, tmp_path: Path) -> None:
    missing = graph_at(tmp_path, f"s3://{BUCKET}/{PREFIX}/none.onnx", "0" * 64)
    with pytest.raises(ModelError, match=r"none\.onnx is not there"):
        answers(missing, storage.catalog_options(), "a", [1.0])
    graph = graphs.classifier(tmp_path / "m.onnx", [0.5])
    there = graph_at(tmp_path, put(storage, graph, "other.onnx"), "0" * 64)
    with pytest.raises(ModelError, match="has the checksum sha256:"):
        answers(there, storage.catalog_options(), "a", [1.0])
    wrong = storage.catalog_options() | {"s3.secret-access-key": "not-this-one"}
    with pytest.raises(ModelError, match=r"other\.onnx may not be read") as caught:
        answers(there, wrong, "a", [1.0])
    assert "not-this-one" not in str(caught.value)


def test_a_store_that_does_not_answer_may_pass(tmp_path: Path) -> None:
    nowhere = {"s3.endpoint": "http://127.0.0.1:9", "s3.region": "x", "s3.access-key-id": "k", "s3.secret-access-key": "s"}
    with pytest.raises(StorageUnavailable, match="could not be fetched"):
        answers(graph_at(tmp_path, "s3://bucket/m.onnx", "0" * 64), nowhere, "a", [1.0])
