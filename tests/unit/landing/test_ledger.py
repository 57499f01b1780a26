"""How a landing's progress moves: forward, or not at all."""

from __future__ import annotations

import pytest

from lakeflow.errors import Terminal
from lakeflow.lake.commit import Change, Committed, Progress
from lakeflow.landing.ledger import Ledger
from lakeflow.progress import KafkaOffsets

SHOWN = KafkaOffsets({("a", 0): 5, ("a", 1): 7})


class Shows:
    """A table that shows SHOWN."""

    def progress(self, table: str, writer: str) -> str:
        return SHOWN.dumps()

    def commit(self, change: Change) -> Committed:
        raise AssertionError("nothing is committed")


@pytest.mark.parametrize("shared", [False, True])
def test_no_partition_is_moved_back(shared: bool) -> None:
    """Its records would be read again by the next start, and be there twice."""
    ledger = Ledger(Shows(), "bronze.t", shared=shared)
    with pytest.raises(Terminal, match=r"'a' partition 1 up to offset 6, and the table shows 7 already"):
        ledger.advance({("a", 0): 9, ("a", 1): 6}, {})


def test_partitions_move_on_stay_and_come() -> None:
    ledger = Ledger(Shows(), "bronze.t", shared=False)
    moved = ledger.advance({("a", 0): 9, ("a", 1): 7, ("a", 2): 0}, {})
    assert isinstance(moved, Progress)
    assert (moved.start, moved.end) == (SHOWN.dumps(), '{"a":{"0":9,"1":7,"2":0}}')
