"""Queries whose answer is known from the structure of real texts: functions and their docstrings, headings and what follows.

The query of a function is its name and its module's, taken apart into words; its answer is what its docstring says, without the
name. The query of a section is its heading; its answer the paragraph under it. Answers that are not the only one of their
text are left out, as are names of one word and headings that stand over several sections.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.texts import DOCUMENTATION, passages, python_files, readable, text_of

SHARE_OF_FILES = 96
"""Of 256: the files that are read, by the hash of their names."""
CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
MARKDOWN = re.compile(
    r"^#{1,5}[ \t]+(?P<heading>[^\n#]+?)[ \t#]*\n+(?P<body>(?:(?!#|```|    |\||<|\[|!|-|\*)[^\n]+\n)+)", re.MULTILINE
)
UNDERLINED = re.compile(
    r"^(?P<heading>[A-Za-z`][^\n]{3,80})\n(?P<line>[=\-~^\"'+*])(?P=line){3,}\n+(?P<body>(?:(?!\.\. | |\||-|\*)[^\n]+\n)+)",
    re.MULTILINE,
)


def labelled(cache: Path, count: int) -> pl.DataFrame:
    """`count` pairs at most: id, kind (function or section), query, text; gathered where the cache does not hold them."""
    file = cache / "labelled.parquet"
    if not file.exists():
        gathered = _gathered()
        gathered.write_parquet(file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    return pl.scan_parquet(file).head(count).collect()


def _gathered() -> pl.DataFrame:
    pairs = [("function", *pair) for pair in functions()] + [("section", *pair) for pair in sections()]
    queries, texts = (Counter(pair[place].lower() for pair in pairs) for place in (1, 2))
    kept = [pair for pair in pairs if queries[pair[1].lower()] == 1 and texts[pair[2].lower()] == 1]
    kept.sort(key=lambda pair: hashlib.sha256(pair[2].encode()).digest())
    print(f"gathered {len(kept):,} of {len(pairs):,} pairs", file=sys.stderr, flush=True)
    frame = pl.DataFrame(kept, schema=["kind", "query", "text"], orient="row")
    return frame.with_row_index("id").with_columns(pl.col("id").cast(pl.Int64))


def functions() -> Iterator[tuple[str, str]]:
    """(name and module in words, what the docstring says)."""
    for folder, file in python_files():
        if _is_chosen(file.relative_to(folder)) and "test" not in str(file.relative_to(folder)):
            try:
                tree = ast.parse(text_of(file))
            except (SyntaxError, ValueError, RecursionError):
                continue
            module = words(file.stem if file.stem != "__init__" else file.parent.name)
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and len(words(node.name)) > 1:
                    said = next(passages(_without(ast.get_docstring(node) or "", node.name)), None)
                    if said is not None and not node.name.startswith("_"):
                        yield " ".join([*words(node.name), *module]), said


def sections() -> Iterator[tuple[str, str]]:
    """(heading, the first paragraph under it)."""
    for root in (DOCUMENTATION, *dict.fromkeys(folder for folder, _ in python_files())):
        for file in sorted(root.rglob("*")) if root.is_dir() else ():
            if file.suffix.lower() in (".md", ".rst", ".txt") and readable(file):
                text = text_of(file)
                for found in (*MARKDOWN.finditer(text), *UNDERLINED.finditer(text)):
                    heading = " ".join(re.sub(r"[`*_:\\]", " ", found["heading"]).split())
                    said = next(passages(found["body"]), None)
                    if said is not None and 2 <= len(heading.split()) <= 12:
                        yield heading, said


def words(name: str) -> list[str]:
    """An identifier taken apart, in lower case."""
    return [part.lower() for part in CAMEL.findall(name)]


def _without(text: str, name: str) -> str:
    return re.sub(rf"\b{re.escape(name)}\b", "", text)


def _is_chosen(inside: Path) -> bool:
    return hashlib.sha256(str(inside).encode()).digest()[0] < SHARE_OF_FILES
