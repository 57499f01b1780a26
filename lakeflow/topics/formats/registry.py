"""The formats by their name in `'value.format' = '..'` and `'key.format'`. A new one is its own file and a line in FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lakeflow.errors import UnknownName
from lakeflow.topics.formats.format import Format, Opening
from lakeflow.topics.formats.json import open_json

Factory = Callable[[Opening], Format]

FORMATS: Mapping[str, Factory] = {"json": open_json}


def open_format(name: str, opening: Opening) -> Format:
    """The format `name`.

    Raises UnknownName for a format or an option that is not there, DeclarationError for an option's value or a
    column that the format cannot give, ConfigError where it needs a schema registry and there is none.
    """
    try:
        factory = FORMATS[name]
    except KeyError:
        raise UnknownName("format", name, FORMATS) from None
    return factory(opening)
