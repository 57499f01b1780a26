"""Questions that are longer than the model's context."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models.context import Context, Overflow, Part, read_context
from lakeflow.models.prompt import Prompt, read_prompt
from lakeflow.models.spec import ModelSpec, Task

TAIL, HEAD = Overflow.TRUNCATED_TAIL, Overflow.TRUNCATED_HEAD
COLUMNS = pa.schema([("t", pa.string()), ("n", pa.int64()), ("u", pa.string())])


def spec(**options: str) -> ModelSpec:
    return ModelSpec("m", "openai", Task.TEXT_GENERATION, COLUMNS, pa.schema([("a", pa.string())]), options, Path("/project"))


def context(most: int, action: Overflow = TAIL, *, logs: bool = False, tokenizer: Path | None = None) -> Context:
    return Context("model 'm'", most, action, logs, tokenizer)


def byte_tokenizer(folder: Path) -> Path:
    """A token a byte, but for two pairs; so a letter may be several tokens, and an emoji always is. As published ones often
    do, it asks for padding and truncation, which a count must not have."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: place for place, word in enumerate([*alphabet, "ab", "cd"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("c", "d")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=3)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_what_fits_is_left_alone_and_what_does_not_is_cut_at_its_end() -> None:
    assert context(5).fit([Part("hello", free=True)]) == "hello"
    assert context(4).fit([Part("hello", free=True)]) == "hell"
    assert context(4, HEAD).fit([Part("hello", free=True)]) == "ello"


def test_fixed_text_counts_and_is_never_cut() -> None:
    parts = [Part("Say: "), Part("abcdef", free=True), Part(" twice, "), Part("uvw", free=True), Part(".")]
    assert context(20).fit(parts) == "Say: abcdef twice, ."
    assert context(18).fit(parts) == "Say: abcd twice, ."
    assert context(20, HEAD).fit(parts) == "Say: def twice, uvw."
    assert context(30).beside("Be brief.", extra=1).fit(parts) == context(20).fit(parts)


def test_numbers_stay_whole_and_json_stays_json() -> None:
    first, last = 'say "hi"\nor not', "more"
    row = {"t": first, "n": 1234, "u": last}
    whole = Prompt(None, tuple(row))
    assert whole.of(row) == json.dumps(row, ensure_ascii=False)
    for most in range(len('{"t": "", "n": 1234, "u": ""}'), len(whole.of(row)) + 1):
        for action in (TAIL, HEAD):
            cut = json.loads(whole.within(context(most, action)).of(row))
            assert cut["n"] == 1234
            assert first.startswith(cut["t"]) if action is TAIL else last.endswith(cut["u"])


def test_numbers_in_a_template_stay_whole_too() -> None:
    prompt = read_prompt(spec(prompt="{n} of {t}")).within(context(10))
    assert prompt.of({"n": 123456, "t": "abc"}) == "123456 of "
    assert not prompt.skips({"n": 123456, "t": "abc"})
    assert prompt.skips({"n": 1234567, "t": "abc"})


def test_a_row_is_left_out_where_the_action_says_so(caplog: pytest.LogCaptureFixture) -> None:
    short, long = [Part("hell", free=True)], [Part("hello", free=True)]
    assert [context(4, Overflow.SKIPPED).skips(parts) for parts in (short, long)] == [False, True]
    assert [context(4, TAIL).skips(parts) for parts in (short, long)] == [False, False]
    assert not caplog.records
    assert context(4, Overflow.SKIPPED, logs=True).skips(long)
    assert caplog.messages == ["model 'm': a row is left out: 5 tokens, and there is room for 4"]


def test_a_row_that_cannot_be_cut_enough_is_left_out_loudly(caplog: pytest.LogCaptureFixture) -> None:
    parts = [Part("abc", free=True), Part("123456")]
    assert context(5).skips(parts)
    assert context(5).fit(parts) == "abc123456"
    assert caplog.messages == ["model 'm': a row is left out: 6 tokens of it cannot be cut, and there is room for 5"]
    assert not context(6).skips(parts)


def test_a_log_tells_sizes_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    context(4, TAIL).fit([Part("secret", free=True)])
    assert not caplog.records
    context(4, TAIL, logs=True).fit([Part("secret", free=True)])
    assert caplog.messages == ["model 'm': a row of 6 tokens is cut to 4 (truncated-tail)"]


@pytest.mark.parametrize(
    ("text", "most", "tail", "head"),
    [
        ("aé", 2, "a", "é"),
        ("e\u0301x", 3, "e\u0301", "x"),
        ("ab\U0001f469\u200d\U0001f4bb", 12, "ab", "b\U0001f469\u200d\U0001f4bb"),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 12, "\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"),
        ("\U0001f44d\U0001f3fd!", 8, "\U0001f44d\U0001f3fd", "!"),
        ("\U0001f44d\U0001f3fd!", 7, "", "!"),
        ("\r\n", 1, "", ""),
    ],
)
def test_no_character_is_split(text: str, most: int, tail: str, head: str) -> None:
    assert context(most).fit([Part(text, free=True)]) == tail
    assert context(most, HEAD).fit([Part(text, free=True)]) == head


def test_tokens_are_those_of_the_tokenizer(tokenizer: Path) -> None:
    assert context(3, tokenizer=tokenizer).fit([Part("abcdab", free=True)]) == "abcdab"
    assert context(2, tokenizer=tokenizer).fit([Part("abcdab", free=True)]) == "abcd"
    assert context(2, HEAD, tokenizer=tokenizer).fit([Part("abcdab", free=True)]) == "cdab"
    assert context(2, tokenizer=tokenizer).fit([Part("a\U0001f44d", free=True)]) == "a"
    assert context(4, HEAD, tokenizer=tokenizer).fit([Part("a\U0001f44db", free=True)]) == "b"


@given(st.lists(st.text(max_size=30), min_size=1, max_size=3), st.integers(1, 60), st.sampled_from([TAIL, HEAD]), st.booleans())
def test_what_is_sent_fits_and_is_the_same_again(
    tokenizer: Path, texts: list[str], most: int, action: Overflow, by_tokens: bool
) -> None:
    room = context(most, action, tokenizer=tokenizer if by_tokens else None)
    parts = [part for text in texts for part in (Part("> "), Part(text, free=True))]
    cut = room.fit(parts)
    if not room.skips(parts):
        assert room.counter.count(cut) <= most
    assert cut == context(most, action, tokenizer=room.tokenizer).fit(parts)
    if room.counter.count("".join(map(str, parts))) <= most:
        assert cut == "".join(map(str, parts))


@given(st.text(max_size=40), st.integers(1, 60))
def test_bytes_are_cut_no_more_than_needed(text: str, most: int) -> None:
    cut = context(most).fit([Part(text, free=True)])
    assert text.startswith(cut)
    if cut != text and text.isascii() and "\r\n" not in text:
        assert len(cut) == most


def test_options_are_read_as_flink_names_them() -> None:
    assert read_context(spec()) is None
    read = read_context(spec(max_context_size="100"))
    assert read == context(100)
    for written in ("skipped-log", "SKIPPED_LOG", "skipped_log"):
        read = read_context(spec(max_context_size="100", context_overflow_action=written))
        assert read == context(100, Overflow.SKIPPED, logs=True)
    for written in ("models/m", "models/m/tokenizer.json"):
        read = read_context(spec(max_context_size="1", tokenizer=written))
        assert read is not None
        assert read.tokenizer == Path("/project/models/m/tokenizer.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_context_size": "0"}, "valid: a whole number of at least 1"),
        ({"max_context_size": "9", "context_overflow_action": "truncate-tail"}, "did you mean 'truncated-tail'"),
        ({"context_overflow_action": "skipped"}, "does nothing without 'max_context_size'"),
        ({"tokenizer": "x.json"}, "does nothing without 'max_context_size'"),
        ({"max_context_size": "9", "tokenizer": " "}, "'tokenizer' is missing"),
    ],
)
def test_slips_are_found_when_the_declaration_is_read(options: dict[str, str], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        read_context(spec(**options))


def test_a_check_finds_a_tokenizer_that_is_none_and_a_context_that_is_full(tmp_path: Path, tokenizer: Path) -> None:
    prompt = read_prompt(spec())
    (tmp_path / "bad.json").write_text("{}")
    for path in (tmp_path / "bad.json", tmp_path / "none.json"):
        with pytest.raises(ModelError, match="is not a tokenizer that can be opened"):
            prompt.within(context(9, tokenizer=path)).check()
    full = context(9).beside("Be brief.", extra=2)
    with pytest.raises(ModelError, match="max_context_size is 9 tokens, and the fixed text alone takes 11"):
        prompt.within(full).check()
    prompt.within(context(9, tokenizer=tokenizer)).check()
    prompt.check()


def test_what_decides_the_answers_is_the_size_the_action_and_the_tokenizers_bytes(tokenizer: Path) -> None:
    assert context(9, logs=True).identity() == context(9).identity()
    kinds = [context(9), context(8), context(9, HEAD), context(9, tokenizer=tokenizer)]
    assert len({str(sorted(one.identity().items())) for one in kinds}) == len(kinds)
    assert context(9, tokenizer=tokenizer).identity()["tokenizer"] == tokenizer
    assert read_prompt(spec()).identity() == {}
