"""Modules of a project, apart from those of all others.

They are loaded under a name of their own (`lakeflow_models_0.models.risk`), so that two projects may both have a
`models/risk.py`, and sys.path stays as it is. Their own import statements find the project's files first, relative or
absolute, as they would with the project's folder first on sys.path; everything else is imported as ever.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType

PREFIX = "lakeflow_models_"
_numbers = count()
_lock = threading.RLock()


class ProjectModules:
    """One module of a project with the modules of the project that it imports, each loaded once. Raises what they raise.

    `sources` are the files that were read by the time the module was there, with the SHA-256 in hex of what was read.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._prefix = f"{PREFIX}{next(_numbers)}"
        self._read: dict[Path, str] = {}
        package = ModuleType(self._prefix)
        package.__path__ = [str(root)]
        sys.modules[self._prefix] = package
        finder = _Finder(self)
        sys.meta_path.insert(0, finder)
        try:
            # Data alone goes to stdout; a module may print as it is loaded.
            with redirect_stdout(sys.stderr):
                self.module = importlib.import_module(f"{self._prefix}.{name}")
        except BaseException:
            sys.meta_path.remove(finder)
            for loaded in [one for one in sys.modules if one.partition(".")[0] == self._prefix]:
                del sys.modules[loaded]
            raise
        self.sources: Mapping[Path, str] = dict(self._read)

    @property
    def prefix(self) -> str:
        """What the names of these modules begin with."""
        return self._prefix

    @property
    def root(self) -> Path:
        return self._root

    def is_current(self) -> bool:
        """Whether the files still hold what was read."""
        return all(path.is_file() and _digest(path.read_bytes()) == digest for path, digest in self.sources.items())

    def read(self, path: Path, content: bytes) -> None:
        self._read[path] = _digest(content)

    def imported(
        self,
        name: str,
        variables: Mapping[str, object] | None = None,
        _locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an import statement in these modules calls, in place of `__import__`."""
        if level or not self._has(name, fromlist or ()):
            return builtins.__import__(name, variables, _locals, fromlist or (), level)
        inner = f"{self._prefix}.{name}"
        module = importlib.import_module(inner)
        if not fromlist:
            return sys.modules[f"{self._prefix}.{name.partition('.')[0]}"]
        for one in fromlist:
            if not hasattr(module, one) and self._has(f"{name}.{one}", ()):
                importlib.import_module(f"{inner}.{one}")
        return module

    def _has(self, name: str, fromlist: Sequence[str]) -> bool:
        """Whether the project has this module. A folder without `__init__.py` counts where what is taken from it is there."""
        place = self._root.joinpath(*name.split("."))
        if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
            return True
        return any((place / f"{one}.py").is_file() or (place / one / "__init__.py").is_file() for one in fromlist)


def project_modules(root: Path, name: str) -> ProjectModules:
    """The module `name` of the project at `root`: the one that is loaded, unless a file of it was changed since."""
    with _lock:
        key = (root, name)
        if key not in _loaded or not _loaded[key].is_current():
            _loaded[key] = ProjectModules(root, name)
        return _loaded[key]


_loaded: dict[tuple[Path, str], ProjectModules] = {}


class _Loader(SourceFileLoader):
    """Compiles what is in the file now: a kept .pyc is told apart by the second."""

    def __init__(self, modules: ProjectModules, name: str, path: str) -> None:
        super().__init__(name, path)
        self._modules = modules

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        content = self.get_data(path)
        self._modules.read(Path(path), content)
        code: CodeType = self.source_to_code(content, path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._modules.imported}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules below one prefix in the project's folder."""

    def __init__(self, modules: ProjectModules) -> None:
        self._modules = modules

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not fullname.startswith(f"{self._modules.prefix}."):
            return None
        for folder in path:
            place = Path(folder, fullname.rpartition(".")[2])
            if (place / "__init__.py").is_file():
                return self._spec(fullname, place / "__init__.py", [str(place)])
            if place.with_suffix(".py").is_file():
                return self._spec(fullname, place.with_suffix(".py"), None)
            if place.is_dir():
                # A folder without __init__.py is a package without code.
                plain = ModuleSpec(fullname, None, is_package=True)
                plain.submodule_search_locations = [str(place)]
                return plain
        return None

    def _spec(self, name: str, path: Path, inside: list[str] | None) -> ModuleSpec | None:
        loader = _Loader(self._modules, name, str(path))
        return spec_from_file_location(name, path, loader=loader, submodule_search_locations=inside)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
