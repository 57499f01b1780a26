"""Targets that keep every version of a row: slowly changing dimensions of type 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lakeflow.declare import Origin
from lakeflow.errors import DeclarationError, UnknownName

HISTORY: Final = "history"
SCD2: Final = "scd2"
PARTS: Final = ("valid_from", "valid_to", "current", "deleted")
OPTIONS: Final = (HISTORY, *(f"{HISTORY}.{part}" for part in PARTS))


@dataclass(frozen=True, slots=True)
class History:
    """The columns of a target by which its rows are versions: `valid_from` and `valid_to` (null: still valid; else the moment
    from which it no longer was), and `current`, a boolean, where it is named.

    A job's rows say in `by` from when they are valid (None: in `valid_from` itself), a timestamp, date or whole number; and in
    `deleted`, a boolean, where it is named, that their key ceased then.
    """

    valid_from: str = "valid_from"
    valid_to: str = "valid_to"
    current: str | None = None
    by: str | None = None
    deleted: str | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns of the target that no row of a job brings."""
        return (self.valid_to, *((self.current,) if self.current else ()))


def check_history(history: History | None, key: Sequence[str], snapshot_output: str | None, label: str) -> None:
    """Raises DeclarationError where a target cannot keep a history: without a key, or of one column for two ends."""
    if history is None:
        return
    if not key:
        raise DeclarationError(
            f"{label}: history needs a key: versions are those of a key (Python: key=; SQL: PRIMARY KEY of the target)"
        )
    if snapshot_output is not None:
        raise DeclarationError(
            f"{label}: history decides how rows meet those of the target; leave output={snapshot_output!r} out"
        )
    named = [history.valid_from, *history.kept]
    taken = [name for name in (*named, history.deleted) if name is not None and name in key]
    if len(set(named)) < len(named) or history.deleted in named or history.by in history.kept or taken:
        raise DeclarationError(
            f"{label}: history names one column twice, or a column of the key: key {', '.join(key)}; valid_from "
            f"{history.valid_from!r}, valid_to {history.valid_to!r}, current {history.current!r}, deleted {history.deleted!r}"
        )


def history_of(options: Mapping[str, str], key: Sequence[str], label: str) -> History | None:
    """What WITH ('history' = 'scd2', ..) of a declaration means; None where it says nothing of it. Raises DeclarationError."""
    said = {name: value for name, value in options.items() if name == HISTORY or name.startswith(f"{HISTORY}.")}
    for name in said:
        if name not in OPTIONS:
            raise DeclarationError(f"{label}: {UnknownName('option', name, OPTIONS).message}")
    kind = said.pop(HISTORY, None)
    if kind is None:
        if said:
            raise DeclarationError(f"{label}: {', '.join(map(repr, said))} need '{HISTORY}' = '{SCD2}'")
        return None
    if kind != SCD2:
        raise DeclarationError(f"{label}: {UnknownName(f'value of {HISTORY!r}', kind, [SCD2]).message}")
    history = History(**{name.removeprefix(f"{HISTORY}."): value for name, value in said.items()})
    check_history(history, key, None, label)
    return history


def no_history(origin: Origin, label: str) -> DeclarationError:
    """What windows and groups of a query say to a target with history."""
    return DeclarationError(
        f"{origin}: job {label!r}: its target keeps a history, which is made of rows that each say from when they are valid; "
        "this job replaces rows of windows or groups",
        next_step="write these to a table of their own, and read that in a job whose target keeps the history",
    )
