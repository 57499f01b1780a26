"""What is answered at each path: searches, what indexes there are, how the process stands. It reads, and writes nothing but
the cache of remote models' answers."""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from dataclasses import asdict, dataclass, field
from datetime import date
from datetime import time as clock_time
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import (
    BudgetSpent,
    IndexMismatch,
    LakeflowError,
    ModelError,
    StorageUnavailable,
    Transient,
    UnknownName,
    UsageError,
)
from lakeflow.index.query import Mode
from lakeflow.runner.index_plan import plan_index
from lakeflow.runner.indexing import index_state
from lakeflow.runner.project import Project
from lakeflow.runner.searching import open_search
from lakeflow.serve.asking import Request, request_of

LOOK_AGAIN = 5.0
"""Seconds for which an answer about readiness holds: to tell, the storage is asked."""
MEASURED: Mapping[Mode, tuple[str, ...]] = {
    Mode.VECTOR: ("distance",),
    Mode.FTS: ("text_score",),
    Mode.HYBRID: ("distance", "text_score"),
}


class Refused(Exception):
    """A request that is turned away before it means anything: a status of HTTP, and why."""

    def __init__(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON document with its status; `note` is what the log tells of it."""

    document: dict[str, Any]
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "application/json"
    note: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Answering:
    """The answers of a project. Safe in several threads; `redact` takes secrets out of messages."""

    def __init__(self, project: Project, redact: Callable[[str], str]) -> None:
        self._project = project
        self._bounds = project.settings.serve
        self._redact = redact
        self._indexes = project.declared_tables.indexes
        self._room = project.index_room
        self._slots = threading.BoundedSemaphore(self._bounds.max_requests)
        self._workers = ThreadPoolExecutor(self._bounds.max_requests, thread_name_prefix="lakeflow-search")
        self._opening = threading.Lock()
        self._looked: tuple[float, list[str]] = (-math.inf, [])
        self._is_ending = False

    @property
    def names(self) -> Collection[str]:
        """The names of the declared indexes."""
        return self._indexes.keys()

    def end(self) -> None:
        """Readiness is over; searches under way go on."""
        self._is_ending = True
        self._workers.shutdown(wait=False)

    def health(self) -> Answer:
        """That the process answers."""
        return Answer({"status": "ok"})

    def readiness(self) -> Answer:
        """Whether each declared index can be searched."""
        reasons = ["it is stopping"] if self._is_ending else self._reasons()
        if reasons:
            return Answer({"status": "not ready", "reasons": reasons}, HTTPStatus.SERVICE_UNAVAILABLE)
        return Answer({"status": "ready", "reasons": []})

    def indexes(self) -> Answer:
        """The declared indexes."""
        return Answer({"indexes": [declared(spec) for spec in self._indexes.values()]})

    def index(self, name: str) -> Answer:
        """One of them, and how it stands. Raises UnknownName, CatalogUnavailable, StorageUnavailable."""
        spec = self._index(name)
        plan = plan_index(spec, self._room)
        known = {"state": plan.standing, "files_behind": plan.files, "rows_behind": plan.rows}
        state = plan.state
        if state is None:
            return Answer({**declared(spec), **known})
        facts = {
            "rows": state.rows,
            "unindexed": state.unindexed_rows,
            "kind": state.kind,
            "size_bytes": state.size_bytes,
            "width": state.identity.width,
            "position": state.position.dumps() if state.position else None,
            "updated": state.updated_at.isoformat(),
            "indexed_columns": [asdict(one) for one in state.columns],
        }
        return Answer(plain({**declared(spec), **known, **facts}))

    def search(self, name: str, body: bytes) -> Answer:
        """A search, within the bounds. Raises UnknownName, UsageError and what a search raises; Refused where too much is asked
        of this process at once, or a search takes too long (it ends by itself, and counts until then)."""
        spec = self._index(name)
        request = request_of(body, self._bounds)
        if not self._slots.acquire(blocking=False):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._bounds.max_requests} searches are under way (max_requests of [serve])",
                **{"Retry-After": "1"},
            )
        try:
            work = self._workers.submit(self._found, spec, request)
        except RuntimeError:
            self._slots.release()
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the process is stopping") from None
        work.add_done_callback(lambda done: self._slots.release())
        try:
            return work.result(self._bounds.seconds)
        except NotDone:
            raise Refused(
                HTTPStatus.GATEWAY_TIMEOUT, f"the search took longer than {self._bounds.seconds:g} s (seconds of [serve])"
            ) from None

    def problem(self, error: LakeflowError) -> Answer:
        """An error as RFC 9457 has it; its type is the error's own of lakeflow's tree."""
        document = {
            "type": f"urn:lakeflow:error:{type(error).__name__}",
            "title": (type(error).__doc__ or "").split("\n")[0].strip(),
            "status": int(status_of(error)),
            "detail": self._redact(error.message),
        }
        if error.next_step:
            document["next"] = self._redact(error.next_step)
        return Answer(document, status_of(error), "application/problem+json", type(error).__name__)

    def _found(self, spec: IndexSpec, request: Request) -> Answer:
        with self._opening:  # a model is loaded once
            searcher = open_search(spec, self._room, request.query, by_text=request.by_text, rerank=request.rerank)
        found = searcher.search(request.texts, request.lists)
        measured = ("score", *MEASURED[request.query.mode])
        queries: list[dict[str, list[Any]]] = [{"hits": []} for _ in range(request.count)]
        for row in found.to_pylist():
            told = {name: row[name] for name in measured}
            kept = {
                name: value for name, value in row.items() if name not in ("query_index", "score", "distance", "text_score")
            }
            queries[row["query_index"]]["hits"].append({**told, "row": kept})
        document = {"index": spec.name, "mode": str(request.query.mode), "queries": queries}
        return Answer(plain(document), note=f"{request.count} queries, {found.num_rows} hits")

    def _index(self, name: str) -> IndexSpec:
        if name not in self._indexes:
            raise UnknownName("index", name, self._indexes)
        return self._indexes[name]

    def _reasons(self) -> list[str]:
        at, reasons = self._looked
        if time.monotonic() - at > LOOK_AGAIN:
            reasons = [reason for spec in self._indexes.values() if (reason := self._unready(spec))]
            self._looked = (time.monotonic(), reasons)
        return reasons

    def _unready(self, spec: IndexSpec) -> str | None:
        try:
            built = index_state(spec, self._room) is not None
        except LakeflowError as error:
            return f"index {spec.name}: {self._redact(error.message)}"
        return None if built else f"index {spec.name} was never built"


def declared(spec: IndexSpec) -> dict[str, Any]:
    """An index as it is declared."""
    return {
        "name": spec.name,
        "table": spec.table,
        "column": spec.column,
        "key": spec.key,
        "metric": spec.metric,
        "model": spec.model,
        "columns": list(spec.columns) or None,
    }


def status_of(error: LakeflowError) -> HTTPStatus:
    """The status of HTTP that fits an error. Pure."""
    match error:
        case UnknownName(kind="index"):
            return HTTPStatus.NOT_FOUND
        case UsageError():
            return HTTPStatus.BAD_REQUEST
        case IndexMismatch() | ModelError():
            return HTTPStatus.CONFLICT
        case Transient() | BudgetSpent() | StorageUnavailable():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR


def plain(value: Any) -> Any:
    """A value as JSON may hold it: numbers that it lacks as null, bytes in base64, decimals, dates and times as text. Pure."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(name): plain(one) for name, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return str(value)
        case date() | clock_time():
            return value.isoformat()
        case pa.Scalar():
            return plain(value.as_py())
        case _:
            return value


def text_of(answer: Answer) -> bytes:
    """The body of an answer."""
    return json.dumps(answer.document, allow_nan=False).encode() + b"\n"
