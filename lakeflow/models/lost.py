"""Rows that a run leaves out because a model gave them no answer: who counts them, and who keeps them as dead letters."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lakeflow.errors import UsageError
from lakeflow.models.cache import answer_key


class Why(Protocol):
    """Why a row is left out: a kind, and a sentence."""

    @property
    def kind(self) -> str: ...

    @property
    def message(self) -> str: ...


@dataclass(frozen=True, slots=True)
class LostRow:
    """A row as an object of JSON, the key that it is known by, and why it is left out. Where `model` gave no answer, it is the
    model's INPUT; None: no model was asked."""

    model: str | None
    key: bytes
    input: bytes
    why: Why


def row_key(model: str, values: Mapping[str, object]) -> bytes:
    """SHA-256 of a model's name and INPUT values, whatever its version: by it a row is known where its step is taken again."""
    name = hashlib.sha256(model.encode()).hexdigest()
    return answer_key(name, values)


def row_text(values: Mapping[str, object]) -> bytes:
    """INPUT as an object of JSON; what JSON has no kind for, NaN too, is text."""
    return json.dumps(_plain(values), default=str, ensure_ascii=False).encode("utf-8", "replace")


def _plain(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {str(name): _plain(one) for name, one in value.items()}
        case list():
            return [_plain(one) for one in value]
        case _:
            return value


class Lost(Protocol):
    """Where one part of a step leaves its rows. Called from several threads."""

    @property
    def holds(self) -> bool:
        """Whether rows may be among the dead letters already, of an earlier try at the same step."""
        ...

    def held(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """For each row in turn whether a dead letter is there for it; each letter is for one row, and counted as left out."""
        ...

    def skip(self, rows: int) -> None:
        """So many rows are left out by 'on_error' = 'skip'."""
        ...

    def keep(self, rows: Sequence[LostRow]) -> None:
        """Rows that become dead letters."""
        ...


@dataclass(slots=True)
class Counted:
    """Lost rows where no run keeps them: they are counted. A dead letter has nowhere to go, and is refused."""

    skipped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    holds: bool = False

    def held(self, keys: Sequence[bytes]) -> Sequence[bool]:
        return [False] * len(keys)

    def skip(self, rows: int) -> None:
        with self._lock:
            self.skipped += rows

    def keep(self, rows: Sequence[LostRow]) -> None:
        raise UsageError(
            f"model {rows[0].model!r} gave no answer to a row, and 'on_error' = 'dead_letter' keeps rows of jobs only: "
            f"{rows[0].why.kind}: {rows[0].why.message}",
            next_step="ask it in a job that `lakeflow run` starts, or say 'on_error' = 'skip'",
        )


class Forgotten(Counted):
    """Lost rows of a frame that is made for its columns alone: those of a job's function that collects for itself."""

    def keep(self, rows: Sequence[LostRow]) -> None:
        self.skip(len(rows))
