from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration, Origin
from lakeflow.errors import DeclarationError, ModelError, Terminal, UnknownName
from lakeflow.models.providers import registered
from lakeflow.models.spec import ModelSpec, Task, fingerprint_of, identified
from tests.unit.models import graphs

INPUT = pa.schema([("a", pa.float64()), ("b", pa.float64())])
OUTPUT = pa.schema([("p", pa.float64())])
GOOD = {"provider": "onnx", "task": "classification", "model_path": "m.onnx"}


def declared(options: dict[str, str], *, given: pa.Schema = INPUT, output: pa.Schema = OUTPUT) -> ModelSpec:
    return ModelSpec.from_declaration(
        ModelDeclaration("delay", given, output, options, origin=Origin(Path("tables/m.sql"), 3)), Path("/project")
    )


def test_a_declaration_becomes_a_spec_without_opening_its_file() -> None:
    spec = declared({**GOOD, "intra-op-threads": "2", "NULL_POLICY": "error"})
    assert spec.task is Task.CLASSIFICATION
    assert spec.options == {"model_path": "m.onnx", "intra_op_threads": "2", "null_policy": "error"}
    assert spec.path("model_path") == Path("/project/m.onnx")
    assert spec.version == 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"provider": "onx"}, UnknownName, "did you mean 'onnx'"),
        ({"task": "clasification"}, UnknownName, "did you mean 'classification'"),
        ({"task": "text_generation"}, UnknownName, "for provider 'onnx' 'text_generation'"),
        ({"model_pth": "x"}, UnknownName, "did you mean 'model_path'"),
        ({"threads": "2"}, UnknownName, "unknown option"),
        ({"model_path": " "}, DeclarationError, "'model_path' is missing"),
        ({"batch_size": "0"}, DeclarationError, "'batch_size' is '0'; valid: a whole number of at least 1"),
        ({"batch-size": "1", "batch_size": "1"}, DeclarationError, "'batch_size' is given twice"),
        ({"null_policy": "nul"}, DeclarationError, "did you mean 'null'"),
        ({"null_policy": "fill"}, DeclarationError, "go together"),
        ({"null_fill": "0"}, DeclarationError, "go together"),
        ({"null_policy": "fill", "null_fill": "a:0"}, DeclarationError, "no value for INPUT column 'b'"),
        ({"null_policy": "fill", "null_fill": "zero"}, DeclarationError, "'zero' for INPUT column 'a'"),
        ({"null_policy": "fill", "null_fill": "0, c:1"}, UnknownName, "'c'"),
        ({"null_policy": "fill", "null_fill": "0, 1"}, DeclarationError, "two values"),
        ({"allow_spinning": "maybe"}, DeclarationError, "valid: true, false"),
        ({"outputs": "label:q"}, UnknownName, "'q'"),
        ({"outputs": "label:p, scores:p"}, DeclarationError, "'p' twice"),
        ({"outputs": ":p"}, DeclarationError, "no tensor"),
    ],
)
def test_a_wrong_option_is_refused_with_the_valid_ones(changes: dict[str, str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match="delay") as caught:
        declared({**GOOD, **changes})
    assert words in str(caught.value)
    assert "tables/m.sql:3" in str(caught.value)


@pytest.mark.parametrize("missing", ["provider", "task"])
def test_provider_and_task_are_needed(missing: str) -> None:
    with pytest.raises(DeclarationError, match=f"'{missing}' is missing"):
        declared({name: value for name, value in GOOD.items() if name != missing})


def test_columns_are_declared_once_and_at_least_one() -> None:
    with pytest.raises(DeclarationError, match="OUTPUT declares column 'p' twice"):
        declared(GOOD, output=pa.schema([("p", pa.float64()), ("p", pa.int64())]))
    with pytest.raises(DeclarationError, match=r"INPUT .* declares no column"):
        declared(GOOD, given=pa.schema([]))


def test_text_has_options_of_its_own() -> None:
    text = pa.schema([("t", pa.string())])
    vector = pa.schema([("v", pa.list_(pa.float32()))])
    embed = {**GOOD, "task": "embedding", "threads": "2", "pooling": "cls"}
    assert declared(embed, given=text, output=vector).options["threads"] == "2"
    with pytest.raises(UnknownName, match="null_policy"):
        declared({**embed, "null_policy": "null"}, given=text, output=vector)


def test_the_fingerprint_follows_what_decides_the_answers(tmp_path: Path) -> None:
    kinds = {"a": pa.float64()}
    one = graphs.classifier(tmp_path / "one.onnx", [1.0])
    same = tmp_path / "elsewhere" / "renamed.onnx"
    same.parent.mkdir()
    same.write_bytes(one.read_bytes())
    other = graphs.classifier(tmp_path / "other.onnx", [2.0])

    def print_of(path: Path, **options: str) -> str:
        return graphs.spec(tmp_path, path, kinds, {"p": pa.float64()}, **options).fingerprint()

    assert print_of(one) == print_of(same) == print_of(one, batch_size="7", null_policy="null")
    assert len({print_of(one), print_of(other), print_of(one, null_policy="error"), print_of(one, nan="pass")}) == 4
    with pytest.raises(ModelError, match="is not there"):
        print_of(tmp_path / "none.onnx")


def test_the_fingerprint_of_a_text_model_covers_its_tokenizer(tmp_path: Path) -> None:
    folder = graphs.text_model(tmp_path / "model")
    spec = graphs.spec(tmp_path, folder, {"t": pa.string()}, {"v": pa.list_(pa.float32())}, "embedding")
    before = spec.fingerprint()
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    assert spec.fingerprint() != before


def test_a_provider_cannot_be_registered_twice() -> None:
    with pytest.raises(Terminal, match=r"'x' is registered twice: a:A and b:B"):
        registered([("x", "a:A"), ("x", "b:B")])


def test_models_are_listed_without_onnxruntime() -> None:
    code = (
        "import sys, pyarrow as pa; from pathlib import Path; from lakeflow.declare import ModelDeclaration\n"
        "from lakeflow.models.registry import ModelSet; from lakeflow.models.spec import ModelSpec\n"
        "d = ModelDeclaration('m', pa.schema([('a', pa.float64())]), pa.schema([('p', pa.float64())]),\n"
        "    {'provider': 'onnx', 'task': 'regression', 'model_path': 'm.onnx'})\n"
        "assert ModelSet([ModelSpec.from_declaration(d, Path('.'))]).names == ('m',)\n"
        "print(sorted({'onnxruntime', 'tokenizers', 'polars'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_artifacts_are_known_by_their_bytes_wherever_they_lie(tmp_path: Path) -> None:
    columns = pa.schema([("x", pa.float64())])
    spec = ModelSpec("m", "onnx", Task.REGRESSION, columns, columns)
    (tmp_path / "a").write_bytes(b"bytes")
    found = identified(spec, {"graph": tmp_path / "a", "files": "sha256:abc", "temperature": "0"})
    assert found.artifacts == {"graph": hashlib.sha256(b"bytes").hexdigest(), "files": "abc"}
    assert found.fingerprint == fingerprint_of(spec, {"graph": tmp_path / "a", "files": "sha256:abc", "temperature": "0"})
    assert (
        found.fingerprint != identified(spec, {"graph": tmp_path / "a", "files": "sha256:abd", "temperature": "0"}).fingerprint
    )
