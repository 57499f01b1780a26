"""Landing JSON, Avro and Protobuf against what nothing can exceed: the client alone, and the decoder alone.

On the real broker of tests/rig, and where that cannot run on librdkafka's embedded one, which the result says.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.check import stored_rows
from benchmarks.client import Read, consume
from benchmarks.encoded import ENCODINGS, JSON, LARGER, Encoding, declaration, registered, values
from benchmarks.harness import Bar, Best, Result, Settings, Spent, in_child, spending, thousands
from benchmarks.one_thread import stages_in_one_thread
from benchmarks.projects import WAREHOUSE
from lakeflow import Project
from lakeflow.landing.open import open_decoder, open_landing, open_registry
from lakeflow.landing.plan import declared_landing
from lakeflow.landing.writer import POLL_RECORDS
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.source import Records
from tests.rig.cache import Missing, is_off
from tests.rig.registry import SchemaRegistry
from tests.rig.rig import Rig

TABLE = "bronze.readings"
PARTITIONS = 20
STAMP = 1_357_000_000_000
AT_ONCE = 50_000

SHARES = {"JSON": 0.30, "Avro": 0.40, "Protobuf": 0.50}
"""Of consuming alone, by CPU, that the whole path reaches at least, for records of 200 bytes."""
GAIN = 1.5
POISONS = (0.0, 0.001, 0.01, 0.1)
POISONED_RECORDS = 100_000
SHARED_RECORDS = 300_000
CONSUMING, DECODING, LANDING, ONE_THREAD = "consuming alone", "decoding alone", "landing", "landing in one thread"
Spending = dict[str, "Took"]
Rows = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Size:
    name: str
    note: int
    records: int


SIZES = (Size("200 B", 0, 2_000_000), Size("1 KB", LARGER, 300_000))


@dataclass(frozen=True, slots=True)
class Took:
    """The best of a path: seconds, and those that the thread which called it was on a processor."""

    spent: Spent
    thread: float


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the records are: `produce` makes a topic of them."""

    name: str
    bootstrap: str
    registry: SchemaRegistry
    produce: Callable[[str, Iterator[bytes]], None]

    def fill(self, encoding: Encoding, size: Size, count: int, poison: float = 0.0) -> Topic:
        topic = f"{encoding.name}-{size.note}-{poison}".lower()
        schema_id = 0
        if encoding.kind is not None:
            schema_id = self.registry.store.register(f"{topic}-value", encoding.kind, registered(encoding))
        sizes: list[int] = []

        def measured() -> Iterator[bytes]:
            for value in values(encoding, schema_id, count, size.note, poison):
                sizes.append(len(value))
                yield value

        self.produce(topic, measured())
        return Topic(encoding, topic, self.bootstrap, self.registry.url, count, sum(sizes), poison)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that is filled, and all that a process must know to read it."""

    encoding: Encoding
    name: str
    bootstrap: str
    registry: str
    records: int
    bytes: int
    poison: float = 0.0

    def project(self, folder: Path) -> Project:
        (folder / "tables").mkdir(parents=True)
        (folder / "tables" / "readings.sql").write_text(declaration(self.encoding, TABLE, self.name))
        kafka = f'[kafka]\n"bootstrap.servers" = "{self.bootstrap}"\n'
        (folder / "lakeflow.toml").write_text(f'{kafka}[registry]\nurl = "{self.registry}"\n')
        return Project.open(folder)


def run(settings: Settings) -> Result:
    """Every format in both sizes, then with broken records, then by several processes."""
    rows: Rows = []
    bars: list[Bar] = []
    with servers() as at:
        for size in SIZES:
            for encoding in ENCODINGS:
                topic = at.fill(encoding, size, settings.count(size.records))
                spent = measured(settings, topic)
                rows += _rows(spent, topic, f"{encoding.name}, {size.name}")
                bars += _bars(spent, topic, size)
        for encoding in ENCODINGS:
            rows += poisoned(settings, at, encoding)
        rows += shared(settings, at)
        name = at.name
    return Result(
        title="Landing JSON, Avro and Protobuf: speed",
        data=(
            f"Readings of weather stations (9 columns, one a struct; 11 leaves) in {PARTITIONS} partitions, uncompressed, on "
            f"{name}; Avro and Protobuf with a registry's wire format. The paths of a topic in one process, in turn; CPU is "
            "that of all its threads, librdkafka's with them. Consuming alone is confluent-kafka with all columns as lists; "
            "decoding alone is lakeflow's decoder over polls that are in memory; landing is from the opened client to the "
            "last commit in a local warehouse, with the settings that a project has by default. The best of "
            f"{settings.rounds} rounds, for each figure by itself."
        ),
        columns=("path", "rows / CPU-s", "MB / CPU-s", "of consuming", "of decoding", "thread, us", "rows / s"),
        rows=tuple(rows),
        bars=tuple(bars),
        notes=NOTES,
    )


NOTES = (
    "In one thread means: the poll, the decoder and Parquet's encoder in turn, in the thread that the command runs in "
    "(librdkafka's own stay).",
    "`thread, us` is CPU a record of the thread that decodes and calls all else, its own reading of the files back included: "
    "on an idle machine no landing is faster than that thread.",
    "With broken records: half of them cut short, half with four bytes of nonsense in the middle; each is written as a dead "
    "letter. `of 0 %` stands in place of decoding.",
    "--share: processes of one consumer group, from the first record that any of them has in hand to the last commit.",
)


@contextmanager
def servers() -> Iterator[Servers]:
    """The real broker, or the embedded one where that cannot run."""
    with ExitStack() as held:
        registry = held.enter_context(SchemaRegistry())
        try:
            if is_off():
                raise Missing("the rig is off")
            kafka = held.enter_context(Rig()).kafka
        except Missing as missing:
            embedded = held.enter_context(EmbeddedBroker(partitions=PARTITIONS))

            def produce_embedded(topic: str, records: Iterator[bytes]) -> None:
                embedded.produce(topic, ((_key(n), value, n % PARTITIONS, STAMP + n) for n, value in enumerate(records)))

            yield Servers(f"librdkafka's embedded broker ({missing})", embedded.bootstrap, registry, produce_embedded)
            return

        def produce(topic: str, records: Iterator[bytes]) -> None:
            kafka.create(topic, PARTITIONS)
            kafka.produce(topic, ((_key(n), value, n % PARTITIONS, STAMP + n) for n, value in enumerate(records)))

        yield Servers("Apache Kafka 4.1.0", kafka.bootstrap, registry, produce)


def _key(number: int) -> bytes:
    return b"%d" % (number % 10_000)


def measured(settings: Settings, topic: Topic) -> Spending:
    """All paths of a topic in one process, so that they have loaded the same, in turn, round by round."""
    return in_child(_paths, topic, settings.place(topic.name), settings.rounds).value


def _paths(topic: Topic, folder: Path, rounds: int) -> Spending:
    paths: dict[str, Callable[[Path], Read]] = {
        CONSUMING: lambda _: _consume(topic),
        DECODING: lambda folder: decode(topic, folder),
        LANDING: lambda folder: land(topic, folder),
        ONE_THREAD: lambda folder: land(topic, folder, threads=False),
    }
    best = {name: Best() for name in paths}
    threads = dict.fromkeys(paths, float("inf"))
    land(topic, folder / "warm")  # what is loaded when it is first used
    for round_ in range(rounds):
        for number, (name, path) in enumerate(paths.items()):
            begun = time.thread_time()
            done = path(folder / f"{round_}-{number}")
            threads[name] = min(threads[name], time.thread_time() - begun)
            assert done.records == topic.records, f"{name}: {done.records} of {topic.records} records"
            best[name].take(done.spent)
    return {name: Took(one.spent, threads[name]) for name, one in best.items()}


def _consume(topic: Topic) -> Read:
    """The garbage collector walks no module that is loaded for the other paths."""
    gc.collect()
    gc.freeze()
    try:
        return consume(topic.bootstrap, topic.name, PARTITIONS, collect=True)
    finally:
        gc.unfreeze()


def poisoned(settings: Settings, at: Servers, encoding: Encoding) -> Rows:
    """The whole path over topics of which a share is broken."""
    count = settings.count(POISONED_RECORDS)
    topics = [at.fill(encoding, Size("", -1, 0), count, poison) for poison in POISONS]
    spent = in_child(_landed, topics, settings.place(f"{encoding.name}-poison"), settings.rounds).value
    rates = [one.rate(count) for one in spent]
    return [
        (
            f"landing {encoding.name}, {topic.poison:.1%} of {count:,} broken",
            thousands(rate),
            f"{rate * topic.bytes / count / 1e6:.0f}",
            "",
            f"{rate / rates[0]:.2f} of 0 %",
            "",
            thousands(one.wall_rate(count)),
        )
        for topic, one, rate in zip(topics, spent, rates, strict=True)
    ]


def _landed(topics: Sequence[Topic], folder: Path, rounds: int) -> list[Spent]:
    land(topics[-1], folder / "warm")
    best = [Best() for _ in topics]
    for round_ in range(rounds):
        for number, topic in enumerate(topics):
            best[number].take(land(topic, folder / f"{round_}-{number}").spent)
    return [one.spent for one in best]


def _rows(spent: Spending, topic: Topic, what: str) -> Rows:
    cpu = {name: one.spent.rate(topic.records) for name, one in spent.items()}
    size = topic.bytes / topic.records

    def row(name: str) -> tuple[str, ...]:
        rate = cpu[name]
        ratios = [f"{rate / cpu[limit]:.2f}" if name in (LANDING, ONE_THREAD) else "" for limit in (CONSUMING, DECODING)]
        wall = thousands(spent[name].spent.wall_rate(topic.records))
        thread = f"{spent[name].thread / topic.records * 1e6:.2f}" if name in (LANDING, ONE_THREAD) else ""
        return f"{name} {what}", thousands(rate), f"{rate * size / 1e6:.0f}", *ratios, thread, wall

    return [row(name) for name in spent]


def _bars(spent: Spending, topic: Topic, size: Size) -> list[Bar]:
    name = f"{topic.encoding.name}, {size.name}"
    share = spent[CONSUMING].spent.cpu / spent[LANDING].spent.cpu
    gain = spent[ONE_THREAD].spent.wall / spent[LANDING].spent.wall
    bars = [Bar(f"landing over one thread, {name}, wall-clock", gain, GAIN, unit=" x")]
    if not size.note:
        bars.insert(0, Bar(f"landing of consuming alone, {name}, CPU", share, SHARES[topic.encoding.name]))
    return bars


def land(topic: Topic, folder: Path, threads: bool = True) -> Read:
    """The landing as `lakeflow land` opens it, to the last commit."""
    project = topic.project(folder)
    spec, lake, commits = project.declared_tables.tables[TABLE], project.lake, project.commits
    with nullcontext() if threads else stages_in_one_thread(), spending() as spent:
        landing, close = open_landing(spec, project.settings, lake, commits)
        counts = landing.run().counts
        close()
    letters = round(counts.read * topic.poison)
    assert (counts.written, counts.dead_lettered) == (counts.read - letters, letters), counts
    stored = stored_rows(folder / WAREHOUSE, TABLE)
    assert stored == counts.written, f"{stored} of {counts.written} rows"
    return Read(spent, counts.read, counts.written)


def decode(topic: Topic, folder: Path) -> Read:
    """The decoder of that landing over all records, polled before."""
    project = topic.project(folder)
    spec = declared_landing(project.declared_tables.tables[TABLE], project.settings)
    with KafkaSource({"bootstrap.servers": topic.bootstrap}, spec.topics, "decode") as source:
        bounds = source.bounds()
        source.assign({place: bound.begin for place, bound in bounds.items()})
        polled: list[Records] = []
        while sum(map(len, polled)) < topic.records:
            polled.append(source.poll(POLL_RECORDS, 1.0))
    rows = 0
    with ExitStack() as held:
        decoder = open_decoder(spec, open_registry(project.settings, held))
        decoder.decode(polled[0])  # the schema is asked for, and opened
        with spending() as spent:
            for records in polled:
                rows += sum(part.rows.num_rows for part in decoder.decode(records).parts)
    return Read(spent, sum(map(len, polled)), rows)


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several processes did: when it had its first record and its last commit, and its CPU seconds."""

    begin: float
    end: float
    cpu: float
    records: int


def shared(settings: Settings, at: Servers) -> Rows:
    """One process of a group over a topic, and two."""
    topic = at.fill(JSON, Size("", -2, 0), settings.count(SHARED_RECORDS))
    rows: Rows = []
    for count in (1, 2):
        rates, walls = [], []
        for round_ in range(settings.rounds):
            shares = _together(topic, settings.place(f"share-{count}-{round_}"), count)
            assert sum(share.records for share in shares) == topic.records, f"{shares} of {topic.records} records"
            rates.append(topic.records / sum(share.cpu for share in shares))
            begins = [share.begin for share in shares if share.records]
            walls.append(topic.records / (max(share.end for share in shares) - min(begins)))
        name = f"landing JSON, {count} --share process{'es' * (count > 1)}"
        size = topic.bytes / topic.records
        rows.append((name, thousands(max(rates)), f"{max(rates) * size / 1e6:.0f}", "", "", "", thousands(max(walls))))
    return rows


def _together(topic: Topic, folder: Path, count: int) -> list[Share]:
    project = topic.project(folder)
    project.lake.ensure(declared_landing(project.declared_tables.tables[TABLE], project.settings).declared)
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        return [done.result() for done in [pool.submit(share, folder) for _ in range(count)]]


def share(folder: Path) -> Share:
    """As `lakeflow land --share`."""
    project = Project.open(folder)
    spec, lake, commits = project.declared_tables.tables[TABLE], project.lake, project.commits
    times: list[float] = []

    def note(*_: object) -> None:
        times.append(time.monotonic())

    with spending() as spent:
        landing, close = open_landing(spec, project.settings, lake, commits, shared=True, on_progress=note, on_commit=note)
        counts = landing.run().counts
        close()
    return Share(times[0] if times else 0.0, times[-1] if times else 0.0, spent.cpu, counts.read)
