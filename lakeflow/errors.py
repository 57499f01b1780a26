"""Every error that lakeflow raises on purpose.

    LakeflowError
    ├── Transient                 the same call may succeed later; retry.py retries these and nothing else
    │   ├── SourceUnavailable     no broker answered
    │   │   └── RegistryUnavailable   the schema registry did not answer
    │   ├── CatalogUnavailable    the catalog did not answer
    │   ├── StorageUnavailable    the warehouse or the index folder did not answer
    │   ├── ProviderUnavailable   a model provider did not answer, or asked to slow down
    │   └── CommitConflict        another commit came first; nothing of ours landed
    └── Terminal                  the same call fails again until somebody changes something
        ├── UsageError            what was asked for cannot be meant (exit code 2)
        │   ├── ConfigError       lakeflow.toml, the environment or a secret
        │   ├── DeclarationError  a file in tables/ or jobs/
        │   └── UnknownName       a table, model, job, index, topic or column that is not there
        ├── Fenced                another writer moved the progress that this writer started from
        ├── Suspended             a landing met a record that it must not skip
        ├── SourceChanged         an incremental read met a snapshot that is no append, or lost its place
        ├── SchemaMismatch        the rows or the declaration do not fit the table
        ├── ModelError            the model's file, names, types or answers do not fit its declaration
        ├── BudgetSpent           a run's limit of model calls, tokens or cost is reached
        ├── Interrupted           a signal stopped a query or a model; its answers so far are kept
        ├── CacheBroken           the file of kept answers cannot be read
        ├── IndexMismatch         the index was built with another model, width, metric or key
        ├── StorageFull           no room, or no right to write
        ├── ExpectationFailed     rows or their table are not as the job or the table expects
        └── JobFailed             the user's own code raised

The type says whether a retry makes sense; the message names the thing, the offending value and the valid ones;
`left_behind` and `next_step` say what a failure left and which command to run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class LakeflowError(Exception):
    """Base of the tree. `str()` gives the message, then what was left behind and what to run next, a line each."""

    def __init__(self, message: str, *, left_behind: str | None = None, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.left_behind = left_behind
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.message]
        if self.left_behind:
            lines.append(f"left behind: {self.left_behind}")
        if self.next_step:
            lines.append(f"next: {self.next_step}")
        return "\n".join(lines)


class Transient(LakeflowError):
    """The same call may succeed later."""


class SourceUnavailable(Transient):
    """No broker answered."""


class RegistryUnavailable(SourceUnavailable):
    """The schema registry did not answer."""


class CatalogUnavailable(Transient):
    """The catalog did not answer."""


class StorageUnavailable(Transient):
    """The warehouse or the index folder did not answer."""


class ProviderUnavailable(Transient):
    """A model provider did not answer, or asked to slow down."""


class CommitConflict(Transient):
    """Another commit came first; nothing of ours landed."""


class Terminal(LakeflowError):
    """The same call fails again until somebody changes something."""


class UsageError(Terminal):
    """What was asked for cannot be meant. The command line exits with 2."""


class ConfigError(UsageError):
    """lakeflow.toml, the environment or a secret is wrong."""


class DeclarationError(UsageError):
    """A file in tables/ or jobs/ is wrong."""


class UnknownName(UsageError):
    """A name that is not there; the message lists the names that are, and the nearest one.

    `kind` is the word of the thing ("table", "column of bronze.flights"), `known` every valid name.
    """

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, left_behind: str | None = None, next_step: str | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(
            f"unknown {kind} {name!r}{did_you_mean(name, self.known)}", left_behind=left_behind, next_step=next_step
        )


class Fenced(Terminal):
    """Another writer moved the progress that this writer started from; nothing of this writer's landed."""


class Suspended(Terminal):
    """A landing met a record that it must not skip."""


class SourceChanged(Terminal):
    """An incremental read met a snapshot that is no append, or lost its place."""


class SchemaMismatch(Terminal):
    """The rows or the declaration do not fit the table."""


class ModelError(Terminal):
    """The model's file, names, types or answers do not fit its declaration."""


class BudgetSpent(Terminal):
    """A run's limit of model calls, tokens or cost is reached; what was paid for is kept."""


class Interrupted(Terminal):
    """A signal stopped a query, or a model that was being asked; the answers that came are kept."""


class CacheBroken(Terminal):
    """The file of kept answers cannot be read, or is of another version."""


class IndexMismatch(Terminal):
    """The index was built with another model, width, metric or key."""


class StorageFull(Terminal):
    """No room, or no right to write."""


class ExpectationFailed(Terminal):
    """Rows, or the table that they make, are not as it is expected of them; main does not show them.

    `findings` tell how each expectation of the run has fared.
    """

    def __init__(
        self, message: str, findings: Iterable[Any] = (), *, left_behind: str | None = None, next_step: str | None = None
    ) -> None:
        super().__init__(message, left_behind=left_behind, next_step=next_step)
        self.findings = tuple(findings)


class JobFailed(Terminal):
    """The user's own code raised; the cause is chained."""


def did_you_mean(name: str, known: Iterable[str], *, most: int = 20) -> str:
    """The tail of a message: the nearest valid name if one is near, then the valid ones, `most` at the most."""
    names = sorted(map(str, known))  # a member of an enumeration is shown as its value
    if not names:
        return " (there are none)"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    shown = ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")
    return f"{hint} valid: {shown}"
