"""A landing that follows goes on after what passes, and ends at what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from lakeflow.errors import Fenced, LakeflowError, SourceUnavailable
from lakeflow.lake.catalog import Lake
from lakeflow.landing.counts import Landed
from lakeflow.landing.cut import Limits
from lakeflow.landing.follow import keep_landing
from lakeflow.landing.writer import Landing
from lakeflow.retry import Backoff
from lakeflow.testing.source import ListSource
from lakeflow.topics.source import Records
from tests.unit.landing.test_writer import Site, goods

AWAY = SourceUnavailable("the brokers do not answer")


class Failing(ListSource):
    """Calls `ended` in place of giving nothing."""

    ended: Callable[[], None] = staticmethod(lambda: None)

    def poll(self, limit: int, timeout: float) -> Records:
        records = super().poll(limit, timeout)
        if len(records) == 0:
            self.ended()
        return records


@dataclass
class Scene:
    """Landings of one topic, opened one after the other; each finds `rows` new rows and ends with its error, or, of None, is
    the last.
    """

    site: Site
    errors: list[LakeflowError | None]
    rows: int = 0
    sources: list[Failing] = field(default_factory=list)
    landed: list[Landed] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    stopped: bool = False
    shared: bool = False

    def open(self) -> tuple[Landing, Callable[[], None]]:
        self.site.add(*goods(*[len(self.sources)] * self.rows))
        source = Failing(self.site.partitions)
        error = self.errors[len(self.sources)]
        self.sources.append(source)

        def ended() -> None:
            self.stopped = error is None
            if error is not None:
                raise error

        source.ended = ended
        return self.site.landing(source), source.close

    def keep(self, attempts: int) -> None:
        keep_landing(
            "bronze.flights",
            self.open,
            follow=True,
            shared=self.shared,
            stop=lambda: self.stopped,
            told=self.landed.append,
            sleep=self.waits.append,
            backoff=Backoff(attempts=attempts, base=1.0, cap=4.0),
        )


@pytest.fixture
def site(lake: Lake) -> Site:
    return Site(lake, limits=Limits(rows=1, bytes=1 << 20, seconds=60.0))


def test_after_a_transient_error_the_landing_goes_on_from_the_table(site: Site) -> None:
    scene = Scene(site, [AWAY, AWAY, None], rows=2)
    scene.keep(attempts=3)
    assert site.ids() == [0, 0, 1, 1, 2, 2]
    assert [landed.counts.read for landed in scene.landed] == [2, 2, 2]
    assert [source.closed for source in scene.sources] == [True, True, True]
    assert len(scene.waits) == 2


def test_it_is_given_up_after_as_many_errors_without_a_commit(site: Site) -> None:
    scene = Scene(site, [AWAY] * 5)
    with pytest.raises(SourceUnavailable):
        scene.keep(attempts=3)
    assert (len(scene.sources), len(scene.waits)) == (3, 2)


def test_a_commit_starts_the_count_again(site: Site) -> None:
    scene = Scene(site, [AWAY] * 5 + [None], rows=1)
    scene.keep(attempts=2)
    assert site.ids() == [0, 1, 2, 3, 4, 5]


def test_a_terminal_error_ends_it_at_once(site: Site) -> None:
    scene = Scene(site, [Fenced("another landing"), None], rows=1)
    with pytest.raises(Fenced):
        scene.keep(attempts=3)
    assert (len(scene.sources), scene.waits, len(scene.landed)) == (1, [], 1)


def test_a_stop_while_it_waits_is_heeded(site: Site) -> None:
    scene = Scene(site, [AWAY, None])

    def stop_meanwhile(seconds: float) -> None:
        scene.stopped = True

    keep_landing("t", scene.open, follow=True, stop=lambda: scene.stopped, told=scene.landed.append, sleep=stop_meanwhile)
    assert len(scene.sources) == 1
