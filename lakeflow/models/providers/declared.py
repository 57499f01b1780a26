"""Readers of options and columns that the providers of deployed endpoints share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.spec import ModelSpec


def address(spec: ModelSpec, name: str, default: str | None = None) -> str:
    """An http(s) address without user, query and closing slash. Raises DeclarationError."""
    written = (spec.options.get(name, "").strip() or default or "").rstrip("/")
    if not written:
        raise DeclarationError(
            f"{spec.label}: option '{name}' is missing, which provider {spec.provider!r} needs",
            next_step=f"add '{name}' = 'https://..' to its WITH (..)",
        )
    if not _is_address(written):
        raise DeclarationError(
            f"{spec.label}: option '{name}' is no address; valid: http(s)://host[:port][/path], without user and query"
        )
    return written


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_host = options.is_host(parts.hostname) and parts.port != 0
    except ValueError:  # a port or a bracket that is none
        return False
    return parts.scheme in ("http", "https") and has_host and not (parts.username or parts.query or parts.fragment)


def header_text(spec: ModelSpec, name: str) -> str:
    """A text that goes into a header; empty where nothing is said. Raises DeclarationError, which does not show it."""
    text = spec.options.get(name, "").strip()
    if not text.isascii() or (text and not text.isprintable()):
        raise DeclarationError(f"{spec.label}: the text of '{name}' has characters that no header takes")
    return text


def json_object(spec: ModelSpec, name: str) -> dict[str, Any]:
    """An option that holds an object of JSON; an empty one where nothing is said. Raises DeclarationError."""
    text = spec.options.get(name, "{}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DeclarationError(f"""{spec.label}: option '{name}' is {text!r}; valid: an object of JSON, as '{{"top_k": 50}}'""")
    return value


def require_vector(spec: ModelSpec, columns: Sequence[pa.Field]) -> None:
    """Raises DeclarationError where OUTPUT is not the one column of vectors that task embedding fills."""
    if len(columns) != 1 or not is_vector(columns[0].type):
        shown = ", ".join(f"{one.name} {one.type}" for one in columns)
        raise DeclarationError(f"{spec.label}: OUTPUT of task 'embedding' is one column ARRAY<FLOAT>, declared: {shown}")


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column holds lists of floats."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))
