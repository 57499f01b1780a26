"""Documentation that every Python has, as Markdown: a page a module of the standard library, of its own documentation strings.

python examples/rag/pages.py json     prints that page
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass

MODULES = (
    *("base64", "bisect", "calendar", "collections", "contextlib", "csv", "difflib", "fnmatch", "functools", "glob", "heapq"),
    *("itertools", "json", "pathlib", "random", "shutil", "statistics", "tempfile", "textwrap", "tomllib", "uuid", "zipfile"),
)
FEWEST_WORDS = 4


@dataclass(frozen=True, slots=True)
class Page:
    """A page, as it stands in the topic: its key, its title, and its Markdown."""

    page_id: str
    title: str
    body: str


def pages() -> list[Page]:
    """A page for each of MODULES; the texts are those of the running Python."""
    return [page_of(name) for name in MODULES]


def page_of(name: str) -> Page:
    """The page of a module: what it says of itself, then a section for each public name that says something."""
    module = importlib.import_module(name)
    head = f"# {name}\n\n{_text(module)}"
    sections = [f"## {name}.{place}\n\n{text}" for place, text in _documented(module)]
    return Page(name, f"The module {name}", "\n\n".join([head, *sections]))


def _documented(module: object) -> Iterator[tuple[str, str]]:
    exported = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
    home = getattr(module, "__name__", "")
    for name in sorted(exported):
        thing = getattr(module, name, None)
        ours = getattr(thing, "__module__", "") or ""
        if not (inspect.isclass(thing) or inspect.isroutine(thing)) or not ours.lstrip("_").startswith(home):
            continue
        yield from _said(name, thing)
        if inspect.isclass(thing):
            for member in sorted(vars(thing)):
                if not member.startswith("_") and inspect.isroutine(getattr(thing, member)):
                    yield from _said(f"{name}.{member}", getattr(thing, member))


def _said(name: str, thing: object) -> Iterator[tuple[str, str]]:
    text = _text(thing)
    if len(text.split()) >= FEWEST_WORDS:
        yield name, text


def _text(thing: object) -> str:
    """What the object says of itself. No line of it begins as a heading of Markdown does."""
    raw = getattr(thing, "__doc__", None)
    text = inspect.cleandoc(raw) if isinstance(raw, str) else ""
    return "\n".join(f" {line}" if line.startswith("#") else line for line in text.splitlines()).strip()


if __name__ == "__main__":
    for wanted in sys.argv[1:] or MODULES:
        print(page_of(wanted).body)
