"""What the benchmarks say is what they found."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from benchmarks import readings
from benchmarks.__main__ import BENCHMARKS
from benchmarks.harness import Bar, Best, Result, Spent, in_child, peak_bytes, thousands
from benchmarks.report import page, table

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.parametrize(
    ("measured", "at_least", "holds"), [(2.0, True, True), (1.99, True, False), (2.0, False, True), (2.01, False, False)]
)
def test_a_bar_holds_up_to_its_limit(measured: float, at_least: bool, holds: bool) -> None:
    assert Bar("figure", measured, 2.0, at_least).holds is holds


def test_the_best_round_counts_and_the_highest_peak() -> None:
    best = Best()
    for wall, cpu, peak in ((3.0, 2.0, 10), (2.0, 3.0, 30), (4.0, 4.0, 20)):
        best.take(Spent(wall, cpu), peak)
    assert (best.spent, best.peak_bytes) == (Spent(2.0, 2.0), 30)


@pytest.mark.parametrize(
    ("rate", "shown"), [(734, "734"), (9_876, "9,876"), (41_234, "41k"), (1.314e6, "1.31M"), (4.4e7, "44.0M")]
)
def test_rates_are_shown_to_three_digits(rate: float, shown: str) -> None:
    assert thousands(rate) == shown


def test_columns_line_up() -> None:
    assert table(("a", "b"), [("long name", "1"), ("x", "1,000")]).splitlines() == [
        "| a         |     b |",
        "| --------- | ----: |",
        "| long name |     1 |",
        "| x         | 1,000 |",
    ]


def test_a_page_tells_what_was_missed_and_names_no_machine() -> None:
    bars = (Bar("speed", 0.5, 0.7), Bar("memory", 1.0, 1.5, at_least=False, unit=" GiB"))
    text = page(Result("Title", "Data.", ("a", "b"), (("x", "1"),), bars, ("Note.",)), "python -m benchmarks x", 0.5, 2.0)
    assert "MISSED" in next(line for line in text.splitlines() if line.startswith("| speed"))
    assert "holds" in next(line for line in text.splitlines() if line.startswith("| memory"))
    assert platform.node() not in text
    assert str(FOLDER.parent) not in text


def test_a_child_does_not_inherit_its_parents_peak() -> None:
    held = bytearray(400 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    ours = peak_bytes()
    del held
    assert in_child(peak_bytes).value < ours - (200 << 20)


def test_readings_are_the_same_each_time_and_as_large_as_is_said() -> None:
    first, again = (readings.rows(2_000, 3, poison=0.01) for _ in range(2))
    assert first == again
    assert 190 < sum(len(row.value or b"") for row in first) / len(first) < 220
    assert {row.partition for row in first} == {0, 1, 2}


def test_the_stated_share_is_broken() -> None:
    sound, mixed = readings.rows(1_000, 1), readings.rows(1_000, 1, poison=0.01)
    assert sum(a != b for a, b in zip(sound, mixed, strict=True)) == 10
    assert len(json.loads(sound[0].value or b"")) == 8


def test_every_benchmark_is_a_module_on_the_page() -> None:
    text = (FOLDER / "README.md").read_text()
    for name in BENCHMARKS:
        assert (FOLDER / f"{name}.py").exists()
        assert f"results/{name}.md" in text
