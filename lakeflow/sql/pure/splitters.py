"""Splitters of texts: ML_CHARACTER_TEXT_SPLITTER, ML_RECURSIVE_TEXT_SPLITTER, ML_FILE_FORMAT_TEXT_SPLITTER.

Names, order of arguments, defaults and the examples are Confluent's ("ML Preprocessing Functions"). A NULL text gives NULL; any
other argument that is NULL is an error. What they do is in splitting.py; regular expressions are RE2's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from lakeflow.errors import UnknownName, UsageError, did_you_mean
from lakeflow.sql.pure.arguments import Kind, Parameter, bound, by_settings
from lakeflow.sql.pure.registry import Bound, PureFunction
from lakeflow.text.formats import FORMATS, PLAIN
from lakeflow.text.splitting import Cutting, Literal, Pattern, Position, Separator, chunks

CHUNKS: Final = pa.list_(pa.string())
SIZES: Final = (Parameter("text", Kind.TEXT), Parameter("chunkSize", Kind.WHOLE), Parameter("chunkOverlap", Kind.WHOLE))
REGEX: Final = Parameter("isSeparatorRegex", Kind.TRUTH)
KEEPING: Final = (
    Parameter("trimWhitespace", Kind.TRUTH),
    Parameter("keepSeparator", Kind.TRUTH),
    Parameter("separatorPosition", Kind.TEXT),
)


class _Settings:
    """The arguments of a call beside the text, by their names. Raises UsageError for a NULL."""

    def __init__(self, function: str, parameters: Sequence[Parameter], given: Sequence[object]) -> None:
        self.function = function
        self._given = {parameter.name: value for parameter, value in zip(parameters[1:], given, strict=False)}
        for name, value in self._given.items():
            if value is None or (isinstance(value, list) and None in value):
                raise UsageError(f"{function}: {name} {'holds a' if isinstance(value, list) else 'is'} NULL")

    def whole(self, name: str) -> int:
        value = self._given[name]
        assert isinstance(value, int), "bind made it a whole number"
        return value

    def truth(self, name: str, *, default: bool) -> bool:
        return bool(self._given.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        return str(self._given.get(name, default))

    def texts(self, name: str) -> list[str] | None:
        value = self._given.get(name)
        return value if isinstance(value, list) else None

    def cutting(self, separators: Sequence[Separator]) -> Cutting:
        """How texts are cut. Raises UsageError."""
        position = self.text("separatorPosition", Position.START).upper()
        if position not in list(Position):
            raise UsageError(f"{self.function}: separatorPosition is {position!r}{did_you_mean(position, Position)}")
        try:
            return Cutting(
                self.whole("chunkSize"),
                self.whole("chunkOverlap"),
                tuple(separators),
                self.truth("trimWhitespace", default=True),
                Position(position) if self.truth("keepSeparator", default=False) else None,
            )
        except UsageError as error:
            raise UsageError(f"{self.function}: {error.message}") from error


def _split(settings: _Settings, texts: pa.Array, separators: Sequence[Separator], *, recursive: bool) -> pa.Array:
    cutting = settings.cutting(separators)
    found = [None if text is None else chunks(text, cutting, recursive=recursive) for text in texts.to_pylist()]
    return pa.array(found, CHUNKS)


def _separator(text: str, *, regex: bool) -> Separator:
    return Pattern(text) if regex and text else Literal(text)


CHARACTER: Final = (*SIZES, Parameter("separator", Kind.TEXT), REGEX, *KEEPING)
RECURSIVE: Final = (*SIZES, Parameter("separators", Kind.TEXTS), REGEX, *KEEPING)
FILE_FORMAT: Final = (*SIZES, Parameter("formatName", Kind.TEXT), *KEEPING)


def _character(texts: pa.Array, *given: object) -> pa.Array:
    settings = _Settings("ML_CHARACTER_TEXT_SPLITTER", CHARACTER, given)
    separator = _separator(settings.text("separator"), regex=settings.truth("isSeparatorRegex", default=False))
    return _split(settings, texts, [separator], recursive=False)


def _recursive(texts: pa.Array, *given: object) -> pa.Array:
    settings = _Settings("ML_RECURSIVE_TEXT_SPLITTER", RECURSIVE, given)
    regex, said = settings.truth("isSeparatorRegex", default=False), settings.texts("separators")
    separators = PLAIN if said is None else [_separator(one, regex=regex) for one in said]
    return _split(settings, texts, separators, recursive=True)


def _file_format(texts: pa.Array, *given: object) -> pa.Array:
    settings = _Settings("ML_FILE_FORMAT_TEXT_SPLITTER", FILE_FORMAT, given)
    name = settings.text("formatName")
    if name.upper() not in FORMATS:
        raise UnknownName("format of ML_FILE_FORMAT_TEXT_SPLITTER", name.upper(), FORMATS)
    return _split(settings, texts, FORMATS[name.upper()], recursive=True)


def _bind_character(given: tuple[pa.DataType, ...]) -> Bound:
    return bound(given, CHARACTER, 5, CHUNKS)


def _bind_recursive(given: tuple[pa.DataType, ...]) -> Bound:
    return bound(given, RECURSIVE, 3, CHUNKS)


def _bind_file_format(given: tuple[pa.DataType, ...]) -> Bound:
    return bound(given, FILE_FORMAT, 4, CHUNKS)


AFTER: Final = "[, trimWhitespace [, keepSeparator [, separatorPosition]]]"
FUNCTIONS: Final = (
    PureFunction(
        "ML_CHARACTER_TEXT_SPLITTER",
        f"ML_CHARACTER_TEXT_SPLITTER(text, chunkSize, chunkOverlap, separator, isSeparatorRegex {AFTER})",
        _bind_character,
        by_settings(_character, CHUNKS),
    ),
    PureFunction(
        "ML_RECURSIVE_TEXT_SPLITTER",
        f"ML_RECURSIVE_TEXT_SPLITTER(text, chunkSize, chunkOverlap [, separators [, isSeparatorRegex {AFTER}]])",
        _bind_recursive,
        by_settings(_recursive, CHUNKS),
    ),
    PureFunction(
        "ML_FILE_FORMAT_TEXT_SPLITTER",
        f"ML_FILE_FORMAT_TEXT_SPLITTER(text, chunkSize, chunkOverlap, formatName {AFTER})",
        _bind_file_format,
        by_settings(_file_format, CHUNKS),
    ),
)
