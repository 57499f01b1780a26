"""Functions of lakeflow's own that SQL may call and that ask nobody: splitters of texts, scalers, encoders.

A family of them is a file of this folder with a tuple FUNCTIONS, and a line in FAMILIES.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import pyarrow as pa

from lakeflow.sql.compiled import Function, PureCall

FAMILIES: Final[tuple[str, ...]] = (
    "lakeflow.sql.pure.chunks",
    "lakeflow.sql.pure.encoders",
    "lakeflow.sql.pure.scalers",
    "lakeflow.sql.pure.splitters",
)
"""The modules of this folder that hold functions."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A function for arguments of certain types: the types that they are cast to, one for each, and that of the result."""

    parameters: tuple[pa.DataType, ...]
    result: pa.DataType


@dataclass(frozen=True, slots=True)
class PureFunction:
    """A function by its name in capitals. `usage` is its form as messages show it: `ML_NGRAMS(tokens [, n])`.

    `bind` gets the types of the arguments of one call, null for a NULL, and raises UsageError where they cannot be meant;
    the message needs no name and no place, which are put before it. `call` gets the arguments of some rows as the columns of
    a batch, of the types that `bind` gave, and answers with a value for each row, of the result's type. It is called from
    several threads, and what it raises is of the tree.
    """

    name: str
    usage: str
    bind: Callable[[tuple[pa.DataType, ...]], Bound]
    call: Callable[[pa.RecordBatch], pa.Array]


@cache
def pure_functions() -> Mapping[str, PureFunction]:
    """Every function by its name in capitals."""
    return {one.name: one for family in FAMILIES for one in importlib.import_module(family).FUNCTIONS}


def pure_function(call: PureCall) -> Function:
    """What stands behind a call of one of them."""
    return Function(call.function, call.parameters, call.result, pure_functions()[call.name].call)
