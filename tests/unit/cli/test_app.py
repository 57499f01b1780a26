"""Every verb is registered alike, documented, and cheap to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakeflow.cli.app import app, main
from lakeflow.cli.manual import COMMON, documentation, parts_of, verbs
from lakeflow.errors import ConfigError, Fenced, LakeflowError, UnknownName

REPOSITORY = Path(__file__).parents[3]
HEAVY = {
    "confluent_kafka",
    "duckdb",
    "lancedb",
    "msgspec",
    "numpy",
    "onnxruntime",
    "polars",
    "pyarrow",
    "pyiceberg",
    "rich",
    "sqlalchemy",
    "sqlglot",
    "tokenizers",
}
VERBS = dict(verbs())
NAMES = [" ".join(words) for words in VERBS]
BEFORE_A_PROJECT = {"init": {"--output"}, "demo": {"--project", "--output"}}


def test_every_verb_is_there() -> None:
    assert set(NAMES) == {
        *(
            "init",
            "demo",
            "doctor",
            "plan",
            "land",
            "run",
            "produce",
            "start",
            "query",
            "sql",
            "search",
            "serve",
            "runs",
            "status",
            "maintain",
        ),
        *("index build", "index update", "index status", "index verify", "index evaluate", "test"),
        *("deadletters list", "deadletters show", "deadletters replay"),
        *("tables list", "tables show", "tables drop", "tables infer"),
        *("jobs list", "jobs show", "jobs graph"),
        *("state show", "state reset", "state copy", "state abandon"),
        *("models list", "models show", "models versions", "models register", "models evaluate", "models evaluations"),
        *("models cache stats", "models cache clear"),
    }


@pytest.mark.parametrize("words", VERBS, ids=NAMES)
def test_each_verb_takes_what_all_take(words: tuple[str, ...]) -> None:
    options = {option for parameter in VERBS[words].params for option in parameter.opts}
    assert set(COMMON) & options == BEFORE_A_PROJECT.get(words[0], set(COMMON))
    formats = next(parameter for parameter in VERBS[words].params if "--output" in parameter.opts)
    assert "json" in (formats.help or "")


@pytest.mark.parametrize("words", VERBS, ids=NAMES)
def test_each_verb_s_help_has_an_example_of_itself(words: tuple[str, ...]) -> None:
    about, examples = parts_of(VERBS[words].help)
    assert about.strip()
    shown = " ".join(words).removesuffix(" list")
    assert any(f"lakeflow {shown}" in example for example in examples)


@pytest.mark.parametrize("words", VERBS, ids=NAMES)
def test_each_argument_and_option_says_what_it_is(words: tuple[str, ...]) -> None:
    parameters = [parameter for parameter in VERBS[words].params if "--help" not in parameter.opts]
    assert [parameter.opts for parameter in parameters if not (parameter.help or "").endswith(".")] == []


def test_the_page_of_the_commands_is_the_generated_one() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == documentation(), "run python -m lakeflow.cli.manual > docs/cli.md"


def test_starting_loads_no_heavy_library() -> None:
    code = "import sys; from lakeflow.cli.app import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert HEAVY.isdisjoint(ran.stderr.split())
    assert "Examples" not in ran.stdout
    assert "tables" in ran.stdout


def test_main_gives_the_exit_code_of_each_kind_of_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def code_of(error: BaseException) -> int:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr("lakeflow.cli.app.app", fail)
        return main([])

    assert code_of(ConfigError("wrong key", next_step="mend it")) == 2
    assert code_of(UnknownName("table", "a.b", [])) == 2
    assert code_of(Fenced("another writer")) == 1
    assert code_of(SystemExit(7)) == 7
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: wrong key\nnext: mend it\n")
    assert "Traceback" not in captured.err
    with pytest.raises(ZeroDivisionError):
        code_of(ZeroDivisionError())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lnad"], "No such command 'lnad'"),
        (["land", "--nonsense"], "No such option"),
        (["run", "--mode", "sometimes"], "sometimes"),
        (["runs", "--last", "0"], "--last"),
        (["query", "--limit", "many", "SELECT 1"], "--limit"),
        (["search", "docs"], "text"),
        (["tables", "show"], "name"),
    ],
)
def test_a_slip_on_the_command_line_is_usage(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err


@pytest.mark.parametrize("words", VERBS, ids=NAMES)
def test_without_a_project_each_verb_says_how_to_get_one(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[0] in BEFORE_A_PROJECT:
        pytest.skip("works without a project")
    monkeypatch.chdir(tmp_path)
    needed = [parameter for parameter in VERBS[words].params if parameter.param_type_name == "argument" and parameter.required]
    options = [part.opts[0] for part in VERBS[words].params if part.param_type_name == "option" and part.required]
    given = [*("SELECT 1" for _ in needed), *(word for option in options for word in (option, "a"))]
    text = {"query": ["SELECT 1"], "sql": ["-e", "SELECT 1"]}.get(words[0], [])
    arguments = [*words, *given, *text]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "no lakeflow.toml" in captured.out + captured.err
    assert "lakeflow init DIR" in captured.out + captured.err
    assert captured.out == "" or words == ("doctor",)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_error_of_the_tree_is_no_stack_trace() -> None:
    assert issubclass(UnknownName, LakeflowError)
    settings: Any = app.pretty_exceptions_enable
    assert settings is False
