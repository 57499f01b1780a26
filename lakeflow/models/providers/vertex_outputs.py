"""Which part of a prediction fills which OUTPUT column, and predictions as values of those columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models import options
from lakeflow.models.providers.scoring_output import Steps, at, paths_by_column, steps_of, whole
from lakeflow.models.remote.dialect import Answer
from lakeflow.models.shapes import check_answer
from lakeflow.models.spec import ModelSpec

MOST_SHOWN = 200
_EACH = "predictions[]"
"""May stand before a path, which is the way that paths of other endpoints are written."""
_CLASSES = (("classes", "scores"), ("displayNames", "confidences"))
"""How models that Vertex AI trained itself name classes, each beside its probability."""


class Unplaced(ModelError):
    """A prediction has not the parts that OUTPUT asks for; the next one would not have them either."""


@dataclass(frozen=True, slots=True)
class Output:
    """`paths` are those that the option names, by column; without any, columns are found by name and kind."""

    columns: tuple[pa.Field, ...]
    paths: Mapping[str, Steps]

    def of(self, prediction: object) -> Answer:
        """The values of a prediction. Raises Unplaced where it has not the parts, ModelError where they do not fit."""
        values = self._by_path(prediction) if self.paths else self._by_kind(prediction)
        fitted = tuple(_whole(value, column.type) for value, column in zip(values, self.columns, strict=True))
        check_answer(fitted, self.columns)
        return fitted

    def identity(self) -> str:
        return json.dumps({name: list(path) for name, path in self.paths.items()}, sort_keys=True)

    def _by_path(self, prediction: object) -> list[object]:
        return [_part(prediction, self.paths[column.name]) for column in self.columns]

    def _by_kind(self, prediction: object) -> list[object]:
        names = [column.name for column in self.columns]
        match prediction:
            case {**fields} if all(name in fields for name in names):
                return [fields[name] for name in names]
            case {**fields}:
                return self._trained_by_vertex(fields)
            case [*values] if len(values) == len(names) > 1:
                return list(values)
            case _ if len(names) == 1:
                return [prediction]
            case _:
                raise self._unplaced(prediction)

    def _trained_by_vertex(self, fields: Mapping[Any, Any]) -> list[object]:
        """The best class and its probability, or the value of a regression."""
        if len(self.columns) == 1 and "value" in fields:
            return [fields["value"]]
        for labels, scores in _CLASSES:
            best = _best(fields.get(labels), fields.get(scores))
            if best and all(_is_text(column) or pa.types.is_floating(column.type) for column in self.columns):
                return [best[0] if _is_text(column) else best[1] for column in self.columns]
        if len(self.columns) == 1 and len(fields) == 1:
            return list(fields.values())
        raise self._unplaced(fields)

    def _unplaced(self, prediction: object) -> Unplaced:
        names = ", ".join(column.name for column in self.columns)
        return Unplaced(f"a prediction {_shown(prediction)} does not say what fills {names}: say so in the option 'outputs'")


def read_outputs(spec: ModelSpec, columns: Sequence[pa.Field]) -> Output:
    """The option 'outputs': `PATH:column` with commas between, a path being names with dots and places in brackets.

    Raises UnknownName for a column that OUTPUT does not declare, DeclarationError for a path that is none or a column
    that is left out.
    """
    pairs: list[tuple[str, str]] = []
    paths: dict[str, Steps] = {}
    for piece in options.parts(spec, "outputs"):
        written, colon, column = (part.strip() for part in piece.rpartition(":"))
        path = _path(written)
        if not colon or path is None:
            raise DeclarationError(
                f"{spec.label}: option 'outputs' has {piece!r}; valid: PATH:column, as 'label:late, scores[1]:probability'"
            )
        pairs.append((column, written))
        paths[column] = path
    if pairs:
        paths_by_column(spec, columns, pairs, lambda name: _left_out(spec, name))
    return Output(tuple(columns), paths)


def _left_out(spec: ModelSpec, name: str) -> DeclarationError:
    return DeclarationError(f"{spec.label}: option 'outputs' does not say what fills {name!r}")


def _path(written: str) -> Steps | None:
    """None where it is no path within a prediction."""
    if written == _EACH:
        return ()
    text = written.removeprefix(_EACH).removeprefix(".")
    steps = None if text.startswith(".") or ":" in text else steps_of(text)
    found = tuple(step for step in steps or () if step is not None)
    return found if steps and len(found) == len(steps) else None


def _part(prediction: object, path: Steps) -> object:
    return at(prediction, path, lambda: Unplaced(f"a prediction {_shown(prediction)} has no {_written(path)!r}"))


def _written(path: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _best(labels: object, scores: object) -> tuple[object, float] | None:
    match labels, scores:
        case [*names], [*found]:
            chances = [float(one) for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
            if not names or not len(names) == len(found) == len(chances):
                return None
            best = max(chances)
            return names[chances.index(best)], best
        case _:
            return None


def _whole(value: object, kind: pa.DataType) -> object:
    """Predictions come through a format whose numbers are all doubles, so 3.0 is what a model's 3 looks like."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if isinstance(value, list) and is_list and pa.types.is_integer(kind.value_type):
        return [whole(one, kind.value_type) for one in value]
    return whole(value, kind)


def _is_text(column: pa.Field) -> bool:
    return bool(pa.types.is_string(column.type))


def _shown(prediction: object) -> str:
    text = json.dumps(prediction, ensure_ascii=False)
    return text[:MOST_SHOWN] + (".." if len(text) > MOST_SHOWN else "")
