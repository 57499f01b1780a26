"""How often a service is asked: on a clock that jumps, so that minutes pass at once and always alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lakeflow.errors import BudgetSpent, ModelError, ProviderUnavailable
from lakeflow.models.answering import Leniency
from lakeflow.models.failing import Failed
from lakeflow.models.remote import gate
from lakeflow.models.remote.asking import Asker
from lakeflow.models.remote.dialect import ErrorKind
from lakeflow.models.remote.limits import Breaker, Concurrency, Pace
from lakeflow.models.usage import Budget
from tests.services import virtual
from tests.services.carried import Carried, asker, questions
from tests.services.http import Reply
from tests.services.openai import Faults, OpenAI, error, limited


def seconds_for(carried: Carried, rows: int, **options: str) -> float:
    async def ask() -> float:
        await asker(carried, None, **options).ask(questions(rows), Leniency(strict="on_error" not in options))
        return asyncio.get_running_loop().time()

    return virtual.run(ask())


def test_as_many_are_under_way_as_the_settings_allow_and_no_more() -> None:
    assert seconds_for(Carried(OpenAI(latency=0.2)), 2_000, max_concurrent_operations="100") == pytest.approx(4.0)
    assert seconds_for(Carried(OpenAI(latency=0.2)), 100) == pytest.approx(2.0), "ten at once, as in Flink"


@pytest.mark.parametrize("burst", [2.0, 20.0, 200.0])
def test_a_limited_service_is_soon_asked_at_the_rate_that_it_takes(burst: float) -> None:
    carried = Carried(OpenAI(latency=0.2, a_second=200, burst=burst))
    took = seconds_for(carried, 4_000, max_concurrent_operations="100")
    assert 4_000 / took == pytest.approx(200, rel=0.1)
    assert len(carried.refused_at) < 0.05 * 4_000


def test_a_service_that_grows_its_limit_is_asked_more() -> None:
    service = OpenAI(latency=0.2, a_second=20)
    carried = Carried(service)

    async def ask() -> float:
        one = asker(carried, max_concurrent_operations="100")
        await one.ask(questions(400))
        service.a_second = 200
        began = asyncio.get_running_loop().time()
        await one.ask({key + b"!": row for key, row in questions(4000).items()})
        return asyncio.get_running_loop().time() - began

    assert virtual.run(ask()) < 60, "at the old rate it would be 200 seconds"


def test_requests_a_minute_are_kept_to() -> None:
    carried = Carried(OpenAI())
    assert seconds_for(carried, 121, requests_per_minute="60") == pytest.approx(119.0, abs=1.1)
    assert not carried.refused_at


def test_models_of_one_account_keep_to_the_strictest_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever jobs of the process ask them; another account has limits of its own."""
    monkeypatch.setattr(gate, "_gates", {})

    def through_the_gate(**options: str) -> Asker:
        one = asker(Carried(OpenAI()), None, **options)
        one.service = replace(one.service, gate=gate.gate_of(one.service.dialect, one.service.settings))
        return one

    async def ask(second: Asker) -> float:
        first = through_the_gate(requests_per_minute="60")
        await asyncio.gather(first.ask(questions(61)), second.ask(questions(60)))
        return asyncio.get_running_loop().time()

    assert virtual.run(ask(through_the_gate(requests_per_minute="600"))) == pytest.approx(119.0, abs=1.1)
    gate._gates.clear()
    others = through_the_gate(requests_per_minute="600", model="another")
    assert virtual.run(ask(others)) == pytest.approx(59.0, abs=1.1)


def test_tokens_a_minute_are_kept_to_by_what_answers_really_cost() -> None:
    service = OpenAI()
    took = seconds_for(Carried(service), 100, tokens_per_minute="540")
    assert took == pytest.approx(100 * 9 / 540 * 60, rel=0.25), "an answer to 'row 7' costs 7 + 1 or 2 tokens"


def test_retry_after_is_waited_for_and_the_row_is_answered() -> None:
    carried = Carried(OpenAI(scripted=[limited("7")]))
    assert 7.0 <= seconds_for(carried, 1) <= 8.1


def test_a_retry_after_beyond_the_cap_is_cut_to_it() -> None:
    assert 5.0 <= seconds_for(Carried(OpenAI(scripted=[limited("3600")])), 1, retry_after_cap="5 s") <= 5.2


def test_the_whole_timeout_spans_retries() -> None:
    carried = Carried(OpenAI(scripted=[limited("50")] * 20))
    with pytest.raises(ProviderUnavailable, match=r"rate_limited: HTTP 429 .* 4 requests within 180 s"):
        seconds_for(carried, 1)


def test_a_hang_ends_with_the_request_timeout_and_is_asked_again() -> None:
    service = OpenAI(scripted=[Reply(200, seconds=100_000)])
    assert 3.0 <= seconds_for(Carried(service), 1, request_timeout="3 s") <= 4.0
    assert service.answered == {"row 0": 1}


def test_sporadic_failures_of_every_kind_leave_no_row_out() -> None:
    faults = Faults(error=0.01, cut=0.01, slow=0.01, broken=0.01, slow_seconds=100_000)
    carried = Carried(OpenAI(latency=0.2, faults=faults))

    async def ask() -> None:
        answers = await asker(carried, max_concurrent_operations="100", request_timeout="2 s").ask(questions(2_000))
        assert {key: answers[key] for key in questions(2_000)} == {
            str(number).encode(): (f"ROW {number}",) for number in range(2_000)
        }

    virtual.run(ask())


def test_broken_answers_are_counted_by_themselves() -> None:
    down, broken = error(500, "down", "server_error"), Reply(200, b"{")
    service = OpenAI(scripted=[down, broken, down, broken, down, broken])
    assert seconds_for(Carried(service), 1) > 0
    assert service.answered == {"row 0": 1}
    with pytest.raises(ModelError, match=r"broken_answer: .*; 6 requests within"):
        seconds_for(Carried(OpenAI(scripted=[down, broken, down, broken, broken, broken])), 1)


def test_an_outage_opens_the_breaker_so_that_a_dead_service_is_hardly_asked() -> None:
    service = OpenAI(scripted=[error(500, "down", "server_error")] * 1_000)
    options = {"on_error": "ignore", "circuit_breaker_failures": "20", "circuit_breaker_pause": "10 s"}
    with pytest.raises(ProviderUnavailable, match="unavailable"):
        seconds_for(Carried(service), 2_000, **options)
    assert sum(service.statuses.values()) < 60, "rows are not given up for an outage, not even where errors are ignored"


def test_a_short_outage_is_waited_for() -> None:
    service = OpenAI(scripted=[error(503, "overloaded", "server_error")] * 25)
    seconds_for(Carried(service), 50, circuit_breaker_failures="20", circuit_breaker_pause="10 s")
    assert len(service.answered) == 50


def test_a_budget_of_calls_is_never_passed() -> None:
    service = OpenAI(latency=0.2)

    async def ask() -> None:
        one = asker(Carried(service), Budget(calls=70))
        one.service.usage.begin_run()
        with pytest.raises(BudgetSpent, match="may take 70 calls"):
            await one.ask(questions(1000))

    virtual.run(ask())
    assert sum(service.statuses.values()) == 70


def test_a_budget_of_cost_counts_what_is_under_way() -> None:
    service = OpenAI(latency=0.2)

    async def ask() -> float:
        one = asker(Carried(service), Budget(cost=0.01), price_input="10", price_output="100")
        one.service.usage.begin_run()
        with pytest.raises(BudgetSpent, match=r"may take 0\.01 cost"):
            await one.ask(questions(1000))
        return one.service.usage.of_run()["m"].cost or 0.0

    assert 0.005 < virtual.run(ask()) <= 0.01


def test_what_was_sent_when_a_row_failed_is_waited_for_and_nothing_more_is_sent() -> None:
    slow = OpenAI(latency=5.0, scripted=[error(400, "no", "invalid_request_error")])
    carried = Carried(slow)
    with pytest.raises(ModelError, match="refused: HTTP 400: no"):
        seconds_for(carried, 100)
    assert sum(slow.answered.values()) == 9, "the nine beside it"
    assert len(carried.answered_at) == 9


def test_failures_are_ignored_where_that_is_said_and_named() -> None:
    service = OpenAI(scripted=[error(400, "no", "invalid_request_error")])

    async def ask() -> None:
        answers = await asker(Carried(service)).ask(questions(3), Leniency(strict=False))
        [failed] = [one for one in answers.values() if isinstance(one, Failed)]
        assert (failed.kind, failed.message, failed.status) == (ErrorKind.REFUSED, "HTTP 400: no", 400)

    virtual.run(ask())


def test_concurrency_shrinks_at_once_and_grows_slowly() -> None:
    limit = Concurrency(most=20)
    limit.refused(sent_at=0.0, now=1.0)
    limit.refused(sent_at=0.5, now=1.1)
    assert limit.limit == 17.0, "what was sent before the cut has no say"
    for _ in range(18):
        limit.answered()
    assert 17.9 < limit.limit < 18.1


def test_paces_let_a_second_go_at_once_and_spread_the_rest() -> None:
    pace = Pace(120)
    assert [pace.take(1, 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    pace.correct(-2)
    assert pace.take(1, 0.0) == 0.5


def test_an_open_breaker_lets_one_request_try() -> None:
    breaker = Breaker(failures=2, pause=10.0)
    breaker.failed(0.0)
    assert breaker.wait(0.0) == 0.0
    breaker.failed(1.0)
    assert breaker.wait(4.0) == 7.0
    assert [breaker.wait(11.0), breaker.wait(11.0)] == [0.0, 10.0]
    breaker.answered()
    assert breaker.wait(11.5) == 0.0
