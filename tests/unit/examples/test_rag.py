"""The parts of examples/rag: its pages, its stand-in for a model, and what its job makes of a model's citations."""

from __future__ import annotations

import importlib.util
import json
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from local_model import LocalModel, answer, read_prompt
from pages import MODULES, page_of, pages

JOBS = Path(__file__).parents[3] / "examples" / "rag" / "jobs"
CHUNKS = {
    1: "shutil / shutil.rmtree\n## shutil.rmtree\n\nRecursively delete a directory tree.\n\nIf it fails, an error is raised.",
    2: "json / json.loads\n## json.loads\n\nDeserialize a JSON document to a Python object.",
}
PROMPT = "Question: {}\n\nChunks:\n\n" + "\n\n".join(f"[{number}] {text}" for number, text in CHUNKS.items())


class TestPages:
    def test_a_page_holds_each_documented_name_under_a_heading_of_its_own(self) -> None:
        body = page_of("textwrap").body
        assert body.startswith("# textwrap\n\nText wrapping and filling.")
        assert "\n\n## textwrap.dedent\n\nRemove any common leading whitespace" in body
        headings = [line for line in body.splitlines() if line.startswith("#")]
        assert all(line.startswith("## textwrap.") for line in headings[1:]), "no line of a text is a heading"

    def test_there_is_a_page_for_each_module(self) -> None:
        made = pages()
        assert tuple(page.page_id for page in made) == MODULES
        assert sum(len(page.body) for page in made) > 100_000


class TestStandIn:
    @pytest.mark.parametrize(
        ("question", "said", "cited"),
        [
            ("How do I delete a directory tree recursively?", "Recursively delete a directory tree.", (1,)),
            ("How do I deserialize a document of JSON?", "Deserialize a JSON document to a Python object.", (2,)),
            ("What is the capital of France?", None, ()),
            ("", None, ()),
        ],
    )
    def test_it_cites_the_chunk_of_the_nearest_sentence_or_knows_nothing(
        self, question: str, said: str | None, cited: tuple[int, ...]
    ) -> None:
        found = answer(question, CHUNKS)
        assert (found.answer, found.citations) == (said, cited)

    def test_the_prompt_is_read_as_the_declaration_writes_it(self) -> None:
        assert read_prompt(PROMPT.format("Why?")) == ("Why?", CHUNKS)
        with pytest.raises(ValueError, match="not of the form"):
            read_prompt("Why?")

    def test_it_speaks_as_a_service_does_and_cites_what_was_not_given_where_it_is_told_to(self) -> None:
        with LocalModel(invents="Why?") as model:
            reply = ask(model, PROMPT.format("Why?"))
            assert json.loads(reply["choices"][0]["message"]["content"])["citations"] == [7]
            with pytest.raises(urllib.error.HTTPError, match="400"):
                ask(model, "no prompt")
            with pytest.raises(urllib.error.HTTPError, match="404"):
                ask(model, PROMPT, path="/embeddings")
            assert model.asked == ["Why?"]


def ask(model: LocalModel, prompt: str, path: str = "/chat/completions") -> dict[str, Any]:
    body = {"model": "extractive", "messages": [{"role": "user", "content": prompt}]}
    with urllib.request.urlopen(model.endpoint + path, json.dumps(body).encode(), timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
        return found


@pytest.mark.parametrize(
    ("citations", "cited", "invented"),
    [
        ([2, 1], ["b", "a"], 0),
        ([2, 2], ["b"], 0),
        ([1, 4], ["a"], 1),
        ([0, -1, 9, 3], ["c"], 3),
        ([5], [], 1),
        ([], [], 0),
    ],
)
def test_a_number_that_was_not_given_is_no_citation(citations: list[int], cited: list[str], invented: int) -> None:
    names, scores = ["a", "b", "c"], {"a": 0.3, "b": 0.2, "c": 0.1}
    given = {"citations": citations, "chunk_id": names, "page_id": ["p", "p", "q"], "score": list(scores.values())}
    texts, numbers = pl.List(pl.String), pl.List(pl.Int32)
    schema = {"citations": numbers, "chunk_id": texts, "page_id": texts, "score": pl.List(pl.Float64)}
    [row] = job("answers").with_citations(pl.LazyFrame([given], schema=schema)).collect().to_dicts()
    assert (row["cited"], row["invented"]) == (cited, invented)
    assert row["scores"] == [scores[name] for name in cited]
    assert row["given"] == names


def job(name: str) -> ModuleType:
    """A file of jobs/, as a module."""
    spec = importlib.util.spec_from_file_location(f"rag_{name}", JOBS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
