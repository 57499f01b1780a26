"""`lakeflow plan` shows the steps of jobs in SQL."""

from __future__ import annotations

from tests.integration.cli.conftest import Shop

EMBED = """
INSERT INTO gold.named
SELECT o.order_id, ML_EMBED(MODEL docs_embedding, o.customer) AS embedding
FROM bronze.orders AS o JOIN dim.names FOR SYSTEM_TIME AS OF PROCTIME() AS n ON o.customer = n.name
WHERE o.amount > 100;
"""


def test_the_steps_of_a_query_are_shown_with_what_they_read_now(stocked: Shop) -> None:
    made = stocked("sql", "-e", "CREATE TABLE dim.names AS SELECT DISTINCT customer AS name FROM bronze.orders")
    assert made.code == 0, made.err
    stocked.declare("jobs/named.sql", EMBED)
    shown = stocked("plan", "named").out
    assert "Steps of named\nappend to gold.named" in shown
    assert "asks model docs_embedding" in shown
    assert "scan [bronze.orders, 2 files]" in shown
    assert "scan [dim.names, 1 file]" in shown
    [job] = stocked.json("plan", "named")["jobs"]
    assert job["steps"]["name"] == "append to gold.named"
    assert stocked.json("plan", "named", "--mode", "snapshot")["jobs"][0]["steps"]["name"] == "replace gold.named"
    assert not stocked.project.lake.exists("gold.named")
    assert stocked("run", "named").code == 0
    assert "Steps of named" not in stocked("plan", "named").out
    stocked.orders(("o9", "ann", 500.0))
    assert "scan [bronze.orders, 1 file]" in stocked("plan", "named").out


def test_a_job_in_python_has_no_steps_of_sql(stocked: Shop) -> None:
    [job] = stocked.json("plan", "large")["jobs"]
    assert job["steps"] is None
