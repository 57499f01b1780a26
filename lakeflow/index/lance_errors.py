"""What LanceDB raises -> the error tree. LanceDB tells its failures apart by their text alone; nothing else reads that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lakeflow.errors import CommitConflict, LakeflowError, StorageFull, StorageUnavailable, Terminal

CONFLICTS = ("commit conflict", "commitconflict", "too many concurrent writers", "concurrent transaction", "already exists")
NO_ROOM = ("no space left", "disk quota", "storagefull", "quota exceeded", "insufficient storage")
NO_RIGHT = ("permission denied", "read-only file system", "access denied", "accessdenied", "forbidden", "unauthorized")
NOT_THERE = ("not found", "no such file", "does not exist")
UNANSWERED = (
    "timed out", "timeout", "connection", "error sending request", "slowdown", "service unavailable", "internal server error",
    "too many requests", "broken pipe", "input/output error", "dns error", "directory not empty",
)  # fmt: skip


class Vanished(StorageUnavailable):
    """Files of an index that are no longer there: it was rebuilt in the meantime, or somebody deleted them."""


def failure_of(error: BaseException, what: str, place: str) -> LakeflowError:
    """The error of the tree for `error`, which came while doing `what` at `place`."""
    text = str(error).lower()
    detail = f"{what} at {place}: {str(error).splitlines()[0][:300] if str(error) else type(error).__name__}"
    if any(sign in text for sign in CONFLICTS):
        return CommitConflict(detail)
    if any(sign in text for sign in NO_ROOM):
        return StorageFull(f"no room: {detail}", next_step="free some space, then run the same command again")
    if isinstance(error, PermissionError) or any(sign in text for sign in NO_RIGHT):
        return StorageFull(f"no right to write: {detail}", next_step="check the folder or bucket of [index] in lakeflow.toml")
    if isinstance(error, FileNotFoundError) or any(sign in text for sign in NOT_THERE):
        return Vanished(detail)
    if isinstance(error, OSError) or any(sign in text for sign in UNANSWERED):
        return StorageUnavailable(detail)
    return Terminal(detail)


@contextmanager
def mapped(what: str, place: str) -> Iterator[None]:
    """Runs a block of LanceDB calls; raises what they raise as errors of the tree, the cause chained."""
    try:
        yield
    except LakeflowError:
        raise
    except Exception as error:
        raise failure_of(error, what, place) from error
