"""The whole flow on real data: topics -> tables -> job with a model -> table -> vectors -> index -> search.

    lakeflow demo

A project like any other, driven by the public commands alone: this script starts an embedded broker, sends January 2013 of the
New York flights in two waves, runs `lakeflow land`, `run`, `index`, `search` and `query` as a user would, and checks what they
say. Tables, index and catalog stay under .lakeflow/demo, to be looked at afterwards with `--target demo`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from waves import (
    DATA,
    DIMENSIONS,
    broken_records,
    dimension_records,
    doc_records,
    flight_records,
    halves,
    strewn,
)

from lakeflow.topics.embedded import EmbeddedBroker

HERE = Path(__file__).parent
TARGET = "demo"
PARTITIONS = 4
COPIES = 4  # of each kind of broken record
LATE_AFTER_MINUTES = 15
SAME_AUC = 5e-4

QUESTIONS = {
    "delay execution for a number of seconds": "time.sleep",
    "remove leading and trailing whitespace": "builtins.str.strip",
    "create a temporary directory and delete it afterwards": "tempfile.TemporaryDirectory",
}
"""Question -> the doc_id that has to be among the first five answers."""

AUC = f"""
WITH ranked AS (
  SELECT dep_delay > {LATE_AFTER_MINUTES} AS late,
         rank() OVER (ORDER BY late_probability) + (count(*) OVER (PARTITION BY late_probability) - 1) / 2.0 AS place
  FROM gold.scored_flights WHERE dep_delay IS NOT NULL
), counted AS (
  SELECT count(*) FILTER (WHERE late) AS n, count(*) FILTER (WHERE NOT late) AS m, sum(place) FILTER (WHERE late) AS places
  FROM ranked
)
SELECT (places - n * (n + 1) / 2.0) / (n * m) AS auc FROM counted
"""
"""The share of pairs of a late and a punctual flight that the model orders rightly (Mann and Whitney), ties counted half."""

DIFFERENCE = """
SELECT (SELECT count(*) FROM (SELECT * FROM gold.scored_flights EXCEPT ALL SELECT * FROM audit.scored_flights)) AS missing,
       (SELECT count(*) FROM (SELECT * FROM audit.scored_flights EXCEPT ALL SELECT * FROM gold.scored_flights)) AS added
"""

HOURS_DIFFERENCE = DIFFERENCE.replace("scored_flights", "hourly_departures")

TRY_NEXT = """
  lakeflow query --target demo "SELECT carrier_name, sum(late) * 100.0 / sum(flights) FROM gold.delays_by_carrier GROUP BY 1"
  lakeflow query --target demo "SELECT * FROM gold.hourly_departures ORDER BY mean_delay_minutes DESC NULLS LAST LIMIT 5"
  lakeflow query --target demo "SELECT kind, error, value FROM lakeflow.dead_letters LIMIT 5"
  lakeflow search --target demo docs_index "read a file line by line" --top-k 3
  lakeflow runs --target demo
"""


class StepFailed(Exception):
    """A command of lakeflow's ended with an error, which it has told on stderr."""


@dataclass(frozen=True, slots=True)
class Lakeflow:
    """The command line on the project, with the broker in its environment. Logs and progress go to stderr as they are."""

    project: Path
    bootstrap: str

    def __call__(self, *words: str) -> Any:
        """What the command prints as JSON. Raises StepFailed."""
        command = [
            sys.executable,
            "-m",
            "lakeflow",
            *words,
            "--project",
            str(self.project),
            "--target",
            TARGET,
            "--output",
            "json",
        ]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, env=os.environ | {"LAKEFLOW_KAFKA": self.bootstrap}, cwd=self.project, check=False
        )
        if done.returncode:
            raise StepFailed(f"lakeflow {' '.join(words)} ended with exit code {done.returncode}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def row(self, sql: str) -> dict[str, Any]:
        """The one row that a query gives: one line of JSON."""
        row: dict[str, Any] = self("query", " ".join(sql.split()))
        return row

    def count(self, table: str) -> int:
        return int(self.row(f"SELECT count(*) AS n FROM {table}")["n"])


@dataclass(slots=True)
class Report:
    """What was seen, as lines to read and as values. `show` is told each line as it comes."""

    show: Callable[[str], None]
    lines: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.show(text)

    def heading(self, text: str) -> None:
        self.line("")
        self.line(text)

    def fact(self, text: str) -> None:
        self.line(f"    {text}")

    def check(self, holds: bool, text: str) -> None:
        self.line(f"  {'✓' if holds else '✗'} {text}")
        if not holds:
            self.failed.append(text)


def say(line: str) -> None:
    print(line, flush=True)


def silent(line: str) -> None:
    """The lines are printed as one document at the end."""


def rate(rows: int, seconds: float) -> str:
    return f"{rows:,} rows in {seconds:.1f} s, start of the command with it ({rows / max(seconds, 1e-9):,.0f} rows/s)"


def timed(lakeflow: Lakeflow, *words: str) -> tuple[Any, float]:
    started = time.monotonic()
    return lakeflow(*words), time.monotonic() - started


def first_wave(lakeflow: Lakeflow, broker: EmbeddedBroker, report: Report, flights: pl.DataFrame) -> int:
    """Half of the flights, all dimensions and the documentation; returns how many documents were sent."""
    docs = subprocess.run(
        [sys.executable, str(HERE / "docs_corpus.py")], stdout=subprocess.PIPE, check=True
    ).stdout.splitlines()
    sent = {
        "flights": flight_records(flights),
        "docs": doc_records(docs),
        **{name: dimension_records(name) for name in DIMENSIONS},
    }
    for topic, records in sent.items():
        broker.produce(topic, records)
    report.heading("First wave: topics to tables")
    _, seconds = timed(lakeflow, "land")
    report.fact(rate(sum(map(len, sent.values())), seconds))
    tables = {"flights": "bronze.flights", "docs": "bronze.docs", **{name: f"dim.{name}" for name in DIMENSIONS}}
    landed = lakeflow.row(
        "SELECT " + ", ".join(f"(SELECT count(*) FROM {table}) AS {topic}" for topic, table in tables.items())
    )
    for topic, table in tables.items():
        report.check(
            landed[topic] == len(sent[topic]),
            f"{table}: {landed[topic]:,} of the {len(sent[topic]):,} records of topic {topic}",
        )
    score(lakeflow, report, flights.height)
    return len(docs)


def second_wave(lakeflow: Lakeflow, broker: EmbeddedBroker, report: Report, flights: pl.DataFrame, total: int) -> None:
    """The other half, with records among them that do not fit the table."""
    sound = flight_records(flights)
    broken = broken_records(sound[0][1] or b"")
    broker.produce("flights", strewn(sound, list(broken.values()) * COPIES))
    report.heading("Second wave, with broken records among the flights")
    _, seconds = timed(lakeflow, "land")
    report.fact(rate(flights.height + len(broken) * COPIES, seconds))
    landed, dead = lakeflow.count("bronze.flights"), lakeflow.count("lakeflow.dead_letters")
    report.check(landed == total, f"bronze.flights: {landed:,} of {total:,} sound records")
    report.check(dead == len(broken) * COPIES, f"lakeflow.dead_letters: {dead} of {len(broken) * COPIES} ({', '.join(broken)})")
    score(lakeflow, report, flights.height)


def score(lakeflow: Lakeflow, report: Report, rows: int) -> None:
    _, seconds = timed(lakeflow, "run", "score_flights")
    report.fact(f"score_flights, incremental: {rate(rows, seconds)}")
    _, seconds = timed(lakeflow, "run", "departures", "hourly_departures")
    report.fact(f"departures and hourly_departures, incremental: {rate(rows, seconds)}")


def both_modes(lakeflow: Lakeflow, report: Report, total: int) -> None:
    """The table that grew in two runs against one snapshot run, and the model's worth against what came of the flights."""
    report.heading("The same job as a snapshot")
    _, seconds = timed(lakeflow, "run", "score_flights", "--mode", "snapshot", "--into", "audit.scored_flights")
    report.fact(f"score_flights, snapshot: {rate(total, seconds)}")
    counted, differ = lakeflow.count("gold.scored_flights"), lakeflow.row(DIFFERENCE)
    agree = counted == total and differ == {"missing": 0, "added": 0}
    report.check(
        agree,
        f"gold.scored_flights ({counted:,} rows) and audit.scored_flights differ in {differ['missing'] + differ['added']} rows",
    )
    lakeflow("run", "hourly_departures", "--mode", "snapshot", "--into", "audit.hourly_departures")
    hours, differ = lakeflow.count("gold.hourly_departures"), lakeflow.row(HOURS_DIFFERENCE)
    report.check(
        hours > 0 and differ == {"missing": 0, "added": 0},
        f"gold.hourly_departures ({hours:,} hours of airports) and audit.hourly_departures differ in "
        f"{differ['missing'] + differ['added']} rows",
    )
    lakeflow("run", "delays_by_carrier", "daily_departures")
    figures = json.loads((HERE / "models" / "delay.json").read_text())
    auc = float(lakeflow.row(AUC)["auc"])
    held_out, by_hour = figures["held_out_auc"], figures["held_out_auc_of_baselines"]["late share by dep_hour"]
    report.fact(f"the model's AUC on November and December, held out: {held_out:.3f} (by the hour alone: {by_hour:.3f})")
    report.check(
        abs(auc - figures["january_auc"]) < SAME_AUC,
        f"AUC on the flights just scored: {auc:.4f}; scikit-learn, when trained: {figures['january_auc']:.4f}",
    )


def search(lakeflow: Lakeflow, report: Report, docs: int) -> None:
    """Documentation to vectors to an index; questions whose answers are known."""
    report.heading("Documentation of Python's standard library: vectors, index, search")
    _, seconds = timed(lakeflow, "run", "embed_docs")
    report.fact(f"embed_docs: {rate(docs, seconds)}")
    _, seconds = timed(lakeflow, "index", "update")
    report.fact(f"index update: {rate(docs, seconds)}")
    quality = json.loads((HERE / "models" / "docs-embedding" / "quality.json").read_text())
    ours, tfidf = (quality[part]["name, kept"]["recall@10"] for part in ("held_out", "held_out_of_tfidf"))
    report.fact(f"name to its own documentation, held out: found among ten in {ours:.0%} of cases (TF-IDF: {tfidf:.0%})")
    for question, answer in QUESTIONS.items():
        found = [row["doc_id"] for row in lakeflow("search", "docs_index", question, "--top-k", "5")]
        report.check(answer in found, f"{question!r}: {', '.join(found[:3])}")


def run(project: Path, report: Report) -> None:
    """Every step in turn. Raises StepFailed where a command does."""
    shutil.rmtree(project / ".lakeflow" / TARGET, ignore_errors=True)
    flights = pl.read_parquet(DATA / "flights.parquet")
    first, second = halves(flights)
    with EmbeddedBroker(partitions=PARTITIONS) as broker:
        lakeflow = Lakeflow(project, broker.bootstrap)
        docs = first_wave(lakeflow, broker, report, first)
        second_wave(lakeflow, broker, report, second, flights.height)
        both_modes(lakeflow, report, flights.height)
        search(lakeflow, report, docs)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 where every check holds, else 1."""
    parser = argparse.ArgumentParser(description="The whole flow on real data, from one command.")
    parser.add_argument("--project", type=Path, default=HERE.parents[1], help="the project's folder")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    given = parser.parse_args(arguments)
    as_text = given.output == "text"
    report, started = Report(say if as_text else silent), time.monotonic()
    report.line("lakeflow demo: January 2013 of the New York flights")
    try:
        run(given.project.resolve(), report)
    except StepFailed as failure:
        report.check(False, str(failure))
    outcome = f"{len(report.failed)} checks failed." if report.failed else "Every check holds."
    report.heading(f"{time.monotonic() - started:.0f} s in all. {outcome}")
    if not as_text:
        print(json.dumps({"ok": not report.failed, "failed": report.failed, "lines": report.lines}))
    elif not report.failed:
        say("Try next:" + TRY_NEXT)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
