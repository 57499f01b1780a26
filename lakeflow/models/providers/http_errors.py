"""What the headers and the body of a failed request say, where services do not differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

MOST_SHOWN = 300


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, of the first of these headers that can be read; None where there is none.

    Sources: RFC 9110, section 10.2.3; the `x-amz-retry-after` of AWS and the `retry-after-ms` of Azure are in milliseconds.
    """
    for name, read in _READERS:
        found = read(headers[name]) if name in headers else None
        if found is not None:
            return max(0.0, found)
    return None


def fields_of(body: bytes) -> Mapping[str, Any]:
    """The object of JSON in a body, or an empty one."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def shown(text: str) -> str:
    """In one line, cut to MOST_SHOWN characters."""
    return " ".join(text.split())[:MOST_SHOWN]


def said(value: object, body: bytes) -> str:
    """What a service gave as reason: `value` where that is a text, else the body as it came."""
    text = value if isinstance(value, str) and value else body.decode("utf-8", "replace")
    return shown(text) or "no reason given"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _milliseconds(text: str) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000.0


def _date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None


_READERS: tuple[tuple[str, Callable[[str], float | None]], ...] = (
    ("x-amz-retry-after", _milliseconds),
    ("retry-after-ms", _milliseconds),
    ("retry-after", _number),
    ("retry-after", _date),
)
