from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.models.providers.onnx_place import LocalPlace, RemotePlace, read_place
from lakeflow.models.providers.onnx_stores import s3_arguments
from lakeflow.models.spec import ModelSpec
from tests.unit.models import graphs

HEX = "0123456789abcdef" * 4
SUM = f"sha256:{HEX}"
ONE = {"a": pa.float64()}
PROBABILITY = {"p": pa.float64()}


def place(path: str, *, text: bool = False, **options: str) -> LocalPlace | RemotePlace:
    return read_place(graphs.spec(Path("/project"), Path("x"), ONE, PROBABILITY, **{"model_path": path, **options}), text=text)


def remote(path: str, *, text: bool = False, **options: str) -> RemotePlace:
    found = place(path, text=text, checksum=SUM, **options)
    assert isinstance(found, RemotePlace)
    return found


def spec_at(path: str, **options: str) -> ModelSpec:
    written = {"provider": "onnx", "task": "classification", "model_path": path, **options}
    declaration = ModelDeclaration("m", pa.schema(list(ONE.items())), pa.schema(list(PROBABILITY.items())), written)
    return ModelSpec.from_declaration(declaration, Path("/project"))


def test_paths_of_this_disk_may_have_a_checksum() -> None:
    assert place("models/m.onnx") == LocalPlace(Path("/project/models/m.onnx"), None)
    assert place("models/m.onnx", checksum=f" {SUM.upper()} ") == LocalPlace(Path("/project/models/m.onnx"), HEX)


@pytest.mark.parametrize(
    ("path", "text", "base", "graph"),
    [
        ("s3://bucket/a/m.onnx", False, "s3://bucket/a/", "m.onnx"),
        ("s3://bucket/a", False, "s3://bucket/a/", None),
        ("https://host/a/onnx/m.onnx", False, "https://host/a/onnx/", "m.onnx"),
        ("https://host/a/onnx/m.onnx", True, "https://host/a/", "onnx/m.onnx"),
        ("https://host/a/m.ONNX", True, "https://host/a/", "m.ONNX"),
        ("HTTP://host/a/", True, "HTTP://host/a/", None),
        ("s3://bucket/what?.onnx", False, "s3://bucket/", "what?.onnx"),
    ],
)
def test_what_ends_in_onnx_is_a_graph_and_anything_else_a_folder(path: str, text: bool, base: str, graph: str | None) -> None:
    found = remote(path, text=text)
    assert (found.base, found.graph, found.checksum) == (base, graph, HEX)


def test_what_may_be_secret_in_an_address_is_not_shown() -> None:
    found = remote("https://me:hidden@host:8/a/m.onnx?X-Signature=hush")
    assert found.query == "?X-Signature=hush"
    assert found.shown == "https://host:8/a/m.onnx"
    for word in ("hidden", "hush"):
        assert word not in repr(found)
    with pytest.raises(DeclarationError) as caught:
        place("https://me:hidden@host:8/a/m.onnx?X-Signature=hush")
    assert "hidden" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("path", ["s3://bucket/m.onnx", "https://host/m.onnx", "http://host/folder"])
def test_what_lies_elsewhere_needs_a_checksum(path: str) -> None:
    with pytest.raises(DeclarationError, match=f"'model_path' is {path}, and option 'checksum' is missing") as caught:
        spec_at(path)
    assert "'checksum' = 'sha256:..'" in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["s3://", "s3:///m.onnx", "http:///m.onnx", "http://[::1/m.onnx", "https://h:port/m.onnx", "https://ex..ample/m.onnx"],
)
def test_an_address_without_a_host_is_refused(path: str) -> None:
    with pytest.raises(DeclarationError, match="'model_path' is no address; valid: s3://bucket/"):
        spec_at(path, checksum=SUM)


@pytest.mark.parametrize("checksum", ["", HEX, "sha256:abc", f"md5:{HEX}", f"{SUM}0"])
def test_a_checksum_that_is_none_is_refused(checksum: str) -> None:
    with pytest.raises(DeclarationError, match="valid: 'sha256:' and 64 hexadecimal digits"):
        spec_at("m.onnx", checksum=checksum)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model_path": "gs://bucket/m.onnx"}, DeclarationError, "starts with 'gs://'; valid: a path on this disk, or s3://"),
        ({"cheksum": SUM}, UnknownName, "did you mean 'checksum'"),
        ({"fetch_mib": "0"}, DeclarationError, "'fetch_mib' is '0'"),
        ({"fetch-timeout": "10"}, DeclarationError, "a duration with its unit"),
        ({"runtime": "onx"}, DeclarationError, "did you mean 'onnx'"),
    ],
)
def test_a_slip_is_refused_with_what_is_valid(options: dict[str, str], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        spec_at(path=options.get("model_path", "m.onnx"), **{k: v for k, v in options.items() if k != "model_path"})
    assert words in str(caught.value)


def test_local_with_the_runtime_onnx_is_the_same_provider(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", [1.0])
    alias = graphs.spec(tmp_path, path, ONE, PROBABILITY, provider="local", runtime="onnx")
    assert len(alias.fingerprint()) == 64


def test_the_identity_of_a_model_elsewhere_is_its_checksum_and_nothing_is_fetched() -> None:
    path = "http://127.0.0.1:9/m.onnx"
    one = spec_at(path, checksum=SUM).fingerprint()
    assert one == spec_at("http://127.0.0.1:9/elsewhere/m.onnx", checksum=SUM).fingerprint()
    assert one != spec_at(path, checksum=f"sha256:{HEX[::-1]}").fingerprint()


def test_s3_is_reached_as_the_catalog_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "s3.endpoint": "http://localhost:9000",
        "s3.access-key-id": "k",
        "client.secret-access-key": "s",
        "s3.region": "eu-central-1",
        "s3.connect-timeout": "3",
        "s3.force-virtual-addressing": "True",
        "uri": "x",
    }
    assert s3_arguments("bucket", given) == {
        "endpoint_override": "http://localhost:9000",
        "access_key": "k",
        "secret_key": "s",
        "region": "eu-central-1",
        "connect_timeout": 3.0,
        "force_virtual_addressing": True,
    }
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert s3_arguments("bucket", {}) == {}
