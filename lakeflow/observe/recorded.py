"""What remote models took in earlier runs: read from the newest files of lakeflow.usage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.models.estimate import Recorded
from lakeflow.models.usage import Tokens
from lakeflow.observe.runs import USAGE

RUNS = 20
"""The runs of a model that count: its prompt and its rows may have been others long ago."""
LOOKED_AT = 500
"""Files, one a run."""
COLUMNS = ("model", "answered", "input_tokens", "output_tokens")
Row = Mapping[str, Any]


def recorded_of(lake: Lake, models: Iterable[str]) -> dict[str, Recorded]:
    """What the newest runs took of each model that was asked in one; a model that never was is not there."""
    wanted = set(models)
    if not wanted or not lake.exists(USAGE):
        return {}
    return summed(_rows(lake), wanted)


def summed(rows: Iterable[Row], models: Iterable[str]) -> dict[str, Recorded]:
    """The sums over the first `RUNS` rows of each model that tell of answers. Pure."""
    missing = set(models)
    found: dict[str, Recorded] = {}
    for row in rows:
        name = row["model"]
        if name not in missing or not row["answered"]:
            continue
        before = found.get(name, Recorded(0, Tokens(), 0))
        tokens = before.tokens + Tokens(row["input_tokens"], row["output_tokens"])
        found[name] = Recorded(before.answered + row["answered"], tokens, before.runs + 1)
        if found[name].runs == RUNS:
            missing.remove(name)
        if not missing:
            break
    return found


def _rows(lake: Lake) -> Iterator[Row]:
    """The rows of lakeflow.usage, the file committed last first; none of a table that does not tell what was answered."""
    table = lake.table(USAGE)
    if not set(COLUMNS) <= set(arrow_schema(table).names):
        return
    for split in list(reversed(splits_at(table, snapshot_at(table))))[:LOOKED_AT]:
        for batch in read(table, [split], COLUMNS):
            yield from batch.to_pylist()
