"""Which jobs and indexes the rounds of `run --follow` still try. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakeflow.errors import LakeflowError, Transient

if TYPE_CHECKING:
    from lakeflow.runner.graph import Node

MOST_FAILURES = 10
"""Rounds in a row in which a node may fail with something transient."""


class Patience:
    """Gives a node up at its first terminal error, or after `MOST_FAILURES` transient ones in a row."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = tuple(nodes)
        self._failures: Counter[str] = Counter()
        self.given_up: set[str] = set()

    def tell(self, name: str, error: LakeflowError | None) -> bool:
        """Take in how a node's run ended; whether the node is given up with it."""
        if error is None:
            del self._failures[name]
            return False
        self._failures[name] += 1
        if isinstance(error, Transient) and self._failures[name] < MOST_FAILURES:
            return False
        self.given_up.add(name)
        return True

    def left(self) -> tuple[Node, ...]:
        """The nodes to run, in their order: not given up, and needing nothing that one which is would have to make."""
        out = left_out(self._nodes, self.given_up)
        return tuple(node for node in self._nodes if node.name not in out)


def left_out(nodes: Sequence[Node], failed: set[str]) -> set[str]:
    """The names of `failed` nodes, and of those that read or search what such a node or another left out should have made."""
    out = set(failed)
    stale: set[str] = set()
    for node in nodes:
        if stale.intersection(node.needs):
            out.add(node.name)
        if node.name in out and node.makes:
            stale.add(node.makes)
    return out
