"""A JSON schema in the subset of OpenAPI that Gemini takes.

Source: Google's reference of the Gemini API, "Schema". It has one type a value with `nullable` beside it, no
additionalProperties, two formats of strings (enum and date-time), and an order of properties of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_IN_WORDS = {"date": "a date as 2026-01-31", "time": "a time of day as 23:59:59"}


def gemini_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same shape, as Gemini is told it."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    [kind] = [one for one in kinds if one != "null"]
    made: dict[str, Any] = {"type": kind.upper()}
    if "null" in kinds:
        made["nullable"] = True
    match kind:
        case "object":
            made["properties"] = {name: gemini_schema(inner) for name, inner in schema["properties"].items()}
            made["required"] = made["propertyOrdering"] = list(schema["required"])
        case "array":
            made["items"] = gemini_schema(schema["items"])
        case "string":
            made |= _string(schema)
        case _:
            pass
    return made


def _string(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "enum" in schema:
        return {"format": "enum", "enum": [one for one in schema["enum"] if one is not None]}
    match schema.get("format"):
        case "date-time":
            return {"format": "date-time"}
        case "date" | "time" as told:
            return {"description": _IN_WORDS[told]}
        case _:
            return {}
