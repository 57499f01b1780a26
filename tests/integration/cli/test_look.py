"""tables, jobs, models, runs, status, plan: what the project is and how far it has come."""

from __future__ import annotations

import pytest

from tests import lakes
from tests.integration.cli.conftest import Shop


class TestTables:
    def test_the_bare_name_lists(self, stocked: Shop) -> None:
        listed = stocked.json("tables")
        assert listed == stocked.json("tables", "list")
        [_, orders] = listed
        assert (orders["table"], orders["kind"], orders["rows"], orders["files"]) == ("bronze.orders", "topic orders", 4, 2)

    def test_what_is_declared_and_not_there_yet_is_listed(self, shop: Shop) -> None:
        assert shop.json("tables") == [
            {"table": "bronze.docs", "kind": "declared", "state": "not there yet"},
            {"table": "bronze.orders", "kind": "topic orders", "state": "not there yet"},
        ]
        shown = shop("tables", "show", "bronze.orders")
        assert shown.code == 2
        assert "lakeflow land bronze.orders" in shown.err

    def test_show(self, stocked: Shop) -> None:
        stocked("run", "large")
        shown = stocked.json("tables", "show", "gold.large")
        assert [column["column"] for column in shown["columns"]] == ["order_id", "customer", "amount"]
        assert shown["rows"] == 3
        assert [snapshot["operation"] for snapshot in shown["snapshots"]] == ["append"]
        assert "job.large" in shown["progress"]
        text = stocked("tables", "show", "gold.large").out
        assert "job.large" in text
        assert "order_id" in text

    def test_an_unknown_table(self, stocked: Shop) -> None:
        shown = stocked("tables", "show", "bronze.order")
        assert shown.code == 2
        assert "did you mean 'bronze.orders'" in shown.err
        assert shown.out == ""

    def test_drop_wants_a_word(self, stocked: Shop) -> None:
        refused = stocked("tables", "drop", "bronze.orders")
        assert refused.code == 2
        assert "--yes" in refused.err
        assert stocked.project.lake.exists("bronze.orders")
        files = lakes.stored_files(stocked.project.lake.table("bronze.orders"))
        dropped = stocked.json("tables", "drop", "bronze.orders", "--yes")
        assert dropped[0]["status"] == "dropped"
        assert not stocked.project.lake.exists("bronze.orders")
        assert all(path.exists() for path in files)
        assert stocked("tables", "drop", "bronze.orders", "--yes").code == 2


class TestJobs:
    def test_list_is_in_the_order_of_the_graph(self, shop: Shop) -> None:
        names = [job["name"] for job in shop.json("jobs")]
        assert names.index("large") < names.index("totals")
        assert set(names) == {"embed", "large", "totals"}

    def test_show(self, shop: Shop) -> None:
        shown = shop.json("jobs", "show", "embed")
        assert shown["models"] == ["docs_embedding"]
        assert shown["reads"] == ["bronze.docs"]
        assert "Orders above 100" in shop("jobs", "show", "large").out

    def test_graph(self, shop: Shop) -> None:
        edges = {edge["name"]: (edge["kind"], edge["reads"], edge["writes"]) for edge in shop.json("jobs", "graph")}
        assert edges["bronze.orders"] == ("landing", ["topic orders"], "bronze.orders")
        assert edges["totals"] == ("job", ["gold.large"], "gold.totals")
        assert edges["docs_index"] == ("index", ["gold.doc_vectors"], None)
        assert "gold.large -> job totals -> gold.totals" in shop("jobs", "graph").out

    def test_an_unknown_job(self, shop: Shop) -> None:
        for words in (("jobs", "show", "larg"), ("plan", "larg"), ("run", "larg")):
            ran = shop(*words)
            assert ran.code == 2
            assert "did you mean 'large'" in ran.err

    def test_a_job_that_cannot_be_loaded_says_where(self, shop: Shop) -> None:
        shop.declare("jobs/broken.py", "import lakeflow\n\nraise ValueError('oh')\n")
        ran = shop("jobs")
        assert ran.code == 2
        assert "jobs/broken.py:3" in ran.err


class TestModels:
    def test_list(self, shop: Shop) -> None:
        [model] = shop.json("models")
        assert (model["name"], model["provider"], model["task"]) == ("docs_embedding", "onnx", "embedding")
        assert model["input"] == ["text string"]

    def test_show(self, shop: Shop) -> None:
        shown = shop.json("models", "show", "docs_embedding")
        assert len(shown["fingerprint"]) == 64
        assert shown["options"]["provider"] == "onnx"
        assert "'model_path'" in shop("models", "show", "docs_embedding").out

    def test_a_model_whose_files_are_missing_is_shown_with_the_reason(self, shop: Shop) -> None:
        shop.declare(
            "tables/gone.sql",
            "CREATE MODEL gone INPUT (text STRING) OUTPUT (v ARRAY<FLOAT>) "
            "WITH ('provider' = 'onnx', 'task' = 'embedding', 'model_path' = 'gone');",
        )
        shown = shop.json("models", "show", "gone")
        assert shown["fingerprint"] is None
        assert "gone" in shown["problem"]

    def test_an_unknown_model(self, shop: Shop) -> None:
        shown = shop("models", "show", "docs_embeding")
        assert shown.code == 2
        assert "did you mean 'docs_embedding'" in shown.err

    def test_a_missing_secret_hides_nothing_but_what_needs_it(self, shop: Shop) -> None:
        shop.declare(
            "tables/secret.sql",
            "CREATE MODEL paid INPUT (text STRING) OUTPUT (v ARRAY<FLOAT>) "
            "WITH ('provider' = 'onnx', 'task' = 'embedding', 'model_path' = '{{ secret.PLACE }}');",
        )
        assert {model["name"] for model in shop.json("models")} == {"docs_embedding", "paid"}
        shown = shop("models", "show", "paid")
        assert shown.code == 2
        assert "LAKEFLOW_SECRET_PLACE" in shown.err


class TestRunsAndStatus:
    def test_nothing_ran_yet(self, shop: Shop) -> None:
        assert shop.json("runs") == []
        states = {one["name"]: one["state"] for one in shop.json("status")}
        assert states["large"] == "waits for bronze.orders, not there yet"
        assert states["docs_index"] == "waits for gold.doc_vectors, not there yet"
        assert "names no brokers" in states["bronze.orders"]

    def test_runs_are_told_newest_first(self, stocked: Shop) -> None:
        stocked("run", "large")
        stocked("run", "totals")
        stocked("run", "large")
        told = [(run["name"], run["status"], run["read"], run["written"], run["filtered"]) for run in stocked.json("runs")]
        assert told == [("large", "empty", 0, 0, 0), ("totals", "done", 3, 2, 1), ("large", "done", 4, 3, 1)]
        assert [run["status"] for run in stocked.json("runs", "--name", "large", "--last", "1")] == ["empty"]
        assert stocked.json("runs", "--failed") == []

    def test_a_failed_run_is_told_with_its_error(self, stocked: Shop) -> None:
        stocked.declare(
            "jobs/bad.py",
            "import lakeflow as lf\n\n@lf.job(target='gold.bad')\n"
            "def bad(orders=lf.Read('bronze.orders')):\n    return orders.select('amuont')\n",
        )
        ran = stocked("run", "bad")
        assert ran.code == 1
        assert "amuont" in ran.err
        [failed] = stocked.json("runs", "--failed")
        assert failed["name"] == "bad"
        assert "amuont" in failed["error"]

    def test_status_counts_what_is_behind(self, stocked: Shop) -> None:
        stocked("run", "large")
        stocked("run", "totals")
        before = {one["name"]: one for one in stocked.json("status")}
        assert (before["large"]["state"], before["large"]["behind"]) == ("up to date", 0)
        assert before["large"]["last_run"] == "done"
        assert before["totals"]["state"] == "up to date"
        stocked.orders(("o5", "ann", 1.0))
        stocked("run", "large")
        stocked.orders(("o6", "ann", 101.0), ("o7", "ann", 3.0))
        after = {one["name"]: one for one in stocked.json("status")}
        assert (after["large"]["state"], after["large"]["behind"], after["large"]["files_behind"]) == ("behind", 2, 1)

    def test_status_knows_a_job_that_never_ran(self, stocked: Shop) -> None:
        status = {one["name"]: one for one in stocked.json("status")}
        assert (status["large"]["state"], status["large"]["behind"]) == ("never ran", 4)
        assert status["large"]["updated"] is None


class TestPlan:
    def test_a_plan_of_nothing_changes_nothing(self, shop: Shop) -> None:
        planned = shop.json("plan")
        assert [landing["skipped"] is not None for landing in planned["landings"]] == [True]
        assert {job["name"]: job["problem"] for job in planned["jobs"]}["large"] == "waits for bronze.orders, not there yet"
        assert shop.project.lake.names() == ()

    def test_an_incremental_job(self, stocked: Shop) -> None:
        [job] = stocked.json("plan", "large")["jobs"]
        assert (job["files"], job["rows"], job["commits"], job["mode"], job["output"]) == (2, 4, 1, "incremental", "append")
        assert job["makes_table"] is True
        assert job["start"] is None
        assert stocked.project.lake.names() == ("bronze.orders",)
        stocked("run", "large")
        stocked.orders(("o5", "ann", 1.0))
        [job] = stocked.json("plan", "large")["jobs"]
        assert (job["files"], job["rows"], job["makes_table"]) == (1, 1, False)
        assert job["reads"]["bronze.orders"] == stocked.project.lake.table("bronze.orders").metadata.current_snapshot_id
        assert "large" in stocked("plan", "large").out

    def test_a_snapshot_of_one_moment_into_another_table(self, stocked: Shop) -> None:
        first = stocked.project.lake.table("bronze.orders").snapshots()[0].snapshot_id
        [job] = stocked.json("plan", "large", "--snapshot-id", str(first), "--into", "check.large")["jobs"]
        assert (job["mode"], job["output"], job["target"], job["rows"]) == ("snapshot", "complete", "check.large", 2)
        assert job["reads"] == {"bronze.orders": first}

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("--into", "check.large"), "--into"),
            (("large", "--mode", "incremental", "--snapshot-id", "1"), "--snapshot-id"),
            (("large", "--snapshot-id", "1", "--as-of", "2013-01-01"), "exclude"),
        ],
    )
    def test_options_that_exclude_each_other(self, words: tuple[str, ...], told: str, stocked: Shop) -> None:
        for verb in ("plan", "run"):
            ran = stocked(verb, *words)
            assert ran.code == 2
            assert told in ran.err

    def test_a_table_that_nobody_makes(self, shop: Shop) -> None:
        shop.declare(
            "jobs/lost.py",
            "import lakeflow as lf\n\n@lf.job(target='gold.lost')\n"
            "def lost(orders=lf.Read('bronze.ordres')):\n    return orders\n",
        )
        ran = shop("plan", "lost")
        assert ran.code == 2
        assert "did you mean 'bronze.orders'" in ran.err

    def test_a_job_that_cannot_go_on_is_told_and_fails(self, stocked: Shop) -> None:
        stocked("run", "large")
        stocked.project.lake.drop("bronze.orders")
        stocked.orders(("o1", "ann", 50.0))
        ran = stocked("plan", "large", "--output", "json")
        assert ran.code == 1
        [job] = ran.json["jobs"]
        assert "made anew" in job["problem"]
        status = {one["name"]: one for one in stocked.json("status")}
        assert status["large"]["state"].startswith("needs a snapshot run")
