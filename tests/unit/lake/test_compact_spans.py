"""Whom a compaction hinders: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import Terminal
from lakeflow.lake.compact_spans import Span, dumps, joined, loads
from lakeflow.progress import SnapshotPosition


def at(sequence: int, path: str | None = None) -> SnapshotPosition:
    return SnapshotPosition("uuid", 1, sequence, path)


@pytest.mark.parametrize(
    ("position", "split"),
    [
        (at(2), False),
        (at(2, "a"), False),
        (at(3), True),
        (at(3, "a"), True),
        (at(6), True),
        (at(7, "a"), True),
        (at(7), False),
        (at(8), False),
    ],
)
def test_who_has_read_some_and_not_the_others(position: SnapshotPosition, split: bool) -> None:
    assert Span(3, 7).splits(position) is split


def test_the_files_of_one_commit_hinder_those_within_it() -> None:
    assert not Span(3, 3).splits(at(3))
    assert Span(3, 3).splits(at(3, "a"))


def test_spans_travel_as_text() -> None:
    assert dumps([Span(1, 4), Span(7, 9)]) == "[[1,4],[7,9]]"
    assert loads("[[1,4],[7,9]]") == (Span(1, 4), Span(7, 9))
    assert loads(None) == ()


@pytest.mark.parametrize("text", ["[1]", "{", '[["a",2]]'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(Terminal, match="spans of compacted files are not readable"):
        loads(text)


spans = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)).map(lambda pair: Span(pair[0], pair[0] + pair[1])))


@given(spans=spans, sequence=st.integers(0, 40), path=st.none() | st.just("a"))
def test_joined_spans_hinder_the_same_readers(spans: list[Span], sequence: int, path: str | None) -> None:
    position = at(sequence, path)
    assert any(span.splits(position) for span in joined(spans)) == any(span.splits(position) for span in spans)


@given(spans=spans, sequence=st.integers(0, 40), most=st.integers(1, 4))
def test_a_bounded_number_of_them_hinders_no_fewer(spans: list[Span], sequence: int, most: int) -> None:
    kept = joined(spans, most)
    assert len(kept) <= most
    if any(span.splits(at(sequence)) for span in spans):
        assert any(span.splits(at(sequence)) for span in kept)
