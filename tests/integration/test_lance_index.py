"""The index in LanceDB where it differs from one in memory: processes, approximate search, upkeep, files."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.table import LanceTable

from lakeflow.declare import IndexSpec
from lakeflow.errors import CommitConflict, Fenced, LakeflowError, StorageFull, StorageUnavailable, UnknownName, UsageError
from lakeflow.index.lance import LanceIndex
from lakeflow.index.lance_upkeep import MOST_FRAGMENTS, MOST_PARTS
from lakeflow.index.settings import KINDS
from lakeflow.index.vectors import Identity
from lakeflow.progress import SnapshotPosition
from lakeflow.retry import Backoff

WIDTH = 32
IDENTITY = Identity("gold.docs", "uuid-1", "embedding", "doc_id", "cosine", WIDTH)


def opened(place: Path, **options: str) -> LanceIndex:
    return LanceIndex(IndexSpec("docs", "gold.docs", "embedding", "doc_id", options=options), str(place))


def rows(keys: range | list[str], seed: int = 0) -> pa.RecordBatch:
    """Vectors around 20 centres, as real embeddings lie: uniform noise would have no near rows."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, WIDTH))
    vectors = centres[random.integers(0, 20, len(keys))] + 0.5 * random.normal(size=(len(keys), WIDTH))
    flat = pa.array(vectors.astype(np.float32).ravel())
    return pa.RecordBatch.from_pydict(
        {
            "doc_id": pa.array([str(key) for key in keys], pa.string()),
            "group": pa.array([place % 100 for place in range(len(keys))], pa.int64()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, WIDTH),
        }
    )


SCHEMA = rows(range(0)).schema


def position(sequence: int) -> SnapshotPosition:
    return SnapshotPosition("uuid-1", sequence, sequence)


def keys_by_a_second_reader(place: Path) -> list[str]:
    """The keys in the files of the index, read by a process that runs none of lakeflow's code."""
    code = """
import lancedb, sys
database = lancedb.connect(sys.argv[1])
book = database.open_table("_lakeflow_indexes").to_arrow().to_pylist()
assert len(book) == 1, book
print("\\n".join(database.open_table(book[0]["stored_in"]).to_arrow()["doc_id"].to_pylist()))
"""
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def write_many(place: Path, keys: list[list[str]], start: Barrier) -> None:
    """One writer process. It makes the index, and its upkeep meets the other's commits; it may be fenced at any record."""
    index = opened(place, unindexed="0", flat_below="400")
    start.wait()
    for sequence, some in enumerate(keys):
        writer = index.writer(IDENTITY, SCHEMA)
        assert writer.upsert([rows(some, sequence)], sequence).read == len(some)
        with contextlib.suppress(Fenced):
            writer.record(position(sequence))


@pytest.mark.parametrize("shared", [False, True], ids=["keys of their own", "the same keys"])
def test_two_processes_lose_and_double_no_row(tmp_path: Path, shared: bool) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    names = ["both", "both"] if shared else ["left", "right"]
    keys = [[[f"{name}-{batch}-{row}" for row in range(60)] for batch in range(5)] for name in names]
    writers = [spawn.Process(target=write_many, args=(tmp_path, each, start)) for each in keys]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    found = keys_by_a_second_reader(tmp_path)
    assert len(found) == len(set(found))
    assert set(found) == {key for each in keys for some in each for key in some}


def write_words(place: Path, keys: list[str], start: Barrier) -> None:
    index = opened(place, unindexed="0", text_columns="doc_id")
    start.wait()
    for sequence in range(2):
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([rows(keys[sequence::2], sequence)], sequence)
        with contextlib.suppress(Fenced):
            writer.record(position(sequence))


def test_two_processes_make_one_index_of_words(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    keys = [[f"{name} {row}" for row in range(40)] for name in ("left", "right")]
    writers = [spawn.Process(target=write_words, args=(tmp_path, each, start)) for each in keys]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    index = opened(tmp_path, unindexed="0", text_columns="doc_id")
    state = index.writer(IDENTITY, SCHEMA).keep_up()
    assert [(one.column, one.kind, one.unindexed_rows) for one in state.columns] == [("doc_id", "text", 0)]
    assert sorted(index.match(["left right"], 100, columns=["doc_id"])["doc_id"].to_pylist()) == sorted([*keys[0], *keys[1]])


def test_words_are_not_looked_for_in_an_index_that_is_not_there_yet(tmp_path: Path) -> None:
    """LanceDB would read every row, by rules of its own, and silently find nothing of a column without words."""
    index = opened(tmp_path, text_columns="doc_id")
    index.writer(IDENTITY, SCHEMA).upsert([rows(["a b"])], 1)
    with pytest.raises(UsageError, match="no index of the words of doc_id yet") as refused:
        index.match(["a"], 5)
    assert refused.value.next_step == "lakeflow index update docs"


def test_another_language_makes_another_index_of_words(tmp_path: Path) -> None:
    plain, english = (opened(tmp_path, text_columns="doc_id", language=language) for language in ("none", "english"))
    writer = plain.writer(IDENTITY, SCHEMA)
    writer.upsert([rows(["running dogs", "the cat"])], 1)
    writer.record(position(1))
    assert plain.match(["dog", "the"], 5, columns=["doc_id"])["doc_id"].to_pylist() == ["the cat"]
    english.writer(IDENTITY, SCHEMA).keep_up()
    assert english.match(["dog runs", "the"], 5, columns=["doc_id"])["doc_id"].to_pylist() == ["running dogs"]


def test_rows_outside_of_the_indexes_of_columns_are_bounded(tmp_path: Path) -> None:
    index = opened(tmp_path, unindexed="50", text_columns="doc_id", filter_columns="group")
    writer = index.writer(IDENTITY, SCHEMA)
    waiting = []
    for sequence in range(12):
        writer.upsert([rows([f"k-{sequence}-{row}" for row in range(30)], sequence)], sequence)
        state = writer.record(position(sequence))
        waiting.append([one.unindexed_rows for one in state.columns])
        assert set(index.match([str(sequence)], 1000, columns=["doc_id"])["doc_id"].to_pylist()) >= {f"k-{sequence}-0"}
    assert all(each <= 50 for some in waiting for each in some)
    assert any(each > 0 for some in waiting for each in some), "some rows must have waited, or nothing is shown"


def die_in_a_rebuild(place: Path) -> None:
    with opened(place).rebuild(replace(IDENTITY, model="other"), SCHEMA) as writer:
        writer.upsert([rows(range(50))], 2)
        writer.record(position(2))
        os._exit(9)


def test_a_rebuild_that_died_leaves_the_old_index_and_the_next_removes_its_rest(tmp_path: Path) -> None:
    index = opened(tmp_path)
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([rows(range(10))], 1)
    writer.record(position(1))
    dead = multiprocessing.get_context("spawn").Process(target=die_in_a_rebuild, args=(tmp_path,))
    dead.start()
    dead.join(60)
    assert dead.exitcode == 9
    assert (index.state().rows, index.state().position, index.state().identity) == (10, position(1), IDENTITY)
    assert len(list(tmp_path.glob("docs.*.lance"))) == 2
    with index.rebuild(IDENTITY, SCHEMA) as fresh:
        fresh.upsert([rows(range(20))], 3)
    assert len(list(tmp_path.glob("docs.*.lance"))) == 1
    assert sorted(keys_by_a_second_reader(tmp_path)) == sorted(str(key) for key in range(20))


def die_in_a_revision(place: Path) -> None:
    with opened(place).revise(IDENTITY, SCHEMA) as writer:
        writer.delete([str(key) for key in range(5)], 2)
        writer.record(position(2))
        os._exit(9)


def test_a_revision_that_died_leaves_the_old_index_and_the_next_removes_its_rest(tmp_path: Path) -> None:
    index = opened(tmp_path, flat_below="300")
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([rows(range(400))], 1)
    assert writer.record(position(1)).kind == "ivf_rq"
    dead = multiprocessing.get_context("spawn").Process(target=die_in_a_revision, args=(tmp_path,))
    dead.start()
    dead.join(60)
    assert dead.exitcode == 9
    assert (index.state().rows, index.state().position) == (400, position(1))
    assert len(list(tmp_path.glob("docs.*.lance"))) == 2
    with index.revise(IDENTITY, SCHEMA) as fresh:
        assert fresh.delete([str(key) for key in range(7)], 3) == 7
        fresh.record(position(3))
    assert len(list(tmp_path.glob("docs.*.lance"))) == 1
    assert sorted(keys_by_a_second_reader(tmp_path)) == sorted(str(key) for key in range(7, 400))
    state = index.state()
    assert (state.kind, state.unindexed_rows, state.position) == ("ivf_rq", 0, position(3)), "it was copied, not built anew"


def test_a_copy_shares_the_files_of_rows_and_of_indexes_where_the_disk_can(tmp_path: Path) -> None:
    index = opened(tmp_path, flat_below="300")
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([rows(range(400))], 1)
    writer.record(position(1))
    [old] = tmp_path.glob("docs.*.lance")
    shared = {path.stat().st_ino for part in ("data", "_indices") for path in (old / part).rglob("*") if path.is_file()}
    with index.revise(IDENTITY, SCHEMA) as fresh:
        fresh.upsert([rows(range(400, 402))], 2)
        fresh.record(position(2))
    [new] = tmp_path.glob("docs.*.lance")
    assert new != old
    assert shared <= {path.stat().st_ino for path in new.rglob("*")}


class NeverRemoves(LanceIndex):
    """As if the process had died between the swap and the removal of what was replaced."""

    def _drop(self, stored_in: str) -> None:
        return


def test_of_two_rebuilds_the_first_to_end_stays(tmp_path: Path) -> None:
    opened(tmp_path).writer(IDENTITY, SCHEMA)
    late = opened(tmp_path).rebuild(IDENTITY, SCHEMA)
    late.__enter__().upsert([rows(range(3))], 1)
    with NeverRemoves(IndexSpec("docs", "gold.docs", "embedding", "doc_id"), str(tmp_path)).rebuild(IDENTITY, SCHEMA) as first:
        first.upsert([rows(range(7))], 1)
    with pytest.raises(Fenced, match="built or rebuilt by another process"):
        late.__exit__(None, None, None)
    assert opened(tmp_path).state().rows == 7


def test_a_first_build_does_not_replace_what_another_made_meanwhile(tmp_path: Path) -> None:
    late = opened(tmp_path).rebuild(IDENTITY, SCHEMA)
    late.__enter__().upsert([rows(range(3))], 1)
    opened(tmp_path).writer(IDENTITY, SCHEMA).upsert([rows(range(7))], 1)
    with pytest.raises(Fenced, match="built or rebuilt by another process"):
        late.__exit__(None, None, None)
    assert opened(tmp_path).state().rows == 7


@pytest.mark.parametrize(("conflicts", "lost"), [(2, False), (3, True)])
def test_a_conflict_is_tried_again_as_often_as_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflicts: int, lost: bool
) -> None:
    spec = IndexSpec("docs", "gold.docs", "embedding", "doc_id")
    writer = LanceIndex(spec, str(tmp_path), backoff=Backoff(attempts=3, base=0.0)).writer(IDENTITY, SCHEMA)
    merge, left = LanceTable.merge_insert, [conflicts]

    def conflicting(table: LanceTable, on: str) -> object:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("lance error: Retryable commit conflict for version 7: preempted. Please retry.")
        return merge(table, on)

    monkeypatch.setattr(LanceTable, "merge_insert", conflicting)
    if lost:
        with pytest.raises(CommitConflict, match="writing the index 'docs'"):
            writer.upsert([rows(range(5))], 1)
    else:
        assert writer.upsert([rows(range(5))], 1).inserted == 5


def test_another_index_in_the_same_place_is_left_alone_by_a_rebuild(tmp_path: Path) -> None:
    other = LanceIndex(IndexSpec("docs_old", "gold.docs", "embedding", "doc_id"), str(tmp_path))
    other.writer(IDENTITY, SCHEMA).upsert([rows(range(5))], 1)
    with opened(tmp_path).rebuild(IDENTITY, SCHEMA) as writer:
        writer.upsert([rows(range(7))], 1)
    assert (other.state().rows, opened(tmp_path).state().rows) == (5, 7)
    with pytest.raises(UnknownName, match=r"did you mean 'docs'\?|valid: docs, docs_old"):
        LanceIndex(IndexSpec("doc", "gold.docs", "embedding", "doc_id"), str(tmp_path)).state()


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_an_approximate_index_finds_what_an_exact_search_does(tmp_path: Path, metric: str) -> None:
    index = opened(tmp_path, flat_below="1000")
    writer = index.writer(replace(IDENTITY, metric=metric), SCHEMA)
    writer.upsert([rows(range(5000))], 1)
    state = writer.record(position(1))
    assert (state.kind, state.rows, state.unindexed_rows) == ("ivf_rq", 5000, 0)
    queries = np.stack(rows(range(100), seed=5)["embedding"].to_numpy(zero_copy_only=False))
    for where in (None, "group < 5"):
        near = index.search(queries, 10, where=where, columns=["doc_id"])
        best = index.search(queries, 10, where=where, columns=["doc_id"], exact=True)
        assert near.num_rows == best.num_rows == 1000
        found, wanted = (set(zip(*(t[c].to_pylist() for c in ("query_index", "doc_id")), strict=True)) for t in (near, best))
        assert len(found & wanted) / 1000 >= 0.9
        nearest, exactly = (np.asarray(table["distance"])[::10] for table in (near, best))
        assert np.mean(np.isclose(nearest, exactly, rtol=1e-3, atol=1e-3)) >= 0.9, (
            "distances are exact, not the index's estimates"
        )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("auto", "flat", "ivf_hnsw_pq")])
def test_every_kind_is_built_and_finds_what_is_near(tmp_path: Path, kind: str) -> None:
    index = opened(tmp_path, kind=kind, bits="4", refine="4")
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([rows(range(1000))], 1)
    assert writer.record(position(1)).kind == kind
    queries = np.stack(rows(range(20), seed=5)["embedding"].to_numpy(zero_copy_only=False))
    near, best = (index.search(queries, 5, columns=["doc_id"], exact=exact) for exact in (False, True))
    found, wanted = (set(zip(*(t[c].to_pylist() for c in ("query_index", "doc_id")), strict=True)) for t in (near, best))
    assert len(found & wanted) >= 80


def test_widths_that_rabitq_cannot_take_get_another_index(tmp_path: Path) -> None:
    narrow = pa.table(
        {"doc_id": [str(key) for key in range(600)], "embedding": list(np.random.default_rng(0).normal(size=(600, 5)))}
    )
    index = opened(tmp_path, flat_below="500")
    writer = index.writer(replace(IDENTITY, width=5), narrow.schema)
    writer.upsert(narrow.to_batches(), 1)
    assert writer.record(position(1)).kind == "ivf_sq"
    assert index.search([1.0, 0, 0, 0, 0], 10).num_rows == 10


def test_updates_leave_few_rows_unindexed_few_parts_and_few_files(tmp_path: Path) -> None:
    index = opened(tmp_path, flat_below="300", unindexed="40")
    most_unindexed = 0
    for sequence in range(30):
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([rows([f"{sequence}-{row}" for row in range(30)], sequence)], sequence)
        most_unindexed = max(most_unindexed, writer.record(position(sequence)).unindexed_rows if sequence > 10 else 0)
    assert 0 < most_unindexed <= 40
    table = lancedb.connect(str(tmp_path)).open_table(next(tmp_path.glob("docs.*.lance")).stem)
    stats = table.index_stats("embedding_idx")
    assert stats is not None
    assert 1 <= (stats.num_indices or 0) <= MOST_PARTS
    files: Any = table.stats()
    assert files["fragment_stats"]["num_fragments"] <= MOST_FRAGMENTS
    last = rows([f"29-{row}" for row in range(30)], 29)["embedding"][:1].to_pylist()
    assert index.search(last, 1)["doc_id"].to_pylist() == ["29-0"], "a row that is not indexed yet is found"


def test_old_versions_are_removed(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.settings = replace(index.settings, keep_versions=timedelta(milliseconds=1))
    for sequence in range(MOST_FRAGMENTS + 3):
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([rows([f"{sequence}-{row}" for row in range(5)])], sequence)
        writer.record(position(sequence))
    table = lancedb.connect(str(tmp_path)).open_table(next(tmp_path.glob("docs.*.lance")).stem)
    assert len(table.list_versions()) < MOST_FRAGMENTS
    assert index.state().rows == 5 * (MOST_FRAGMENTS + 3)


def test_an_index_is_emptied_and_filled_again(tmp_path: Path) -> None:
    index = opened(tmp_path, flat_below="300", unindexed="0")
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([rows(range(500))], 1)
    writer.record(position(1))
    assert writer.delete([str(key) for key in range(500)], 2) == 500
    assert writer.record(position(2)).rows == 0
    assert index.search(np.ones(WIDTH), 5).num_rows == 0
    writer.upsert([rows(range(400))], 3)
    assert writer.record(position(3)).rows == 400
    assert index.search(np.ones(WIDTH), 5).num_rows == 5


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((StorageUnavailable, StorageFull)) as refused:
        opened(tmp_path / "file" / "index").writer(IDENTITY, SCHEMA)
    assert str(tmp_path / "file") in str(refused.value)


def test_rows_that_somebody_deleted_are_said(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.writer(IDENTITY, SCHEMA).upsert([rows(range(5))], 1)
    shutil.rmtree(next(tmp_path.glob("docs.*.lance")))
    with pytest.raises(LakeflowError, match="no longer at") as refused:
        index.search(np.ones(WIDTH), 1)
    assert refused.value.next_step == "lakeflow index build docs"


def test_importing_the_module_does_not_import_lancedb() -> None:
    code = "import sys, lakeflow.index.lance; sys.exit('lancedb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
