"""Versions of models that tables/ declares: when one is made, which one a run asks, what is told before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import lakes
from tests.integration.cli.conftest import Shop
from tests.integration.cli.models_shop import bytes_of_log, declare, graph, log, priced, priced_by, texts_of_log

SECRET = "sk-live-51f0c0ffee"
REMOTE = """CREATE MODEL triage INPUT (customer STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = 'http://localhost:9/v1', 'model' = 'gpt-4.1-mini',
      'api-key' = '{{ secret.OPENAI }}', 'system-prompt' = 'Be ${TONE:-brief}');
"""


@pytest.fixture
def site(stocked: Shop) -> Shop:
    graph(stocked, 2.0)
    declare(stocked)
    priced_by(stocked)
    return stocked


def test_a_run_makes_the_first_version_and_names_it(site: Shop) -> None:
    [ran] = site.json("run", "priced")
    assert ran["model_versions"] == ["price$1"]
    assert log(site) == [("version", "price", 1)]
    assert priced(site) == [("o1", 100.0, 1), ("o2", 300.0, 1), ("o3", 1000.0, 1), ("o4", 500.0, 1)]
    assert site.json("runs", "--last", "1")[0]["models"] == ["price$1"]
    assert lakes.query(site.project.lake.table("lakeflow.runs"), "SELECT models FROM rows") == [(["price$1"],)]
    site.json("run", "priced")
    assert len(log(site)) == 1


def test_an_incremental_run_after_a_change_goes_on_with_the_new_version(site: Shop) -> None:
    site.json("run", "priced")
    graph(site, 3.0)
    site.orders(("o5", "eve", 10.0))
    planned = site.json("plan", "priced")["jobs"][0]
    assert planned["versions_due"] == ["model price: version 2 is due: the bytes of graph changed"]
    assert site.json("models", "show", "price")["due"] == "version 2 is due: the bytes of graph changed"
    assert "version 2 is due" in site("plan", "priced").out
    assert len(log(site)) == 1, "looking makes no version"
    [ran] = site.json("run", "priced")
    assert (ran["read"], ran["model_versions"]) == (1, ["price$2"])
    assert priced(site)[3:] == [("o4", 500.0, 1), ("o5", 30.0, 2)]
    assert site.json("plan", "priced")["jobs"][0]["versions_due"] == []


def test_what_changes_only_speed_makes_no_version(site: Shop) -> None:
    site.json("run", "priced")
    declare(site, batch_size="7", intra_op_threads="1")
    site.orders(("o5", "eve", 10.0))
    site.json("run", "priced")
    assert len(log(site)) == 1
    declare(site, null_policy="error")
    site.orders(("o6", "eve", 10.0))
    assert site.json("run", "priced")[0]["model_versions"] == ["price$2"]
    versions = site.json("models", "versions", "price")
    assert [(row["version"], row["default"], row["what"]) for row in versions] == [
        (1, False, "the first that there is"),
        (2, True, "null_policy changed"),
    ]


def test_a_declaration_that_is_taken_back_means_its_old_version_again(site: Shop) -> None:
    site.json("run", "priced")
    declare(site, null_policy="error")
    site.orders(("o5", "eve", 10.0))
    site.json("run", "priced")
    declare(site)
    site.orders(("o6", "eve", 10.0))
    assert site.json("run", "priced")[0]["model_versions"] == ["price$1"]
    assert [version for _, _, version in priced(site)] == [1, 1, 1, 1, 2, 1]
    assert len(log(site)) == 2


def test_a_fallback_that_was_not_needed_was_not_used(site: Shop) -> None:
    declare(site, fallback_model="spare")
    spare = (site.folder / "tables" / "price.sql").read_text().replace("MODEL price", "MODEL spare").split(", 'fallback")[0]
    site.declare("tables/spare.sql", f"{spare})")
    assert site.json("run", "priced")[0]["model_versions"] == ["price$1"]


def test_looking_around_writes_nothing(site: Shop) -> None:
    for words in (
        ("plan", "priced"),
        ("models",),
        ("models", "show", "price"),
        ("models", "versions"),
        ("models", "versions", "price"),
        ("jobs", "show", "priced"),
        ("doctor",),
    ):
        assert site(*words).code in (0, 1)
    assert not site.project.lake.exists("lakeflow.models")


def test_where_no_model_is_used_the_registry_is_not_read(site: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    site.declare(
        "jobs/large.py",
        "import lakeflow as lf\n\n@lf.job(target='gold.l')\ndef large(o=lf.Read('bronze.orders')):\n    return o\n",
    )
    read: list[int] = []

    def never(self: object) -> None:
        read.append(1)

    monkeypatch.setattr("lakeflow.runner.model_log.ModelLog._read", never)
    assert site("run", "large").code == 0
    assert site("plan", "large").code == 0
    assert read == []


def test_a_default_holds_a_run_to_its_version(site: Shop) -> None:
    old = graph(site, 2.0, "old.onnx")
    declare(site, old)
    site.json("run", "priced")
    declare(site, graph(site, 3.0, "new.onnx"))
    assert site.json("models", "register", "price") == [
        {"name": "price", "version": 2, "status": "new version", "why": "model_path changed; the bytes of graph changed"}
    ]
    assert site.json("models", "register", "price")[0]["status"] == "unchanged"
    assert site("sql", "-e", "ALTER MODEL price SET ('default_version' = '1')").code == 0
    site.orders(("o5", "eve", 10.0))
    assert site.json("run", "priced")[0]["model_versions"] == ["price$1"]
    priced_by(site, "price$2")
    site.orders(("o6", "eve", 10.0))
    assert site.json("run", "priced")[0]["model_versions"] == ["price$2"]
    assert site.json("jobs", "show", "priced")["models"] == ["price$2"]
    assert priced(site)[4:] == [("o5", 20.0, 1), ("o6", 30.0, 2)]
    declare(site, graph(site, 4.0, "newest.onnx"))
    assert site.json("models", "show", "price")["due"] == (
        "version 3 is due: model_path changed; the bytes of graph changed; the default stays version 1"
    )
    priced_by(site)
    assert site("sql", "-e", "ALTER MODEL price RESET ('default_version')").code == 0
    site.orders(("o7", "eve", 10.0))
    site.json("run", "priced")
    assert priced(site)[6:] == [("o7", 40.0, 3)]


def test_a_version_whose_file_is_another_one_now_is_refused(site: Shop) -> None:
    site.json("run", "priced")
    graph(site, 3.0)
    site.json("models", "register")
    priced_by(site, "price$1")
    site.orders(("o5", "eve", 10.0))
    ran = site("run", "priced")
    assert ran.code == 1
    assert "version 1 was made of graph with the SHA-256 " in ran.err
    assert "put the file of that version back" in ran.err
    refused = site("sql", "-e", "ALTER MODEL price SET ('default_version' = '1')")
    assert refused.code == 1
    assert "version 1 was made of graph" in refused.err
    (site.folder / "models" / "price.onnx").unlink()
    assert "price.onnx is not there" in site("run", "priced").err


def test_an_unknown_version_lists_those_that_there_are(site: Shop) -> None:
    site.json("run", "priced")
    for words in (
        ("models", "show", "price$7"),
        ("models", "evaluate", "price$7", "bronze.orders", "--label", "amount", "--features", "amount"),
    ):
        ran = site(*words)
        assert ran.code == 2
        assert "unknown version of model 'price' '7'; valid: 1" in ran.err
    priced_by(site, "price$7")
    planned = site("plan", "priced")
    assert planned.code == 1
    assert "unknown version of model 'price' '7'" in planned.out
    priced_by(site, "price$x")
    site.orders(("o5", "eve", 10.0))
    assert "'price$x' names no version of a model; valid: m, m$2, m$all" in site("run", "priced").err


def test_another_input_under_the_same_name_is_refused_before_any_row(site: Shop) -> None:
    site.json("run", "priced")
    text = (site.folder / "tables" / "price.sql").read_text().replace("(amount DOUBLE)", "(amount DOUBLE, extra DOUBLE)")
    site.declare("tables/price.sql", text)
    site.orders(("o5", "eve", 10.0))
    ran = site("run", "priced")
    assert ran.code == 2
    assert "tables/price.sql:1: model 'price' cannot have another INPUT under one name" in ran.err
    assert "version 1: amount double\n  declared: amount double, extra double" in ran.err
    assert 'lakeflow sql -e "DROP MODEL price"' in ran.err
    assert site("plan", "priced").code == 1
    assert len(priced(site)) == 4
    dropped = site.json("sql", "-e", "DROP MODEL price")
    assert dropped["status"] == "its versions are forgotten; tables/price.sql:1 declares it"
    assert site.json("models", "show", "price")["due"] == "version 2 is due: it has no version yet"


def test_all_versions_are_evaluated_side_by_side(site: Shop, caplog: pytest.LogCaptureFixture) -> None:
    declare(site, graph(site, 2.0, "old.onnx"))
    site.json("run", "priced")
    declare(site, graph(site, 1.0, "new.onnx"))
    ask = ("models", "evaluate", "price$all", "bronze.orders", "--label", "amount", "--features", "amount")
    rows = site.json(*ask)
    assert [(row["model"], row["version"], row["metrics"]["mae"]) for row in rows] == [("price", 1, 237.5), ("price", 2, 0.0)]
    assert {row["version"] for row in site.json("models", "evaluations", "price")} == {1, 2}
    shown = [line.split() for line in site(*ask).out.splitlines()]
    assert ["metric", "price$1", "price$2"] in shown
    assert ["mae", "237.5", "0"] in shown
    (site.folder / "models" / "old.onnx").unlink()
    assert [row["version"] for row in site.json(*ask)] == [2]
    assert "model price$1 is left out: " in caplog.text
    [two] = site.json("models", "evaluate", "price$2", *ask[3:])
    assert two["version"] == 2
    assert "metric" not in site("models", "evaluate", "price$2", *ask[3:]).out
    assert "stands for all versions" in site("models", "show", "price$all").err


def test_a_job_evaluates_all_versions_in_one_pass(site: Shop) -> None:
    declare(site, graph(site, 2.0, "old.onnx"))
    site.json("run", "priced")
    declare(site, graph(site, 1.0, "new.onnx"))
    site.declare(
        "jobs/quality.py",
        "import lakeflow as lf\n\n@lf.job(target='gold.quality', mode='snapshot')\ndef quality(o=lf.Read('bronze.orders')):\n"
        "    return lf.ml_evaluate(o, 'price$all', 'amount', ['amount']).lazy()\n",
    )
    [ran] = site.json("run", "quality")
    assert ran["model_versions"] == ["price$1", "price$2"]
    rows = lakes.query(site.project.lake.table("gold.quality"), "SELECT version, mae FROM rows ORDER BY 1")
    assert rows == [(1, 237.5), (2, 0.0)]


def test_predict_takes_one_version_and_not_all(site: Shop) -> None:
    priced_by(site, "price$all")
    ran = site("run", "priced")
    assert ran.code == 2
    assert "'price$all' stands for all versions, which only an evaluation takes; valid: m, m$2" in ran.err


def test_an_index_asks_the_version_that_it_names(site: Shop) -> None:
    folder = site.folder / "models"
    from tests.unit.models import graphs

    graphs.text_model(folder / "words")
    site.declare(
        "tables/index.sql",
        "CREATE MODEL words INPUT (t STRING) OUTPUT (v ARRAY<FLOAT>) "
        "WITH ('provider' = 'onnx', 'task' = 'embedding', 'model_path' = 'models/words');\n"
        "CREATE VECTOR INDEX words_index ON gold.words (v) WITH ('key' = 'order_id', 'model' = 'words$1');",
    )
    site.declare(
        "jobs/words.py",
        "import lakeflow as lf\n\n@lf.job(target='gold.words')\ndef words(o=lf.Read('bronze.orders')):\n"
        "    return lf.ml_embed(o.select('order_id', 'customer'), 'words$1', 'customer', into='v', version_into='made_by')\n",
    )
    site.json("models", "register", "words")
    ran = {row["name"]: row for row in site.json("run", "words", "words_index")}
    assert ran["words"]["model_versions"] == ["words$1"]
    assert lakes.query(site.project.lake.table("gold.words"), "SELECT DISTINCT made_by FROM rows") == [(1,)]
    assert ran["words_index"]["status"] == "done"
    assert site.json("index", "status")[0]["state"] == "up to date"


def test_secrets_are_nowhere_in_the_registry(site: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", SECRET)
    site.declare("tables/triage.sql", REMOTE)
    assert site.json("models", "register", "triage")[0]["version"] == 1
    assert SECRET.encode() not in bytes_of_log(site)
    texts = texts_of_log(site)
    assert SECRET not in texts
    assert "{{ secret.OPENAI }}" in texts
    assert "${TONE:-brief}" in texts
    for words in (("models", "show", "triage"), ("models", "show", "triage$1"), ("models", "versions", "triage")):
        shown = site(*words, "--output", "json")
        assert shown.code == 0
        assert SECRET not in shown.out + shown.err
    assert SECRET not in site("sql", "-e", "SHOW CREATE MODEL triage; DESC MODEL EXTENDED triage; FROM lakeflow.models").out
    monkeypatch.setenv("TONE", "rude")
    assert site.json("models", "show", "triage")["due"] == "version 2 is due: what its options stand for changed"
    pinned = site("models", "evaluate", "triage$1", "bronze.orders", "--label", "customer", "--features", "customer")
    assert pinned.code == 1
    assert "the environment fills in something else" in pinned.err


@pytest.mark.parametrize(
    "endpoint", ["http://me:hunter22@localhost:9/v1", "http://localhost:9/v1?api-key=hunter22", "http://me:hunter22@[::1]:9/v1"]
)
def test_a_secret_in_an_address_is_refused_before_it_is_kept(
    site: Shop, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", SECRET)
    site.declare("tables/triage.sql", REMOTE.replace("http://localhost:9/v1", endpoint))
    ran = site("models", "register", "triage")
    assert ran.code == 2
    assert "hunter22" not in ran.err + ran.out
    assert not site.project.lake.exists("lakeflow.models")


def test_a_list_of_models_needs_no_secret(site: Shop) -> None:
    site.declare("tables/triage.sql", REMOTE)
    listed = site.json("models")
    assert [(row["name"], row["version"], row["versions"]) for row in listed] == [
        ("docs_embedding", None, 0),
        ("price", None, 0),
        ("triage", None, 0),
    ]


def test_a_version_that_another_process_took_is_not_taken_twice(site: Shop, caplog: pytest.LogCaptureFixture) -> None:
    declare(site, null_policy="error")
    with site.project.models as slow:
        before = slow.get("price")
        assert (before.spec.version, before.due) == (1, True)
        declare(site)
        site.json("models", "register", "price")
        slow.begin_run()
        after = slow.get("price")
        assert "another process wrote first" in caplog.text
        assert (after.spec.version, after.due, after.provider) == (2, False, before.provider)
        assert slow.get("price$2").provider is after.provider
        assert slow.used == ("price$2",)
        assert slow.get("price$1").spec.options != after.spec.options
    assert log(site) == [("version", "price", 1), ("version", "price", 2)]


def test_a_registry_that_something_else_wrote_to_is_refused(site: Shop) -> None:
    site.json("run", "priced")
    lake = site.project.lake
    rows = lake.table("lakeflow.models").scan().to_arrow()
    lake.table("lakeflow.models").append(rows)
    ran = site("models", "versions")
    assert ran.code == 1
    assert "lakeflow.models holds 2 entries and its progress says 1" in ran.err


def test_the_registry_outlives_maintenance(site: Shop) -> None:
    for number in range(1, 6):
        graph(site, float(number))
        site.json("models", "register", "price")
    assert site("maintain", "lakeflow.models").code == 0
    versions = site.json("models", "versions", "price")
    assert [row["version"] for row in versions] == [1, 2, 3, 4, 5]
    graph(site, 9.0)
    assert site.json("models", "register", "price")[0]["version"] == 6


def test_the_versions_are_json_that_programs_read(site: Shop) -> None:
    site.json("run", "priced")
    [row] = json.loads(site("models", "versions", "--output", "json").out)
    assert row["options"]["model_path"] == "models/price.onnx"
    assert len(row["artifacts"]["graph"]) == len(row["fingerprint"]) == 64
    assert Path(site.folder / row["options"]["model_path"]).is_file()
