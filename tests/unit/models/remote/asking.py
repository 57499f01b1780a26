"""How the tests of providers declare a model, ask it, and see what went out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakeflow.declare import ModelDeclaration
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from tests.services.http import Server

TEXT = pa.schema([("t", pa.string())])
VECTOR = pa.schema([("v", pa.list_(pa.float32()))])

_sets: list[ModelSet] = []


def declared(options: Mapping[str, str], output: pa.Schema = TEXT, given: pa.Schema = TEXT) -> ModelSpec:
    """Model `m` with INPUT `given` and OUTPUT `output`."""
    return ModelSpec.from_declaration(ModelDeclaration("m", given, output, dict(options)), Path())


def opened(spec: ModelSpec, surroundings: Surroundings | None = None) -> Model:
    """The model, open until the test ends."""
    _sets.append(ModelSet([spec], surroundings=surroundings))
    return _sets[-1].get("m")


def close_all() -> None:
    """Closes what `opened` opened."""
    while _sets:
        _sets.pop().close()


def ask(model: Model, *texts: str | None) -> list[dict[str, Any]]:
    """The answers to one column `t` of texts."""
    return ask_rows(model, {"t": list(texts)})


def ask_rows(model: Model, rows: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The answers to rows given by column."""
    answers: list[dict[str, Any]] = model.predict(pa.RecordBatch.from_pydict(dict(rows), model.spec.input)).to_pylist()
    return answers


def ask_once(spec: ModelSpec, *texts: str | None, surroundings: Surroundings | None = None) -> list[dict[str, Any]]:
    """The answers to one column `t` of texts, by a model that is closed behind them."""
    with ModelSet([spec], surroundings=surroundings) as models:
        return ask(models.get("m"), *texts)


def bodies(server: Server) -> list[dict[str, Any]]:
    """What the server was sent, but for requests of tokens."""
    return [json.loads(asked.body) for asked in server.asked if asked.path != "/token"]
