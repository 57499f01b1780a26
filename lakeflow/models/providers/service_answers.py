"""What the answers of several services hold alike: counts of tokens, times, and what is missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from lakeflow.errors import ModelError
from lakeflow.models.providers.http_errors import MOST_SHOWN


def broken(place: str, answer: object) -> ModelError:
    """For an answer without what has to be there."""
    return ModelError(f"the answer has no {place}: {json.dumps(answer, ensure_ascii=False)[:MOST_SHOWN]}")


def count(value: object) -> int:
    """A number of tokens; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def seconds_until(text: str) -> float | None:
    """Seconds from now to a time as RFC 3339 writes it, 0 for one that is past; None for anything else."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
