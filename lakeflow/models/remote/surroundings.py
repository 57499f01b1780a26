"""What remote models share in a project: the cache, the prices, the counts with their limits, and the request to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from lakeflow.models.cache import AnswerStore
from lakeflow.models.usage import Price, Usage


def _never() -> bool:
    return False


@dataclass(slots=True)
class Surroundings:
    """`prices` are by the service's own names of models. `stop` is asked while answers are waited for. `storage` holds the
    catalog's file properties, by which models in object storage are reached."""

    usage: Usage = field(default_factory=Usage)
    answers: AnswerStore | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    stop: Callable[[], bool] = _never
    storage: Mapping[str, str] = field(default_factory=dict, repr=False)


@runtime_checkable
class Surrounded(Protocol):
    """A provider that shares in them."""

    def surround(self, surroundings: Surroundings) -> None:
        """Called once, before `check`."""
        ...
