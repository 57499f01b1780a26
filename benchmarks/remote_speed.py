"""Asking a remote model: how near to what latency and concurrency allow, what a limited service refuses, what faults lose."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.harness import Bar, Result, Settings, in_child
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from tests.services.carried import text_spec
from tests.services.openai import KEY

ROWS = 10_000
LATENCY = 0.2
AT_ONCE = 100
A_SECOND = 200.0
REPOSITORY = Path(__file__).parents[1]
SERVE = """
import json, sys
from tests.services.http import Server
from tests.services.openai import Faults, OpenAI

told = json.loads(sys.argv[1])
service = OpenAI(latency=told["latency"], a_second=told.get("a_second"), faults=Faults(**told.get("faults", {})))
with Server(service) as server:
    print(server.url, flush=True)
    sys.stdin.readline()
    print(json.dumps({str(status): count for status, count in service.statuses.items()}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a run: seconds by the clock and of the processor, and replies of the service by status."""

    rows: int
    wall: float
    cpu: float
    statuses: Mapping[str, int]

    @property
    def rate(self) -> float:
        return self.rows / self.wall

    @property
    def refused(self) -> float:
        return self.statuses.get("429", 0) / sum(self.statuses.values())


def run(settings: Settings) -> Result:
    """Each service in a process of its own, and who asks it in another."""
    rows = settings.count(ROWS)
    plain = _best(rows, settings, {"latency": LATENCY})
    bare = in_child(bare_sockets, rows, {"latency": LATENCY}).value
    limited = _best(rows, settings, {"latency": LATENCY, "a_second": A_SECOND})
    shares = {"error": 0.01, "slow": 0.01, "broken": 0.01, "cut": 0.001, "slow_seconds": 3600}
    faulty = in_child(asked, settings.place("faulty"), rows, {"latency": LATENCY, "faults": shares}, "2 s").value
    ideal = AT_ONCE / LATENCY
    return Result(
        title="Remote models: speed beside what the service allows",
        data=(
            f"{rows:,} distinct rows, one a request, {AT_ONCE} at once, answers kept, a service on this machine that takes "
            f"{LATENCY * 1000:.0f} ms: {ideal:.0f} rows/s at the best. Limited: 429 past {A_SECOND:.0f} requests a second. "
            "Faulty: 1 % errors of status 500, 1 % hangs (given up after 2 s), 1 % broken JSON, 0.1 % cut connections."
        ),
        columns=("service", "rows / s", "of the possible", "CPU-ms a request", "replies by status"),
        rows=(
            _row("plain, by bare sockets", bare, ideal),
            _row("plain", plain, ideal),
            _row("limited", limited, A_SECOND),
            _row("faulty", faulty, ideal),
        ),
        bars=(
            Bar("plain: share of the ideal rate", plain.rate / ideal, 0.8),
            Bar("plain: share of bare sockets", plain.rate / bare.rate, 0.8),
            Bar("limited: share of its rate", limited.rate / A_SECOND, 0.9),
            Bar("limited: share of requests refused", limited.refused, 0.05, at_least=False),
            Bar("faulty: rows answered", faulty.rows, rows),
        ),
        notes=(
            "Bare sockets: the same requests over 100 connections of asyncio, the least that can send them.",
            "Rates are by the clock: on a busy machine they say little. CPU time is that of the asking process.",
        ),
    )


def _best(rows: int, settings: Settings, told: Mapping[str, Any]) -> Asked:
    places = [settings.place(f"{'limited' if 'a_second' in told else 'plain'}-{number}") for number in range(settings.rounds)]
    return min((in_child(asked, place, rows, told, "60 s").value for place in places), key=lambda one: one.wall)


def _row(name: str, one: Asked, possible: float) -> tuple[str, ...]:
    by_status = ", ".join(f"{status}: {count:,}" for status, count in sorted(one.statuses.items()))
    per_request = 1000 * one.cpu / sum(one.statuses.values())
    return (name, f"{one.rate:.0f}", f"{one.rate / possible:.2f}", f"{per_request:.2f}", by_status)


def asked(place: Path, rows: int, told: Mapping[str, Any], request_timeout: str) -> Asked:
    """Ask about all rows, and check each answer."""
    with _serving(told) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        options = {"max_concurrent_operations": str(AT_ONCE), "request_timeout": request_timeout}
        spec = text_spec(process.stdout.readline().strip(), **options)
        surroundings = Surroundings(answers=SqliteAnswers(place / "answers.db"))
        with ModelSet([spec], surroundings=surroundings) as models:
            model = models.get("m")
            questions = pa.RecordBatch.from_pydict({"t": [f"row {number}" for number in range(rows)]}, schema=spec.input)
            wall, cpu = time.perf_counter(), time.process_time()
            answers = model.predict(questions)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        right = sum(answer == f"ROW {number}" for number, answer in enumerate(answers.column("a").to_pylist()))
        process.stdin.write("\n")
        process.stdin.flush()
        return Asked(right, wall, cpu, json.loads(process.stdout.readline()))


def bare_sockets(rows: int, told: Mapping[str, Any]) -> Asked:
    """The same requests by the least that can send them: what the machine and the service allow."""
    with _serving(told) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline().strip().rpartition(":")[2])
        wall, cpu = time.perf_counter(), time.process_time()
        asyncio.run(_all_bare(port, rows))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        process.stdin.write("\n")
        process.stdin.flush()
        return Asked(rows, wall, cpu, json.loads(process.stdout.readline()))


async def _all_bare(port: int, rows: int) -> None:
    numbers = iter(range(rows))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\ncontent-length: "

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = json.dumps({"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"row {number}"}]})
            writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            answered = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answered.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


@contextmanager
def _serving(told: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVE, json.dumps(told)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        with process:
            yield process
    finally:
        process.kill()
