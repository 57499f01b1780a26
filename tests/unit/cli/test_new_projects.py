"""`lakeflow init`, and the project that `lakeflow demo` runs in."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from lakeflow.cli.app import main
from lakeflow.cli.demo import demo_script, project_for_demo, run_script
from lakeflow.cli.examples import EXAMPLES, PARTS, example, template, write_project
from lakeflow.config import load_settings
from lakeflow.errors import ConfigError, StorageFull, UnknownName, UsageError

REPOSITORY = Path(__file__).parents[3]


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text, encoding="utf-8")
    return path


class TestInit:
    def test_a_new_project_declares_a_table_and_a_job(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["init", str(tmp_path / "shop")]) == 0
        assert files_in(tmp_path / "shop") == {
            "lakeflow.toml",
            "tables/orders.sql",
            "jobs/large_orders.py",
            "README.md",
            ".gitignore",
        }
        settings = load_settings(tmp_path / "shop", None, {})
        assert settings.project.name == "shop"
        captured = capsys.readouterr()
        assert "wrote" in captured.out
        assert "lakeflow doctor" in captured.err

    def test_what_is_commented_out_in_the_new_configuration_is_valid_too(self) -> None:
        text = template()[Path("lakeflow.toml")].read_text(encoding="utf-8")
        all_of_it = "\n".join(line.removeprefix("# ") if "=" in line or "[" in line else line for line in text.splitlines())
        assert {"catalog", "index", "kafka", "target"} <= tomllib.loads(all_of_it).keys()

    def test_files_that_are_there_stay(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "README.md").write_text("mine", encoding="utf-8")
        assert main(["init", str(tmp_path), "--output", "json"]) == 0
        done = json.loads(capsys.readouterr().out)
        assert done["kept"] == ["README.md"]
        assert "README.md" not in done["written"]
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == "mine"

    def test_a_project_is_refused_and_left_alone(self, project_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = files_in(project_dir)
        assert main(["init", str(project_dir)]) == 2
        assert "is a project already" in capsys.readouterr().err
        assert files_in(project_dir) == before

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="is a file"):
            write_project(template(), tmp_path / "file")

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_may_not_be_written(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(StorageFull, match="cannot be written"):
            write_project(template(), tmp_path / "shop")

    def test_a_disk_that_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(source: Path, place: Path) -> None:
            raise OSError(28, "No space left on device", str(place))

        monkeypatch.setattr("lakeflow.cli.examples.shutil.copyfile", full)
        with pytest.raises(StorageFull, match="No space left on device") as raised:
            write_project(template(), tmp_path)
        assert raised.value.left_behind is not None


class TestExamples:
    def test_the_example_is_the_repository_s_own_project(self) -> None:
        files = example("flights")
        assert files[Path("lakeflow.toml")] == REPOSITORY / "lakeflow.toml"
        declared = {path.relative_to(REPOSITORY) for part in ("tables", "jobs") for path in (REPOSITORY / part).glob("*.[sp]*")}
        assert declared <= files.keys()
        assert Path("examples/flights/demo.py") in files
        assert not [path for path in files if "__pycache__" in path.parts or ".lakeflow" in path.parts]

    def test_the_wheel_is_told_of_every_part(self) -> None:
        """The same layout under lakeflow/_examples/NAME as in the repository."""
        settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
        included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
        assert included == {
            part: f"lakeflow/_examples/{name}/{part}" for name in EXAMPLES for part in (*PARTS, f"examples/{name}")
        }

    def test_an_installed_example_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        installed = tmp_path / "lakeflow" / "_examples" / "flights"
        for part in ("jobs", "tables", "examples/flights"):
            (installed / part).mkdir(parents=True)
        (installed / "lakeflow.toml").touch()
        (installed / "jobs" / "one.py").touch()
        monkeypatch.setattr("lakeflow.cli.examples.PACKAGE", tmp_path / "lakeflow")
        assert {str(path) for path in example("flights")} == {"lakeflow.toml", "jobs/one.py", ".gitignore"}

    def test_an_installation_without_examples_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lakeflow.cli.examples.PACKAGE", tmp_path / "lakeflow")
        with pytest.raises(UsageError, match="not beside this installation"):
            example("flights")

    def test_an_unknown_example(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["init", str(tmp_path / "x"), "--example", "flight"]) == 2
        assert "did you mean 'flights'" in capsys.readouterr().err
        with pytest.raises(UnknownName):
            example("nothing")


class TestDemo:
    def test_an_empty_folder_becomes_the_example_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".venv").mkdir()
        monkeypatch.chdir(tmp_path)
        assert project_for_demo(None) == tmp_path
        assert (tmp_path / "examples" / "flights" / "demo.py").is_file()
        assert demo_script(load_settings(tmp_path, None, {})) == tmp_path / "examples" / "flights" / "demo.py"

    def test_a_folder_with_other_things_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "thesis.tex").touch()
        assert main(["demo", "--project", str(tmp_path)]) == 2
        assert "thesis.tex" in capsys.readouterr().err
        assert files_in(tmp_path) == {"thesis.tex"}

    def test_a_project_s_own_demo_is_run_in_its_folder(
        self, project_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project_dir / "lakeflow.toml").write_text('[project]\ndemo = "script.py"\n', encoding="utf-8")
        script(project_dir, "import os, sys; print(os.getcwd(), sys.argv[1:])")
        (project_dir / "deep").mkdir()
        monkeypatch.chdir(project_dir / "deep")
        assert main(["demo", "--output", "json"]) == 0
        assert capfd.readouterr().out == f"{project_dir} ['--output', 'json']\n"

    def test_a_project_without_a_demo(self, project_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["demo", "--project", str(project_dir)]) == 2
        assert "names no demo" in capsys.readouterr().err

    def test_a_demo_that_is_not_there(self, project_dir: Path) -> None:
        (project_dir / "lakeflow.toml").write_text('[project]\ndemo = "gone.py"\n', encoding="utf-8")
        with pytest.raises(ConfigError, match=r"gone\.py' *, and .* is no file"):
            demo_script(load_settings(project_dir, None, {}))

    @pytest.mark.parametrize(("text", "code"), [("", 0), ("raise SystemExit(3)", 3), ("import os; os.abort()", 128 + 6)])
    def test_the_script_s_exit_code_is_handed_on(self, text: str, code: int, tmp_path: Path) -> None:
        assert run_script(script(tmp_path, text), [], tmp_path) == code

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
    def test_a_signal_ends_the_script_too(self, tmp_path: Path) -> None:
        waiting = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(60); pathlib.Path('ended').touch()"

        def stop() -> None:
            while not (tmp_path / "begun").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        stopping = threading.Thread(target=stop)
        stopping.start()
        code = run_script(script(tmp_path, waiting), [], tmp_path)
        stopping.join()
        assert code == 143
        assert not (tmp_path / "ended").exists()
