"""What DuckDB would do for a compiled query, as a tree of steps, with the models and searches that each step asks.

Rows are DuckDB's estimates: exact for a table read whole, guesses behind filters and joins. A step that asks a model asks it at
the most once for each row that comes into it; in a branch of CASE that few rows take, for fewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final, assert_never

from sqlglot import exp

from lakeflow.sql.compiled import Call, Compiled, EvaluateCall, PredictCall, PureCall, SearchCall
from lakeflow.sql.execute import Limits, plan_compiled
from lakeflow.sql.explain_names import SCANS, texts_of, views_of_scans, with_names
from lakeflow.sql.flink import read_query
from lakeflow.sql.relations import ParquetRelation, Relation, plain_parts

CALLED: Final = re.compile(r"(?<!\w)(?:(?P<call>ai_\d+)\(|__(?P<column>ai_\d+)_\d+)")
"""A call in what DuckDB shows of a step: itself, or the column that it is shown as."""

CALLING: Final = frozenset({"PROJECTION", "FILTER", "HASH_JOIN", "NESTED_LOOP_JOIN", "BLOCKWISE_NL_JOIN"})
"""Steps that call what they show; others show columns that are called so."""

WORDS: Final[Mapping[str, str]] = {
    "HASH_GROUP_BY": "group",
    "PERFECT_HASH_GROUP_BY": "group",
    "UNGROUPED_AGGREGATE": "aggregate",
    "STREAMING_LIMIT": "limit",
    "TOP_N": "first rows in order",
    "ORDER_BY": "sort",
    "HASH_JOIN": "join",
    "UNNEST": "unnest",
    "PROJECTION": "columns",
}
"""Steps whose names in DuckDB say how rather than what; the others are their names in lower case."""

DETAILS: Final = ("Conditions", "Expression", "Filters", "Groups", "Aggregates", "Order By", "Top", "Limit")
"""What is shown of a step, beside its name."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step and those that feed it. `rows` is how many it gives, None where DuckDB does not say; `asks` the functions of
    models and searches that it calls, `calls` for how many rows each at the most."""

    name: str
    details: tuple[str, ...] = ()
    rows: int | None = None
    asks: tuple[str, ...] = ()
    calls: int | None = None
    children: tuple[Step, ...] = ()

    def walk(self) -> Iterator[Step]:
        """This step and those below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def explain(compiled: Compiled, relations: Mapping[str, Relation], limits: Limits = Limits()) -> Step:
    """The steps of a query over `relations`, by view; no row is read and nothing is asked. Raises what `run_compiled` raises
    before the first row."""
    roots = plan_compiled(compiled, relations, limits)
    views = views_of_scans(roots, {read.view: relations[read.view] for read in compiled.reads})
    told = _Told(compiled, relations, _columns_of_calls(compiled), views)
    steps = [told.step(root)[0] for root in roots]
    return steps[0] if len(steps) == 1 else Step("steps", children=tuple(steps))


def estimated_calls(step: Step) -> Mapping[str, int | None]:
    """For how many rows each function is asked at the most; None where DuckDB does not estimate them."""
    found: dict[str, int | None] = {}
    for one in step.walk():
        for function in one.asks:
            before = found.get(function, 0)
            found[function] = None if before is None or one.calls is None else before + one.calls
    return found


def explain_lines(step: Step, compiled: Compiled, costs: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The tree as text, a line a step, models and searches by their names. `costs` says behind a model, by its name, what it is
    expected to take."""
    labels = {call.function: call_label(call) for call in compiled.calls}
    behind = {
        call.function: f", {costs[_base(call.model.name)]}"
        for call in compiled.calls
        if isinstance(call, PredictCall | EvaluateCall) and _base(call.model.name) in costs
    }
    return list(_lines(step, labels, behind, "", ""))


def _base(model: str) -> str:
    """The name without a version."""
    return model.partition("$")[0]


def call_label(call: Call) -> str:
    """A call in words: `model delay`."""
    match call:
        case PredictCall():
            return f"model {call.model.name}"
        case SearchCall():
            return f"search {call.table} ({call.column}), {call.k} nearest"
        case EvaluateCall():
            return f"model {call.model.name}, {'in the end' if call.tells else 'evaluated'}"
        case PureCall():
            return call.name
        case _:
            assert_never(call)


def _lines(step: Step, labels: Mapping[str, str], behind: Mapping[str, str], first: str, rest: str) -> Iterator[str]:
    parts = [" ".join([step.name, *(f"[{_named(one, labels)}]" for one in step.details)])]
    parts += [f"asks {labels[one]}" + _about(step.calls, "times") + behind.get(one, "") for one in step.asks]
    yield f"{first}{', '.join(parts)}{_about(step.rows)}"
    for place, child in enumerate(step.children):
        last = place == len(step.children) - 1
        yield from _lines(child, labels, behind, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _about(number: int | None, unit: str = "rows") -> str:
    return "" if number is None else f" (~{number:,} {unit})"


def _named(detail: str, labels: Mapping[str, str]) -> str:
    """A detail with models in place of functions."""
    return CALLED.sub(lambda found: _shown(found, labels), detail)


def _shown(found: re.Match[str], labels: Mapping[str, str]) -> str:
    label = labels.get(found["call"] or found["column"], found[0])
    return f"{label}(" if found["call"] else label


def _columns_of_calls(compiled: Compiled) -> Mapping[str, frozenset[str]]:
    """The functions that are called for the columns of each name, by which DuckDB shows them: several may stand in one."""
    if not compiled.calls:
        return {}
    found: dict[str, frozenset[str]] = {}
    for alias in read_query(compiled.text).find_all(exp.Alias):
        called = (node.name.lower() for node in alias.this.find_all(exp.Anonymous))
        functions = frozenset(name for name in called if re.fullmatch(r"ai_\d+", name))
        if functions:
            found[alias.alias] = found.get(alias.alias, frozenset()) | functions
    return found


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known beside DuckDB's plan."""

    compiled: Compiled
    relations: Mapping[str, Relation]
    columns: Mapping[str, frozenset[str]]
    views: Mapping[int, tuple[str, ...]]

    @property
    def tables(self) -> Mapping[int, str]:
        """The table of each scan that is known to read one."""
        names = {read.view: read.name for read in self.compiled.reads}
        return {node: names[views[0]] for node, views in self.views.items() if len({names[view] for view in views}) == 1}

    def step(self, node: Mapping[str, Any]) -> tuple[Step, frozenset[str]]:
        """A node of DuckDB's plan, and the columns that were made of calls in it or below it."""
        below = [self.step(child) for child in node.get("children", [])]
        children = tuple(step for step, _ in below)
        made = frozenset(column for _, columns in below for column in columns)
        extra: Mapping[str, Any] = node.get("extra_info") or {}
        name = str(node.get("name", "")).strip()
        shown = {found[0] for found in CALLED.finditer(str(extra)) if found["column"]}
        if name == "PROJECTION":
            shown |= set(texts_of(extra.get("Projections"))) & set(self.columns)
        asked = self._asked(name, extra, shown - made)
        if name == "PROJECTION" and not asked and len(children) == 1:
            return children[0], made | shown
        if name == "PROJECTION" and children and children[0].name == WORDS["UNNEST"]:
            children = children[0].children  # DuckDB says nothing of an UNNEST, in which the call stands
        coming = _most(children)
        details = [with_names(node, key, _bare(text), self.tables) for key in DETAILS for text in texts_of(extra.get(key))]
        rows = _rows(name, extra) if not children or coming is not None else None
        rows = coming if rows is None else rows
        if name in SCANS:
            details, name = [*self._scanned(node), *details], "scan"
        word = WORDS.get(name, name.lower().replace("_", " "))
        return Step(word, tuple(details), rows, asked, coming if asked else None, children), made | shown

    def _asked(self, name: str, extra: Mapping[str, Any], columns: set[str]) -> tuple[str, ...]:
        """The models and searches that are asked in a node: those of new columns, and those that it calls itself."""
        called = {function for column in columns for function in self.columns.get(column, ())}
        if name in CALLING:
            called |= {found["call"] for found in CALLED.finditer(str(extra)) if found["call"]}
        asking = [call.function for call in self.compiled.calls if not isinstance(call, PureCall)]
        return tuple(function for function in asking if function in called)

    def _scanned(self, node: Mapping[str, Any]) -> list[str]:
        """The table of a scan with its files; several where nothing tells which it is."""
        views = self.views.get(id(node), ())
        names = {read.view: read.name for read in self.compiled.reads}
        return [" or ".join(_table(names[view], self.relations[view]) for view in views)] if views else []


def _most(steps: Sequence[Step]) -> int | None:
    """The most rows that any of them gives; None where one does not say."""
    rows = [step.rows for step in steps if step.rows is not None]
    return max(rows, default=None) if len(rows) == len(steps) else None


def _rows(name: str, extra: Mapping[str, Any]) -> int | None:
    """DuckDB's estimate; of a stream, and of files that it does not look into, it takes one row, which says nothing."""
    said = str(extra.get("Estimated Cardinality", ""))
    return int(said) if said.isdigit() and not (name in SCANS and int(said) <= 1) else None


def _bare(text: str) -> str:
    """A condition without the parentheses around all of it."""
    inner = text[1:-1]
    depths = accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in inner)
    return inner if text.startswith("(") and text.endswith(")") and min(depths, default=0) >= 0 else text


def _table(name: str, relation: Relation) -> str:
    parts = plain_parts(relation)
    if all(isinstance(part, ParquetRelation) for part in parts):
        files = sum(len(part.files) for part in parts if isinstance(part, ParquetRelation))
        return f"{name}, {files:,} file{'' if files == 1 else 's'}"
    return name
