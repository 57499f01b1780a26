"""Rows to answers: what is kept is not asked, what is being asked is not asked twice, the rest goes out in order.

Everything here runs on the loop of loop.py alone; the cache is called on its thread.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from lakeflow.errors import CacheBroken
from lakeflow.models.answering import Leniency
from lakeflow.models.cache import AnswerStore, Stored
from lakeflow.models.failing import Failed, error_of
from lakeflow.models.remote.dialect import Answer, Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.remote.keeping import Keeping
from lakeflow.models.remote.operation import Service, operate
from lakeflow.models.usage import Asked, Tokens

LONGEST_DRAIN = 30.0
"""Seconds that requests which are out may take once a row has failed: they are paid for, so their answers are kept."""


Outcome = Answer | Failed


class Asker:
    """Asks one model. `label` is its name in messages; `store` is None where nothing is to be kept."""

    def __init__(self, label: str, service: Service, store: AnswerStore | None) -> None:
        self.label = label
        self.service = service
        self.store = store
        self._keeping = Keeping(store) if store is not None else None
        self.rows_a_request = service.dialect.rows_a_request
        self.slots = asyncio.Semaphore(service.settings.concurrency)
        self._flying: dict[bytes, asyncio.Future[Outcome]] = {}
        self._mean_output = 0.0

    async def ask(self, wanted: Mapping[bytes, Row], leniency: Leniency = Leniency()) -> dict[bytes, Outcome]:
        """An outcome for each key. Rows that another call is asking at this moment are waited for.

        Raises ProviderUnavailable or ModelError for a row that fails where `leniency` is strict, and for what would be the
        same for every row; BudgetSpent; what the cache raises. Answers that came are kept then, too.
        """
        outcomes: dict[bytes, Outcome] = {}
        while left := {key: row for key, row in wanted.items() if key not in outcomes}:
            others = {key: self._flying[key] for key in left if key in self._flying}
            outcomes |= await self._ask_own({key: row for key, row in left.items() if key not in others}, leniency)
            for key, flight in others.items():
                await asyncio.wait([flight])
                if not flight.cancelled():
                    outcomes[key] = flight.result()
        return outcomes

    async def _ask_own(self, rows: Mapping[bytes, Row], leniency: Leniency) -> dict[bytes, Outcome]:
        """They are claimed before the cache is read: who comes later finds them here, or in the cache."""
        flights = {key: asyncio.get_running_loop().create_future() for key in rows}
        self._flying |= flights
        try:
            for key, answer in (await self._stored(list(rows))).items():
                flights[key].set_result(answer)
            await _Batch(self, {key: row for key, row in rows.items() if not flights[key].done()}, flights, leniency).run()
            return {key: flight.result() for key, flight in flights.items()}
        finally:
            for key, flight in flights.items():
                del self._flying[key]
                flight.cancel()

    async def _stored(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        if self.store is None or not keys:
            return {}
        found = await _on_thread(self.store.get, keys)
        self.service.usage.count(self.service.model, Asked(cached=len(found)))
        return self._read_kept(found)

    def _read_kept(self, texts: Mapping[bytes, str]) -> dict[bytes, Answer]:
        try:
            return {key: tuple(json.loads(text)) for key, text in texts.items()}
        except (ValueError, TypeError) as error:
            raise CacheBroken(
                f"the cache of answers holds one of {self.label} that is no list of JSON: {error}",
                next_step=f"lakeflow models cache clear {self.service.model}",
            ) from error

    async def keep(self, keys: Sequence[bytes], reading: Reading) -> Reading:
        """Write answers to the cache; they are not used before. What another process kept first takes their place."""
        self.service.usage.count(self.service.model, Asked(answered=len(keys)))
        if self._keeping is None:
            return reading
        each = reading.tokens.total // max(1, len(keys))
        texts = [json.dumps(answer, ensure_ascii=False, separators=(",", ":")) for answer in reading.answers]
        model = self.service.model
        given = [Stored(key, model, text, each) for key, text in zip(keys, texts, strict=True)]
        first = self._read_kept(await self._keeping.put(given))
        answers = zip(keys, reading.answers, strict=True)
        return replace(reading, answers=tuple(first.get(key, answer) for key, answer in answers)) if first else reading

    def request(self, rows: Sequence[Row]) -> Request:
        """The request, expected to be answered at the length of those before."""
        made = self.service.dialect.request(rows)
        if made.expected.output:
            return made
        return replace(made, expected=Tokens(made.expected.input, round(self._mean_output * len(rows))))

    def learn(self, reading: Reading) -> None:
        """Remember how long answers are."""
        each = reading.tokens.output / max(1, len(reading.answers))
        self._mean_output = each if not self._mean_output else 0.9 * self._mean_output + 0.1 * each


class _Batch:
    """Some rows on their way, at most so many requests at once as the settings allow."""

    def __init__(
        self,
        asker: Asker,
        rows: Mapping[bytes, Row],
        flights: Mapping[bytes, asyncio.Future[Outcome]],
        leniency: Leniency,
    ) -> None:
        self._asker = asker
        self._leniency = leniency
        self._rows = rows
        self._flights = flights
        keys = list(rows)
        step = asker.rows_a_request
        self._units = deque(keys[start : start + step] for start in range(0, len(keys), step))
        self._out: set[asyncio.Task[None]] = set()
        self._halted = False

    async def run(self) -> None:
        """Until every row has an outcome, or the first error."""
        at_once = min(self._asker.service.settings.concurrency, len(self._units))
        workers = [asyncio.create_task(self._work()) for _ in range(at_once)]
        try:
            await self._finish(workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _finish(self, workers: Sequence[asyncio.Task[None]]) -> None:
        if not workers:
            return
        done, running = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        failures = [error for worker in done if (error := worker.exception()) is not None]
        if not failures:
            return
        self._halted = True
        out = running & self._out
        for waiting in running - out:
            waiting.cancel()
        if out:
            await asyncio.wait(out, timeout=LONGEST_DRAIN)
        raise failures[0]

    async def _work(self) -> None:
        while self._units and not self._halted:
            async with self._asker.slots, self._asker.service.gate.slot():
                if self._units and not self._halted:
                    await self._operate(self._units.popleft())

    async def _operate(self, keys: list[bytes]) -> None:
        asker = self._asker
        if len(keys) > asker.rows_a_request:
            self._divide(keys)
            return
        try:
            request = asker.request([self._rows[key] for key in keys])
            patient = not self._leniency.replaced
            said = await operate(asker.service, request, len(keys), self._sending(), patient=patient)
            match said:
                case Reading():
                    asker.learn(said)
                    kept = await asker.keep(keys, said)
                    for key, answer in zip(keys, kept.answers, strict=True):
                        self._flights[key].set_result(answer)
                case Blame():
                    self._blamed(keys, said)
        finally:
            self._sending()(False)

    def _sending(self) -> Callable[[bool], None]:
        task = asyncio.current_task()
        assert task is not None, "workers are tasks"

        def tell(out: bool) -> None:
            (self._out.add if out else self._out.discard)(task)
            if not out and self._halted:
                task.cancel()

        return tell

    def _blamed(self, keys: list[bytes], blame: Blame) -> None:
        if blame.kind.of_one_row and len(keys) > 1:
            if blame.kind is ErrorKind.TOO_LARGE:
                self._asker.rows_a_request = min(self._asker.rows_a_request, len(keys) // 2)
            self._divide(keys)
            return
        service, leniency = self._asker.service, self._leniency
        failed = Failed(blame.kind, blame.message, blame.status, blame.headers)
        outage = blame.kind.of_the_service and service.gate.breaker.is_open
        stands_in = leniency.replaced and (outage or blame.kind is ErrorKind.QUOTA)
        if leniency.strict or ((blame.kind.of_all_rows or outage) and not stands_in):
            raise error_of(self._asker.label, failed)
        service.usage.count(service.model, Asked(failed=len(keys)))
        for key in keys:
            self._flights[key].set_result(failed)

    def _divide(self, keys: list[bytes]) -> None:
        middle = len(keys) // 2
        self._units.extendleft([keys[middle:], keys[:middle]])


Given = TypeVar("Given")
Done = TypeVar("Done")


async def _on_thread(call: Callable[[Given], Done], given: Given) -> Done:
    return await asyncio.get_running_loop().run_in_executor(None, call, given)
