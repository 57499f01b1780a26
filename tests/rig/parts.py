"""What can be fetched, each part by its name. Standard library only: it runs before anything is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.rig import cache, duck, minio, postgres
from tests.rig.cache import Missing, fetch_jars


@dataclass(frozen=True, slots=True)
class Part:
    """`lane`: parts of one lane are fetched one after another, lanes side by side. Maven's repository takes one writer."""

    fetch: Callable[[], None]
    lane: str
    for_tests: bool = True


PARTS: Mapping[str, Part] = {
    "storage": Part(minio.fetch, "build"),
    "postgres": Part(postgres.fetch, "system"),
    "duckdb": Part(duck.fetch, "python"),
    "kafka": Part(partial(fetch_jars, "kafka"), "maven"),
    "catalog": Part(partial(fetch_jars, "catalog"), "maven"),
    "spark": Part(partial(fetch_jars, "spark"), "maven"),
    "connect": Part(partial(fetch_jars, "connect"), "maven", for_tests=False),
}
JARS = ("kafka", "catalog", "spark", "connect")
FOR_TESTS = tuple(name for name, part in PARTS.items() if part.for_tests)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a part: seconds that it took, and what is missing where it could not be had."""

    name: str
    seconds: float
    missing: str | None


def fetch(names: Iterable[str] = FOR_TESTS) -> list[Fetched]:
    """Fills the cache with the parts of these names that are not there yet."""
    wanted = list(names)
    lanes = sorted({PARTS[name].lane for name in wanted})
    with cache.locked(cache.FETCHING), ThreadPoolExecutor(len(lanes)) as pool:
        done = pool.map(lambda lane: [_fetched(name) for name in wanted if PARTS[name].lane == lane], lanes)
        return [one for lane in done for one in lane]


def _fetched(name: str) -> Fetched:
    begin = time.monotonic()
    try:
        PARTS[name].fetch()
    except Missing as error:
        return Fetched(name, time.monotonic() - begin, str(error))
    return Fetched(name, time.monotonic() - begin, None)


def record() -> None:
    """Takes what is in the cache for right: only after a version was changed on purpose."""
    for name in JARS:
        if cache.jars_folder(name).exists():
            cache.record(name, cache.digests(cache.jars_folder(name)))
    cache.record(minio.NAME, minio.sources())
