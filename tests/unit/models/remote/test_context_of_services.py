"""Rows that are longer than the model's context, from the declaration to what the service is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import ModelError, UnknownName
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI

TEXT = pa.schema([("t", pa.string())])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(OpenAI()) as server:
        yield server


def spec_of(server: Server, task: str = "text_generation", output: pa.Schema = TEXT, **options: str) -> ModelSpec:
    given = {"provider": "openai", "task": task, "endpoint": f"{server.url}/v1", "api-key": KEY, "model": "gpt-4.1-mini"}
    return ModelSpec.from_declaration(ModelDeclaration("m", TEXT, output, {**given, **options}), Path())


def ask(spec: ModelSpec, *texts: str, store: SqliteAnswers | None = None) -> list[object]:
    with ModelSet([spec], surroundings=Surroundings(answers=store)) as models:
        rows = pa.RecordBatch.from_pydict({"t": list(texts)}, TEXT)
        return list(models.get("m").predict(rows).column(0).to_pylist())


def sent(server: Server) -> list[str]:
    return sorted(json.loads(asked.body)["messages"][-1]["content"] for asked in server.asked)


def test_a_text_is_cut_to_the_room_beside_the_system_prompt(server: Server) -> None:
    options = {"max-context-size": "24", "system-prompt": "Be brief."}
    assert ask(spec_of(server, **options), "abcdefghij", "abc") == ["ABCDEF", "ABC"]
    assert sent(server) == ["abc", "abcdef"]


def test_a_row_that_is_skipped_is_not_asked_and_its_answer_is_null(server: Server) -> None:
    options = {"max-context-size": "15", "context-overflow-action": "skipped"}
    assert ask(spec_of(server, **options), "abcdefghij", "abc") == [None, "ABC"]
    assert sent(server) == ["abc"]


def test_texts_to_embed_are_cut_too(server: Server) -> None:
    output = pa.schema([("v", pa.list_(pa.float32()))])
    options = {"max_context_size": "5", "context_overflow_action": "truncated-head"}
    ask(spec_of(server, "embedding", output, **options), "abcdefghij", "abc")
    assert json.loads(server.asked[0].body)["input"] == ["fghij", "abc"]


def test_the_cache_knows_the_row_and_the_room_but_not_whether_cuts_are_logged(server: Server, tmp_path: Path) -> None:
    def asked(size: str, action: str) -> int:
        before = len(server.asked)
        store = SqliteAnswers(tmp_path / "a.db")
        ask(spec_of(server, max_context_size=size, context_overflow_action=action), "abcdefgh", "abcdefxy", store=store)
        return len(server.asked) - before

    assert asked("15", "truncated-tail") == 2, "rows that are cut to the same text are still two rows"
    assert asked("15", "truncated-tail-log") == 0
    assert asked("16", "truncated-tail") == 2
    assert asked("16", "truncated-head") == 2


def test_a_full_context_is_found_before_any_row_is_read(server: Server) -> None:
    output = pa.schema([("label", pa.string()), ("score", pa.float64())])
    with (
        pytest.raises(ModelError, match="the fixed text alone takes"),
        ModelSet([spec_of(server, "classification", output, max_context_size="60")]) as models,
    ):
        models.get("m")
    with pytest.raises(UnknownName, match="did you mean 'max_context_size'"):
        spec_of(server, max_context_sise="60")
