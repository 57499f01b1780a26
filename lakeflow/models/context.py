"""What becomes of a row whose question is longer than the model's context: it is cut, or left out.

Names and actions are Flink's (max-context-size, context-overflow-action). Tokens are those of a tokenizer.json where one
is given. Without one every byte of UTF-8 counts as a token: tokenizers of bytes, as those of OpenAI, Anthropic, Llama and
Qwen, make no more of a text, and of English about a quarter, so that a text is then cut long before it has to be.

Fixed text counts: the template around a row's values, the system prompt, a schema. Only a row's texts are cut, the last
one first where the tail goes and the first one first where the head does; numbers and nested values stay whole, since a
part of one is another value. What is cut depends on the row alone, so a row's answer stays the row's.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lakeflow.errors import DeclarationError, ModelError, did_you_mean
from lakeflow.models import options
from lakeflow.models.spec import ModelSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTEXT_OPTIONS = ("max_context_size", "context_overflow_action", "tokenizer")
CHAT_TOKENS = 9
"""What the format of a chat puts around a system and a user's message: three tokens each, three where the answer begins.
Source: OpenAI's cookbook, "How to count tokens with tiktoken"."""

logger = logging.getLogger("lakeflow.models")


class Overflow(StrEnum):
    """What is done to a row that is too long."""

    TRUNCATED_TAIL = "truncated-tail"
    TRUNCATED_HEAD = "truncated-head"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a question. `free` ones may be cut; `quoted` ones stand within a string of JSON."""

    text: str
    free: bool = False
    quoted: bool = False

    def __str__(self) -> str:
        return json.dumps(self.text, ensure_ascii=False)[1:-1] if self.quoted else self.text


class Counter(Protocol):
    """Counts tokens, and says where a text is cut."""

    def count(self, text: str) -> int:
        """How many tokens a text has, at the most."""
        ...

    def without(self, text: str, tokens: int, action: Overflow) -> str:
        """The text without that many tokens, one or more, at its tail or its head. At least one character goes."""
        ...


@dataclass(frozen=True)
class Context:
    """The room that a model has: `most` tokens, of which the `fixed` texts and `extra` tokens are taken already.

    No slots: the tokenizer is read when it is first needed, and stays.
    """

    label: str
    most: int
    action: Overflow
    logs: bool
    tokenizer: Path | None
    fixed: tuple[str, ...] = ()
    extra: int = 0

    def beside(self, *fixed: str, extra: int = 0) -> Context:
        """The same with fixed texts that go with every row, such as the system prompt; `extra` tokens come on top."""
        return replace(self, fixed=fixed, extra=extra)

    def identity(self) -> Mapping[str, str | Path]:
        """What of it decides the answers."""
        known: dict[str, str | Path] = {"max_context_size": str(self.most), "context_overflow_action": str(self.action)}
        return known if self.tokenizer is None else {**known, "tokenizer": self.tokenizer}

    @cached_property
    def counter(self) -> Counter:
        """Raises ModelError where the tokenizer cannot be read."""
        return _Bytes() if self.tokenizer is None else _Pieces(_opened(self.label, self.tokenizer))

    @cached_property
    def room(self) -> int:
        """The tokens that are left for the question. Raises ModelError where there are none."""
        taken = self.extra + sum(self.counter.count(text) for text in self.fixed)
        if taken >= self.most:
            raise ModelError(
                f"{self.label}: max_context_size is {self.most} tokens, and the fixed text alone takes {taken}",
                next_step="raise max_context_size, shorten system_prompt, or name a 'tokenizer': without one a byte is a token",
            )
        return self.most - taken

    def skips(self, parts: Sequence[Part]) -> bool:
        """Whether a row is left out: where the action says so, or where nothing of it that may be cut is enough."""
        cuts = self.action is not Overflow.SKIPPED
        tokens = self.counter.count(_text(part for part in parts if not (cuts and part.free)))
        skipped = tokens > self.room
        if skipped and (cuts or self.logs):
            said = "tokens of it cannot be cut" if cuts else "tokens"
            logger.warning("%s: a row is left out: %d %s, and there is room for %d", self.label, tokens, said, self.room)
        return skipped

    def fit(self, parts: Sequence[Part]) -> str:
        """The question, cut where it has to be; a row that `skips` would leave out comes as it is."""
        before = tokens = self.counter.count(text := _text(parts))
        if tokens <= self.room or self.action is Overflow.SKIPPED:
            return text
        left = list(parts)
        places = [place for place, part in enumerate(left) if part.free and part.text]
        places = places[::-1] if self.action is Overflow.TRUNCATED_TAIL else places
        for place in places:
            while tokens > self.room and left[place].text:
                left[place] = replace(left[place], text=self.counter.without(left[place].text, tokens - self.room, self.action))
                tokens = self.counter.count(text := _text(left))
        if tokens > self.room:
            return _text(parts)
        if self.logs:
            logger.warning("%s: a row of %d tokens is cut to %d (%s)", self.label, before, tokens, self.action)
        return text


def read_context(spec: ModelSpec) -> Context | None:
    """The room that a spec's options declare; None where it declares none. Opens nothing. Raises DeclarationError."""
    if "max_context_size" not in spec.options:
        for name in CONTEXT_OPTIONS:
            if name in spec.options:
                raise DeclarationError(f"{spec.label}: option '{name}' does nothing without 'max_context_size'")
        return None
    most = options.whole_number(spec, "max_context_size", 0)
    action, logs = _action(spec)
    tokenizer = None
    if "tokenizer" in spec.options:
        options.required(spec, "tokenizer")
        path = spec.path("tokenizer")
        tokenizer = path if path.suffix == ".json" else path / "tokenizer.json"
    return Context(spec.label, most, action, logs, tokenizer)


def _action(spec: ModelSpec) -> tuple[Overflow, bool]:
    written = spec.options.get("context_overflow_action", str(Overflow.TRUNCATED_TAIL))
    text = written.strip().lower().replace("_", "-")
    plain = text.removesuffix("-log")
    if plain not in list(Overflow):
        valid = [f"{one}{end}" for one in Overflow for end in ("", "-log")]
        raise DeclarationError(f"{spec.label}: option 'context_overflow_action' is {written!r}{did_you_mean(text, valid)}")
    return Overflow(plain), text != plain


def _text(parts: Iterable[Part]) -> str:
    return "".join(map(str, parts))


class _Bytes:
    """See `Counter`: a byte is a token."""

    def count(self, text: str) -> int:
        return len(text.encode("utf-8", "replace"))

    def without(self, text: str, tokens: int, action: Overflow) -> str:
        body = text.encode("utf-8", "replace")
        kept = max(0, len(body) - tokens)
        if action is Overflow.TRUNCATED_TAIL:
            return text[: _whole_before(text, len(body[:kept].decode("utf-8", "ignore")))]
        return text[_whole_after(text, len(text) - len(body[len(body) - kept :].decode("utf-8", "ignore"))) :]


class _Pieces:
    """See `Counter`: tokens as a tokenizer.json makes them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)

    def without(self, text: str, tokens: int, action: Overflow) -> str:
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if tokens >= len(offsets):
            return ""
        if action is Overflow.TRUNCATED_TAIL:
            return text[: _whole_before(text, min(offsets[-tokens][0], len(text) - 1))]
        return text[_whole_after(text, max(offsets[tokens - 1][1], 1)) :]


def _opened(label: str, path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
    except Exception as error:  # the library raises nothing more precise
        raise ModelError(
            f"{label}: {path} is not a tokenizer that can be opened: {error}",
            next_step="name the tokenizer.json that is published with the model in the option 'tokenizer'",
        ) from error
    return tokenizer


def _whole_before(text: str, end: int) -> int:
    """The last place up to `end` where no character as readers see it is split."""
    while 0 < end < len(text) and _joined(text, end):
        end -= 1
    return end


def _whole_after(text: str, start: int) -> int:
    while 0 < start < len(text) and _joined(text, start):
        start += 1
    return start


_JOINER = "\u200d"


def _joined(text: str, place: int) -> bool:
    """Whether the two sides of a place are one character: a letter and its marks, a joined emoji, a flag, the end of a line."""
    left, right = text[place - 1], text[place]
    if unicodedata.category(right) in ("Mn", "Mc", "Me") or _JOINER in (left, right) or (left, right) == ("\r", "\n"):
        return True
    if "\U0001f3fb" <= right <= "\U0001f3ff":
        return True
    return _is_flag(right) and _flags_before(text, place) % 2 == 1


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flags_before(text: str, place: int) -> int:
    start = place
    while start and _is_flag(text[start - 1]):
        start -= 1
    return place - start
