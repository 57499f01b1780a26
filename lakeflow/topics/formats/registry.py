"""The formats by their name in `'value.format' = '..'`. A new one is its own file and a line in FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from lakeflow.errors import UnknownName
from lakeflow.topics.formats.format import Format
from lakeflow.topics.formats.json import open_json

Factory = Callable[[pa.Schema, Mapping[str, str]], Format]

FORMATS: Mapping[str, Factory] = {"json": open_json}


def open_format(name: str, schema: pa.Schema, options: Mapping[str, str]) -> Format:
    """The format `name` for rows of `schema`; `options` are the table's WITH pairs, of which it reads those named `name.*`.

    Raises UnknownName for a format or an option that is not there, DeclarationError for an option's value or a
    column that the format cannot give.
    """
    try:
        factory = FORMATS[name]
    except KeyError:
        raise UnknownName("format", name, FORMATS) from None
    return factory(schema, options)
