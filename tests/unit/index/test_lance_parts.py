from __future__ import annotations

import pytest

from lakeflow.errors import CommitConflict, LakeflowError, StorageFull, StorageUnavailable, Terminal
from lakeflow.index.lance_book import stored_by
from lakeflow.index.lance_errors import Vanished, failure_of, mapped
from lakeflow.index.lance_upkeep import MOST_FRAGMENTS, MOST_PARTS, AnnIndex, Step, next_step
from lakeflow.index.settings import IndexSettings

SETTINGS = IndexSettings(unindexed=100)


@pytest.mark.parametrize(
    ("index", "wanted", "fragments", "step"),
    [
        (None, "flat", 1, Step.NOTHING),
        (None, "flat", MOST_FRAGMENTS + 1, Step.OPTIMIZE),
        (None, "ivf_rq", 1, Step.TRAIN),
        (AnnIndex("i", "ivf_rq", 100, 1), "ivf_rq", 1, Step.NOTHING),
        (AnnIndex("i", "ivf_rq", 101, 1), "ivf_rq", 1, Step.OPTIMIZE),
        (AnnIndex("i", "ivf_rq", 0, 1), "ivf_rq", MOST_FRAGMENTS + 1, Step.OPTIMIZE),
        (AnnIndex("i", "ivf_rq", 0, MOST_PARTS + 1), "ivf_rq", 1, Step.TRAIN),
        (AnnIndex("i", "ivf_sq", 0, 1), "ivf_rq", 1, Step.TRAIN),
        (AnnIndex("i", "ivf_rq", 0, 1), "flat", 1, Step.NOTHING),
        (AnnIndex("i", "ivf_rq", 101, 1), "flat", 1, Step.OPTIMIZE),
    ],
)
def test_the_step_that_upkeep_takes(index: AnnIndex | None, wanted: str, fragments: int, step: Step) -> None:
    assert next_step(index, wanted, fragments, SETTINGS) is step


@pytest.mark.parametrize(("waiting", "step"), [(100, Step.NOTHING), (101, Step.OPTIMIZE)])
def test_rows_outside_of_an_index_of_words_are_bounded_too(waiting: int, step: Step) -> None:
    assert next_step(None, "flat", 1, SETTINGS, waiting) is step


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("lance error: Retryable commit conflict for version 11: This Rewrite transaction was"), CommitConflict),
        (RuntimeError("lance error: Too many concurrent writers"), CommitConflict),
        (ValueError("Table 'x' already exists"), CommitConflict),
        (RuntimeError("lance error: LanceError(IO): No space left on device (os error 28)"), StorageFull),
        (PermissionError(13, "Permission denied"), StorageFull),
        (RuntimeError("lance error: Not found: tmp/x.lance/_versions"), Vanished),
        (ValueError("Table 'x' was not found"), Vanished),
        (FileNotFoundError(2, "No such file or directory"), Vanished),
        (OSError("something of the disk"), StorageUnavailable),
        (RuntimeError("lance error: error sending request for url"), StorageUnavailable),
        (RuntimeError("lance error: LanceError(IO): Directory not empty (os error 39), local.rs:48"), StorageUnavailable),
        (RuntimeError("rust future panicked"), Terminal),
    ],
)
def test_each_failure_has_its_place_in_the_tree(error: Exception, expected: type[LakeflowError]) -> None:
    found = failure_of(error, "writing the index 'docs'", "/somewhere")
    assert type(found) is expected
    assert "writing the index 'docs' at /somewhere" in found.message


def test_an_error_of_the_tree_passes_as_it_is() -> None:
    first = CommitConflict("first")
    with pytest.raises(CommitConflict) as raised, mapped("reading", "/somewhere"):
        raise first
    assert raised.value is first


@pytest.mark.parametrize(
    ("table", "ours"),
    [
        ("docs.0123456789ab", True),
        ("docs", False),
        ("docs.old", False),
        ("docs_old.0123456789ab", False),
        ("docs.0123456789abc", False),
    ],
)
def test_an_index_knows_the_tables_of_its_rows(table: str, ours: bool) -> None:
    assert stored_by("docs", table) is ours
