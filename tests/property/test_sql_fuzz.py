"""Texts of any kind: the readers of SQL answer with a value or with an error of theirs, and come to an end.

Bounded here; LAKEFLOW_SQL_FUZZ=100000 says how many texts each test tries, for a run of hours.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeflow.errors import UsageError
from lakeflow.sql.compile import compile_query
from lakeflow.sql.incremental import shape_of
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.query import check_query
from lakeflow.sql.script import parse_script
from tests.sql.corpus import cases
from tests.sql.models import Asked

TABLES = {
    "t.nums": pa.table({"id": pa.array([1], pa.int32()), "x": [1.5], "y": pa.array([1], pa.int32())}),
    "t.texts": pa.table({"id": pa.array([1], pa.int32()), "text": ["a"], "label": ["b"]}),
}
CASES = list(cases())
WRITTEN = sorted({section.text for case in CASES for kind, section in case.sections.items() if kind in ("sql", "statement")})
WORDS = sorted({word for text in WRITTEN for word in text.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split()})
TRIES = int(os.environ.get("LAKEFLOW_SQL_FUZZ", "0"))
bounded = settings(
    max_examples=TRIES or settings().max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    deadline=None if TRIES else 30_000,
)
MARKS = (
    "'",
    '"',
    "`",
    "$$",
    "/*",
    "*/",
    "--",
    ";",
    "\\",
    "\x00",
    "\n",
    "{{",
    "}}",
    "${",
    "=>",
    "::",
    "(",
    ")",
    "[",
    "é",
    "🙂",
    "\u202e",
)
ODD = st.sampled_from(MARKS)


def compiled(text: str) -> object:
    return compile_query(text, Asked(TABLES))


READERS: tuple[Callable[[str], object], ...] = (check_query, parse_declarations, parse_script, compiled, shape_of)
reading = pytest.mark.parametrize("read", READERS, ids=[reader.__name__ for reader in READERS])


def judge(read: Callable[[str], object], text: str) -> None:
    """Read the text: nothing but an error of the user's making may come out, and it says something."""
    try:
        read(text)
        return
    except UsageError as error:
        said = error.message
    assert said.strip()
    assert "probe_" not in said


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A text of the corpus with some of it cut out, doubled, moved or replaced."""
    text = draw(st.sampled_from(WRITTEN))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        put = draw(st.one_of(ODD, st.sampled_from(WORDS), st.just(""), st.just(text[start:stop] * 2), st.sampled_from(WRITTEN)))
        text = text[:start] + put + text[stop:]
    return text


@reading
@given(text=broken())
@bounded
def test_a_broken_text_of_the_corpus(read: Callable[[str], object], text: str) -> None:
    judge(read, text)


@reading
@given(words=st.lists(st.one_of(st.sampled_from(WORDS), ODD), max_size=25))
@bounded
def test_words_of_the_corpus_in_any_order(read: Callable[[str], object], words: list[str]) -> None:
    judge(read, " ".join(words))


@reading
@given(text=st.text(max_size=40))
@bounded
def test_any_text(read: Callable[[str], object], text: str) -> None:
    judge(read, text)


NESTED = {
    "parentheses": ("(", "1", ")"),
    "lists": ("[", "1", "]"),
    "subqueries": ("(SELECT ", "1", ")"),
    "sums": ("1 + ", "1", ""),
    "negations": ("NOT ", "TRUE", ""),
    "signs": ("- ", "1", ""),
    "cases": ("CASE WHEN TRUE THEN ", "1", " END"),
    "calls": ("AI_COMPLETE('chat', ", "'x'", ")"),
    "functions": ("abs(", "1", ")"),
    "casts": ("CAST(", "1", " AS INT)"),
    "comments": ("/* ", "1", " */"),
}


@reading
@pytest.mark.parametrize("depth", [40, 3000])
@pytest.mark.parametrize("kind", NESTED)
def test_deep_nesting_is_read_or_refused(read: Callable[[str], object], kind: str, depth: int) -> None:
    before, middle, behind = NESTED[kind]
    judge(read, f"SELECT {before * depth}{middle}{behind * depth}")
