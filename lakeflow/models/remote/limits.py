"""When a service may be asked next: pure decisions over times that are passed in, in seconds of one clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

CUT = 0.85
"""What is left of the concurrency after a refusal; gentler than a half, since all that it loses is speed."""
BELOW = 0.95
"""The share of the rate that a service was found to answer at which it is asked from then on."""
LEAST_BETWEEN_CUTS = 0.5
CATCH_UP = 0.05


@dataclass(slots=True)
class Concurrency:
    """How many operations may be under way: one more for each round of answers, a share fewer for a round with a refusal.

    Source: additive increase, multiplicative decrease; Chiu and Jain, "Analysis of the increase and decrease algorithms
    for congestion avoidance in computer networks", 1989. What was sent before a cut has no say after it.
    """

    most: int
    limit: float = 0.0
    cut_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.limit = self.limit or float(self.most)

    def answered(self) -> None:
        self.limit = min(float(self.most), self.limit + 1.0 / self.limit)

    def refused(self, sent_at: float, now: float) -> None:
        if sent_at >= self.cut_at:
            self.limit = max(1.0, self.limit * CUT)
            self.cut_at = now


@dataclass(slots=True)
class LearnedRate:
    """Requests a second that a service was found to take; None until it first refused one.

    Refusals come of bursts as much as of the rate, so from the first on requests are spread evenly. It begins with as many
    a second as are under way, and doubles each second until the service refuses again; from then on it grows by a twentieth
    a second, and by a tenth where it was not refused for long. A refusal sets it a little under what was answered lately,
    to the half at the least. Source of the idea: additive increase, multiplicative decrease, as in `Concurrency`.
    """

    start: float = 0.0
    cut_at: float = float("-inf")
    searching: bool = True
    _due: float = float("-inf")
    _answered: deque[float] = field(default_factory=lambda: deque(maxlen=50))

    def rate(self, now: float) -> float | None:
        if not self.start:
            return None
        since = now - self.cut_at
        if self.searching:
            return float(self.start * 2.0 ** min(since, 30.0))
        return float(self.start * (1.0 + 0.05 * since if since < 10.0 else 1.5 * 1.1 ** min(since - 10.0, 200.0)))

    def wait(self, now: float) -> float:
        """Seconds before the next request may go, if the rate stays as it is."""
        return 0.0 if self.rate(now) is None else max(0.0, self._due - now)

    def sent(self, now: float) -> None:
        """What comes late, since the machine is busy, is caught up with for `CATCH_UP` seconds."""
        rate = self.rate(now)
        if rate is not None:
            self._due = max(self._due, now - CATCH_UP) + 1.0 / rate

    def answered(self, now: float) -> None:
        self._answered.append(now)

    def refused(self, sent_at: float, now: float, under_way: int) -> None:
        """What was sent before the last cut, or came with it, has no say."""
        if sent_at < self.cut_at or now - self.cut_at < LEAST_BETWEEN_CUTS:
            return
        rate = self.rate(now)
        self.searching = rate is None
        self.start = max(0.1, float(under_way) if rate is None else max(self._measured(now), rate / 2.0) * BELOW)
        self.cut_at = now

    def _measured(self, now: float) -> float:
        """Answers a second, over the last fifty or the last ten seconds."""
        lately = [at for at in self._answered if now - at <= 10.0]
        return len(lately) / max(now - lately[0], 0.05) if len(lately) >= 5 else len(lately) / 10.0


@dataclass(slots=True)
class Pace:
    """An amount a minute, spread evenly; up to a second's worth may come at once.

    Source: the generic cell rate algorithm, ITU-T I.371. More than a second's worth is let through, and waited for after.
    """

    a_minute: float
    due: float = float("-inf")

    def take(self, amount: float, now: float) -> float:
        """Seconds to wait before `amount` may go; it is taken."""
        start = max(self.due, now)
        self.due = start + amount * 60.0 / self.a_minute
        return max(0.0, start - now - 1.0)

    def correct(self, amount: float) -> None:
        """`amount` more was used than had been taken; less, where negative."""
        self.due += amount * 60.0 / self.a_minute


@dataclass(slots=True)
class Breaker:
    """Stops asking a service that gave `failures` failures in a row; after `pause` seconds one request tries it again."""

    failures: int
    pause: float
    in_a_row: int = 0
    opened_until: float = float("-inf")

    @property
    def is_open(self) -> bool:
        return self.in_a_row >= self.failures

    def wait(self, now: float) -> float:
        """Seconds to wait before asking; 0 lets this caller ask, and where it is open this one alone."""
        if not self.is_open:
            return 0.0
        if now < self.opened_until:
            return self.opened_until - now
        self.opened_until = now + self.pause
        return 0.0

    def failed(self, now: float) -> None:
        self.in_a_row += 1
        if self.in_a_row == self.failures:
            self.opened_until = now + self.pause

    def answered(self) -> None:
        self.in_a_row = 0
