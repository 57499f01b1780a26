"""Whatever the text and the splitter: chunks are stretches of the text, in its order, none too long, and leave out nothing."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.text.splitter import By, Splitter

EXAMPLES = int(os.environ.get("LAKEFLOW_SPLIT_EXAMPLES", "150"))

pieces = st.sampled_from(
    [
        *(
            "word",
            "a",
            " ",
            "  ",
            "\n",
            "\r\n",
            "\n\n",
            "\t",
            ". ",
            "! ",
            "。",
            "...",
            "Dr. ",
            "# One\n",
            "\n## Two\n",
            "---\n",
        ),
        *("```\n", "- item\n", "> ", "| a | b |\n|---|---|\n", "<p>", "</p>", "<h1>", "</h1>", "<h2 class='x y'>", "<br/>"),
        *("<!-- ", " -->", "<script>", "</script>", "<", ">", "&amp;", '"', "=", "def f():\n", "class A:\n", "é", "e\u0301"),
        *("👩\u200d🚀", "日本語", "\u2028", "\x0c", "\x00", "\ud800", "averyveryverylongwordindeed"),
    ]
)
texts = st.lists(pieces, max_size=60).map("".join) | st.text(max_size=200)


@st.composite
def splitters(draw: st.DrawFn) -> Splitter:
    size = draw(st.integers(1, 60))
    by = draw(st.sampled_from(list(By)))
    return Splitter(by, size, draw(st.integers(0, size - 1)), "python" if by is By.CODE else None)


@given(text=texts, splitter=splitters(), by_tokens=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None)
def test_chunks_are_the_text_in_its_order(text: str, splitter: Splitter, by_tokens: bool) -> None:
    starts = [place for place in range(len(text)) if place % 3 == 0 or text[place].isspace()]
    parts = list(splitter.parts(text, (lambda given: starts) if by_tokens else None))
    covered = 0
    for before, part in zip([None, *parts], parts, strict=False):
        start, end = part.chunk.start, part.chunk.end
        length = sum(start <= place < end for place in starts) if by_tokens else end - start
        assert 0 <= start < end <= len(text)
        assert length <= splitter.size
        assert text[start:end].strip()
        if before is not None:
            assert before.chunk.start < start
            assert before.chunk.end < end
            repeated = before.chunk.end - start
            if by_tokens:
                repeated = sum(start <= place < before.chunk.end for place in starts)
            assert repeated <= splitter.overlap
        if not splitter.reads_otherwise:
            assert not text[covered:start].strip()
        covered = end
    if not splitter.reads_otherwise:
        assert not text[covered:].strip()
