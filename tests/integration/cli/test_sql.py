"""`lakeflow sql`: statements about models and queries, and processes that change the registry at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import lakes
from tests.integration.cli.conftest import Shop
from tests.integration.cli.models_shop import JOB, LOG, PRICE, bytes_of_log, declare, graph, log, priced, priced_by, written
from tests.integration.commands import Commands


def create(path: str = "models/price.onnx", **options: str) -> str:
    return PRICE.format(path=path, more=written(options))


@pytest.fixture
def site(stocked: Shop) -> Shop:
    graph(stocked, 2.0)
    priced_by(stocked)
    return stocked


def statuses(site: Shop, *statements: str) -> list[tuple[int | None, int | None, str]]:
    """version, default_version and status of each statement."""
    rows = [site.json("sql", "-e", statement) for statement in statements]
    return [(row["version"], row["default_version"], row["status"]) for row in rows]


def test_a_model_lives_from_create_to_drop(site: Shop) -> None:
    graph(site, 3.0, "new.onnx")
    assert statuses(
        site,
        create(),
        create(),
        create("models/new.onnx").replace("CREATE MODEL", "CREATE MODEL IF NOT EXISTS"),
        create(batch_size="7"),
        create("models/new.onnx"),
        "ALTER MODEL price SET ('Null-Policy' = 'error')",
        "ALTER MODEL price SET ('null_policy' = 'error')",
        "ALTER MODEL price RESET ('null_policy')",
        "ALTER MODEL price SET ('default-version' = '1')",
        "ALTER MODEL price SET ('default_version' = '1')",
        "ALTER MODEL price RESET ('default_version')",
        "ALTER MODEL price RENAME TO cost",
        "DROP MODEL cost",
        "DROP MODEL IF EXISTS cost",
        "ALTER MODEL IF EXISTS cost SET ('a' = 'b')",
        "ALTER MODEL IF EXISTS cost RENAME TO price",
        create(),
    ) == [
        (1, None, "created"),
        (1, None, "unchanged"),
        (1, None, "unchanged"),
        (1, None, "changed"),
        (2, None, "new version"),
        (3, None, "new version"),
        (3, None, "changed"),
        (2, None, "changed"),
        (2, 1, "changed"),
        (2, 1, "unchanged"),
        (2, None, "changed"),
        (2, None, "renamed from price"),
        (None, None, "dropped"),
        (None, None, "not there"),
        (None, None, "not there"),
        (None, None, "not there"),
        (4, None, "created"),
    ]


def test_a_job_runs_a_model_that_a_statement_made(site: Shop) -> None:
    site.json("sql", "-e", create())
    [ran] = site.json("run", "priced")
    assert ran["model_versions"] == ["price$1"]
    assert site.json("jobs", "show", "priced")["models"] == ["price"]
    assert site.json("plan", "priced")["jobs"][0]["models"] == ["price"]
    graph(site, 3.0, "new.onnx")
    site.json("sql", "-e", "ALTER MODEL price SET ('model_path' = 'models/new.onnx')")
    site.orders(("o5", "eve", 10.0))
    site.json("run", "priced")
    assert priced(site)[3:] == [("o4", 500.0, 1), ("o5", 30.0, 2)]
    graph(site, 4.0, "new.onnx")
    site.orders(("o6", "eve", 10.0))
    assert "the bytes of graph changed" in site("plan", "priced").out
    site.json("run", "priced")
    assert priced(site)[5:] == [("o6", 40.0, 3)]
    assert site("doctor").out.count("model price") == 1


def test_what_there_is_is_shown(site: Shop) -> None:
    made = create(batch_size="7").replace(
        "OUTPUT (cost DOUBLE)", "OUTPUT (cost DOUBLE NOT NULL COMMENT 'in cents') COMMENT 'a price'"
    )
    site.json("sql", "-e", made)
    text = site("sql", "-e", "SHOW MODELS; DESC MODEL price; SHOW CREATE MODEL price").out
    assert text.startswith("model\ndocs_embedding\nprice\n\n")
    described = site("sql", "-e", "DESCRIBE MODEL EXTENDED price$1", "--output", "json").out.splitlines()
    assert described[1] == '{"name":"cost","type":"DOUBLE","null":false,"is_input":false,"comment":"in cents"}'
    assert '"version":1,"default_version":null,"versions":[1],"comment":"a price"' in described[2]
    shown = site.json("sql", "-e", "SHOW CREATE MODEL price")["sql"]
    assert statuses(site, shown) == [(1, None, "unchanged")]
    for pattern, names in (
        ("pri%", ["price"]),
        ("%e%", ["docs_embedding", "price"]),
        ("p_ice", ["price"]),
        ("P%", []),
        (r"docs\_%", ["docs_embedding"]),
        (r"p\_ice", []),
        ("", []),
    ):
        out = site("sql", "-e", f"SHOW MODELS LIKE '{pattern}'", "--output", "json").out
        assert [line.split('"')[3] for line in out.splitlines()] == names
    assert "docs_embedding" not in site("sql", "-e", "SHOW MODELS NOT LIKE 'docs%'").out
    assert "docs_embedding" in site("sql", "-e", "DESC MODEL EXTENDED docs_embedding").out
    listed = site.json("models")[1]
    assert (listed["name"], listed["version"], listed["declared"]) == ("price", 1, "lakeflow.models:1")


def test_queries_run_between_statements_and_a_file_is_read(site: Shop, tmp_path: Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text(f"{create()}\nSELECT count(*) AS n FROM bronze.orders;\nSHOW MODELS LIKE 'price'", encoding="utf-8")
    ran = site("sql", str(script), "--output", "json")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[1:] == ['{"n":4}', '{"model":"price"}']
    assert "4" in site("sql", "-e", "FROM bronze.orders SELECT count(*)").out


def test_standard_input_is_read(site: Shop) -> None:
    ended = subprocess.run(
        [*_python(), "sql", "-", "--project", str(site.folder)], input="SHOW MODELS", capture_output=True, text=True, check=True
    )
    assert ended.stdout == "model\ndocs_embedding\n"


def test_the_first_that_fails_ends_it_and_a_slip_runs_nothing(site: Shop) -> None:
    ran = site("sql", "-e", f"{create()} DROP MODEL nope; DROP MODEL price")
    assert ran.code == 2
    assert "unknown model 'nope'; valid: docs_embedding, price" in ran.err
    assert log(site) == [("version", "price", 1)]
    ran = site("sql", "-e", "DROP MODEL price;\nSHOW MODLES")
    assert ran.code == 2
    assert "line 2:6: SHOW MODLES is not understood; did you mean 'MODELS'?" in ran.err
    assert "\n  2 | SHOW MODLES\n    |      ^^^^^^" in ran.err
    assert len(log(site)) == 1


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (create().replace("onnx'", "onx'", 1), "unknown provider of model 'price' 'onx'; did you mean 'onnx'?"),
        (create().replace("'model_path'", "'model_pth'"), "'model_pth'; did you mean 'model_path'?"),
        (create("models/none.onnx"), "models/none.onnx"),
        (create(api_key="hunter22"), "option 'api_key' holds a secret in plain text"),
        ("ALTER MODEL nope SET ('a' = 'b')", "unknown model 'nope'"),
        ("ALTER MODEL docs_embedding SET ('pooling' = 'cls')", "model 'docs_embedding' is declared at tables/shop.sql:7"),
        ("ALTER MODEL docs_embedding SET ('default_version' = '1')", "model 'docs_embedding' has no version yet"),
        ("ALTER MODEL docs_embedding RENAME TO e", "rename it there to e, then run this again"),
        ("CREATE MODEL docs_embedding INPUT (a INT) OUTPUT (b INT) WITH ('provider' = 'onnx')", "a model has one place"),
        ("DESC MODEL docs_embeding", "unknown model 'docs_embeding'; did you mean 'docs_embedding'?"),
        ("SHOW CREATE MODEL docs_embedding$2", "unknown version of model 'docs_embedding' '2'"),
        ("SELECT * FROM nowhere.x", "unknown table 'nowhere.x'"),
        ("SHOW MODELS; SELECT 1 +", "line 1:2"),
        (" ; ", "there is no statement to run"),
    ],
)
def test_a_wrong_statement_changes_nothing(site: Shop, statement: str, said: str) -> None:
    ran = site("sql", "-e", statement)
    assert ran.code in (1, 2)
    assert said in ran.err
    assert "hunter22" not in ran.err
    assert not site.project.lake.exists(LOG)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER MODEL price SET ('batch_sise' = '3')", "'batch_sise'; did you mean 'batch_size'?"),
        ("ALTER MODEL price SET ('api-key' = 'hunter22')", "option 'api-key' holds a secret in plain text"),
        (
            "ALTER MODEL price RESET ('batch_size')",
            "unknown option of model 'price' 'batch_size'; valid: model_path, provider, task",
        ),
        ("ALTER MODEL price RESET ('provider')", "option 'provider' is missing"),
        ("ALTER MODEL price SET ('default_version' = '2')", "unknown version of model 'price' '2'; valid: 1"),
        ("ALTER MODEL price SET ('default_version' = 'two')", "unknown version of model 'price' 'two'; valid: 1"),
        ("ALTER MODEL price SET ('default_version' = '1', 'batch_size' = '3')", "is set and reset alone"),
        ("ALTER MODEL price RENAME TO docs_embedding", "model 'docs_embedding' is declared at tables/shop.sql:7"),
        ("ALTER MODEL price RENAME TO price", "model 'price' is there already"),
        (create().replace("amount DOUBLE", "amount FLOAT"), "model 'price' cannot have another INPUT under one name"),
    ],
)
def test_a_wrong_change_leaves_the_model_as_it_was(site: Shop, statement: str, said: str) -> None:
    site.json("sql", "-e", create())
    ran = site("sql", "-e", statement)
    assert ran.code == 2
    assert said in ran.err
    assert b"hunter22" not in bytes_of_log(site)
    assert len(log(site)) == 1


def test_a_model_has_one_place(site: Shop) -> None:
    site.json("sql", "-e", create())
    declare(site)
    for words in (("models",), ("run", "priced"), ("models", "show", "price"), ("plan", "priced")):
        ran = site(*words)
        assert ran.code in (1, 2)
        assert "tables/price.sql:1: model 'price' is declared here and by lakeflow sql, in version 1" in ran.err + ran.out
    assert 'delete this declaration, or: lakeflow sql -e "DROP MODEL price"' in site("models").err
    assert site.json("sql", "-e", "DROP MODEL price")["status"] == "dropped"
    assert site.json("run", "priced")[0]["model_versions"] == ["price$2"]


def test_a_declaration_renamed_in_its_file_takes_its_versions_along(site: Shop) -> None:
    declare(site)
    site.json("run", "priced")
    text = (site.folder / "tables" / "price.sql").read_text()
    site.declare("tables/price.sql", text.replace("MODEL price", "MODEL cost"))
    assert "unknown model 'price'" in site("models", "show", "price").err
    assert site.json("sql", "-e", "ALTER MODEL price RENAME TO cost")["status"] == "renamed from price"
    assert site.json("models", "show", "cost")["due"] is None
    assert [row["version"] for row in site.json("models", "versions", "cost")] == [1]


@pytest.mark.parametrize("arguments", [[], ["-e", "SHOW MODELS", "x.sql"]])
def test_statements_come_from_one_place(site: Shop, arguments: list[str]) -> None:
    ran = site("sql", *arguments)
    assert ran.code == 2
    assert "give a file, - for standard input, or -e with the statements" in ran.err


@pytest.mark.parametrize("missing", ["nowhere.sql", "."])
def test_a_file_that_cannot_be_read_is_usage(site: Shop, missing: str) -> None:
    ran = site("sql", missing)
    assert ran.code == 2
    assert f"the file of statements '{missing}' cannot be read" in ran.err


def test_two_processes_that_make_a_version_at_once_make_one_each(site: Shop) -> None:
    """Different declarations come to different versions; no number is given twice, and nobody fails."""
    commands = Commands(site.folder, {})
    for number in range(3):
        graph(site, 2.0 + number, f"a{number}.onnx")
        graph(site, 5.0 + number, f"b{number}.onnx")
        started = [commands.start("sql", "-e", create(f"models/{side}{number}.onnx")) for side in "ab"]
        ended = [process.communicate(timeout=120) for process in started]
        assert [process.returncode for process in started] == [0, 0], ended
    rows = log(site, "SELECT event, version, fingerprint FROM rows ORDER BY entry")
    assert [row[:2] for row in rows] == [("version", number) for number in range(1, 7)]
    assert len({row[2] for row in rows}) == 6


def test_two_processes_that_run_one_declaration_first_make_one_version(site: Shop) -> None:
    declare(site)
    site.declare(
        "jobs/second.py", JOB.format(model="price").replace("gold.priced", "gold.second").replace("def priced", "def second")
    )
    commands = Commands(site.folder, {})
    started = [commands.start("run", job) for job in ("priced", "second")]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert log(site) == [("version", "price", 1)]
    for table in ("gold.priced", "gold.second"):
        assert lakes.query(site.project.lake.table(table), "SELECT DISTINCT model_version FROM rows") == [(1,)]


def _python() -> list[str]:
    import sys

    return [sys.executable, "-m", "lakeflow"]
