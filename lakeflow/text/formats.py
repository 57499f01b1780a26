"""Where texts of known formats are cut: at their own structure first, then at paragraphs, lines and words.

A separator here drops white space alone. The word that begins a class or a function, a heading's mark, a tag: each stays at
the start of what it begins. The formats are those that Confluent's ML_FILE_FORMAT_TEXT_SPLITTER names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from lakeflow.text.splitting import CHARACTERS, Literal, Separator

PLAIN: Final = (Literal("\n\n"), Literal("\n"), Literal(" "), CHARACTERS)
"""Paragraphs, lines, words, characters."""


def _lines(words: Iterable[str], indents: Iterable[str] = ("",)) -> list[Separator]:
    """The starts of lines with these words, those at the margin first."""
    return [Literal("\n", after=indent + word) for indent in indents for word in words]


def _code(*words: str, inside: tuple[str, ...] = ()) -> tuple[Separator, ...]:
    """Code that is cut before lines that begin with these words, then before those deeper inside, then as plain text."""
    indents = ("", "\t", "  ", "    ")
    return (*_lines((f"{word} " for word in words), indents), *_lines((f"{word} " for word in inside), indents), *PLAIN)


def _tags(*names: str) -> tuple[Separator, ...]:
    """Markup that is cut before these tags."""
    return (*(Literal("", after=f"<{name}") for name in names), *PLAIN)


_BRANCHES: Final = ("if", "for", "while", "switch")
_TYPES: Final = ("public", "protected", "private", "static")
_SCRIPT: Final = ("class", "export", "function", "async function", "const", "let", "var")

FORMATS: Final[Mapping[str, tuple[Separator, ...]]] = {
    "C": _code("struct", "enum", "union", "typedef", "static", "void", "int", "float", "double", "char", inside=_BRANCHES),
    "CPP": _code("namespace", "class", "struct", "template", "void", "int", "float", "double", "auto", inside=_BRANCHES),
    "CSHARP": _code("namespace", "interface", "enum", "class", "record", *_TYPES, "internal", inside=("foreach", *_BRANCHES)),
    "ELIXIR": _code("defmodule", "defprotocol", "defimpl", "defmacro", "def", "defp", inside=("with", "case", "cond", "if")),
    "GO": _code("func", "type", "var", "const", inside=("if", "for", "switch", "select", "case")),
    "HTML": _tags(
        *("head", "body", "main", "header", "footer", "nav", "section", "article", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("table", "ul", "ol", "div", "p", "tr", "li", "br", "span"),
    ),
    "JAVA": _code("interface", "enum", "record", "class", *_TYPES, inside=(*_BRANCHES, "case")),
    "JAVASCRIPT": _code(*_SCRIPT, inside=(*_BRANCHES, "case", "default")),
    "JSON": (
        *(Literal("", before=f"{end},") for end in ("}", "]")),
        *(Literal("", before=","), Literal("", before="{"), Literal("", before="[")),
        *PLAIN,
    ),
    "KOTLIN": _code("interface", "object", "class", "data class", *_TYPES, "internal", "fun", "val", "var", inside=_BRANCHES),
    "LATEX": (
        *_lines(f"\\{word}{{" for word in ("part", "chapter", "section", "subsection", "subsubsection")),
        *_lines(f"\\begin{{{word}" for word in ("enumerate", "itemize", "description", "list", "quote", "verse", "verbatim")),
        *_lines(f"\\begin{{{word}" for word in ("align", "equation", "figure", "table")),
        *PLAIN,
    ),
    "MARKDOWN": (
        *_lines(f"{'#' * level} " for level in range(1, 7)),
        *_lines(("```", "***\n", "---\n", "___\n")),
        Literal("\n\n"),
        *_lines(("- ", "* ", "+ ", "> ")),
        *PLAIN[1:],
    ),
    "PHP": _code("namespace", "interface", "trait", "class", "function", *_TYPES, inside=("foreach", *_BRANCHES, "do")),
    "PYTHON": _code("class", "async def", "def", "@", inside=("if", "for", "while", "with", "try:")),
    "RUBY": _code("module", "class", "def", inside=("if", "unless", "while", "for", "do", "begin", "rescue")),
    "RUST": _code(
        "mod", "impl", "trait", "struct", "enum", "pub", "fn", "const", inside=("loop", "match", "if", "while", "for")
    ),
    "SCALA": _code(
        "package", "object", "trait", "class", "case class", "def", "val", "var", inside=("if", "for", "while", "match")
    ),
    "SQL": _code(
        *("CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "SELECT"),
        *("create", "alter", "drop", "insert", "update", "delete", "merge", "with", "select"),
        inside=("FROM", "WHERE", "GROUP", "ORDER", "from", "where", "group", "order"),
    ),
    "SWIFT": _code(
        "protocol", "extension", "enum", "struct", "class", "func", inside=("if", "guard", "for", "while", "switch")
    ),
    "TYPESCRIPT": _code("enum", "interface", "namespace", "type", *_SCRIPT, inside=(*_BRANCHES, "case", "default")),
    "XML": (Literal("", before=">", after="<"), *PLAIN),
}
"""The separators of each format, the coarsest first."""
