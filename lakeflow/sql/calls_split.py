"""TEXT_SPLIT: the rows of a table, each as the rows of its text's chunks. Pure.

    TEXT_SPLIT(TABLE t, DESCRIPTOR(body) [, MAP['by', 'markdown', 'size', '800', 'overlap', '80', 'key', 'doc_id']])

Behind the columns of t but the text come those of `lakeflow.split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from lakeflow.errors import UnknownName, UsageError
from lakeflow.sql.calls_arguments import Arguments
from lakeflow.sql.flink import AiCall, Argument, TableArgument
from lakeflow.sql.relations import literal, name_text
from lakeflow.text.rows import fields_of
from lakeflow.text.splitter import Splitter

USAGE: Final = "TEXT_SPLIT(TABLE t, DESCRIPTOR(text) [, MAP['by', 'markdown', 'size', '800', 'overlap', '80', 'key', 'id']])"
SETTINGS: Final = ("by", "size", "overlap", "language", "key")


@dataclass(frozen=True, slots=True)
class Split:
    """A call: its rows, the column of texts, how they are split, and the names of the columns that tell the texts apart."""

    rows: TableArgument
    column: exp.Identifier
    splitter: Splitter
    key: tuple[str, ...]
    arguments: Arguments
    config: Argument | None


def read_split(text: str, call: AiCall) -> Split:
    """What a call means. Raises UsageError and UnknownName, pointing at the argument."""
    arguments = Arguments(text, call, USAGE)
    slots = arguments.slots(("DATA", "TEXT", "CONFIG"), 2)
    given = slots.get("CONFIG")
    config = dict(arguments.config(given))
    for name in config:
        if name not in SETTINGS:
            raise arguments.unknown(UnknownName("setting of TEXT_SPLIT", name, SETTINGS), given)
    sizes = {name: _whole(arguments, name, config[name], given) for name in ("size", "overlap") if name in config}
    try:
        splitter = Splitter(config.get("by", "recursive").lower(), language=config.get("language"), **sizes)
    except UsageError as error:
        error.message = arguments.at(error.message, given)
        raise
    key = tuple(part.strip() for part in config.get("key", "").split(",") if part.strip())
    return Split(arguments.rows(slots["DATA"]), arguments.descriptor(slots["TEXT"], 1)[0], splitter, key, arguments, given)


def split_text(split: Split, name: str, relation: str, columns: Sequence[str], text: str, key: Sequence[str]) -> str:
    """The SELECT that a call becomes: `name` is the function, `text` and `key` are columns. Raises UsageError for a name that
    is taken."""
    made, splitter = fields_of(split.splitter, keyed=bool(key)), split.splitter
    kept = [column for column in columns if column != text]
    if taken := [column for column in kept if column.lower() in made]:
        split.arguments.fail(f"TEXT_SPLIT: the table has a column {taken[0]!r} already; rename it in TABLE (SELECT ..)")
    language = "NULL" if splitter.language is None else literal(splitter.language)
    given = [name_text(text), literal(splitter.by), str(splitter.size), str(splitter.overlap), language, *map(name_text, key)]
    fields = [f"struct_extract(__{name}, {literal(one)}) AS {name_text(one)}" for one in made]
    inner = f"SELECT *, UNNEST({name}({', '.join(given)})) AS __{name} FROM {relation} AS __rows"
    return f"SELECT {', '.join([*map(name_text, kept), *fields])} FROM ({inner}) AS __split"


def _whole(arguments: Arguments, name: str, said: str, at: Argument | None) -> int:
    if not said.isdecimal():
        arguments.fail(f"TEXT_SPLIT: {name} is {said!r}; valid: a whole number", at)
    return int(said)
