"""`lakeflow search`: the rows of an index that are nearest to a text."""

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

HELP = """Find the rows of an index that are nearest to a text.

The index's own model makes the text's vector. --where keeps only rows that meet a condition, before the nearest are
sought.

Examples:

  lakeflow search docs_index "read a file line by line"

  lakeflow search docs_index "sort a list" --top-k 3 --where "module = 'builtins'" --columns name,text
"""


def register(app: typer.Typer) -> None:
    app.command("search", help=HELP)(search)


def search(
    index: Annotated[str, typer.Argument(help="The index to search.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    top_k: Annotated[int, typer.Option("--top-k", help="Rows to find.")] = 5,
    where: Annotated[str | None, typer.Option("--where", help="A condition on the index's columns.")] = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Columns to show, with commas; without it all.")] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.indexing import search_text

    if not text.strip():
        raise UsageError("the text to search for is empty", next_step=f'lakeflow search {index} "what to look for"')
    opened = open_project(project, target)
    [spec] = chosen_indexes(opened, [index])
    asked = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    with opened.models:
        found = search_text(spec, opened.index_room, [text], top_k, where=where, columns=asked)
    rows = _nearest_first(found)
    if output is Format.JSON:
        sys.stdout.write(json_text(rows) + "\n")
    else:
        kept = [name for name in found.column_names if name not in ("query_index", "distance", "score")]
        page([{**row, "score": f"{row['score']:.4f}"} for row in rows], ["score", *kept])


def _nearest_first(found: pa.Table) -> list[dict[str, Any]]:
    """The rows with their score in front."""
    rows = found.drop_columns(["query_index"]).to_pylist()
    return [{"score": row["score"], **row} for row in rows]
