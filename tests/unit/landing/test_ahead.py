"""A landing whose records are polled ahead: the same commits, and each record once wherever its source dies."""

from __future__ import annotations

from typing import cast

import pytest

from lakeflow.lake.catalog import Lake
from lakeflow.landing.cut import Limits
from lakeflow.testing.source import Crash, ListSource
from lakeflow.topics.prefetch import Prefetching
from tests.unit.landing.test_writer import Site, goods, strays


@pytest.fixture
def site(lake: Lake) -> Site:
    return Site(lake, limits=Limits(3, 1 << 20, 60.0))


def ahead(source: ListSource) -> ListSource:
    """Polled ahead by four records; it stands for one, as whoever reads it cannot tell."""
    return cast(ListSource, Prefetching(source, records=4))


def reads(site: Site) -> list[int]:
    return [int(summary["lakeflow.records-read"]) for summary in site.summaries()]


def test_batches_hold_no_more_than_they_may(site: Site) -> None:
    site.add(*goods(*range(11)))
    source = ahead(site.source())
    site.land(source)
    source.close()
    assert (site.ids(), reads(site)) == (list(range(11)), [3, 3, 3, 2])


@pytest.mark.parametrize("crash_after", range(1, 11))
def test_a_source_that_dies_ahead_loses_and_repeats_nothing(site: Site, crash_after: int) -> None:
    site.add(*goods(*range(11)))
    source = ahead(site.source(crash_after=crash_after))
    with pytest.raises(Crash):
        site.land(source)
    source.close()
    assert (site.ids(), strays(site)) == (list(range(crash_after - crash_after % 3)), set())
    site.land()
    assert site.ids() == list(range(11))


def test_what_was_polled_behind_the_end_is_read_by_the_next_landing(site: Site) -> None:
    site.add(*goods(*range(4)))
    source = site.source()
    polled = ahead(source)
    landing = site.landing(polled)
    site.add(*goods(*range(4, 20)))
    landing.run()
    polled.close()
    before = len(site.ids())
    assert before < 20
    site.land()
    assert site.ids() == list(range(20))
