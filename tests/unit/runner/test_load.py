from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakeflow.config import Settings, settings_of
from lakeflow.errors import ConfigError, DeclarationError
from lakeflow.runner.load import Declarations, filled, load_project, load_tables

JOB = """import lakeflow as lf


@lf.job(target="gold.{name}")
def {name}(rows=lf.Read("bronze.flights")):
    return rows
"""
TABLE = "CREATE TABLE {name} (id BIGINT);\n"


@pytest.fixture
def settings(project_dir: Path) -> Iterator[Settings]:
    before = set(sys.modules)
    yield settings_of({}, project_dir, None, {"HOST": "broker", "LAKEFLOW_SECRET_KEY": "hunter22"})
    for name in set(sys.modules) - before:
        if name.startswith("lakeflow_jobs."):
            del sys.modules[name]


def write(settings: Settings, path: str, text: str | bytes) -> None:
    file = settings.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def refusal(settings: Settings) -> str:
    with pytest.raises(DeclarationError) as caught:
        load_project(settings)
    return str(caught.value)


def test_declarations_are_found_at_any_depth(settings: Settings) -> None:
    write(settings, "tables/bronze/raw/flights.sql", TABLE.format(name="bronze.flights"))
    write(settings, "jobs/gold/score.py", JOB.format(name="score"))
    write(settings, "jobs/silver/score/clean.py", JOB.format(name="clean"))
    found = load_project(settings)
    assert list(found.tables) == ["bronze.flights"]
    assert sorted(found.jobs) == ["clean", "score"]
    assert str(found.jobs["clean"].origin) == "jobs/silver/score/clean.py:4"
    assert str(found.tables["bronze.flights"].origin) == "tables/bronze/raw/flights.sql:1"


def test_a_project_without_either_folder_declares_nothing(tmp_path: Path) -> None:
    assert load_project(settings_of({}, tmp_path, None, {})) == Declarations({}, {}, {}, {})


def test_files_of_one_name_in_two_folders_are_two_modules(settings: Settings) -> None:
    write(settings, "jobs/a/score.py", JOB.format(name="first"))
    write(settings, "jobs/b/score.py", JOB.format(name="second"))
    assert sorted(load_project(settings).jobs) == ["first", "second"]


@pytest.mark.parametrize(
    ("statement", "kind", "name"),
    [
        ("CREATE TABLE s.t (id BIGINT);", "table", "s.t"),
        ("CREATE MODEL m INPUT (a INT) OUTPUT (b INT) WITH ('provider' = 'onnx', 'task' = 'regression');", "model", "m"),
        ("CREATE VECTOR INDEX i ON s.t (v) WITH ('key' = 'id');", "vector index", "i"),
    ],
)
def test_a_declaration_made_twice_is_refused_with_both_places(settings: Settings, statement: str, kind: str, name: str) -> None:
    write(settings, "tables/a.sql", f"\n\n{statement}")
    write(settings, "tables/b.sql", statement)
    assert f"tables/b.sql:1: {kind} {name!r} is declared at tables/a.sql:3 already" in refusal(settings)


def test_a_job_declared_twice_is_refused_with_both_places(settings: Settings) -> None:
    write(settings, "jobs/a.py", JOB.format(name="score"))
    write(settings, "jobs/b.py", "# again\n" + JOB.format(name="score"))
    assert "jobs/b.py:5: job 'score' is declared at jobs/a.py:4 already" in refusal(settings)


def test_a_job_with_two_names_in_its_file_is_one_job(settings: Settings) -> None:
    write(settings, "jobs/a.py", JOB.format(name="score") + "\nalias = score\n")
    assert list(load_project(settings).jobs) == ["score"]


def test_a_job_that_another_file_imports_counts_once(settings: Settings) -> None:
    write(settings, "jobs/a.py", JOB.format(name="score"))
    write(settings, "jobs/b.py", "import sys\n\nscore = sys.modules['lakeflow_jobs.a'].score\n" + JOB.format(name="other"))
    found = load_project(settings).jobs
    assert sorted(found) == ["other", "score"]
    assert str(found["score"].origin.path) == "jobs/a.py"


def test_a_syntax_error_is_named_with_its_line(settings: Settings) -> None:
    write(settings, "jobs/a.py", "import lakeflow\n\ndef score(:\n")
    assert refusal(settings).startswith("jobs/a.py:3 cannot be loaded: SyntaxError")


def test_an_error_in_a_job_file_is_named_with_its_line(settings: Settings) -> None:
    write(settings, "jobs/a.py", "x = 1\n\nimport no_such_library\n")
    text = refusal(settings)
    assert text.startswith("jobs/a.py:3 cannot be loaded: ModuleNotFoundError: No module named 'no_such_library'")
    assert "next: mend the file" in text


def test_a_syntax_error_in_what_a_job_file_imports_is_at_the_line_of_the_import(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_helper.py").write_text("\n" * 40 + "def f(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    write(settings, "jobs/a.py", "import lakeflow\nimport broken_helper\n")
    assert refusal(settings).startswith("jobs/a.py:2 cannot be loaded: SyntaxError")


def test_a_window_that_cannot_be_is_named_with_its_file_and_line(settings: Settings) -> None:
    write(settings, "jobs/a.py", 'import lakeflow as lf\n\nhours = lf.Tumble("at", "1 fortnight")\n')
    assert refusal(settings).startswith("jobs/a.py:3: size of Tumble is '1 fortnight'; valid: a number and one of")


def test_a_job_file_that_ends_the_process_is_an_error_of_its_line(settings: Settings) -> None:
    write(settings, "jobs/a.py", "import sys\nsys.exit(3)\n")
    assert refusal(settings).startswith("jobs/a.py:2 cannot be loaded: SystemExit: 3")


def test_a_wrong_declaration_of_a_job_is_refused_as_itself(settings: Settings) -> None:
    write(settings, "jobs/a.py", JOB.format(name="score").replace("gold.score", "score"))
    assert "a table is named namespace.table" in refusal(settings)


@pytest.mark.parametrize("path", ["tables/a.sql", "jobs/a.py"])
def test_a_file_that_is_not_utf_8_is_named(settings: Settings, path: str) -> None:
    write(settings, path, ("WORD = 'Flüge'" if path.endswith("py") else "-- Flüge").encode("latin-1"))
    text = refusal(settings)
    assert path in text
    assert "utf-8" in text.lower()


def test_a_file_that_cannot_be_read_is_named(settings: Settings) -> None:
    (settings.root / "tables" / "gone.sql").symlink_to("nowhere.sql")
    assert "gone.sql cannot be read: No such file or directory" in refusal(settings)


def test_hidden_files_are_no_declarations(settings: Settings) -> None:
    write(settings, "jobs/score.py", JOB.format(name="score"))
    write(settings, "jobs/.ipynb_checkpoints/score-checkpoint.py", JOB.format(name="score"))
    write(settings, "jobs/.#score.py", "not python")
    write(settings, "tables/.old.sql", "no sql")
    assert list(load_project(settings).jobs) == ["score"]


def test_tables_are_read_without_running_any_job_file(settings: Settings) -> None:
    write(settings, "tables/a.sql", TABLE.format(name="s.t"))
    write(settings, "jobs/a.py", "raise RuntimeError")
    assert list(load_tables(settings).tables) == ["s.t"]


def test_options_are_filled_in_and_a_missing_variable_is_named_with_its_place(settings: Settings) -> None:
    write(settings, "tables/a.sql", "CREATE TABLE s.t (id INT) WITH ('topic' = '${HOST}.x', 'k' = '{{ secret.KEY }}');")
    table = load_tables(settings).tables["s.t"]
    options = filled(table.options, table.origin, settings)
    assert dict(options) == {"topic": "broker.x", "k": "hunter22"}
    assert "hunter22" not in repr(options)
    with pytest.raises(ConfigError, match=r"tables/a.sql:1.*NOT_SET"):
        filled({"topic": "${NOT_SET}"}, table.origin, settings)


def test_a_job_may_import_a_module_of_the_project(project_dir: Path) -> None:
    (project_dir / "shared_by_jobs.py").write_text("LIMIT = 7\n")
    (project_dir / "jobs" / "one.py").write_text(
        "import lakeflow as lf\nfrom shared_by_jobs import LIMIT\n\n\n"
        '@lf.job(target="gold.one", max_files=LIMIT)\ndef one(rows=lf.Read("bronze.rows")):\n    return rows\n'
    )
    program = (
        "import sys\nfrom pathlib import Path\nfrom lakeflow.config import load_settings\n"
        "from lakeflow.runner.load import load_project\n"
        "print(load_project(load_settings(Path(sys.argv[1]), None, {})).jobs['one'].caps.files)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program, str(project_dir)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("7", 0), done.stderr


@pytest.mark.parametrize("name", ['b."a/b"', 'b."a\\\\b"', f"b.{'a' * 129}", "lakeflow.runs"])
def test_a_table_s_name_leads_nowhere_else(project_dir: Path, name: str) -> None:
    (project_dir / "tables" / "t.sql").write_text(f"CREATE TABLE {name} (id INT);")
    with pytest.raises(DeclarationError, match=r"tables/t\.sql:1: the name of a table is"):
        load_tables(settings_of({}, project_dir, None, {}))


def test_a_job_does_not_target_the_system_s_tables(project_dir: Path) -> None:
    (project_dir / "jobs" / "one.py").write_text(JOB.format(name="one").replace("gold.one", "lakeflow.runs"))
    with pytest.raises(DeclarationError, match="the tables of lakeflow are lakeflow's own"):
        load_project(settings_of({}, project_dir, None, {}))


def test_a_table_is_like_one_of_another_file(settings: Settings) -> None:
    write(settings, "tables/a.sql", "CREATE TABLE x.a (c INT) LIKE x.b;")
    write(settings, "tables/b.sql", "CREATE TABLE x.b (b INT);")
    assert load_tables(settings).tables["x.a"].schema.names == ["b", "c"]
