"""The arguments of a call by their slots, positional or named, and what they may be. Pure; errors point at the argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from sqlglot import exp

from lakeflow.errors import UnknownName, UsageError, did_you_mean
from lakeflow.sql.flink import AiCall, Argument, Descriptor, ModelArgument, TableArgument
from lakeflow.sql.tokens import pointed


class Arguments:
    """The arguments of one call, to be taken out by slot."""

    def __init__(self, text: str, call: AiCall, usage: str) -> None:
        self.text = text
        self.call = call
        self.usage = usage
        self.function = str(call.this)

    @property
    def all(self) -> Sequence[Argument]:
        """Every argument, in order."""
        return self.call.expressions

    def slots(self, names: Sequence[str], needed: int) -> Mapping[str, Argument]:
        """The arguments by slot, the first `needed` of which must be there.

        Raises UsageError for one too many, one that is missing, one given twice and a name that is none.
        """
        found: dict[str, Argument] = {}
        for place, argument in enumerate(self.all):
            name = argument.args.get("name")
            if name is None and place >= len(names):
                self.fail(f"{self.function} takes {len(names)} arguments at the most: {self.usage}", argument)
            if name is None and any(one.args.get("name") for one in self.all[:place]):
                self.fail(f"{self.function}: an argument without a name follows one with a name", argument)
            slot = names[place] if name is None else name
            if slot not in names:
                self.fail(f"{self.function} has no argument {slot}{did_you_mean(slot, names)}", argument)
            if slot in found:
                self.fail(f"{self.function}: the argument {slot} is given twice", argument)
            found[slot] = argument
        missing = [name for name in names[:needed] if name not in found]
        if missing:
            self.fail(f"{self.function} needs {', '.join(missing)}: {self.usage}")
        return found

    def fail(self, message: str, node: exp.Expr | None = None, *, next_step: str | None = None) -> NoReturn:
        """Raise the error that points at `node`, or at the call."""
        raise self.wrong(message, node, next_step=next_step)

    def wrong(self, message: str, node: exp.Expr | None = None, *, next_step: str | None = None) -> UsageError:
        """The error that points at `node`, or at the call."""
        return UsageError(self.at(message, node), next_step=next_step)

    def unknown(self, error: UnknownName, node: exp.Expr | None = None) -> UnknownName:
        """The same error, pointing at `node`."""
        error.message = self.at(error.message, node)
        return error

    def at(self, message: str, node: exp.Expr | None = None) -> str:
        """The message, pointing at `node`, or at the call."""
        place = node.meta if node is not None and "start" in node.meta else self.call.meta
        return pointed(message, self.text, place["start"], place["end"] + 1)

    def rows(self, argument: Argument) -> TableArgument:
        """TABLE t, TABLE (SELECT ..) or a SELECT in parentheses."""
        value = argument.this
        if isinstance(value, TableArgument):
            return value
        if isinstance(value, exp.Subquery):
            return TableArgument(this=value)
        raise self.wrong(f"{self.function}: expected TABLE name or TABLE (SELECT ..): {self.usage}", argument)

    def value(self, argument: Argument) -> exp.Expr:
        """An expression."""
        if isinstance(argument.this, TableArgument | ModelArgument | Descriptor):
            self.fail(f"{self.function}: expected a value; a query that gives one stands in parentheses: (SELECT ..)", argument)
        value: exp.Expr = argument.this
        return value

    def model(self, argument: Argument) -> str:
        """MODEL m or 'm'."""
        value = argument.this
        if isinstance(value, ModelArgument):
            return str(value.this)
        if isinstance(value, exp.Literal) and value.is_string:
            return str(value.this)
        raise self.wrong(f"{self.function}: expected MODEL name or 'name': {self.usage}", argument)

    def descriptor(self, argument: Argument, most: int | None = None) -> Sequence[exp.Identifier]:
        """DESCRIPTOR(a, b), or a single column as 'a'."""
        value = argument.this
        if isinstance(value, exp.Literal) and value.is_string:
            return [exp.Identifier(this=str(value.this), quoted=True)]
        if not isinstance(value, Descriptor) or not all(isinstance(one, exp.Identifier) for one in value.expressions):
            self.fail(f"{self.function}: expected DESCRIPTOR(column, ..): {self.usage}", argument)
        columns: list[exp.Identifier] = value.expressions
        if most is not None and len(columns) > most:
            self.fail(f"{self.function}: DESCRIPTOR names {len(columns)} columns; valid: {most}", argument)
        return columns

    def whole(self, argument: Argument) -> int:
        """A whole number from 1 on, written out."""
        value = argument.this
        if isinstance(value, exp.Literal) and not value.is_string and str(value.this).isdigit() and int(value.this) > 0:
            return int(value.this)
        raise self.wrong(f"{self.function}: expected a whole number from 1 on, written out", argument)

    def config(self, argument: Argument | None) -> Mapping[str, str]:
        """MAP['key', 'value', ..] of constants; keys in lower case with underscores. Empty without an argument."""
        if argument is None:
            return {}
        pairs = _pairs(argument.this)
        if pairs is None:
            self.fail(f"{self.function}: expected MAP['key', 'value', ..]: {self.usage}", argument)
        config: dict[str, str] = {}
        for key, value in pairs:
            if not isinstance(key, exp.Literal) or not isinstance(value, exp.Literal | exp.Boolean):
                self.fail(f"{self.function}: keys and values of MAP[..] are written out, as texts", argument)
            name = str(key.this).lower().replace("-", "_")
            if name in config:
                self.fail(f"{self.function}: {str(key.this)!r} is there twice in MAP[..]", argument)
            config[name] = str(value.this).lower() if isinstance(value, exp.Boolean) else str(value.this)
        return config


def is_config(argument: Argument) -> bool:
    """Whether an argument without a name is a MAP."""
    return _pairs(argument.this) is not None


def _pairs(value: exp.Expr) -> list[tuple[exp.Expr, exp.Expr]] | None:
    if isinstance(value, exp.Map):
        return list(zip(value.args["keys"].expressions, value.args["values"].expressions, strict=True))
    if isinstance(value, exp.ToMap):
        return [(pair.this, pair.expression) for pair in value.this.expressions]
    return None
