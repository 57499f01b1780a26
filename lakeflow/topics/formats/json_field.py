"""Reads one field of JSON values, whatever else they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec


def field_reader(path: Sequence[str]) -> Callable[[bytes], str | None]:
    """Gives the text in the field at `path` of a JSON object: a string's own, else the token; "" where it is null or absent.

    None for what is no well-formed JSON object. Raises msgspec's ValueError for a name that it cannot look for.
    """
    decode = msgspec.json.Decoder(_object(path)).decode

    def read(value: bytes) -> str | None:
        try:
            found: Any = decode(value)
            for _ in path:
                found = found.found
                if not found:
                    return ""
            token = bytes(found)
            return (
                token.decode() if (held := msgspec.json.decode(token)) is not None and not isinstance(held, str) else held or ""
            )
        except msgspec.ValidationError:
            return "" if value.lstrip()[:1] == b"{" else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    return read


def _object(path: Sequence[str]) -> Any:
    """A Struct that holds only the member on the way; all else is read over."""
    kind: Any = msgspec.Raw
    default: Any = msgspec.Raw()
    if len(path) > 1:
        kind, default = _object(path[1:]) | None, None
    return msgspec.defstruct("Routed", [("found", kind, msgspec.field(name=path[0], default=default))], gc=False)
