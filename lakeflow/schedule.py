"""When a job is to run: a cron expression in a time zone. Pure; the moment is passed in.

Expressions mean what Debian's cron makes of them, daylight saving included (by cronsim, which follows it; `man 5 crontab`): a
job at a fixed time that the clocks skip runs right after the gap, one whose time comes twice runs at the first. A job whose
minutes or hours begin with `*` runs by elapsed time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from lakeflow.declare import Origin
from lakeflow.errors import DeclarationError, did_you_mean

NAMED: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS: Final = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L for the last day, LW for the last weekday",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7 (0 and 7 are Sunday), or SUN to SAT, 5L for the last Friday, MON#1 for the first Monday",
}
LONGEST: Final = 200
"""Characters of an expression: a list of lists that is longer means nothing that a shorter one does not."""
_DURATION = re.compile(r"([0-9]{1,9})\s*([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Cron:
    """The moments of a cron expression of five fields in an IANA time zone. Made by `cron_of`, which checks both."""

    expression: str
    timezone: str = "UTC"

    def after(self, moment: datetime) -> datetime:
        """The first moment later than an aware one, in UTC."""
        zone = ZoneInfo(self.timezone)
        for found in CronSim(NAMED.get(self.expression, self.expression), moment.astimezone(zone)):
            # Within an hour that comes twice the library counts from the first of them.
            if (at := found.astimezone(UTC)) > moment:
                return at
        raise AssertionError("an expression that comes to no moment is refused when it is declared")

    def __str__(self) -> str:
        return self.expression if self.timezone == "UTC" else f"{self.expression} {self.timezone}"


def cron_of(expression: str, timezone: str, where: str, origin: Origin) -> Cron:
    """The schedule of `where` (such as "schedule of job 'a'"). Raises DeclarationError, which names the field that is wrong."""
    if not _is_zone(timezone):
        near = did_you_mean(timezone, available_timezones(), most=0) if timezone else ""
        raise DeclarationError(
            f"{origin}: time zone of the {where} is {timezone!r}{near.split(' valid:')[0]} valid: a name of the IANA database, "
            "such as 'UTC' or 'Europe/Berlin'"
        )
    text = " ".join(expression.split())
    plain = NAMED.get(text, text)
    if len(fields := plain.split()) != len(FIELDS) or len(plain) > LONGEST:
        raise DeclarationError(
            f"{origin}: {where} is {expression[:LONGEST]!r}; valid: five fields, {', '.join(FIELDS)}, such as '0 6 * * *', "
            f"or one of {', '.join(NAMED)}"
        )
    try:
        next(CronSim(plain, datetime(2001, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise DeclarationError(f"{origin}: {where} is {expression!r}: {_field_in(str(error), fields)}") from error
    except StopIteration as error:
        raise DeclarationError(f"{origin}: {where} is {expression!r}, which comes to no moment within 50 years") from error
    return Cron(text, timezone)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _field_in(error: str, fields: list[str]) -> str:
    """Which field the library means, what stands there, and what may."""
    for (name, valid), text in zip(FIELDS.items(), fields, strict=True):
        if error.endswith(name) and name == "day-of-month" and text in map(str, range(1, 32)):
            return f"the month {fields[3]!r} has no day {text}"
        if error.endswith(name):
            return f"the {name} is {text!r}; valid: {valid}, *, a list a,b, a range a-b, a step */n"
    return error


def duration_of(text: str, where: str, origin: Origin) -> timedelta:
    """The time that a text such as 10m means. Raises DeclarationError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise DeclarationError(f"{origin}: {where} is {text!r}; valid: a whole number and s, m, h or d, such as '10m' or '1h'")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
