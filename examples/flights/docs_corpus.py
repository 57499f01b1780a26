"""The documentation strings of Python's standard library: a text corpus that every machine has.

    python examples/flights/docs_corpus.py > docs.jsonl

One row a public function, class or method: doc_id (its dotted name, unique), module, name (within the module), kind (function,
class or method), signature ("" where it has none) and text. The order is that of the names; the rows are those of the running
Python, so that they differ a little between versions and systems. Modules are imported, so run it in a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import ModuleType

FEWEST_WORDS = 4

# Modules that do something when imported, need a screen, test others, or exist on one system alone.
SKIPPED = frozenset(
    {
        *(
            "antigravity",
            "this",
            "idlelib",
            "tkinter",
            "turtle",
            "turtledemo",
            "ensurepip",
            "lib2to3",
            "distutils",
            "pydoc_data",
        ),
        *("msilib", "msvcrt", "winreg", "winsound", "nt", "ntpath", "posix", "encodings", "test"),
        *("sre_compile", "sre_constants", "sre_parse"),
    }
)
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


@dataclass(frozen=True, slots=True)
class Doc:
    """A documented object of the standard library."""

    doc_id: str
    module: str
    name: str
    kind: str
    signature: str
    text: str


def corpus() -> list[Doc]:
    """Every row, by doc_id. An object that several modules offer stands where it was defined, else under the first name."""
    seen: set[int] = set()
    rows: dict[str, Doc] = {}
    for module in _modules():
        for name, thing in _offered(module):
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            for doc in _documented(module.__name__, name, thing):
                rows.setdefault(doc.doc_id, doc)
    return [rows[doc_id] for doc_id in sorted(rows)]


def _modules() -> Iterator[ModuleType]:
    """The public modules that can be imported here, packages before what they hold."""
    waiting = sorted((name for name in sys.stdlib_module_names if _is_wanted(name)), reverse=True)
    while waiting:
        name = waiting.pop()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                module = importlib.import_module(name)
        except (ImportError, AttributeError, OSError):
            continue  # built without it, or of another system
        yield module
        held = [entry.name for entry in pkgutil.iter_modules(getattr(module, "__path__", None) or [])]
        waiting += sorted((f"{name}.{entry}" for entry in held if _is_wanted(entry)), reverse=True)


def _is_wanted(name: str) -> bool:
    return not (name.startswith(("_", "test", "windows_")) or name.endswith(("_windows", "_win32", "win32")) or name in SKIPPED)


def _offered(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The public functions and classes of a module: what it exports, or without a list of exports what it defines."""
    exported = getattr(module, "__all__", None)
    for name in sorted(set(exported or dir(module))):
        thing = getattr(module, name, None)
        if name.startswith("_") or not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        home = getattr(thing, "__module__", None) or module.__name__
        if home == module.__name__ or (exported and home.startswith(("_", "posix", "nt"))) or module.__name__ == "builtins":
            yield name, thing


def _documented(module: str, name: str, thing: object) -> Iterator[Doc]:
    """The row of an object, and those of a class's own public methods, as far as they say something."""
    if inspect.isclass(thing):
        members = [(f"{name}.{key}", "method", vars(thing)[key]) for key in sorted(vars(thing)) if not key.startswith("_")]
        places = [(name, "class", thing), *(place for place in members if _is_method(place[2]))]
    else:
        places = [(name, "function", thing)]
    for place, kind, what in places:
        text = _text(what)
        if len(text.split()) >= FEWEST_WORDS:
            yield Doc(f"{module}.{place}", module, place, kind, _signature(what), text)


def _is_method(thing: object) -> bool:
    return inspect.isroutine(thing) or isinstance(thing, classmethod | staticmethod)


def _text(thing: object) -> str:
    """What the object itself says, not what it inherits; free of memory addresses and of what UTF-8 cannot hold."""
    raw = getattr(getattr(thing, "__func__", thing), "__doc__", None)
    if not isinstance(raw, str):
        return ""
    return ADDRESS.sub("", inspect.cleandoc(raw)).encode("utf-8", "replace").decode("utf-8").strip()


def _signature(thing: object) -> str:
    try:
        return ADDRESS.sub("", str(inspect.signature(getattr(thing, "__func__", thing))))  # type: ignore[arg-type]
    except (ValueError, TypeError, NameError, AttributeError):  # whatever a C function wrote as its signature
        return ""


def main() -> None:
    for doc in corpus():
        print(json.dumps(asdict(doc), ensure_ascii=False))


if __name__ == "__main__":
    main()
