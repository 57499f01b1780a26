"""Modules of projects stay apart, and out of the way of all others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lakeflow.models.providers.python_modules import PREFIX, project_modules
from tests.unit.models.classes import write


def test_two_projects_may_have_modules_of_one_name(tmp_path: Path) -> None:
    for root, number in (("one", 1), ("two", 2)):
        write(tmp_path / root, f"NUMBER = {number}\n", "models/shared.py")
        write(tmp_path / root, "from models.shared import NUMBER\n", "models/mine.py")
    found = [project_modules(tmp_path / root, "models.mine").module.NUMBER for root in ("one", "two", "one")]
    assert found == [1, 2, 1]


def test_nothing_of_a_project_is_left_where_others_look(tmp_path: Path) -> None:
    write(tmp_path, "import models.shared\nimport helpers_of_this_project\n")
    write(tmp_path, "", "models/shared.py")
    write(tmp_path, "", "helpers_of_this_project.py")
    before, names = list(sys.path), set(sys.modules)
    project_modules(tmp_path, "models.mine")
    assert sys.path == before
    new = set(sys.modules) - names
    assert new
    assert all(name.startswith(PREFIX) for name in new)


def test_every_form_of_import_finds_the_projects_files(tmp_path: Path) -> None:
    write(tmp_path, "WORD = 'shared'\n", "models/shared.py")
    write(tmp_path, "WORD = 'deep'\n", "models/inner/deep.py")
    write(tmp_path, "WORD = 'package'\n", "kit/__init__.py")
    write(tmp_path, "WORD = 'part'\n", "kit/part.py")
    source = """
        import json as standard
        import models.shared
        import models.inner.deep as deep
        import kit
        from models import shared
        from models.inner import deep as again
        from . import shared as near
        from .inner.deep import WORD
        from kit import WORD as PACKAGE, part

        assert models.shared is shared is near
        assert deep is again

        def later():
            from kit import part as lazily
            return lazily

        WORDS = [shared.WORD, deep.WORD, WORD, kit.WORD, PACKAGE, part.WORD, later().WORD]
    """
    write(tmp_path, source)
    module = project_modules(tmp_path, "models.mine").module
    assert module.WORDS == ["shared", "deep", "deep", "package", "package", "part", "part"]
    assert module.standard is json


def test_a_folder_of_data_hides_no_package(tmp_path: Path) -> None:
    """As a folder `numpy/` with saved arrays in it would, were it a package."""
    (tmp_path / "numpy").mkdir()
    write(tmp_path, "import numpy\nPLACE = numpy.__name__\n")
    assert project_modules(tmp_path, "models.mine").module.PLACE == "numpy"


def test_dataclasses_and_pickles_of_the_module_work(tmp_path: Path) -> None:
    source = """
        from __future__ import annotations
        import pickle
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        COPY = pickle.loads(pickle.dumps(Point(3)))
    """
    write(tmp_path, source)
    assert project_modules(tmp_path, "models.mine").module.COPY.x == 3


def test_a_module_is_loaded_once_until_one_of_its_files_changes(tmp_path: Path) -> None:
    write(tmp_path, "from models import shared\n")
    write(tmp_path, "X = 1\n", "models/shared.py")
    first = project_modules(tmp_path, "models.mine")
    assert project_modules(tmp_path, "models.mine") is first
    write(tmp_path, "X = 2\n", "models/shared.py")
    second = project_modules(tmp_path, "models.mine")
    assert (first.module.shared.X, second.module.shared.X) == (1, 2)
    assert {path.name for path in second.sources} == {"mine.py", "shared.py"}
    (tmp_path / "models" / "shared.py").unlink()
    with pytest.raises(ImportError):
        project_modules(tmp_path, "models.mine")


def test_a_module_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path, "from models import shared\n1 / 0\n")
    write(tmp_path, "X = 1\n", "models/shared.py")
    before, finders = set(sys.modules), len(sys.meta_path)
    with pytest.raises(ZeroDivisionError):
        project_modules(tmp_path, "models.mine")
    assert set(sys.modules) == before
    assert len(sys.meta_path) == finders


def test_what_a_module_prints_does_not_go_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "print('loading')\n")
    project_modules(tmp_path, "models.mine")
    assert capsys.readouterr() == ("", "loading\n")
