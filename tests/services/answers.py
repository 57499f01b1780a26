"""What the servers of the tests make up as answers: always the same for the same question."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any


def value_of(schema: Mapping[str, Any], draw: random.Random) -> Any:
    """Some value that fits a JSON schema."""
    if "enum" in schema:
        return draw.choice([one for one in schema["enum"] if one is not None])
    kinds = schema["type"]
    match kinds if isinstance(kinds, str) else kinds[0]:
        case "object":
            return {name: value_of(inner, draw) for name, inner in schema["properties"].items()}
        case "array":
            return [value_of(schema["items"], draw) for _ in range(draw.randrange(3))]
        case "integer":
            return draw.randrange(100)
        case "number":
            return round(draw.random(), 2)
        case "boolean":
            return draw.random() < 0.5
        case _:
            dates = {"date": "2026-01-31", "time": "23:59:59", "date-time": "2026-01-31T23:59:59+00:00"}
            return dates.get(schema.get("format", ""), f"word{draw.randrange(1000)}")


def vector_of(text: str, width: int) -> list[float]:
    """As many numbers as are asked for, of the text alone."""
    draw = random.Random(hashlib.sha256(text.encode()).digest())
    return [round(draw.uniform(-1, 1), 7) for _ in range(width)]
