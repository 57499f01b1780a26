"""What each splitter makes of a text, and which settings are refused."""

from __future__ import annotations

import re

import pytest

from lakeflow.errors import UnknownName, UsageError
from lakeflow.text.splitter import By, Splitter


def chunks(text: str, by: str, size: int = 1000, overlap: int = 0, language: str | None = None) -> list[str]:
    return [text[one.chunk.start : one.chunk.end] for one in Splitter(by, size, overlap, language).parts(text)]


def under(text: str, by: str, size: int = 1000) -> list[tuple[str, tuple[str, ...]]]:
    """What is read of each chunk, and its headings."""
    parts = Splitter(by, size).parts(text)
    return [(one.read or text[one.chunk.start : one.chunk.end], one.chunk.headings) for one in parts]


def test_paragraphs_come_before_lines_and_lines_before_sentences() -> None:
    text = "First one. Second one.\n\nA new paragraph.\nAnd its second line."
    assert chunks(text, "recursive", 50) == ["First one. Second one.", "A new paragraph.\nAnd its second line."]
    assert chunks(text, "recursive", 24) == ["First one. Second one.", "A new paragraph.", "And its second line."]
    assert chunks(text, "recursive", 12) == ["First one.", "Second one.", "A new", "paragraph.", "And its", "second line."]


def test_a_word_that_is_longer_than_a_chunk_is_cut_and_marks_stay_with_their_letters() -> None:
    assert chunks("abcdefgh ij", "recursive", 3) == ["abc", "def", "gh", "ij"]
    assert chunks("ae\u0301e\u0301", "recursive", 2) == ["a", "e\u0301", "e\u0301"]


def test_an_overlap_begins_at_a_word_or_a_sentence() -> None:
    assert chunks("one two three four five six", "recursive", 13, 5) == ["one two three", "three four", "four five six"]
    assert chunks("It is so. It was. It will be.", "recursive", 19, 9) == ["It is so. It was.", "It was. It will be."]


def test_characters_are_cut_anywhere() -> None:
    assert chunks("abc def ghi", "characters", 4) == ["abc ", "def ", "ghi"]
    assert chunks("abcdefg", "characters", 4, 2) == ["abcd", "cdef", "efg"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It ends. It begins! Does it? Yes…", ["It ends.", "It begins!", "Does it?", "Yes…"]),
        (
            "Dr. J. R. Smith paid 3.50 e.g. in coins. Then he left.",
            ["Dr. J. R. Smith paid 3.50 e.g. in coins.", "Then he left."],
        ),
        ('He said "no." Then I did. So do I. We left.', ['He said "no."', "Then I did.", "So do I.", "We left."]),
        ("今日は晴れ。明日は雨！", ["今日は晴れ。", "明日は雨！"]),
        ("A title\n\nand a text", ["A title", "and a text"]),
    ],
)
def test_sentences_end_as_their_marks_show(text: str, sentences: list[str]) -> None:
    found = Splitter(By.SENTENCES, max(len(one) for one in sentences) + 1).parts(text)
    joined = [text[one.chunk.start : one.chunk.end] for one in found]
    assert "".join(joined).replace(" ", "") == "".join(sentences).replace(" ", "")
    assert all(any(part.endswith(one) for one in sentences) for part in joined)


def test_code_is_cut_before_what_its_language_begins_with() -> None:
    text = (
        "import os\n\nclass A:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 2\n\nclass B:\n    1\n"
    )
    found = chunks(text, "code", 60, language="Python")
    assert [one.split("\n")[0] for one in found] == ["import os", "def g(self):"]
    assert chunks(text[11:], "code", 60, language="python")[0] == "class A:\n    def f(self):\n        return 1"
    assert chunks("fn a() {\n}\nfn b() {\n}\n", "code", 12, language="rust") == ["fn a() {\n}", "fn b() {\n}"]


def test_markdown_is_cut_into_sections_that_know_their_headings() -> None:
    text = "lead\n\n# One\n\n## Deep\ntext\n\n```\n# no heading\n```\n\n## Other `x`\n- a\n- b\n\nTwo\n===\nend\n"
    assert under(text, "markdown") == [
        ("lead", ()),
        ("# One\n\n## Deep\ntext\n\n```\n# no heading\n```", ("One", "Deep")),
        ("## Other `x`\n- a\n- b", ("One", "Other `x`")),
        ("Two\n===\nend", ("Two",)),
    ]


def test_markdown_within_a_section_is_cut_at_its_blocks() -> None:
    text = "# H\nA paragraph. It goes on.\n\n- first item\n- second item\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert chunks(text, "markdown", 31) == [
        "# H\nA paragraph. It goes on.",
        "- first item\n- second item",
        "| a | b |\n|---|---|\n| 1 | 2 |",
    ]
    assert chunks(text, "markdown", 14)[3:5] == ["- first item", "- second item"]


def test_front_matter_is_a_chunk_of_its_own() -> None:
    assert under("---\ntitle: x\n---\n# A\ntext", "markdown") == [("---\ntitle: x\n---", ()), ("# A\ntext", ("A",))]


def test_windows_line_ends_are_line_ends() -> None:
    assert under("# A\r\ntext\r\n\r\n# B\r\nmore\r\n", "markdown") == [("# A\r\ntext", ("A",)), ("# B\r\nmore", ("B",))]
    assert chunks("one\r\n\r\ntwo", "recursive", 5) == ["one", "two"]


def test_html_is_read_without_its_tags_and_cut_at_its_blocks() -> None:
    text = (
        "<html><head><title>no</title><script>if (a < b) x('<h1>')</script></head><body><h1 class='a>b'>A &amp; B</h1>"
        "<p>First <b>bold</b>\ntext.</p><!-- <p>not this</p> --><h2>Sub</h2><ul><li>one<li>two</ul></body></html>"
    )
    assert under(text, "html") == [("A & B\nFirst bold text.", ("A & B",)), ("Sub\none\ntwo", ("A & B", "Sub"))]
    assert [read for read, _ in under("<p>one two</p><p>three</p>", "html", 14)] == ["one two", "three"]


def test_broken_html_is_read_to_its_end() -> None:
    assert under("a < b <c <p>text", "html") == [("a < b text", ())]
    assert under("text <!-- never closed <p>", "html") == [("text", ())]
    assert under("text <a href='never closed", "html") == [("text <a href='never closed", ())]
    assert under("<script>never closed", "html") == []


@pytest.mark.parametrize("by", list(By))
@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000\n"])
def test_a_blank_text_has_no_chunk(by: By, text: str) -> None:
    assert list(Splitter(by, language="go" if by is By.CODE else None).parts(text)) == []


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"by": "markdwon"}, UnknownName, "markdown"),
        ({"size": 0}, UsageError, "size of chunks is 0; valid: 1 to"),
        ({"size": 10, "overlap": 10}, UsageError, "overlap of chunks is 10; valid: 0 to 9"),
        ({"size": 10, "overlap": -1}, UsageError, "overlap of chunks is -1"),
        ({"by": "code"}, UsageError, "language is None"),
        ({"by": "code", "language": "pyton"}, UnknownName, "python"),
        ({"language": "python"}, UsageError, "split by recursive"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=re.escape(said)):
        Splitter(**settings)  # type: ignore[arg-type]


HARD = {
    By.RECURSIVE: [". ", "....", "\n", "a", " ", "Dr. "],
    By.SENTENCES: ["!?", "a.b"],
    By.CHARACTERS: [" "],
    By.CODE: ["def ", "\n\t"],
    By.MARKDOWN: ["> ", "- ", "[a]: b 'c\n", "`", "|", "\r"],
    By.HTML: ["<a ", "<a b='", "<!--", "<p>", "<script>", "</p", "&", "<", "<h1>"],
}
LONG = 1_000_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("by", "piece"), [(by, piece) for by, pieces in HARD.items() for piece in pieces])
def test_a_long_text_is_split_in_time_that_goes_with_its_length(by: By, piece: str) -> None:
    """Each takes less than a second; in time that goes with the square of its length it would take hours."""
    splitter = Splitter(by, 500, 50, "python" if by is By.CODE else None)
    text = piece * (LONG // len(piece))
    assert all(part.chunk.end - part.chunk.start <= 500 for part in splitter.parts(text))
