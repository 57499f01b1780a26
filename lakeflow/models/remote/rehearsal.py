"""Remote models that are not asked: what they would be is noted, for an estimate. What the cache holds is answered."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakeflow.models.cache import AnswerStore
from lakeflow.models.estimate import Asking
from lakeflow.models.providers import provider_type
from lakeflow.models.remote.asking import Asker, Outcome
from lakeflow.models.remote.dialect import NONE, Answer, Row
from lakeflow.models.remote.operation import Service
from lakeflow.models.remote.provider import RemoteProvider
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.models.usage import Tokens


def is_remote(spec: ModelSpec) -> bool:
    """Whether a model is asked of a service. Opens nothing."""
    return issubclass(provider_type(spec.provider, spec.label), RemoteProvider)


@dataclass(slots=True)
class Noted:
    """Of one model: how it is asked, the distinct inputs that came, those of them that are kept, what the others would cost."""

    asking: Asking
    wanted: set[bytes] = field(default_factory=set)
    kept: set[bytes] = field(default_factory=set)
    tokens: Tokens = NONE


class Rehearsal:
    """The notes by model. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, Noted] = {}

    def asker(self, spec: ModelSpec, service: Service, store: AnswerStore | None, columns: list[pa.Field]) -> Asker:
        """What stands in for the asker of a model."""
        asking = Asking(
            service.dialect.service_model, service.dialect.rows_a_request, service.price, spec.task is not Task.EMBEDDING
        )
        with self._lock:
            self._noted.setdefault(service.model, Noted(asking))
        return _Stand(self, spec.label, service, store, tuple(_blank(column) for column in columns))

    def noted(self, model: str) -> Noted:
        """The notes on a model that was opened."""
        return self._noted[model]

    def forget(self) -> None:
        """Begin anew, as for another job; how models are asked stays."""
        with self._lock:
            self._noted = {name: Noted(noted.asking) for name, noted in self._noted.items()}

    def note(self, service: Service, wanted: Mapping[bytes, Row], kept: set[bytes]) -> None:
        """Inputs that came to a model, and which of them are kept."""
        with self._lock:
            noted = self._noted[service.model]
            new = [row for key, row in wanted.items() if key not in noted.wanted and key not in kept]
            size = service.dialect.rows_a_request
            for start in range(0, len(new), size):
                noted.tokens += service.dialect.request(new[start : start + size]).expected
            noted.wanted |= wanted.keys()
            noted.kept |= kept


class _Stand(Asker):
    """Asks nobody; rows whose answer is not kept get a blank one."""

    def __init__(self, rehearsal: Rehearsal, label: str, service: Service, store: AnswerStore | None, blank: Answer) -> None:
        super().__init__(label, service, store)
        self._rehearsal = rehearsal
        self._blank = blank

    async def ask(self, wanted: Mapping[bytes, Row], *_: object) -> dict[bytes, Outcome]:
        kept = await self._stored(list(wanted))
        self._rehearsal.note(self.service, wanted, set(kept))
        return {key: kept.get(key, self._blank) for key in wanted}


def _blank(column: pa.Field) -> Any:
    """Null, or where the column takes none, the least value of its type."""
    if column.nullable:
        return None
    kind = column.type
    if pa.types.is_boolean(kind):
        return False
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return []
    return ""
