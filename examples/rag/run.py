"""The whole flow at once: pages and questions -> topics -> tables -> chunks -> index -> answers with citations.

    python examples/rag/run.py

Driven by the public commands alone, over an embedded broker; they run in this process, so that what they import is imported
once, but for the one that is killed. Without RAG_ENDPOINT the model is the stand-in of local_model.py, which only picks
sentences. Catalog, tables and index stay in .lakeflow of this folder, to be looked at afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from local_model import LocalModel
from pages import Page, page_of, pages

import lakeflow as lf
from lakeflow.cli.app import main as command_line
from lakeflow.errors import LakeflowError
from lakeflow.topics.embedded import EmbeddedBroker

HERE = Path(__file__).parent
EMBEDDINGS = HERE.parent / "flights" / "models" / "docs-embedding"

FIRST = {
    "shuffle": ("How do I shuffle a list in place?", "random"),
    "sorted": ("How can I insert an item into a list and keep it sorted?", "bisect"),
    "smallest": ("How do I push an item on a heap, then pop the smallest item?", "heapq"),
    "median": ("What is the median of numeric data?", "statistics"),
    "tree": ("How do I recursively delete a directory tree?", "shutil"),
    "dedent": ("How do I remove common leading whitespace from every line of a text?", "textwrap"),
    "json": ("How do I deserialize a JSON document to a Python object?", "json"),
    "capital": ("What is the capital of France?", None),
    "toml": ("How do I parse TOML from a string?", None),
}
"""Question -> what is asked, and the page that is to be cited; None: no answer is to be found."""

INVENTED = ("uuid", "How do I generate a random UUID?")
"""The question to which the stand-in cites a chunk that it was not given."""

LATE = "tomllib"
"""The page that comes only after its question."""

SECOND = {
    "toml": (FIRST["toml"][0], "tomllib"),
    "json again": (FIRST["json"][0], "json"),
    "sorted again": (FIRST["sorted"][0], None),
    "directory": ("How do I create a temporary directory?", "tempfile"),
    "wrap": ("How do I wrap a single paragraph of text into lines?", "textwrap"),
}
"""Asked once pages have changed: one again under its old id, two under new ones, since their pages are other ones now."""

REWORDED = "Deserialize"
"""Sections of the page json that say so are taken out of it, and this one comes in their place."""
IN_PLACE = "json.loads\n\nGive loads a JSON document and it will deserialize it to a Python object. This page was rewritten."

KILLED_AT = 2
"""The questions that the model has been asked when the run is killed."""

TRY_NEXT = """
  cd examples/rag && export LAKEFLOW_SECRET_RAG_API_KEY=not-asked-for
  lakeflow query "SELECT question, answer, cited FROM gold.answers"
  lakeflow search doc_index "read a file line by line" --mode hybrid --columns page_id,text
  lakeflow query "SELECT error, decode(value) FROM lakeflow.dead_letters"
"""


class StepFailed(Exception):
    """A command of lakeflow's ended with an error, which it has told on stderr."""


@dataclass(slots=True)
class Report:
    """What was seen, line by line as it comes, and the checks that did not hold."""

    failed: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        print(text, flush=True)

    def check(self, holds: bool, text: str) -> None:
        self.line(f"  {'✓' if holds else '✗'} {text}")
        if not holds:
            self.failed.append(text)


@dataclass(frozen=True, slots=True)
class Flow:
    """The project, the broker and the model: what a user would do, by the commands that a user has."""

    project: Path
    broker: EmbeddedBroker
    model: LocalModel

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command in a process of its own."""
        return subprocess.Popen([sys.executable, "-m", "lakeflow", *self._of_project(words)], stdout=subprocess.DEVNULL)

    def lakeflow(self, *words: str) -> str:
        """What a command prints. Raises StepFailed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = command_line(self._of_project(words))
        if code:
            raise StepFailed(f"lakeflow {' '.join(words)} ended with exit code {code}")
        return out.getvalue()

    def _of_project(self, words: Sequence[str]) -> list[str]:
        return [*words, "--project", str(self.project), "--output", "json"]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return lf.Project.open(self.project).table(table).collect().to_dicts()

    def answers(self) -> dict[str, dict[str, Any]]:
        return {row["question_id"]: row for row in self.rows("gold.answers")}

    def received(self, topic: str) -> list[tuple[str, dict[str, Any]]]:
        """The records of a topic, key and value, those of a key in their order."""
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "reader", "enable.auto.commit": False})
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            places = [TopicPartition(topic, number, 0) for number in partitions]
            ends = sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)
            consumer.assign(places)
            found: list[tuple[str, dict[str, Any]]] = []
            while len(found) < ends:
                record = consumer.poll(30)
                if record is None or record.error():
                    raise StepFailed(f"reading topic {topic} ended at record {len(found)} of {ends}")
                found.append(((record.key() or b"").decode(), json.loads(record.value() or b"{}")))
            return found
        finally:
            consumer.close()

    def send(self, documents: Sequence[Page], questions: dict[str, str], removed: Sequence[str] = ()) -> None:
        """Records of both topics; a page that is removed is a record without a value."""
        written = [(page.page_id.encode(), json.dumps(asdict(page)).encode()) for page in documents]
        self.broker.produce("pages", [*written, *((page_id.encode(), None) for page_id in removed)])
        asked = [json.dumps({"question_id": key, "question": text}).encode() for key, text in questions.items()]
        self.broker.produce("questions", [(json.loads(one)["question_id"].encode(), one) for one in asked])


def first_wave(flow: Flow, report: Report) -> dict[str, dict[str, Any]]:
    """All pages but one, and questions; one of these is about the page that is missing."""
    there = [page for page in pages() if page.page_id != LATE]
    report.line(f"First wave: {len(there)} pages, {len(FIRST) + 1} questions")
    flow.send(there, {key: text for key, (text, _) in FIRST.items()} | dict([INVENTED]))
    flow.lakeflow("land")
    flow.lakeflow("run")
    chunks, answers = flow.rows("gold.chunks"), flow.answers()
    bodies = {page.page_id: page.body for page in there}
    stand = all(bodies[row["page_id"]][row["chunk_start"] : row["chunk_end"]] in row["text"] for row in chunks)
    pages_there = {row["page_id"] for row in chunks}
    report.check(stand and pages_there == set(bodies), f"gold.chunks: {len(chunks)} chunks, each of which stands in its page")
    tell(report, answers, FIRST)
    citations_hold(report, answers, {row["chunk_id"] for row in chunks})
    letters = [row for row in flow.rows("lakeflow.dead_letters") if INVENTED[1] in str(row["value"])]
    report.check(
        INVENTED[0] not in answers and len(letters) == 1,
        f"{INVENTED[1]!r}: the answer cited a chunk that was not given, and is a dead letter",
    )
    sent_back(flow, report, answers, len(answers))
    return answers


def second_wave(flow: Flow, report: Report, before: dict[str, dict[str, Any]]) -> None:
    """The missing page comes, one is rewritten, one removed; the run that answers is killed in between."""
    report.line("\nSecond wave: a page comes late, one is rewritten, one removed; a run is killed while the model answers")
    flow.send([page_of(LATE), rewritten(page_of("json"))], {key: text for key, (text, _) in SECOND.items()}, ["bisect"])
    flow.lakeflow("land")
    asked = len(flow.model.asked)
    killed = killed_run(flow)
    report.check(killed and flow.answers() == before, "the killed run has answered nothing")
    flow.lakeflow("run")
    chunks, answers = flow.rows("gold.chunks"), flow.answers()
    places = Counter(row["page_id"] for row in chunks)
    old_words = [row for row in chunks if row["page_id"] == "json" and REWORDED in row["text"]]
    report.check(
        not old_words and places["json"] > 1 and places["bisect"] == 0 and places[LATE] > 0,
        "the chunks of the page that came are there, those of the removed page and of the rewritten sections gone",
    )
    tell(report, answers, SECOND)
    citations_hold(report, {key: answers[key] for key in SECOND}, {row["chunk_id"] for row in chunks})
    old = {key: row for key, row in answers.items() if key not in SECOND}
    report.check(old == {key: row for key, row in before.items() if key not in SECOND}, "what was answered stands as it was")
    news = set(flow.model.asked[asked:])
    report.check(
        news <= {text for text, _ in SECOND.values()}, f"the model was asked about {len(news)} questions, all of them new"
    )
    moments = {key: row["index_snapshot_id"] for key, row in answers.items()}
    report.check(
        len({moments[key] for key in SECOND}) == 1 and moments["toml"] != moments["median"],
        "each answer tells as of which snapshot of the chunks the index answered",
    )
    sent_back(flow, report, answers, len(before) + len(SECOND))
    drift = json.loads(flow.lakeflow("index", "verify", "doc_index"))
    report.check(is_sound(drift), "lakeflow index verify: the index holds what gold.chunks holds")


def rewritten(page: Page) -> Page:
    """The page with one section in place of some; the others stay as they are."""
    head, *sections = page.body.split("\n\n## ")
    kept = [one for one in sections if REWORDED not in one]
    return Page(page.page_id, page.title, "\n\n## ".join([head, *kept, IN_PLACE]))


def sent_back(flow: Flow, report: Report, answers: dict[str, dict[str, Any]], records: int) -> None:
    """That the topic holds each answer, the last of its key as the table has it, and no answer twice."""
    flow.lakeflow("produce")
    found = flow.received("answers")
    last = {key: (row["answer"], row["cited"], row["scores"], row["index_snapshot_id"]) for key, row in found}
    wanted = {key: (row["answer"], row["cited"], row["scores"], row["index_snapshot_id"]) for key, row in answers.items()}
    report.check(last == wanted and len(found) == records, f"topic answers: {len(found)} records, the answers of gold.answers")


def killed_run(flow: Flow) -> bool:
    """A run that is killed as the model is asked for the second time; whether it was."""
    process = flow.start("run")
    asked: list[str] = []

    def kill(question: str) -> None:
        asked.append(question)
        if len(asked) == KILLED_AT:
            process.kill()

    flow.model.on_question = kill
    process.wait()
    flow.model.on_question = lambda question: None
    return process.returncode < 0


def tell(report: Report, answers: dict[str, dict[str, Any]], asked: dict[str, tuple[str, str | None]]) -> None:
    """Each question with its answer, held against the page that should be cited."""
    for key, (question, page) in asked.items():
        row = answers.get(key)
        cited = [] if row is None else row["pages"]
        report.check(row is not None and cited == ([] if page is None else [page]), f"{question} [{', '.join(cited)}]")
        if row is not None and row["answer"] is not None:
            report.line(f"      {row['answer'][:110]}")


def citations_hold(report: Report, answers: dict[str, dict[str, Any]], chunks: set[str]) -> None:
    """That what is cited was given, has a score each, and is a chunk that there is."""
    sound = all(
        set(row["cited"]) <= set(row["given"]) <= chunks and len(row["scores"]) == len(row["cited"]) for row in answers.values()
    )
    report.check(sound, "what is cited was given to the model, and what was given is in gold.chunks")


def is_sound(drift: Any) -> bool:
    """Whether `lakeflow index verify` has found nothing."""
    found = drift if isinstance(drift, list) else [drift]
    return all(not row.get(name) for row in found for name in ("missing", "extra", "differing", "ahead"))


def export(model: LocalModel, bootstrap: str) -> None:
    """Sets what the declarations take from the environment. A model of the user's stands where RAG_ENDPOINT names one."""
    os.environ["LAKEFLOW_KAFKA"] = bootstrap
    os.environ["RAG_DELIVERY"] = "at-least-once"  # the embedded broker has no transactions
    os.environ.setdefault("RAG_EMBEDDINGS", str(EMBEDDINGS))
    if "RAG_ENDPOINT" not in os.environ:
        os.environ |= {"RAG_ENDPOINT": model.endpoint, "RAG_MODEL": "extractive", "RAG_PROVIDER": "openai"}
        os.environ["LAKEFLOW_SECRET_RAG_API_KEY"] = "not-asked-for"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 where every check holds, else 1."""
    parser = argparse.ArgumentParser(description="Answers to questions from documentation, the whole flow at once.")
    parser.add_argument("--project", type=Path, default=HERE, help="the project's folder")
    project = parser.parse_args(arguments).project.resolve()
    shutil.rmtree(project / ".lakeflow", ignore_errors=True)
    report, started = Report(), time.monotonic()
    with EmbeddedBroker(partitions=1) as broker, LocalModel(invents=INVENTED[1]) as model:
        export(model, broker.bootstrap)
        flow = Flow(project, broker, model)
        try:
            second_wave(flow, report, first_wave(flow, report))
        except (StepFailed, LakeflowError) as failure:
            report.check(False, str(failure))
    outcome = f"{len(report.failed)} checks failed." if report.failed else f"Every check holds. Try next:\n{TRY_NEXT}"
    report.line(f"\n{time.monotonic() - started:.0f} s in all. {outcome}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
