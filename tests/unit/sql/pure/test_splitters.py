from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import UnknownName, UsageError
from lakeflow.text.formats import FORMATS, PLAIN
from lakeflow.text.splitting import CHARACTERS, Cutting, Literal, Pattern, Position, Separator, chunks
from tests.unit.sql.pure.calling import call, value, values

SENTENCES = "This is the text I would like to chunk up. It is the example text for this exercise"


class TestDocumented:
    """The examples of Confluent's page."""

    def test_characters(self) -> None:
        assert value("ML_CHARACTER_TEXT_SPLITTER", SENTENCES, 35, 4, "", True, False, True, "END") == [
            "This is the text I would like to ch",
            "o chunk up. It is the example text ",
            "ext for this exercise",
        ]

    def test_recursive(self) -> None:
        found = value("ML_RECURSIVE_TEXT_SPLITTER", "Hello. world!", 0, 0, ["[!]", "[.]"], True, True, True, "START")
        assert found == ["Hello", ". world", "!"]

    def test_file_format(self) -> None:
        code = 'def hello_world():\n print("Hello, World!")\n\n# Call the function\nhello_world()\n'
        assert value("ML_FILE_FORMAT_TEXT_SPLITTER", code, 50, 0, "PYTHON") == [
            'def hello_world():\n print("Hello, World!")',
            "# Call the function\nhello_world()",
        ]


class TestCharacterSplitter:
    def test_pieces_are_joined_up_to_the_size(self) -> None:
        assert value("ML_CHARACTER_TEXT_SPLITTER", "aa,bb,cc,dddddddd,e", 5, 0, ",", False) == ["aa,bb", "cc", "dddddddd", "e"]

    def test_overlap_repeats_whole_pieces(self) -> None:
        assert value("ML_CHARACTER_TEXT_SPLITTER", "aa,bb,cc,dd", 5, 2, ",", False) == ["aa,bb", "bb,cc", "cc,dd"]

    @pytest.mark.parametrize(
        ("position", "expected"), [("START", ["one", "; two", "; three"]), ("END", ["one;", "two;", "three"])]
    )
    def test_a_separator_that_is_kept(self, position: str, expected: list[str]) -> None:
        assert value("ML_CHARACTER_TEXT_SPLITTER", "one; two; three", 6, 0, ";", False, True, True, position) == expected

    def test_white_space_stays_where_it_is_not_trimmed(self) -> None:
        assert value("ML_CHARACTER_TEXT_SPLITTER", " a , b ", 3, 0, ",", False, False) == [" a ", " b "]
        assert value("ML_CHARACTER_TEXT_SPLITTER", " a , b ", 3, 0, ",", False) == ["a", "b"]

    def test_a_separator_is_a_regular_expression_where_that_is_said(self) -> None:
        assert value("ML_CHARACTER_TEXT_SPLITTER", "a1b22c", 1, 0, "[0-9]+", True) == ["a", "b", "c"]
        assert value("ML_CHARACTER_TEXT_SPLITTER", "a[0-9]+b", 1, 0, "[0-9]+", False) == ["a", "b"]

    def test_a_null_text_gives_null(self) -> None:
        assert values("ML_CHARACTER_TEXT_SPLITTER", [None, "a b"], 1, 0, " ", False) == [None, ["a", "b"]]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((-1, 0, " ", False), "ML_CHARACTER_TEXT_SPLITTER: chunkSize is -1; valid: 0 or more"),
            ((5, 6, " ", False), "chunkOverlap is 6; valid: 0 to chunkSize, which is 5"),
            ((5, -1, " ", False), "chunkOverlap is -1"),
            ((None, 0, " ", False), "chunkSize is NULL"),
            ((5, 0, None, False), "separator is NULL"),
            ((5, 0, "(", True), r"separator '\(' is no regular expression"),
            ((5, 0, " ", False, True, True, "MIDDLE"), "separatorPosition is 'MIDDLE'.*valid: END, START"),
        ],
    )
    def test_what_is_refused(self, arguments: tuple[object, ...], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            value("ML_CHARACTER_TEXT_SPLITTER", "some text", *arguments)

    def test_an_expression_that_takes_others_forever_takes_no_time(self) -> None:
        assert value("ML_CHARACTER_TEXT_SPLITTER", "a" * 5_000, 10_000, 0, "(a+)+$", True, True, True) == ["a" * 5_000]


class TestRecursiveSplitter:
    def test_paragraphs_then_lines_then_words(self) -> None:
        text = "First paragraph.\n\nSecond one,\nwith a line that is longer.\n\nEnd"
        assert value("ML_RECURSIVE_TEXT_SPLITTER", text, 20, 0) == [
            "First paragraph.",
            "Second one,",
            "with a line that is",
            "longer.",
            "End",
        ]

    def test_a_word_that_is_too_long_is_cut(self) -> None:
        assert value("ML_RECURSIVE_TEXT_SPLITTER", "ab " + "x" * 25, 10, 0) == ["ab", "x" * 10, "x" * 10, "x" * 5]

    def test_separators_that_are_null_are_refused(self) -> None:
        with pytest.raises(UsageError, match="separators holds a NULL"):
            value("ML_RECURSIVE_TEXT_SPLITTER", "a b", 1, 0, ["a", None])

    def test_sizes_may_differ_from_row_to_row(self) -> None:
        found = call("ML_RECURSIVE_TEXT_SPLITTER", pa.array(["a b c", "a b c"]), pa.array([1, 3]), pa.array([0, 0]))
        assert found.to_pylist() == [["a", "b", "c"], ["a b", "c"]]


class TestFormats:
    def test_the_words_that_begin_something_stay(self) -> None:
        code = "import os\n\nclass First:\n    def run(self):\n        pass\n\nclass Second:\n    x = 1\n"
        assert value("ML_FILE_FORMAT_TEXT_SPLITTER", code, 55, 0, "python") == [
            "import os",
            "class First:\n    def run(self):\n        pass",
            "class Second:\n    x = 1",
        ]

    def test_headings_of_markdown_begin_chunks(self) -> None:
        text = "# One\n\nSome words.\n\n## Within\n\nMore words.\n\n# Two\n\nLast."
        assert value("ML_FILE_FORMAT_TEXT_SPLITTER", text, 40, 0, "MARKDOWN") == [
            "# One\n\nSome words.",
            "## Within\n\nMore words.",
            "# Two\n\nLast.",
        ]

    def test_tags_and_members_are_cut_around_nothing(self) -> None:
        html = "<h1>Title</h1><p>First.</p><p>Second.</p>"
        assert value("ML_FILE_FORMAT_TEXT_SPLITTER", html, 16, 0, "HTML") == [
            "<h1>Title</h1>",
            "<p>First.</p>",
            "<p>Second.</p>",
        ]
        assert value("ML_FILE_FORMAT_TEXT_SPLITTER", '[{"a":1},{"b":2}]', 9, 0, "JSON") == ['[{"a":1},', '{"b":2}]']

    def test_an_unknown_format_is_refused(self) -> None:
        with pytest.raises(UnknownName, match=r"unknown format .* 'PYTHN'.*did you mean 'PYTHON'"):
            value("ML_FILE_FORMAT_TEXT_SPLITTER", "x", 5, 0, "PYTHN")

    @pytest.mark.parametrize("name", sorted(FORMATS))
    def test_every_format_ends_with_what_cuts_any_text(self, name: str) -> None:
        assert FORMATS[name][-1] == CHARACTERS
        assert all(len(one) <= 7 for one in chunks("some words " * 5, Cutting(7, 0, FORMATS[name]), recursive=True))


TEXTS = st.text(alphabet="ab \n,.", max_size=60)
KNOWN: list[Separator] = [Literal("\n\n"), Literal("\n"), Literal(" "), Pattern("[,.]"), CHARACTERS]
SEPARATORS = st.lists(st.sampled_from(KNOWN), max_size=4)


@given(TEXTS, st.integers(0, 12), st.data())
def test_chunks_are_stretches_of_the_text_in_its_order(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size))
    keep = data.draw(st.sampled_from([None, *Position]))
    cutting = Cutting(size, overlap, tuple(data.draw(SEPARATORS)), trim=False, keep=keep)
    place = 0
    for chunk in chunks(text, cutting, recursive=data.draw(st.booleans())):
        found = text.find(chunk, place)
        assert found >= 0, f"{chunk!r} does not follow in {text!r}"
        place = max(place, found)


@given(TEXTS, st.integers(1, 12), st.data())
def test_no_chunk_is_longer_than_the_size_and_no_word_is_lost(text: str, size: int, data: st.DataObject) -> None:
    cutting = Cutting(size, data.draw(st.integers(0, size - 1)), PLAIN)
    found = chunks(text, cutting, recursive=True)
    assert all(0 < len(chunk) <= size for chunk in found)
    if cutting.overlap == 0:
        assert "".join("".join(found).split()) == "".join(text.split())


@given(TEXTS, st.integers(0, 12))
def test_kept_separators_without_overlap_give_the_whole_text_back(text: str, size: int) -> None:
    cutting = Cutting(size, 0, (Literal("\n"), Pattern("[,.]"), Literal(" ")), trim=False, keep=Position.START)
    assert "".join(chunks(text, cutting, recursive=True)) == text
