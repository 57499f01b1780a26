"""What is started, what waits for what and what is given up, on a clock that the test sets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lakeflow.errors import CatalogUnavailable, Fenced, JobFailed, LakeflowError, Suspended
from lakeflow.job import Job, Read, SqlQuery
from lakeflow.retry import Backoff
from lakeflow.runner.due import Timetable
from lakeflow.schedule import Cron
from lakeflow.start.parts import Kind, Part, State
from lakeflow.start.supervisor import Limits, Supervisor

EVERY = 10.0
ATTEMPTS = 4
AWAY = CatalogUnavailable("the catalog did not answer")
BROKEN = JobFailed("no such column")
LANDING = Part(Kind.LANDING, "raw.a", (), "raw.a")


def job(name: str, reads: str, schedule: Cron | timedelta | None = None) -> Part:
    one = Job(name, f"{name}.t", {reads: Read(reads)}, SqlQuery(f"FROM {reads}"), schedule=schedule)
    return Part(Kind.JOB, name, (reads,), f"{name}.t", one)


A, B, C, D = job("a", "raw.a"), job("b", "a.t"), job("c", "b.t"), job("d", "raw.d")
INDEX = Part(Kind.INDEX, "i", ("b.t",))
SEARCHES = replace(D, searches=("i",))


class Desk:
    """A supervisor, and the clocks that it is given; back-off waits its longest."""

    def __init__(self, *parts: Part, at_once: int = 8, begun: dict[str, datetime] | None = None) -> None:
        self.now = 0.0
        self.timetable = Timetable(lambda: datetime(2026, 1, 31, tzinfo=UTC) + timedelta(seconds=self.now), begun or {})
        self.limits = Limits(at_once, EVERY, Backoff(attempts=ATTEMPTS, base=1.0, cap=60.0))
        self.all = Supervisor(parts, self.limits, self.timetable, lambda low, high: high)

    def start(self) -> list[str]:
        """Start what may be started now."""
        started = self.all.startable(self.now)
        for part in started:
            self.all.began(part, self.now)
        return [part.name for part in started]

    def end(self, part: Part, error: LakeflowError | None = None, *, wrote: bool = False) -> State:
        if wrote:
            self.all.moved(part, self.now)
        return self.all.ended(part, error, self.now)

    def round(self, *parts: Part) -> list[str]:
        """Everything to its end, in the order in which it may go."""
        order = []
        while started := self.start():
            order += started
            for part in parts:
                if part.name in started and part.kind is not Kind.LANDING:
                    self.end(part)
        return order

    def state(self, part: Part) -> State:
        return next(one.state for one in self.all.standings() if one.part == part)


class TestOrder:
    def test_a_job_starts_after_those_that_write_what_it_reads(self) -> None:
        desk = Desk(A, B, C, D)
        assert desk.start() == ["a", "d"]
        assert desk.start() == [], "b waits for a, c for b"
        desk.end(A)
        assert desk.start() == ["b"]
        desk.end(B)
        assert desk.start() == ["c"]

    def test_a_round_goes_through_the_graph_and_the_next_comes_after_the_interval(self) -> None:
        desk = Desk(A, B, C, INDEX)
        assert desk.round(A, B, C, INDEX) == ["a", "b", "c", "i"]
        desk.now = EVERY - 0.1
        assert desk.start() == []
        desk.now = EVERY
        assert desk.round(A, B, C, INDEX) == ["a", "b", "c", "i"]

    def test_what_was_written_is_read_at_once(self) -> None:
        desk = Desk(LANDING, A, B, D)
        desk.round(A, B, D)
        desk.now = 1.0
        desk.all.moved(LANDING, desk.now)
        assert desk.start() == ["a"]
        desk.end(A, wrote=True)
        assert desk.start() == ["b"]

    def test_a_writer_that_is_always_due_does_not_keep_its_readers_waiting(self) -> None:
        desk = Desk(A, B)
        assert desk.start() == ["a"]
        desk.now = 2 * EVERY
        desk.end(A)
        assert desk.start() == ["b", "a"], "a is due again, and has run since b did"

    def test_no_more_run_than_there_is_room_for_and_the_longest_waiting_comes_first(self) -> None:
        desk = Desk(A, D, job("e", "raw.e"), at_once=1)
        order = []
        for turn in range(6):
            desk.now = 10 * EVERY * turn
            [name] = desk.start()
            order.append(name)
            assert desk.start() == []
            desk.end(next(part for part in desk.all.running if part.name == name))
        assert order == ["a", "d", "e"] * 2

    def test_a_job_starts_after_the_index_that_it_searches_and_no_news_of_the_index_are_its(self) -> None:
        desk = Desk(A, B, INDEX, SEARCHES)
        assert desk.round(A, B, INDEX, SEARCHES) == ["a", "b", "i", "d"]
        desk.now = 1.0
        desk.all.moved(B, desk.now)
        assert desk.start() == ["i"]
        desk.all.moved(Part(Kind.LANDING, "raw.d", (), "raw.d"), desk.now)
        assert desk.start() == [], "the index is updated just now"
        desk.end(INDEX, wrote=True)
        assert desk.start() == ["d"]
        desk.end(SEARCHES)
        desk.all.moved(B, desk.now)
        assert desk.start() == ["i"]
        desk.end(INDEX, wrote=True)
        assert desk.start() == [], "no question is new"

    def test_landings_take_no_place_of_jobs(self) -> None:
        assert Desk(LANDING, A, at_once=1).start() == ["raw.a", "a"]


class TestSchedules:
    def test_a_job_with_a_schedule_runs_at_its_moments_alone(self) -> None:
        daily = job("daily", "raw.a", Cron("0 0 * * *"))
        desk = Desk(LANDING, daily, begun={"daily": datetime(2026, 1, 30, 12, tzinfo=UTC)})
        assert desk.start() == ["raw.a", "daily"], "the moment that was missed"
        desk.end(daily, wrote=True)
        desk.all.moved(LANDING, desk.now)
        desk.now = 86_399.0
        assert desk.start() == []
        desk.now = 86_400.0
        assert desk.start() == ["daily"]

    def test_a_run_that_failed_is_tried_again_before_the_next_moment(self) -> None:
        daily = job("daily", "raw.a", Cron("0 0 * * *"))
        desk = Desk(daily)
        assert desk.start() == ["daily"]
        assert desk.end(daily, AWAY) is State.BACKING_OFF
        assert desk.start() == []
        desk.now = 1.0
        assert desk.start() == ["daily"]

    def test_what_was_written_by_a_scheduled_job_is_read_by_one_that_is_not(self) -> None:
        hourly = job("a", "raw.a", timedelta(hours=1))
        desk = Desk(hourly, B)
        assert desk.round(hourly, B) == ["a", "b"]
        desk.now = 3600.0
        assert desk.start() == ["a"], "b is due as well, and waits"
        desk.end(hourly, wrote=True)
        assert desk.start() == ["b"]


class TestFailures:
    def test_what_fails_for_good_is_given_up_and_what_reads_its_table_waits_while_others_go_on(self) -> None:
        desk = Desk(A, B, C, D, INDEX)
        assert desk.start() == ["a", "d"]
        assert desk.end(A, BROKEN) is State.GIVEN_UP
        desk.end(D)
        assert desk.all.held_up_by(A) == ["b", "c", "i"]
        assert [desk.state(part) for part in (A, B, C, INDEX, D)] == [State.GIVEN_UP, *[State.HELD_UP] * 3, State.WAITING]
        desk.now = 100 * EVERY
        assert desk.start() == ["d"]
        assert desk.all.gave_up

    def test_what_searches_an_index_waits_while_its_update_fails(self) -> None:
        desk = Desk(INDEX, SEARCHES)
        assert desk.start() == ["i"]
        assert desk.end(INDEX, AWAY) is State.BACKING_OFF
        assert desk.start() == []
        assert desk.state(SEARCHES) is State.HELD_UP
        assert desk.all.held_up_by(INDEX) == ["d"]
        desk.now = 1.0
        assert desk.start() == ["i"]
        desk.end(INDEX)
        assert desk.start() == ["d"]

    @pytest.mark.parametrize("error", [AWAY, Fenced("another process has it")])
    def test_what_passes_is_tried_again_later_each_time_and_given_up_in_the_end(self, error: LakeflowError) -> None:
        desk = Desk(A)
        waits = []
        for _ in range(ATTEMPTS - 1):
            assert desk.start() == ["a"]
            assert desk.end(A, error) is State.BACKING_OFF
            begun = desk.now
            while not desk.all.startable(desk.now):
                desk.now += 0.5
            waits.append(desk.now - begun)
        assert waits == [1.0, 2.0, 4.0]
        desk.start()
        assert desk.end(A, error) is State.GIVEN_UP
        desk.now += 1e9
        assert desk.start() == []

    def test_what_worked_in_between_is_not_counted_together(self) -> None:
        desk = Desk(A)
        for _ in range(3 * ATTEMPTS):
            desk.now += 100 * EVERY
            assert desk.start() == ["a"]
            assert desk.end(A, AWAY) is State.BACKING_OFF
            desk.now += 100 * EVERY
            assert desk.start() == ["a"]
            assert desk.end(A) is State.WAITING

    def test_a_landing_that_commits_between_its_failures_goes_on(self) -> None:
        desk = Desk(LANDING)
        for _ in range(3 * ATTEMPTS):
            desk.now += 1000.0
            assert desk.start() == ["raw.a"]
            desk.all.moved(LANDING, desk.now)
            assert desk.end(LANDING, AWAY) is State.BACKING_OFF

    def test_readers_wait_while_a_job_is_tried_again_and_go_on_once_it_worked(self) -> None:
        desk = Desk(A, B)
        desk.start()
        desk.end(A, AWAY)
        assert desk.state(B) is State.HELD_UP
        desk.now = 1.0
        assert desk.start() == ["a"]
        desk.end(A, wrote=True)
        assert desk.start() == ["b"]

    def test_a_landing_that_is_given_up_holds_no_job_up(self) -> None:
        desk = Desk(LANDING, A)
        assert desk.start() == ["raw.a", "a"]
        assert desk.end(LANDING, Suspended("a record that must not be passed")) is State.GIVEN_UP
        assert desk.state(A) is State.RUNNING
        assert not desk.all.is_over

    def test_it_is_over_where_all_that_is_left_waits_for_what_is_given_up(self) -> None:
        desk = Desk(A, B, INDEX)
        desk.start()
        assert not desk.all.is_over
        desk.end(A, BROKEN)
        assert desk.all.is_over

    def test_it_is_not_over_while_something_runs(self) -> None:
        desk = Desk(A, D)
        desk.start()
        desk.end(A, BROKEN)
        assert not desk.all.is_over
        desk.end(D, BROKEN)
        assert desk.all.is_over


class TestReadiness:
    def test_it_is_not_ready_before_each_landing_is_open(self) -> None:
        desk = Desk(LANDING, A)
        desk.start()
        assert desk.all.unready() == ["landing raw.a is not open yet"]
        desk.all.opened(LANDING)
        assert desk.all.unready() == []

    def test_what_passes_does_not_end_it_and_what_is_given_up_does(self) -> None:
        desk = Desk(A, D)
        desk.start()
        desk.end(A, AWAY)
        assert desk.all.unready() == []
        desk.end(D, BROKEN)
        assert desk.all.unready() == ["job d is given up: no such column"]


class TestReplacement:
    def test_a_change_gives_what_was_given_up_another_chance(self) -> None:
        desk = Desk(A, B)
        desk.start()
        desk.end(A, BROKEN)
        desk.all.replace((A, B), desk.limits)
        assert desk.all.unready() == []
        assert desk.round(A, B) == ["a", "b"]

    def test_what_runs_is_not_started_twice(self) -> None:
        desk = Desk(A, D)
        desk.start()
        desk.all.replace((A,), desk.limits)
        desk.all.replace((A, D), desk.limits)
        assert desk.start() == []
        desk.end(D)
        assert desk.start() == ["d"], "it was left while it ran, and came back"

    def test_how_a_part_ended_that_is_gone_changes_nothing(self) -> None:
        desk = Desk(A, D)
        desk.start()
        desk.all.replace((A,), desk.limits)
        assert desk.end(D, BROKEN) is State.WAITING
        assert not desk.all.gave_up
