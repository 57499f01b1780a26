from __future__ import annotations

from dataclasses import replace

import pytest

from lakeflow.models.estimate import Asking, Recorded, Sample, estimate
from lakeflow.models.usage import Budget, Price, Tokens

CHAT = Asking("gpt-4.1-mini", 1, Price(1.0, 10.0))
VECTORS = Asking("embed-3", 64, Price(0.5, 0.0), writes=False)
PART = Sample(read=100, given=40, wanted=20, kept=5, tokens=Tokens(300, 0), whole=False)
ALL = replace(PART, whole=True)


def test_without_a_sample_every_row_is_asked_at_the_most() -> None:
    found = estimate("m", 1000, CHAT, None, None)
    assert (found.expected, found.expected.asked, found.expected.calls) == (found.most, 1000, 1000)
    assert (found.expected.input_tokens, found.expected.cost) == (None, None)
    assert found.rests_on[0].startswith("every row that is read, at the most")
    assert found.rests_on[1] == "tokens: not known"


def test_a_part_of_the_rows_tells_of_all_and_the_most_is_every_row() -> None:
    found = estimate("m", 1001, CHAT, PART, None)
    assert (found.expected.asked, found.most.asked) == (151, 1001), "15 of 100 are neither filtered, equal nor kept"
    assert (found.expected.input_tokens, found.expected.output_tokens, found.expected.cost) == (3020, None, None)
    assert "100 of 1,001 rows: 40 come to the model, 20 distinct, 5 of them in the cache" in found.rests_on


def test_all_rows_tell_exactly() -> None:
    found = estimate("m", 100, CHAT, ALL, None)
    assert (found.expected.asked, found.most.asked) == (15, 15)
    kept = estimate("m", 100, CHAT, replace(ALL, kept=20, tokens=Tokens()), None)
    assert (kept.expected.calls, kept.expected.input_tokens, kept.expected.cost) == (0, 0, 0.0)
    assert "tokens" not in " ".join(kept.rests_on)


def test_what_runs_took_comes_before_what_prompts_say() -> None:
    found = estimate("m", 100, CHAT, ALL, Recorded(10, Tokens(1000, 50), 1))
    assert (found.expected.input_tokens, found.expected.output_tokens) == (1500, 75)
    assert found.expected.cost == pytest.approx((1500 * 1.0 + 75 * 10.0) / 1e6)
    assert found.rests_on[-1] == "tokens: 10 answers in the last 1 run"


def test_a_length_of_answers_that_the_declaration_bounds_is_counted() -> None:
    found = estimate("m", 100, CHAT, replace(ALL, tokens=Tokens(300, 1500)), None)
    assert found.expected.output_tokens == 1500
    assert found.expected.cost == pytest.approx(15300 / 1e6)


def test_vectors_cost_their_input_and_come_several_a_call() -> None:
    found = estimate("m", 1000, VECTORS, PART, None)
    assert (found.expected.asked, found.expected.calls, found.most.calls) == (150, 3, 16)
    assert found.expected.output_tokens == 0
    assert found.expected.cost == pytest.approx(3000 * 0.5 / 1e6)


def test_rows_that_depend_on_answers_to_come_are_counted_at_the_most() -> None:
    found = estimate("m", 100, CHAT, replace(ALL, given=0, wanted=0, kept=0, tokens=Tokens(), blind=True), None)
    assert (found.expected.asked, found.most.asked) == (100, 100)
    assert "at the most: which rows come depends on answers that are not there yet" in found.rests_on


def test_a_job_that_makes_several_rows_of_one_is_asked_about_all_of_them() -> None:
    found = estimate("m", 1000, CHAT, replace(PART, given=300, wanted=300, kept=0), None)
    assert (found.expected.asked, found.most.asked) == (3000, 3000)


def test_a_job_without_rows_asks_nothing() -> None:
    found = estimate("m", 0, CHAT, None, None)
    assert (found.expected.asked, found.expected.calls, found.expected.input_tokens, found.expected.cost) == (0, 0, 0, 0.0)


def test_a_missing_price_is_named() -> None:
    found = estimate("m", 100, replace(CHAT, price=None), ALL, Recorded(10, Tokens(10, 10), 2))
    assert found.expected.cost is None
    assert found.rests_on[-1] == "no price of 'gpt-4.1-mini' in [models.prices]"


def test_limits_that_the_run_would_reach_are_named() -> None:
    recorded = Recorded(10, Tokens(1000, 50), 1)
    within = Budget(15, 1575, 0.01)
    assert estimate("m", 100, CHAT, ALL, recorded, within).limits == ()
    past = Budget(14, 1574, 0.001)
    limits = estimate("m", 100, CHAT, ALL, recorded, past).limits
    assert limits == ("stops at max_calls = 14", "stops at max_tokens = 1574", "stops at max_cost = 0.001")
