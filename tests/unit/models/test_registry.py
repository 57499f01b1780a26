from __future__ import annotations

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, ModelError, UnknownName, UsageError
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.models.usage import Asked, Usage
from lakeflow.testing.provider import EchoProvider
from tests.unit.models import graphs


def spec(name: str) -> ModelSpec:
    return ModelSpec(name, "echo", Task.REGRESSION, pa.schema([("x", pa.float64())]), pa.schema([("y", pa.float64())]))


def test_models_are_opened_once_when_first_asked_for() -> None:
    made: list[EchoProvider] = []

    def slow(declared: ModelSpec) -> EchoProvider:
        time.sleep(0.01)
        made.append(EchoProvider(declared))
        return made[-1]

    models = ModelSet([spec("b"), spec("a")], slow)
    assert models.names == ("a", "b")
    assert models.specs["a"].task is Task.REGRESSION
    assert not made
    threads = [threading.Thread(target=models.get, args=("a",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert made[0].checked
    assert models.get("a") is models.get("a")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'delay'"):
        ModelSet([spec("delay")], EchoProvider).get("delays")


def test_a_name_stands_for_one_model() -> None:
    with pytest.raises(DeclarationError, match="model 'a' is declared twice"):
        ModelSet([spec("a"), spec("a")], EchoProvider)


def test_closing_closes_what_was_opened_and_ends_the_asking() -> None:
    made: list[EchoProvider] = []

    def make(declared: ModelSpec) -> EchoProvider:
        made.append(EchoProvider(declared))
        return made[-1]

    with ModelSet([spec("a"), spec("b")], make) as models:
        models.get("a")
    models.close()
    assert [provider.closed for provider in made] == [True]
    with pytest.raises(UsageError, match="after the models were closed"):
        models.get("a")


def test_a_model_that_fails_its_check_is_closed_and_not_kept() -> None:
    made: list[EchoProvider] = []

    class Failing(EchoProvider):
        def check(self) -> None:
            made.append(self)
            raise ModelError("no")

    models = ModelSet([spec("a")], Failing)
    for _ in range(2):
        with pytest.raises(ModelError, match="no"):
            models.get("a")
    assert [provider.closed for provider in made] == [True, True]


def test_usage_is_counted_by_model_and_from_any_thread() -> None:
    usage = Usage()

    def ask() -> None:
        for _ in range(100):
            usage.add("a", 2, 0.5)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert usage.by_model() == {"a": Asked(rows=800, calls=400, seconds=200.0)}


def test_asking_is_counted() -> None:
    models = ModelSet([spec("a")], EchoProvider)
    rows = pa.RecordBatch.from_pydict({"x": [1.0, 2.0]})
    models.get("a").predict(rows)
    models.get("a").predict(rows)
    asked = models.usage.by_model()["a"]
    assert (asked.rows, asked.calls) == (4, 2)
    assert asked.seconds > 0


def test_a_model_and_its_spec_have_one_fingerprint(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", [1.0])
    real = graphs.spec(tmp_path, path, {"x": pa.float64()}, {"p": pa.float64()})
    assert ModelSet([real]).get("m").fingerprint() == real.fingerprint()


def test_without_a_registry_a_model_has_one_version() -> None:
    models = ModelSet([spec("a")], EchoProvider)
    assert models.get("a$1") is models.get("a")
    assert models.every("a$all") == (models.get("a"),)
    assert models.standing("a").due is None
    with pytest.raises(UnknownName, match=r"unknown version of model 'a' '2'; valid: 1"):
        models.get("a$2")
    with pytest.raises(UsageError, match=r"'a\$all' stands for all versions"):
        models.get("a$all")
    with pytest.raises(UnknownName, match="unknown model 'b'"):
        models.every("b$all")


def test_the_versions_that_were_used_are_those_of_the_run() -> None:
    models = ModelSet([spec("a"), spec("b")], EchoProvider)
    models.get("a")
    models.begin_run()
    assert not models.used
    models.get("b")
    models.get("b$1")
    assert models.used == ("b$1",)
