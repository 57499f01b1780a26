"""What remote models share in a project: the cache, the prices, the counts with their limits, and the request to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lakeflow.models.cache import AnswerStore
from lakeflow.models.usage import Price, Usage

if TYPE_CHECKING:
    from lakeflow.models.remote.rehearsal import Rehearsal


def _never() -> bool:
    return False


@dataclass(slots=True)
class Surroundings:
    """`prices` are by the service's own names of models. `stop` is asked while answers are waited for. `storage` holds the
    catalog's file properties, by which models in object storage are reached. With a `rehearsal`, services are not asked."""

    usage: Usage = field(default_factory=Usage)
    answers: AnswerStore | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    stop: Callable[[], bool] = _never
    storage: Mapping[str, str] = field(default_factory=dict, repr=False)
    rehearsal: Rehearsal | None = None


@runtime_checkable
class Surrounded(Protocol):
    """A provider that shares in them."""

    def surround(self, surroundings: Surroundings) -> None:
        """Called once, before `check`."""
        ...
