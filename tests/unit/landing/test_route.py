"""Which records of a topic are a table's."""

from __future__ import annotations

import pytest

from lakeflow.landing.route import Route, route_of
from lakeflow.topics.source import Headers, Records


def route(by: str, values: str) -> Route:
    found = route_of({"route.by": by, "route.values": values}, "json", "here")
    assert found is not None
    return found


def records(*values: bytes | None, headers: list[Headers | None] | None = None) -> Records:
    count = len(values)
    return Records(
        ["t"] * count, [0] * count, list(range(count)), [0] * count, [1] * count, [None] * count, list(values), headers
    )


def test_without_options_there_is_no_route() -> None:
    assert route_of({}, "raw", "here") is None


def test_a_header_routes_by_its_last_value() -> None:
    headers: list[Headers | None] = [
        [("kind", b"order")],
        [("kind", b"refund"), ("kind", b"order")],
        [("kind", b"order"), ("kind", b"refund")],
        [("other", b"order")],
        None,
        [("kind", None)],
        [("kind", b"\xff")],
    ]
    came = records(*[b"{}"] * 7, headers=headers)
    assert route("header:kind", "order").places(came) == [True, True, False, False, False, False, False]
    assert route("header:kind", "").places(came) == [False, False, False, True, True, True, False]
    assert route("header:kind", "order; refund").places(came) == [True, True, True, False, False, False, False]


def test_a_field_routes_by_what_stands_in_it() -> None:
    came = records(
        b'{"kind": "order", "x": 1}',
        b'{"x": [1, {"kind": "order"}], "kind": "refund"}',
        b'{"kind": null}',
        b"{}",
        b'{"kind": 7}',
        b'{"kind": "or\\u0064er"}',
        b'{"kind": {"a": 1}}',
    )
    assert route("field:kind", "order").places(came) == [True, False, False, False, False, True, False]
    assert route("field:kind", "").places(came) == [False, False, True, True, False, False, False]
    assert route("field:kind", "7").places(came) == [False, False, False, False, True, False, False]


def test_a_nested_field_routes_and_anything_else_on_its_way_is_no_field() -> None:
    came = records(b'{"a": {"b": "x"}}', b'{"a": {"b": 1}}', b'{"a": "x"}', b'{"a": null}', b'{"b": "x"}')
    assert route("field:a.b", "x").places(came) == [True, False, False, False, False]
    assert route("field:a.b", "").places(came) == [False, False, True, True, True]


@pytest.mark.parametrize("broken", [None, b"", b"{", b"[1]", b'"order"', b"\xff{}", b'{"kind": "order"} x', b'{"kind": }'])
def test_a_broken_record_is_met_by_every_route(broken: bytes | None) -> None:
    for values in ("order", "refund", ""):
        assert route("field:kind", values).places(records(broken)) == [True]


def test_the_empty_value_may_stand_beside_others() -> None:
    headers: list[Headers | None] = [[("kind", b"order")], None, [("kind", b"refund")]]
    assert route("header:kind", "order;").places(records(*[b"{}"] * 3, headers=headers)) == [True, True, False]
