"""A class that answers for a model: where it is found, what its constructor is given, and what it is known by."""

from __future__ import annotations

import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import walk_tb
from typing import Any

from lakeflow.errors import DeclarationError, LakeflowError, ModelError, UnknownName, did_you_mean
from lakeflow.fill import looks_secret
from lakeflow.models.options import TRUTHS
from lakeflow.models.providers.python_modules import ProjectModules, project_modules
from lakeflow.models.providers.python_settings import OWN_OPTIONS, PythonSettings
from lakeflow.models.spec import ModelSpec

GROUP = "lakeflow.models"
SIGNALLED = (130, 143)
"""The exit codes with which a second SIGINT or SIGTERM ends the process, wherever it is."""
OURS = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class FoundClass:
    """A class, what its code is known by, and `is_own`: whether a file is its code."""

    kind: type[Any]
    code: Mapping[str, str | Path]
    is_own: Callable[[str], bool]


def find_class(spec: ModelSpec, settings: PythonSettings) -> FoundClass:
    """The class that option 'class' names, imported. Raises ModelError where it cannot be, UnknownName for an entry point."""
    found = _of_package(spec, settings) if settings.module is None else _of_project(spec, settings, settings.module)
    if not callable(getattr(found.kind, "predict", None)):
        raise ModelError(
            f"{spec.label}: class {settings.name!r} has no method predict",
            next_step="give it predict(self, rows: pyarrow.RecordBatch), which returns OUTPUT's columns",
        )
    return found


def _of_project(spec: ModelSpec, settings: PythonSettings, module: str) -> FoundClass:
    place = spec.root.joinpath(*module.split("."))
    if not place.with_suffix(".py").is_file() and not (place / "__init__.py").is_file():
        raise ModelError(
            f"{spec.label}: option 'class' is {spec.options['class']!r}, and {place.with_suffix('.py')} is not there",
            next_step="correct 'class' in its WITH (..); a package is named by its entry point in the group lakeflow.models",
        )
    root = spec.root.resolve()
    with own_code(spec, "could not be imported", lambda file: _is_below(root, file)):
        modules = project_modules(root, module)
    kind = _class_in(spec, settings, vars(modules.module), modules.module.__name__)
    sources = {f"code {path.relative_to(root).as_posix()}": digest for path, digest in modules.sources.items()}
    return FoundClass(kind, {"class": spec.options["class"], **sources}, lambda file: _is_of(modules, file))


def _class_in(spec: ModelSpec, settings: PythonSettings, names: Mapping[str, object], module: str) -> type[Any]:
    kind = names.get(settings.name)
    if not inspect.isclass(kind):
        there = [
            name for name, value in names.items() if inspect.isclass(value) and value.__module__ == module and name[0] != "_"
        ]
        problem = "is no class" if settings.name in names else "is not there"
        raise ModelError(
            f"{spec.label}: option 'class' is {spec.options['class']!r}, and {settings.name!r} {problem} in "
            f"{settings.module}{did_you_mean(settings.name, there)}"
        )
    return kind


def _of_package(spec: ModelSpec, settings: PythonSettings) -> FoundClass:
    known: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    if settings.name not in known:
        raise UnknownName(
            f"class of {spec.label}: entry point in the group {GROUP}",
            settings.name,
            known,
            next_step="install the package that has it, or name a class of the project: 'class' = 'models.risk:Risk'",
        )
    entry = known[settings.name]
    folder = entry.module.partition(".")[0]
    with own_code(spec, "could not be imported", lambda file: folder in Path(file).parts):
        kind = entry.load()
    if not inspect.isclass(kind):
        raise ModelError(f"{spec.label}: the entry point {settings.name!r} is {entry.value}, which is no class")
    source = getattr(sys.modules[kind.__module__], "__file__", None)
    code: dict[str, str | Path] = {"class": entry.value}
    if entry.dist is not None:
        code["package"] = f"{entry.dist.name} {entry.dist.version}"
    if source is not None:
        code["code"] = Path(source)
    return FoundClass(kind, code, lambda file: folder in Path(file).parts)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a constructor is called with; `known_by` is what of it decides the answers: texts, and files by their bytes."""

    values: Mapping[str, object]
    known_by: Mapping[str, str | Path]


def arguments(spec: ModelSpec, kind: type[Any]) -> Arguments:
    """The options as the constructor's parameters ask for them: by their annotations str, int, float, bool or Path.

    A Path starts at the project's folder. Raises UnknownName for an option that is no parameter, DeclarationError for a
    missing one or a value that does not fit, ModelError for a parameter of another kind and for a Path that is not there.
    """
    parameters = _parameters(spec, kind)
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    named = {name: one for name, one in parameters.items() if one.kind not in _COLLECTING}
    given = {name: text for name, text in spec.options.items() if name not in OWN_OPTIONS or name in named}
    for name in sorted(given):
        if name not in named and not open_ended:
            raise UnknownName(f"option of {spec.label}", name, [*named, *OWN_OPTIONS, "provider", "task"])
    for name, one in named.items():
        if one.default is inspect.Parameter.empty and name not in given:
            raise DeclarationError(
                f"{spec.label}: option '{name}' is missing, which the constructor of {kind.__name__!r} needs",
                next_step=f"add '{name}' = '..' to its WITH (..)",
            )
    values = {name: _value(spec, name, text, named.get(name)) for name, text in given.items()}
    known_by: dict[str, str | Path] = {}
    for name, value in values.items():
        if isinstance(value, Path):
            known_by |= _files(spec, name, value)
        elif name not in OWN_OPTIONS and not looks_secret(name):
            known_by[f"option {name}"] = str(value)
    return Arguments(values, known_by)


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameters(spec: ModelSpec, kind: type[Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(kind, eval_str=True).parameters
    except (NameError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise ModelError(f"{spec.label}: the constructor of {kind.__name__!r} cannot be read: {error}") from error


def _value(spec: ModelSpec, name: str, text: str, parameter: inspect.Parameter | None) -> object:
    annotation = str if parameter is None or parameter.annotation is inspect.Parameter.empty else parameter.annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = [one for one in typing.get_args(annotation) if one is not types.NoneType]
    else:
        kinds = [annotation]
    match kinds:
        case [only] if only in _READERS:
            try:
                return spec.path(name) if only is Path else _READERS[only](text)
            except ValueError as error:
                shown = "***" if looks_secret(name) else repr(text)
                raise DeclarationError(f"{spec.label}: option '{name}' is {shown}; valid: {_VALID[only]}") from error
        case _:
            raise ModelError(
                f"{spec.label}: the constructor's parameter {name!r} is {annotation}; valid: str, int, float, bool, Path",
                next_step="take the option as a str and read it in the constructor",
            )


def _truth(text: str) -> bool:
    if text.lower() not in TRUTHS:
        raise ValueError(text)
    return TRUTHS[text.lower()]


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


_READERS: Mapping[object, Callable[[str], object]] = {str: str, int: int, float: _finite, bool: _truth, Path: Path}
_VALID = {int: "a whole number", float: "a number", bool: "true, false", str: "a text", Path: "a path"}


def _files(spec: ModelSpec, name: str, path: Path) -> dict[str, Path]:
    """The file, or every file of the folder."""
    if path.is_file():
        return {f"file {name}": path}
    if not path.is_dir():
        raise ModelError(
            f"{spec.label}: option '{name}' is {spec.options[name]!r}, and {path} is not there",
            next_step=f"correct '{name}' in its WITH (..); a relative path starts at the project's folder",
        )
    below = sorted(file for file in path.rglob("*") if file.is_file())
    return {f"file {name}/{file.relative_to(path).as_posix()}": file for file in below}


@contextmanager
def own_code(spec: ModelSpec, failed: str, is_own: Callable[[str], bool]) -> Iterator[None]:
    """Run the class's code: errors of lakeflow come out as themselves, all others as ModelError with its file and line."""
    try:
        yield
    except LakeflowError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code in SIGNALLED:
            raise
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ModelError(
            f"{spec.label}: class {spec.options['class']!r} {failed}, {_line(spec, error, is_own)}: {what}",
            next_step="mend it, then run the same command again",
        ) from error.with_traceback(_without_ours(error))


def _line(spec: ModelSpec, error: BaseException, is_own: Callable[[str], bool]) -> str:
    """The last place of the class's own code that the error passed through, as seen from the project."""
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        places.append((error.filename, error.lineno))
    file, line = next(((file, line) for file, line in reversed(places) if is_own(file)), (None, 0))
    if file is None:
        return "outside of its own code"
    root = spec.root.resolve()
    return f"{Path(file).relative_to(root) if _is_below(root, file) else file}:{line}"


def _without_ours(error: BaseException) -> types.TracebackType | None:
    """The trace from the first line on that is neither lakeflow's nor the import machinery's."""
    trace = error.__traceback__
    while trace is not None and (_is_below(OURS, file := trace.tb_frame.f_code.co_filename) or file.startswith("<frozen")):
        trace = trace.tb_next
    return trace


def _is_of(modules: ProjectModules, file: str) -> bool:
    return _is_below(modules.root, file)


def _is_below(folder: Path, file: str) -> bool:
    """Whether a file is in the folder, and not installed there with an environment of packages."""
    return Path(file).is_relative_to(folder) and "site-packages" not in Path(file).relative_to(folder).parts
