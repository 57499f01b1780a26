"""What every provider keeps, the real one and the fake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.errors import ModelError
from lakeflow.models.providers.anthropic import AnthropicProvider
from lakeflow.models.providers.azure_openai import AzureOpenAIProvider
from lakeflow.models.providers.azureml import AzureMLProvider
from lakeflow.models.providers.base import Provider
from lakeflow.models.providers.bedrock import BedrockProvider
from lakeflow.models.providers.googleai import GoogleAIProvider
from lakeflow.models.providers.onnx import FETCHED, OnnxProvider
from lakeflow.models.providers.openai import OpenAIProvider
from lakeflow.models.providers.python import PythonProvider
from lakeflow.models.providers.sagemaker import SageMakerProvider
from lakeflow.models.providers.triton import TritonProvider
from lakeflow.models.providers.vertex import VertexProvider
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.testing.provider import EchoProvider
from tests.services.anthropic import KEY as ANTHROPIC_KEY
from tests.services.anthropic import Anthropic
from tests.services.aws import ACCESS_KEY, REGION, SECRET_KEY
from tests.services.azure_openai import AZURE_KEY, AzureOpenAI
from tests.services.azureml import KEY as ENDPOINT_KEY
from tests.services.azureml import AzureML
from tests.services.bedrock import TEXT_MODEL, Bedrock
from tests.services.google import KEY as GOOGLE_KEY
from tests.services.google import TOKEN, Google
from tests.services.http import Handler, Server
from tests.services.openai import KEY, OpenAI
from tests.services.sagemaker import SageMaker
from tests.services.triton import Triton
from tests.unit.models import classes, graphs


@dataclass(frozen=True)
class Case:
    """A provider's maker, its spec, and rows with nulls among them."""

    make: Callable[[ModelSpec], Provider]
    spec: ModelSpec
    rows: pa.RecordBatch


def _tabular(root: Path) -> Case:
    path = graphs.classifier(root / "m.onnx", [0.5, -0.25])
    kinds = {"a": pa.float64(), "b": pa.int64()}
    output = {"p": pa.float64(), "label": pa.int64(), "both": pa.list_(pa.float32())}
    spec = graphs.spec(root, path, kinds, output, batch_size="3")
    columns = {"a": [1.0, None, 3.0, float("nan"), 5.0, 6.0, 7.0, 8.0], "b": [1, 2, 3, 4, None, 6, 7, 8]}
    return Case(OnnxProvider, spec, pa.RecordBatch.from_pydict(columns, schema=spec.input))


def _by_name(root: Path) -> Case:
    kinds = {"hour": pa.int64(), "carrier": pa.string()}
    spec = graphs.spec(root, graphs.by_name(root / "m.onnx"), kinds, {"score": pa.float32()}, "regression", batch_size="2")
    columns = {"hour": [1, 2, None, 4, 5], "carrier": ["AA", None, "DL", "", "DL"]}
    return Case(OnnxProvider, spec, pa.RecordBatch.from_pydict(columns, schema=spec.input))


def _text(root: Path) -> Case:
    folder = graphs.text_model(root / "model")
    spec = graphs.spec(root, folder, {"t": pa.string()}, {"v": pa.list_(pa.float32())}, "embedding", batch_tokens="8")
    texts = ["late", None, "", "storm late gate", "flight flight", "late"]
    return Case(OnnxProvider, spec, pa.RecordBatch.from_pydict({"t": texts}, schema=spec.input))


def _fetched(root: Path) -> Case:
    """A graph that was brought from elsewhere, whose server is not asked again."""
    case = _tabular(root)
    content = (root / "m.onnx").read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    kept = root / FETCHED / f"sha256-{checksum}" / "model.onnx"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    options = {**case.spec.options, "model_path": "https://127.0.0.1:9/m.onnx", "checksum": f"sha256:{checksum}"}
    return replace(case, spec=replace(case.spec, options=options))


def _python(root: Path) -> Case:
    source = """
        import pyarrow as pa

        class Mine:
            def __init__(self, factor: float, thread_safe: bool = False):
                self.factor, self.thread_safe = factor, thread_safe

            def predict(self, rows):
                given = rows.to_pylist()
                score = [row["a"] * self.factor for row in given]
                marks = [[len(word) / 2 for word in row["t"].split()] for row in given]
                return {"score": score, "marks": marks, "n": [len(row["t"]) for row in given]}
    """
    classes.write(root, source)
    given = {"a": pa.float64(), "t": pa.string()}
    output = {"n": pa.int32(), "score": pa.float64(), "marks": pa.list_(pa.float64())}
    options = {"factor": "2", "batch_size": "3", "thread_safe": "true"}
    spec = classes.spec(root, "models.mine:Mine", given, output, "classification", **options)
    columns = {"a": [1.0, None, 3.0, float("nan"), 5.0, 6.0], "t": ["x", "y z", None, "x", "", "a b"]}
    return Case(PythonProvider, spec, pa.RecordBatch.from_pydict(columns, schema=spec.input))


def _echo(root: Path) -> Case:
    given = pa.schema([("a", pa.float64()), ("t", pa.string())])
    output = pa.schema([("n", pa.int32()), ("s", pa.string()), ("v", pa.list_(pa.float32())), ("f", pa.list_(pa.float32(), 3))])
    spec = ModelSpec("m", "echo", Task.CLASSIFICATION, given, output, {}, root)
    columns = {"a": [1.0, None, 3.0, 1.0], "t": ["x", "y", None, "x"]}
    return Case(EchoProvider, spec, pa.RecordBatch.from_pydict(columns, schema=given))


def _chat(root: Path, url: str) -> Case:
    options = {"endpoint": f"{url}/v1", "api_key": KEY, "model": "gpt-4.1-mini", "prompt": "{t} {n}", "null_policy": "ask"}
    given = pa.schema([("t", pa.string()), ("n", pa.int64())])
    output = pa.schema([("label", pa.string()), ("sure", pa.float64()), ("marks", pa.list_(pa.int64()))])
    spec = ModelSpec("m", "openai", Task.CLASSIFICATION, given, output, options, root)
    columns = {"t": ["x", "y", None, "x", ""], "n": [1, None, None, 1, 2]}
    return Case(OpenAIProvider, spec, pa.RecordBatch.from_pydict(columns, schema=given))


def _embeddings(root: Path, url: str) -> Case:
    options = {"endpoint": f"{url}/v1", "api_key": KEY, "model": "text-embedding-3-small", "batch_size": "2"}
    given, output = pa.schema([("t", pa.string())]), pa.schema([("v", pa.list_(pa.float32()))])
    spec = ModelSpec("m", "openai", Task.EMBEDDING, given, output, options, root)
    texts = ["late", None, "", "storm late gate", "flight flight", "late"]
    return Case(OpenAIProvider, spec, pa.RecordBatch.from_pydict({"t": texts}, schema=given))


def _responses(root: Path, url: str) -> Case:
    """Some of its rows are longer than the context."""
    case = _chat(root, url)
    options = {**case.spec.options, "api": "responses", "max_context_size": "400", "system_prompt": "Be brief."}
    long = {"t": ["x" * 500, "y", None, "x" * 500, ""], "n": [1, None, None, 1, 2]}
    rows = pa.RecordBatch.from_pydict(long, schema=case.spec.input)
    return Case(OpenAIProvider, replace(case.spec, options=options), rows)


def _azure(case: Case, url: str, deployment: str, **options: str) -> Case:
    kept = {name: value for name, value in case.spec.options.items() if name not in ("api_key", "model")}
    given = {**kept, "endpoint": url, "deployment": deployment, "api_key": AZURE_KEY, **options}
    return Case(AzureOpenAIProvider, replace(case.spec, provider="azure_openai", options=given), case.rows)


def _azure_chat(root: Path, url: str) -> Case:
    return _azure(_chat(root, url), url, "my-gpt")


def _azure_embeddings(root: Path, url: str) -> Case:
    return _azure(_embeddings(root, url), url, "my-embeddings", api_version="2024-10-21")


def _converse(root: Path, url: str) -> Case:
    given = pa.schema([("t", pa.string()), ("n", pa.int64())])
    output = pa.schema([("label", pa.string()), ("sure", pa.float64()), ("marks", pa.list_(pa.int64()))])
    options = {"endpoint": url, "region": REGION, "aws_access_key": ACCESS_KEY, "aws_secret_key": SECRET_KEY}
    options |= {"model": TEXT_MODEL, "prompt": "{t} {n}", "null_policy": "ask"}
    spec = ModelSpec("m", "bedrock", Task.CLASSIFICATION, given, output, options, root)
    columns = {"t": ["x", "y", None, "x", ""], "n": [1, None, None, 1, 2]}
    return Case(BedrockProvider, spec, pa.RecordBatch.from_pydict(columns, schema=given))


def _scored(url: str, root: Path, **options: str) -> ModelSpec:
    given = pa.schema([("hour", pa.int64()), ("carrier", pa.string())])
    output = pa.schema([("label", pa.string()), ("score", pa.float64())])
    return ModelSpec("m", "", Task.CLASSIFICATION, given, output, {"endpoint": url, "batch_size": "2", **options}, root)


def _sagemaker(root: Path, url: str) -> Case:
    account = {"region": REGION, "aws_access_key": ACCESS_KEY, "aws_secret_key": SECRET_KEY}
    spec = replace(_scored(url, root, endpoint_name="scores", **account), provider="sagemaker")
    columns = {"hour": [1, 2, None, 4, 5], "carrier": ["AA", None, "DL", "", "DL"]}
    return Case(SageMakerProvider, spec, pa.RecordBatch.from_pydict(columns, schema=spec.input))


def _azureml(root: Path, url: str) -> Case:
    options = {"api_key": ENDPOINT_KEY, "null_policy": "ask"}
    spec = replace(_scored(f"{url}/scores/score", root, **options), provider="azureml")
    columns = {"hour": [1, 2, None, 4, 5], "carrier": ["AA", None, "DL", "", "DL"]}
    return Case(AzureMLProvider, spec, pa.RecordBatch.from_pydict(columns, schema=spec.input))


def _messages(root: Path, url: str) -> Case:
    case = _chat(root, url)
    options = {**case.spec.options, "endpoint": url, "api_key": ANTHROPIC_KEY, "model": "claude-haiku-4-5"}
    return Case(AnthropicProvider, replace(case.spec, provider="anthropic", options=options), case.rows)


def _gemini(root: Path, url: str) -> Case:
    case = _chat(root, url)
    options = {**case.spec.options, "endpoint": url, "api_key": GOOGLE_KEY, "model": "gemini-2.5-flash"}
    return Case(GoogleAIProvider, replace(case.spec, provider="googleai", options=options), case.rows)


def _gemini_embeddings(root: Path, url: str) -> Case:
    case = _embeddings(root, url)
    options = {**case.spec.options, "endpoint": url, "api_key": GOOGLE_KEY, "model": "gemini-embedding-001"}
    return Case(GoogleAIProvider, replace(case.spec, provider="googleai", options=options), case.rows)


def _vertex_embeddings(root: Path, url: str) -> Case:
    case = _embeddings(root, url)
    options = {"endpoint": url, "project": "p", "location": "l", "access_token": TOKEN, "model": "text-embedding-005"}
    return Case(VertexProvider, replace(case.spec, provider="vertex", options={**options, "batch_size": "2"}), case.rows)


def _vertex_endpoint(root: Path, url: str) -> Case:
    options = {"project": "p", "location": "l", "access_token": TOKEN, "endpoint_id": "7", "null_policy": "ask"}
    output = pa.schema([("score", pa.float64())])
    spec = replace(_scored(url, root, **options), provider="vertex", task=Task.REGRESSION, output=output)
    columns = {"hour": [1, 2, None, 4, 5], "carrier": ["AA", None, "DL", "", "DL"]}
    return Case(VertexProvider, spec, pa.RecordBatch.from_pydict(columns, schema=spec.input))


def _triton(root: Path, url: str) -> Case:
    given = pa.schema([("hour", pa.int64()), ("distance", pa.float32()), ("carrier", pa.string())])
    output = pa.schema([("label", pa.string()), ("both", pa.list_(pa.float32())), ("is_late", pa.bool_())])
    options = {"endpoint": url, "model_name": "scores", "outputs": "probabilities:both", "batch_size": "2"}
    spec = ModelSpec("m", "triton", Task.CLASSIFICATION, given, output, options, root)
    columns = {
        "hour": [1, 2, None, 4, 5],
        "distance": [1.0, 2.0, 3.0, float("nan"), 5.0],
        "carrier": ["AA", None, "DL", "", "DL"],
    }
    return Case(TritonProvider, spec, pa.RecordBatch.from_pydict(columns, schema=given))


SERVICES: Mapping[Callable[[Path, str], Case], Callable[[], Handler]] = {
    _chat: OpenAI,
    _embeddings: OpenAI,
    _responses: OpenAI,
    _azure_chat: AzureOpenAI,
    _azure_embeddings: AzureOpenAI,
    _messages: Anthropic,
    _gemini: Google,
    _gemini_embeddings: Google,
    _vertex_embeddings: Google,
    _vertex_endpoint: Google,
    _converse: Bedrock,
    _sagemaker: SageMaker,
    _azureml: AzureML,
    _triton: Triton,
}
"""Models of services, which are there while a test runs; `Case` is made with the service's address."""


@pytest.fixture(params=[_tabular, _by_name, _text, _fetched, _python, _echo, *SERVICES])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Providers that were made are closed, and a service that one asks is there while the test runs."""
    made: list[Provider] = []
    with ExitStack() as stack:
        service = SERVICES.get(request.param)
        url = [stack.enter_context(Server(service())).url] if service else []
        case: Case = request.param(tmp_path, *url)

        def make(spec: ModelSpec) -> Provider:
            made.append(case.make(spec))
            return made[-1]

        yield replace(case, make=make)
        for provider in made:
            provider.close()


def checked(case: Case) -> Provider:
    provider = case.make(case.spec)
    provider.check()
    return provider


def assert_alike(left: pa.RecordBatch, right: pa.RecordBatch) -> None:
    assert left.schema.equals(right.schema)
    for one, other in zip(left.to_pylist(), right.to_pylist(), strict=True):
        for name, answer in one.items():
            assert answer == (
                other[name] if answer is None or isinstance(answer, str) else pytest.approx(other[name], rel=1e-6)
            )


def test_answers_have_outputs_columns_and_a_row_for_each_row(case: Case) -> None:
    answers = checked(case).predict(case.rows)
    assert answers.schema.equals(case.spec.output)
    assert answers.num_rows == case.rows.num_rows
    answers.validate(full=True)


def test_any_batching_gives_the_same_answers(case: Case) -> None:
    provider = checked(case)
    whole = provider.predict(case.rows)
    for size in (1, 2, 5):
        parts = [provider.predict(case.rows.slice(start, size)) for start in range(0, case.rows.num_rows, size)]
        assert_alike(pa.concat_batches(parts), whole)


def test_answers_follow_their_rows(case: Case) -> None:
    provider = checked(case)
    backwards = pa.array(range(case.rows.num_rows - 1, -1, -1))
    assert_alike(provider.predict(case.rows.take(backwards)), provider.predict(case.rows).take(backwards))


def test_no_rows_give_no_answers(case: Case) -> None:
    answers = checked(case).predict(case.rows.slice(0, 0))
    assert answers.num_rows == 0
    assert answers.schema.equals(case.spec.output)


def test_rows_of_nulls_are_answered(case: Case) -> None:
    nulls = pa.RecordBatch.from_arrays([pa.nulls(3, column.type) for column in case.spec.input], schema=case.spec.input)
    assert checked(case).predict(nulls).num_rows == 3


def test_threads_may_ask_at_once(case: Case) -> None:
    provider = checked(case)
    whole = provider.predict(case.rows)
    with ThreadPoolExecutor(2) as pool:
        for answers in pool.map(provider.predict, [case.rows] * 8):
            assert_alike(answers, whole)


def test_checking_twice_and_closing_twice_do_no_harm(case: Case) -> None:
    provider = case.make(case.spec)
    provider.close()
    provider.check()
    provider.check()
    assert provider.predict(case.rows).num_rows == case.rows.num_rows
    provider.close()
    provider.close()


def test_what_decides_the_answers_is_known_before_the_check(case: Case) -> None:
    for value in case.make(case.spec).identity().values():
        assert isinstance(value, str) or value.is_file()


def test_asking_before_the_check_is_an_error(case: Case) -> None:
    with pytest.raises(ModelError, match="before it was checked"):
        case.make(case.spec).predict(case.rows)


def test_the_fake_fails_where_it_is_told_to() -> None:
    case = _echo(Path())
    provider = EchoProvider(case.spec, fail_at=5)
    provider.check()
    provider.predict(case.rows)
    with pytest.raises(ModelError, match="told to fail at row 5"):
        provider.predict(case.rows)
    assert provider.calls == [4, 4]
