from __future__ import annotations

from typing import Any

import pytest

from lakeflow.models.estimate import Recorded
from lakeflow.models.usage import Tokens
from lakeflow.observe.recorded import summed


def row(model: str, answered: int | None, tokens: int = 10) -> dict[str, Any]:
    return {"model": model, "answered": answered, "input_tokens": tokens, "output_tokens": 1}


def test_the_newest_runs_that_were_answered_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeflow.observe.recorded.RUNS", 2)
    rows = [row("a", 0, 999), row("a", None, 999), row("a", 4), row("b", 1), row("a", 6, 30), row("a", 100), row("c", 1)]
    assert summed(rows, ["a", "b", "d"]) == {"a": Recorded(10, Tokens(40, 2), 2), "b": Recorded(1, Tokens(10, 1), 1)}


def test_no_more_rows_are_read_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeflow.observe.recorded.RUNS", 1)
    rows = iter([row("a", 1), row("b", 1), row("a", 1)])
    summed(rows, ["a", "b"])
    assert len(list(rows)) == 1
