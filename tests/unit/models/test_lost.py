"""By what a lost row is known, and how it is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from lakeflow.models.lost import row_key, row_text


def test_a_key_is_of_the_model_and_the_values_alone() -> None:
    row = {"a": 1, "b": "x"}
    assert row_key("m", row) == row_key("m", dict(row))
    others = [
        row_key("m2", row),
        row_key("m", {"a": 2, "b": "x"}),
        row_key("m", {"a": 1, "b": None}),
        row_key("m", {"a": "1", "b": "x"}),
    ]
    assert len({row_key("m", row), *others}) == 5
    assert len(row_key("m", row)) == 32


def test_any_value_is_kept_as_json() -> None:
    row = {
        "n": None,
        "f": float("nan"),
        "t": datetime(2026, 1, 2, tzinfo=UTC),
        "d": Decimal("1.50"),
        "b": b"\x00",
        "s": "\ud800ü",
    }
    kept = json.loads(row_text(row))
    assert (kept["n"], kept["f"], kept["t"], kept["d"]) == (None, "nan", "2026-01-02 00:00:00+00:00", "1.50")
    assert kept["s"].endswith("ü")
    assert row_key("m", row)
