"""examples/rag, as its user runs it: the whole flow at once, and by the commands of its README."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.cli import main
from lakeflow.runner.project import Project
from lakeflow.topics.embedded import EmbeddedBroker
from tests.chaos.processes import TERMINATED, Nursery
from tests.chaos.start_project import Service
from tests.independent_reader import StoredTable, read_table
from tests.services.anthropic import KEY as ANTHROPIC_KEY
from tests.services.anthropic import Anthropic
from tests.services.http import Server
from tests.services.openai import KEY as OPENAI_KEY
from tests.services.openai import OpenAI

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "rag"
EMBEDDINGS = REPOSITORY / "examples" / "flights" / "models" / "docs-embedding"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "rag", ignore=shutil.ignore_patterns(".lakeflow", "__pycache__")))


def rows(table: StoredTable) -> list[dict[str, Any]]:
    return list(table.rows().to_pylist())


def script(name: str) -> ModuleType:
    """A script of the example, as a module."""
    spec = importlib.util.spec_from_file_location(f"example_rag_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_whole_flow_holds_every_check(project: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAG_", "LAKEFLOW_"))}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), "--project", str(project)],
        capture_output=True, text=True, timeout=280, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every check holds." in done.stdout
    assert "✗" not in done.stdout
    catalog = project / ".lakeflow" / "catalog.db"
    answers, stored = read_table(catalog, "gold.answers"), read_table(catalog, "gold.chunks")
    chunks = rows(stored)
    found = {row["question_id"]: row for row in rows(answers)}
    questions = Counter(row["question_id"] for row in rows(read_table(catalog, "bronze.questions")))
    assert len(rows(answers)) == len(found), "each question has one answer"
    assert set(questions) - set(found) == {"uuid"}, "its citation was made up"
    assert questions["toml"] == 2, "it was asked again, and has one answer"
    texts = {row["chunk_id"]: row for row in chunks}
    pages = Counter(row["page_id"] for row in chunks)
    assert pages["bisect"] == 0
    again = found["json again"]
    assert texts[again["cited"][0]]["page_id"] == "json"
    assert "This page was rewritten" in texts[again["cited"][0]]["text"]
    assert found["json"]["cited"][0] not in texts, "the chunk that the older answer cites is of the page as it was"
    assert answers.head is not None
    assert stored.head is not None
    asked, reused = (int(stored.head.summary[f"lakeflow.vectors-{one}"]) for one in ("asked", "reused"))
    assert asked == pages["tomllib"] + 1, "of the rewritten page the one section that is new"
    assert reused >= pages["json"] - 1
    told, version = answers.head.summary["lakeflow.index.doc_index"].split()
    assert found["toml"]["index_snapshot_id"] == again["index_snapshot_id"] == int(told)
    assert found["median"]["index_snapshot_id"] != int(told)
    assert re.fullmatch("[0-9a-f]+", version)


@pytest.fixture(params=[pytest.param(False, id="static"), pytest.param(True, id="minilm", marks=pytest.mark.demo)])
def embeddings(request: pytest.FixtureRequest) -> Path:
    """The folder of a model: the one that is kept here, and a general one where the machine has it."""
    if not request.param:
        return EMBEDDINGS
    found: Path = request.getfixturevalue("minilm")
    return found


@pytest.fixture
def broker(embeddings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedBroker]:
    """A broker, and a model that answers, in the environment of the commands."""
    with EmbeddedBroker(partitions=2) as broker, script("local_model").LocalModel() as model:
        variables = {"LAKEFLOW_KAFKA": broker.bootstrap, "RAG_ENDPOINT": model.endpoint, "RAG_MODEL": "extractive"}
        variables |= {
            "RAG_EMBEDDINGS": str(embeddings),
            "RAG_DELIVERY": "at-least-once",
            "LAKEFLOW_SECRET_RAG_API_KEY": "not-asked-for",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield broker


def send_pages(broker: EmbeddedBroker, *names: str) -> None:
    for page in map(script("pages").page_of, names):
        value = json.dumps({"page_id": page.page_id, "title": page.title, "body": page.body})
        broker.produce("pages", [(page.page_id.encode(), value.encode())])


def ask(broker: EmbeddedBroker, question_id: str, question: str) -> None:
    broker.produce("questions", [(None, json.dumps({"question_id": question_id, "question": question}).encode())])


def test_the_commands_of_the_readme_answer_a_question(
    project: Path, broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send_pages(broker, "shutil", "textwrap")
    ask(broker, "q1", "How do I recursively delete a directory tree?")
    monkeypatch.chdir(project)
    section = README.partition("## By itself")[2].partition("\n## ")[0]
    [block] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    printed = {}
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        assert main([*words[1:], "--output", "json"]) == 0, line
        printed[words[1]] = [json.loads(one) for one in capsys.readouterr().out.splitlines() if one.strip()]
    assert list(printed) == ["land", "run", "produce", "search", "query"]
    [answer] = printed["query"]
    assert (answer["answer"], answer["pages"]) == ("Recursively delete a directory tree.", ["shutil"])
    [run] = printed["run"]
    assert [row["name"] for row in run] == ["chunks", "doc_index", "answers"], "in the order of the graph"
    assert main(["jobs", "graph"]) == 0
    assert "bronze.questions, index doc_index -> job answers -> gold.answers" in capsys.readouterr().out
    assert main(["plan", "answers", "--output", "json"]) == 0
    [planned] = json.loads(capsys.readouterr().out)["jobs"]
    assert planned["searches"] == {"doc_index": answer["index_snapshot_id"]}
    assert planned["models"] == ["embedder", "reader"]
    [[sent]] = printed["produce"]
    assert (sent["topic"], sent["written"]) == ("answers", 1)


def is_sent(event: dict[str, Any]) -> bool:
    """Whether it tells that one row of gold.answers went to its topic."""
    return event["name"].endswith("gold.answers") and event.get("written") == 1


@pytest.mark.parametrize("embeddings", [False], indirect=True)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_under_lakeflow_start_a_question_waits_for_the_first_pages(
    project: Path, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    (project / "secrets").mkdir()
    (project / "secrets" / "RAG_API_KEY").write_text("not-asked-for")
    settings = (project / "lakeflow.toml").read_text().replace("${LAKEFLOW_KAFKA:-localhost:9092}", broker.bootstrap)
    added = '[secrets]\ndir = "secrets"\n\n[run]\nfollow_seconds = 0.5\n'
    (project / "lakeflow.toml").write_text(f"{settings}\n{added}")
    topics = project / "tables" / "topics.sql"
    topics.write_text(topics.read_text().replace("'10 s'", "'1 s'"))
    broker.create("pages")
    ask(broker, "q1", "How do I recursively delete a directory tree?")
    with Nursery(project, tmp_path / "logs") as nursery:
        service = Service.start(nursery)
        waits = "waits for index doc_index, not there yet"
        service.wait_for(kind="job", name="answers", status=waits)
        send_pages(broker, "shutil", "textwrap")
        service.wait_for(kind="job", name="answers", status="done")
        [answer] = rows(read_table(project / ".lakeflow" / "catalog.db", "gold.answers"))
        assert answer["pages"] == ["shutil"]
        service.child.wait_until(lambda: any(map(is_sent, service.events(status="done"))), "the answer in its topic")
        service.child.end()
        assert service.child.process.returncode == TERMINATED, service.child.said()


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_who_answers_is_said_by_the_environment_alone(project: Path, provider: str) -> None:
    service, key = (OpenAI(), OPENAI_KEY) if provider == "openai" else (Anthropic(), ANTHROPIC_KEY)
    with Server(service) as server:
        endpoint = f"{server.url}/v1" if provider == "openai" else server.url
        said = {"RAG_PROVIDER": provider, "RAG_MODEL": "m", "RAG_ENDPOINT": endpoint, "LAKEFLOW_SECRET_RAG_API_KEY": key}
        opened = Project.open(project, environ=said)
        with opened.models as models:
            reader = models.get("reader")
            asked = pa.RecordBatch.from_pydict({"question": ["Why?"], "chunks": ["[1] So."]}, schema=reader.spec.input)
            answers = reader.predict(asked)
    assert answers.schema.names == ["answer", "citations"]
    assert answers.column("citations").null_count == 0
    [body] = [json.loads(one.body) for one in server.asked]
    assert body["messages"][-1]["content"] == "Question: Why?\n\nChunks:\n\n[1] So."
    assert '"citations"' in json.dumps(body), "the form of the answer is asked for"
