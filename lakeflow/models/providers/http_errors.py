"""What the status, the headers and the body of a failed request say, where services do not differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from lakeflow.models.remote.dialect import ErrorKind

MOST_SHOWN = 300

_BY_STATUS = {
    401: ErrorKind.UNAUTHORIZED,
    403: ErrorKind.UNAUTHORIZED,
    404: ErrorKind.MISUSED,
    405: ErrorKind.MISUSED,
    408: ErrorKind.TIMEOUT,
    413: ErrorKind.TOO_LARGE,
    429: ErrorKind.RATE_LIMITED,
}
_NONE: Mapping[int, ErrorKind] = {}


def kind_of(status: int, own: Mapping[int, ErrorKind] = _NONE) -> ErrorKind:
    """What a status means where nothing else tells; `own` is what a service alone means. Source: RFC 9110, section 15."""
    kind = own.get(status) or _BY_STATUS.get(status)
    if kind is not None:
        return kind
    if status >= 500:
        return ErrorKind.UNAVAILABLE
    return ErrorKind.REFUSED if status >= 400 else ErrorKind.MISUSED


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
    answer = _json(body)
    return answer if isinstance(answer, dict) else {}


def error_of(body: bytes) -> Mapping[Any, Any] | None:
    """The field `error` of a body, also of the first in a list; a text there is its `message`. None where there is none."""
    match _json(body):
        case {"error": {**error}} | [{"error": {**error}}, *_]:
            return error
        case {"error": str(message)}:
            return {"message": message}
        case _:
            return None


def shown(text: str) -> str:
    """In one line, cut to MOST_SHOWN characters."""
    return " ".join(text.split())[:MOST_SHOWN]


def said(value: object, body: bytes) -> str:
    """What a service gave as reason: `value` where that is a text, else the body as it came."""
    text = value if isinstance(value, str) and value else body.decode("utf-8", "replace")
    return shown(text) or "no reason given"


def number(text: str) -> float | None:
    """A finite number, None for anything else."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _milliseconds(text: str) -> float | None:
    found = number(text)
    return None if found is None else found / 1000.0


def _date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None


_READERS: tuple[tuple[str, Callable[[str], float | None]], ...] = (
    ("x-amz-retry-after", _milliseconds),
    ("retry-after-ms", _milliseconds),
    ("retry-after", number),
    ("retry-after", _date),
)
