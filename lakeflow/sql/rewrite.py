"""Calls of lakeflow's functions become DuckDB's own SQL around functions of one value a row.

Each call is first a `probe_N(..)`, a function whose arguments have no types yet (binding.py); once these are known it becomes
`ai_N(..)` over casts to what the model declares. A call that gives rows becomes a subquery; in a LATERAL its row comes out of
UNNEST([..]), which DuckDB streams, where a plain LATERAL would be kept whole before the first row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
from sqlglot import exp, parse_one

from lakeflow.errors import UnknownName, UsageError
from lakeflow.sql.binding import Binder
from lakeflow.sql.calls import Decide, PredictRows, PredictValues, Rows, read_predict
from lakeflow.sql.calls_arguments import Arguments
from lakeflow.sql.calls_evaluate import evaluation_columns, read_evaluate
from lakeflow.sql.calls_search import decide_search, read_search
from lakeflow.sql.calls_split import read_split, split_text
from lakeflow.sql.calls_types import input_types, output_names
from lakeflow.sql.calls_windows import ADDED, TIMES, placed_text, read_window, window_text
from lakeflow.sql.compiled import Call, EvaluateCall, Names, PredictCall, PureCall, Signature
from lakeflow.sql.flink import EVALUATE, PREDICT, SEARCH, SPLIT, WINDOWS, AiCall, Flink, TableArgument
from lakeflow.sql.pure.registry import PureFunction, pure_functions
from lakeflow.sql.relations import literal, name_text

ONE_ROW = "one_row"
"""The mark of a subquery that gives exactly one row."""


@dataclass(slots=True)
class Site:
    """A call where it stands. `asks` is what makes two calls of equal arguments equal; the types are known after binding."""

    name: str
    asks: str
    decide: Decide
    given: tuple[pa.DataType, ...] | None = None
    parameters: tuple[pa.DataType, ...] = ()
    call: Call | None = None


@dataclass(slots=True)
class Sites:
    """The calls of one query, by the names of their probes."""

    found: dict[str, Site] = field(default_factory=dict)

    def answer(self, name: str, given: tuple[pa.DataType, ...]) -> pa.DataType:
        """The type of a call's result, for arguments of these types. Raises UsageError where they do not fit."""
        site = self.found[name]
        site.given = given
        site.parameters, site.call = site.decide(given, name)
        return site.call.result

    def of(self, node: exp.Expr) -> Site | None:
        """The call that a node of the tree is, if it is one."""
        return self.found.get(node.name.lower()) if isinstance(node, exp.Anonymous) else None


class Rewriter:
    """Rewrites the calls of a tree in place, one by one, inner ones before outer ones."""

    def __init__(self, text: str, names: Names, binder: Binder, sites: Sites, *, placed: bool = False) -> None:
        self.text = text
        self.names = names
        self.binder = binder
        self.sites = sites
        self.placed = placed

    def rewrite(self, call: AiCall) -> None:
        """Put DuckDB's SQL in the place of a call. Raises UsageError and UnknownName, pointing at it."""
        gives_rows = isinstance(call.parent, exp.Table | exp.Lateral)
        if call.this in PREDICT:
            form = read_predict(self.text, call, self.names, gives_rows=gives_rows)
            rows = self._predict_rows(call, form) if isinstance(form, PredictRows) else None
            if isinstance(form, PredictValues):
                name = self._predict_site(call, form)
                if gives_rows:
                    rows = _asked_row(name, _texts(form.values), form.model)
                else:
                    _replace_value(call, name, _texts(form.values), form.model.output.names)
        elif call.this in SEARCH | EVALUATE | WINDOWS | SPLIT and not gives_rows:
            arguments = Arguments(self.text, call, "")
            arguments.fail(f"{call.this} gives rows and stands in FROM, after LATERAL where it takes columns of other tables")
        elif call.this in SEARCH:
            rows = self._search(call)
        elif call.this in EVALUATE:
            rows = self._evaluate(call)
        elif call.this in WINDOWS:
            rows = self._window(call)
        elif call.this in SPLIT:
            rows = self._split(call)
        else:
            rows = self._pure(call, gives_rows)
        if rows is not None:
            replace_rows(call, rows)

    def add_site(self, asks: str, arguments: int, decide: Decide) -> str:
        """A new call; the name of its probe."""
        name = f"probe_{len(self.sites.found)}"
        self.sites.found[name] = Site(name, asks, decide)
        self.binder.probe(name, arguments)
        return name

    def names_of(self, source: exp.Expr) -> list[str]:
        """The columns of a source of rows of the tree."""
        around = around_node(source)
        return [name for name, _ in self.binder.columns(f"{around.ctes}SELECT * FROM {source.sql(dialect=Flink)}")]

    def columns(self, relation: str, call: AiCall) -> list[tuple[str, str]]:
        """The columns of the source of rows `relation`, as it stands where `call` does, with their DuckDB types."""
        around = around_node(call)
        try:
            return self.binder.columns(f"{around.ctes}SELECT __rows.* FROM {relation} AS __rows")
        except duckdb.BinderException:
            if not around.before:
                raise
        except duckdb.CatalogException as error:
            around_it = call.find_ancestor(exp.With)
            if around_it is None or not around_it.recursive:
                raise
            message = f"{call.this} over the rows of WITH RECURSIVE itself is not possible; valid: ML_PREDICT(MODEL m, a, ..)"
            raise Arguments(self.text, call, "").wrong(message) from error
        return self.binder.columns(f"{around.ctes}SELECT __rows.* FROM {around.before}, LATERAL (FROM {relation}) AS __rows")

    def _predict_site(self, call: AiCall, form: PredictRows | PredictValues, columns: Sequence[str] = ()) -> str:
        arguments = Arguments(self.text, call, "")

        def decide(given: tuple[pa.DataType, ...], name: str) -> tuple[tuple[pa.DataType, ...], Call]:
            try:
                parameters = input_types(form.model, given, columns)
            except UsageError as error:
                raise type(error)(arguments.at(error.message), next_step=error.next_step) from error
            return parameters, PredictCall(name, form.model, form.config)

        return self.add_site(f"{form.model.name} {sorted(form.config.items())}", len(form.model.input), decide)

    def _predict_rows(self, call: AiCall, form: PredictRows) -> Rows:
        row = None if form.model.loses_rows or self._holds_calls(form.rows) else single_row(form.rows)
        relation = relation_text(form.rows)
        columns = list(row) if row is not None else [name for name, _ in self.columns(relation, call)]
        wanted = [
            self._column(call, f"column in DESCRIPTOR, for INPUT of model {form.model.name!r}:", identifier, columns)
            for identifier in form.columns
        ]
        name = self._predict_site(call, form, wanted)
        outputs = output_names(columns, form.model.output.names)
        if row is not None:
            fields = [f"{name_text(column)} := {value}" for column, value in row.items()]
            asked = f"{name}({', '.join(row[column] for column in wanted)})"
            packed = f"SELECT UNNEST([struct_pack({', '.join(fields)})]) AS __row, UNNEST([{asked}]) AS __{name}"
            kept = [f"struct_extract(__row, {literal(column)}) AS {name_text(column)}" for column in columns]
        else:
            packed = f"SELECT *, {name}({', '.join(map(name_text, wanted))}) AS __{name} FROM {relation} AS __rows"
            kept = list(map(name_text, columns))
        fields = [
            f"struct_extract(__{name}, {literal(declared)}) AS {name_text(shown)}"
            for declared, shown in zip(form.model.output.names, outputs, strict=True)
        ]
        text = f"SELECT {', '.join([*kept, *fields])} FROM ({packed}) AS __asked{_kept_rows(name, form.model)}"
        return Rows(text, one_row=row is not None and not form.model.loses_rows)

    def _search(self, call: AiCall) -> Rows:
        search = read_search(self.text, call, self.names)
        name = self.add_site(search.asks, 1, decide_search(self.text, call, search))
        told = [*search.measured, "score"]
        columns = [*search.columns.names, *output_names(search.columns.names, told)]
        fields = [
            f"struct_extract(__{name}, {literal(given)}) AS {name_text(shown)}"
            for given, shown in zip([*search.columns.names, *told], columns, strict=True)
        ]
        hits = f"SELECT UNNEST({name}({search.query.sql(dialect=Flink)})) AS __{name}"
        return Rows(f"SELECT {', '.join(fields)} FROM ({hits}) AS __asked")

    def _evaluate(self, call: AiCall) -> Rows:
        form = read_evaluate(self.text, call, self.names)
        relation, arguments = relation_text(form.rows), Arguments(self.text, call, "")
        columns = [name for name, _ in self.columns(relation, call)]
        features = [
            self._column(call, f"column in DESCRIPTOR, for INPUT of model {form.model.name!r}:", one, columns)
            for one in form.features
        ]
        label = self._column(call, "column in DESCRIPTOR, for the label:", form.label, columns)
        shown, evaluation = evaluation_columns(form.task), f"evaluation {len(self.sites.found)}"

        def take(given: tuple[pa.DataType, ...], name: str) -> tuple[tuple[pa.DataType, ...], Call]:
            try:
                taken = (*input_types(form.model, given[:-1], features), given[-1])
            except UsageError as error:
                raise type(error)(arguments.at(error.message), next_step=error.next_step) from error
            return taken, EvaluateCall(name, evaluation, form.model, tuple(features), label, form.task, taken, shown)

        def tell(given: tuple[pa.DataType, ...], name: str) -> tuple[tuple[pa.DataType, ...], Call]:
            counts = (pa.int64(),)
            found = EvaluateCall(name, evaluation, form.model, tuple(features), label, form.task, counts, shown, tells=True)
            return counts, found

        taking = self.add_site(f"{evaluation} taken", len(features) + 1, take)
        telling = self.add_site(f"{evaluation} told", 1, tell)
        asked = ", ".join(map(name_text, [*features, label]))
        counted = f"SELECT CAST(coalesce(sum({taking}({asked})), 0) AS BIGINT) AS __counted FROM {relation} AS __rows"
        told = f"SELECT UNNEST({telling}(__counted)) AS __{telling} FROM ({counted}) AS __taken"
        fields = [f"struct_extract(__{telling}, {literal(name)}) AS {name_text(name)}" for name in shown.names]
        return Rows(f"SELECT {', '.join(fields)} FROM ({told}) AS __asked")

    def _window(self, call: AiCall) -> Rows:
        window = read_window(self.text, call)
        relation = relation_text(window.rows)
        columns = dict(self.columns(relation, call))
        time = self._column(call, "column in DESCRIPTOR, for the time:", window.time, list(columns))
        if columns[time] not in TIMES:
            message = f"{window.kind}: column {time!r} is {columns[time]}; valid: {', '.join(TIMES)}"
            raise Arguments(self.text, call, "").wrong(message, window.time if "start" in window.time.meta else None)
        if self.placed:
            return Rows(placed_text(relation, list(columns)))
        added = output_names(list(columns), ADDED)
        return Rows(window_text(window, relation, list(columns), time, TIMES[columns[time]], added))

    def _split(self, call: AiCall) -> Rows:
        split = read_split(self.text, call)
        relation = relation_text(split.rows)
        columns = [name for name, _ in self.columns(relation, call)]
        text = self._column(call, "column in DESCRIPTOR, for the text:", split.column, columns)
        keys = [exp.to_identifier(one) for one in split.key]
        key = [self._column(call, "column in 'key' of TEXT_SPLIT:", one, columns) for one in keys]
        name = self._pure_site(split.arguments, pure_functions()["TEXT_CHUNKS"], 5 + len(key))
        return Rows(split_text(split, name, relation, columns, text, key))

    def _holds_calls(self, rows: TableArgument) -> bool:
        return any(self.sites.of(node) for node in rows.find_all(exp.Anonymous))

    def _column(self, call: AiCall, kind: str, identifier: exp.Identifier, columns: Sequence[str]) -> str:
        found = next((name for name in columns if name.lower() == identifier.name.lower()), None)
        if found is None:
            raise Arguments(self.text, call, "").unknown(UnknownName(kind, identifier.name, columns), identifier)
        return found

    def _pure(self, call: AiCall, gives_rows: bool) -> Rows | None:
        function = pure_functions()[call.this]
        arguments = Arguments(self.text, call, function.usage)
        named = next((one for one in arguments.all if one.args.get("name")), None)
        if named is not None:
            arguments.fail(f"{call.this} takes its arguments by position: {function.usage}", named)

        if not arguments.all:
            arguments.fail(f"{call.this} needs arguments: {function.usage}")
        name = self._pure_site(arguments, function, len(arguments.all))
        values = _texts([arguments.value(one) for one in arguments.all])
        if gives_rows:
            return Rows(f"SELECT {name}({', '.join(values)}) AS {name_text(function.name.lower())}")
        replace_node(call, f"{name}({', '.join(values)})", function.name.lower())
        return None

    def _pure_site(self, arguments: Arguments, function: PureFunction, count: int) -> str:
        def decide(given: tuple[pa.DataType, ...], name: str) -> tuple[tuple[pa.DataType, ...], Call]:
            try:
                bound = function.bind(given)
            except UsageError as error:
                raise UsageError(arguments.at(f"{function.name}: {error.message}"), next_step=function.usage) from error
            return bound.parameters, PureCall(name, function.name, bound.parameters, bound.result)

        return self.add_site(function.name, count, decide)


@dataclass(frozen=True, slots=True)
class Around:
    """What a source of rows sees: `ctes` is a WITH or nothing, `before` the sources of its FROM that come before it."""

    ctes: str
    before: str


def around_node(at: exp.Expr) -> Around:
    """What can be seen from where a source of rows stands within FROM."""
    ctes: dict[str, str] = {}
    before, recursive = "", False
    inside, node = at, at.parent
    while node is not None:
        if isinstance(node, exp.Select) and not before:
            before = _before(node, inside)
        named = node if isinstance(node, exp.With) else node.args.get("with_")
        if isinstance(named, exp.With) and inside is not named:
            recursive = recursive or bool(named.args.get("recursive"))
            for cte in reversed(named.expressions[: named.expressions.index(inside)] if node is named else named.expressions):
                ctes.setdefault(cte.alias.lower(), cte.sql(dialect=Flink))
        inside, node = node, node.parent
    shown = ", ".join(reversed(ctes.values()))
    return Around(f"WITH {'RECURSIVE ' if recursive else ''}{shown} " if shown else "", before)


def _before(select: exp.Select, inside: exp.Expr) -> str:
    """The sources of a FROM that come before the one that `inside` is."""
    first, joins = select.args.get("from_"), select.args.get("joins") or []
    if first is None or not any(inside is join for join in joins):
        return ""
    place = next(place for place, join in enumerate(joins) if join is inside)
    sources: list[str] = [first.this.sql(dialect=Flink), *(join.sql(dialect=Flink).strip() for join in joins[:place])]
    return sources[0] + "".join(f" {join}" if not join.startswith(",") else join for join in sources[1:])


def relation_text(rows: TableArgument) -> str:
    """A source of rows as FROM takes it, without a name."""
    source = rows.this.copy()
    source.set("alias", None)
    if isinstance(source, exp.Values):
        return f"({_values_text(source)})"
    return str(source.sql(dialect=Flink))


def single_row(rows: TableArgument) -> dict[str, str] | None:
    """VALUES (..) of one row, or a SELECT of names and expressions alone: its columns and what they are."""
    source = rows.this
    if isinstance(source, exp.Values) and len(source.expressions) == 1:
        return {f"col{place}": one.sql(dialect=Flink) for place, one in enumerate(source.expressions[0].expressions)}
    select = source.this if isinstance(source, exp.Subquery) else None
    if not isinstance(select, exp.Select) or any(value for key, value in select.args.items() if key != "expressions"):
        return None
    if not all(isinstance(one, exp.Alias) for one in select.expressions) or select.find(exp.AggFunc, exp.Window, exp.Unnest):
        return None
    return {one.alias: one.this.sql(dialect=Flink) for one in select.expressions}


def _values_text(values: exp.Values) -> str:
    rows = (", ".join(one.sql(dialect=Flink) for one in row.expressions) for row in values.expressions)
    return f"VALUES {', '.join(f'({row})' for row in rows)}"


def _asked_row(name: str, values: Sequence[str], model: Signature) -> Rows:
    fields = ", ".join(f"struct_extract(__{name}, {literal(one)}) AS {name_text(one)}" for one in model.output.names)
    answers = f"[{name}({', '.join(values)})]"
    if model.loses_rows:
        answers = f"list_distinct({answers})"  # which drops NULL; DuckDB would not stream a filter
    asked = f"SELECT UNNEST({answers}) AS __{name}"
    return Rows(f"SELECT {fields} FROM ({asked}) AS __asked", one_row=not model.loses_rows)


def _kept_rows(name: str, model: Signature) -> str:
    """A model that loses rows has NULL for them in place of its answers."""
    return f" WHERE __{name} IS NOT NULL" if model.loses_rows else ""


def _texts(values: Sequence[exp.Expr]) -> list[str]:
    return [value.sql(dialect=Flink) for value in values]


def _replace_value(call: AiCall, name: str, values: Sequence[str], outputs: Sequence[str]) -> None:
    """A call within an expression: the one OUTPUT column's value, or a STRUCT of several."""
    asked = f"{name}({', '.join(values)})"
    if len(outputs) > 1:
        replace_node(call, asked, None)
        return
    field = call.parent
    if isinstance(field, exp.Dot) and field.expression.name.lower() == outputs[0].lower():
        replace_node(field, f"struct_extract({asked}, {literal(outputs[0])})", outputs[0])
    else:
        replace_node(call, f"struct_extract({asked}, {literal(outputs[0])})", outputs[0])


def replace_node(node: exp.Expr, text: str, shown: str | None) -> None:
    """Put an expression in the place of a node; `shown` is what a column of it is called where the query gives it no name."""
    made = parse_one(text, read=Flink)
    named = shown is not None and isinstance(node.parent, exp.Select) and node.arg_key == "expressions"
    node.replace(exp.alias_(made, shown, quoted=True) if named and shown is not None else made)


def replace_rows(call: AiCall, rows: Rows) -> None:
    """Put a subquery in the place of a call that gives rows, under the name that the query gives them."""
    subquery = exp.Subquery(this=parse_one(rows.text, read=Flink))
    subquery.meta[ONE_ROW] = rows.one_row
    source = call.parent
    if isinstance(source, exp.Table):
        subquery.set("alias", source.args.get("alias"))
        source.replace(subquery)
    else:
        call.replace(subquery)
