"""Where the tokens of a text begin, as a model's tokenizer makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tokenizers import Tokenizer

PIECE: Final = 1 << 16
"""So many characters of a long text are tokenised at once, for what a tokenizer tells of each takes far more than the text."""


class TokenPlaces:
    """The places of tokens. `tokenizer` is left as it is; with `lower_case` texts are brought to small letters before."""

    def __init__(self, tokenizer: Tokenizer, *, lower_case: bool) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._lower_case = lower_case

    def starts(self, text: str) -> Sequence[int]:
        """See `Tokenizing`."""
        found: list[int] = []
        for start, stop in _pieces(text):
            piece = text[start:stop]
            encoded = self._tokenizer.encode(_lowered(piece) if self._lower_case else piece, add_special_tokens=False)
            for place, _ in encoded.offsets:
                found.append(max(start + place, found[-1] if found else 0))
        return found


def _lowered(text: str) -> str:
    """Small letters, as many as there were letters."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(one if len(one.lower()) != 1 else one.lower() for one in text)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """The text in parts, between words where there are any."""
    start = 0
    while len(text) - start > PIECE:
        stop = max(text.rfind(space, start + 1, start + PIECE) for space in (" ", "\n"))
        stop = stop if stop > start else start + PIECE
        yield start, stop
        start = stop
    yield start, len(text)
