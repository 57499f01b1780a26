"""Models of provider python, written to a project's folder by a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pyarrow as pa

from lakeflow.declare import ModelDeclaration
from lakeflow.models.providers.python import PythonProvider
from lakeflow.models.spec import ModelSpec

GIVEN = {"a": pa.float64(), "b": pa.int64()}
SCORE = {"score": pa.float64()}
SUM = """
    import pyarrow.compute as pc

    class Sum:
        def predict(self, rows):
            return pc.add(rows.column("a"), rows.column("b").cast("double"))
"""


def write(root: Path, source: str, name: str = "models/mine.py") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(source).lstrip("\n"))
    return path


def spec(
    root: Path,
    place: str = "models.mine:Sum",
    given: Mapping[str, pa.DataType] | pa.Schema = GIVEN,
    output: Mapping[str, pa.DataType] | pa.Schema = SCORE,
    task: str = "regression",
    **options: str,
) -> ModelSpec:
    """A declared model of provider python."""
    written = {"provider": "python", "task": task, "class": place, **options}
    return ModelSpec.from_declaration(ModelDeclaration("m", _schema(given), _schema(output), written), root)


def _schema(columns: Mapping[str, pa.DataType] | pa.Schema) -> pa.Schema:
    return columns if isinstance(columns, pa.Schema) else pa.schema(list(columns.items()))


def opened(spec: ModelSpec) -> PythonProvider:
    provider = PythonProvider(spec)
    provider.check()
    return provider


def answers(provider: PythonProvider, spec: ModelSpec, **columns: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = provider.predict(pa.RecordBatch.from_pydict(columns, schema=spec.input)).to_pylist()
    return rows
