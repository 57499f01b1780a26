from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from lakeflow.declare import IndexSpec, Origin
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.job import Job, Lookup, Read
from lakeflow.runner.graph import check_tables, chosen, nodes_of, ordered


def a_job(name: str, reads: str, target: str, lookup: str | None = None) -> Job:
    inputs: dict[str, Read | Lookup] = {"rows": Read(reads)}
    if lookup:
        inputs["others"] = Lookup(lookup)
    return Job(name, target, inputs, lambda **frames: pl.LazyFrame(), origin=Origin(Path(f"jobs/{name}.py"), 7))


def an_index(name: str, table: str) -> IndexSpec:
    return IndexSpec(name, table, "vector", "id", origin=Origin(Path("tables/indexes.sql"), 3))


def names(*jobs: Job, indexes: tuple[IndexSpec, ...] = ()) -> list[str]:
    return [node.name for node in ordered(nodes_of(jobs, indexes))]


def test_a_job_comes_after_those_that_write_what_it_reads_or_looks_up() -> None:
    assert names(a_job("a", "s.b", "s.a"), a_job("b", "s.z", "s.b"), a_job("z", "s.raw", "s.z")) == ["z", "b", "a"]
    assert names(a_job("a", "s.raw", "s.a", lookup="s.b"), a_job("b", "s.raw", "s.b")) == ["b", "a"]


def test_an_index_comes_after_the_job_that_writes_its_table() -> None:
    assert names(a_job("score", "s.raw", "s.scored"), indexes=(an_index("find", "s.scored"),)) == ["score", "find"]


def test_what_does_not_depend_on_each_other_comes_by_name_whatever_the_order_of_declaration() -> None:
    jobs = [a_job("b", "s.z", "s.b"), a_job("c", "s.raw", "s.c"), a_job("a", "s.raw", "s.a"), a_job("z", "s.raw", "s.z")]
    assert names(*jobs) == names(*reversed(jobs)) == ["a", "c", "z", "b"]


def test_a_cycle_is_named_in_its_order() -> None:
    jobs = (a_job("a", "s.c", "s.a"), a_job("b", "s.a", "s.b"), a_job("c", "s.b", "s.c"), a_job("d", "s.raw", "s.d"))
    with pytest.raises(DeclarationError) as caught:
        names(*jobs)
    named = caught.value.message.partition(": ")[2].partition(";")[0].split(" -> ")
    assert named[0] == named[-1]
    assert "".join(named[:-1]) in ("abc", "bca", "cab")


def test_a_job_that_reads_its_own_target_is_a_cycle() -> None:
    with pytest.raises(DeclarationError, match="jobs form a cycle: a -> a;"):
        names(a_job("a", "s.a", "s.a"))


def test_two_jobs_of_one_target_are_refused_with_both_places() -> None:
    with pytest.raises(DeclarationError) as caught:
        nodes_of([a_job("a", "s.raw", "s.t"), a_job("b", "s.raw", "s.t")], [])
    assert "jobs/b.py:7: job 'b' writes s.t" in caught.value.message
    assert "'a' (jobs/a.py:7)" in caught.value.message


def test_a_job_and_an_index_of_one_name_are_refused_with_both_places() -> None:
    with pytest.raises(DeclarationError, match=r"tables/indexes.sql:3: 'find' is declared at jobs/find.py:7 already"):
        nodes_of([a_job("find", "s.raw", "s.t")], [an_index("find", "s.t")])


def test_any_number_of_indexes_may_stand_on_one_table() -> None:
    assert names(indexes=(an_index("x", "s.t"), an_index("y", "s.t"))) == ["x", "y"]


def test_a_table_that_is_nowhere_is_named_with_its_reader() -> None:
    nodes = nodes_of([a_job("a", "s.rwa", "s.t")], [])
    with pytest.raises(UnknownName, match=r"read by 'a' \(jobs/a.py:7\): 's.rwa'; did you mean 's.raw'") as caught:
        check_tables(nodes, ["s.raw"], {})
    assert caught.value.next_step is not None


def test_a_table_may_exist_be_declared_or_be_written_by_a_job() -> None:
    nodes = nodes_of([a_job("a", "s.one", "s.t"), a_job("b", "s.two", "s.u", lookup="s.t")], [an_index("x", "s.u")])
    check_tables(nodes, ["s.one"], {"s.two": object()})


def test_the_chosen_ones_come_in_the_order_of_the_graph_each_once() -> None:
    nodes = nodes_of([a_job("a", "s.b", "s.a"), a_job("b", "s.c", "s.b"), a_job("c", "s.raw", "s.c")], [])
    assert [node.name for node in chosen(nodes, ["a", "c", "a"])] == ["c", "a"]
    assert [node.name for node in chosen(nodes, [])] == ["c", "b", "a"]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown job or index 'scroe'; did you mean 'score'"):
        chosen(nodes_of([a_job("score", "s.raw", "s.t")], []), ["scroe"])
