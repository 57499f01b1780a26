"""`lakeflow search`: the rows of an index that are nearest to a text, or have its words."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.index import chosen_indexes
from lakeflow.cli.output import json_text
from lakeflow.cli.rows import page
from lakeflow.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

HELP = """Find the rows of an index that are nearest to a text, or have its words.

In mode vector the index's own model makes the text's vector; in mode fts the text's words are looked for in the index's
text columns; in mode hybrid both rankings are fused. --where keeps only rows that meet a condition, before the nearest
are sought. A score is higher for a better row; docs/search.md says what it is.

Examples:

  lakeflow search docs_index "read a file line by line"

  lakeflow search docs_index "sort a list" --k 3 --where "module = 'builtins'" --columns name,text

  lakeflow search docs_index "str.rstrip" --mode hybrid --mmr 0.7
"""
MEASURED = {"vector": ("distance",), "fts": ("text_score",), "hybrid": ("distance", "text_score")}


def register(app: typer.Typer) -> None:
    app.command("search", help=HELP)(search)


def search(
    index: Annotated[str, typer.Argument(help="The index to search.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("--k", "--top-k", help="Rows to find.")] = 5,
    mode: Annotated[str, typer.Option("--mode", help="vector, fts (words) or hybrid.")] = "vector",
    where: Annotated[str | None, typer.Option("--where", help="A condition on the index's columns.")] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", "--output-columns", help="Columns to show, with commas; without it all.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every row, in place of the approximate index.")] = False,
    max_distance: Annotated[float | None, typer.Option("--max-distance", help="No vector farther than that.")] = None,
    probes: Annotated[int | None, typer.Option("--probes", help="Parts of the index to look into, for this search.")] = None,
    refine: Annotated[int | None, typer.Option("--refine", help="Exact comparisons, in multiples of the rows to find.")] = None,
    candidates: Annotated[int | None, typer.Option("--candidates", help="Rows of each ranking to fuse or choose from.")] = None,
    mmr: Annotated[float | None, typer.Option("--mmr", help="Rows that differ: 0 (most) to 1 (not at all).")] = None,
    rerank: Annotated[str | None, typer.Option("--rerank", help="A model that ranks the candidates anew.")] = None,
    snapshot_id: Annotated[
        int | None, typer.Option("--snapshot-id", help="The table's rows as of this snapshot, every one compared.")
    ] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.index.query import Query, mode_of
    from lakeflow.runner.searching import open_search

    if not text.strip():
        raise UsageError("the text to search for is empty", next_step=f'lakeflow search {index} "what to look for"')
    opened = open_project(project, target)
    [spec] = chosen_indexes(opened, [index])
    asked = None if columns is None else tuple(name.strip() for name in columns.split(",") if name.strip())
    query = Query(k, mode_of(mode), where, asked, exact, max_distance, probes, refine, candidates, mmr, snapshot_id)
    with opened.models:
        found = open_search(spec, opened.index_room, query, by_text=True, rerank=rerank).search([text])
    measured = MEASURED[query.mode]
    rows = _best_first(found.drop_columns(["query_index", *({"distance", "text_score"} - set(measured))]))
    if output is Format.JSON:
        sys.stdout.write(json_text(rows) + "\n")
    else:
        kept = [name for name in found.column_names if name not in ("query_index", "distance", "text_score", "score")]
        page([{**row, "score": f"{row['score']:.4f}"} for row in rows], ["score", *kept])


def _best_first(found: pa.Table) -> list[dict[str, Any]]:
    """The rows with their score in front."""
    return [{"score": row["score"], **row} for row in found.to_pylist()]
