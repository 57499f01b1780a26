"""`lakeflow land` by key and by route, from several topics, and of declared columns that differ from what records bring."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lakeflow.landing import reading
from tests.integration.cli.landings import TABLE, TOPIC, Site, declared, in_json, keyed, record, values, wait_for


def change(number: int, **row: Any) -> tuple[bytes, bytes]:
    return in_json({"id": number}), in_json({"id": number} | row)


def gone(number: int) -> tuple[bytes, None]:
    return in_json({"id": number}), None


class TestKeys:
    def test_json_keys_with_tombstones(self, site: Site) -> None:
        site.declare(keyed("id BIGINT, v STRING"))
        site.send(TOPIC, change(1, v="a"), change(2, v="b"), change(1, v="c"), gone(2), gone(9), change(3, v="d"))
        assert site.landed()["written"] == 6
        assert site.rows(TABLE) == [(1, "c"), (3, "d")]

    def test_avro_keys_whose_type_is_narrower_than_the_column(self, site: Site) -> None:
        site.declare(keyed("id BIGINT, v STRING", options=", 'value.format' = 'avro-registry', 'key.format' = 'avro-registry'"))
        row, key = record(("id", "int"), ("v", "string")), record(("id", "int"), name="Key")

        def sent(number: int, v: str | None) -> tuple[bytes, bytes | None]:
            of = site.avro("items-key", key, {"id": number})
            return of, None if v is None else site.avro("items-value", row, {"id": number, "v": v})

        site.send(TOPIC, sent(1, "a"), sent(2, "b"), sent(1, None), sent(3, "c"))
        site.landed()
        assert site.rows(TABLE) == [(2, "b"), (3, "c")]

    @pytest.mark.parametrize(
        ("kind", "one", "two"),
        [("BIGINT", (1).to_bytes(8, "big"), (2).to_bytes(8, "big")), ("STRING", b"1", b"2"), ("BYTES", b"\0\xff", b"")],
    )
    def test_raw_keys(self, site: Site, kind: str, one: bytes, two: bytes) -> None:
        options = ", 'key.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'"
        site.declare(keyed(f"id {kind}, v STRING", options=options))
        site.send(TOPIC, (one, in_json({"v": "a"})), (two, in_json({"v": "b"})), (one, in_json({"v": "c"})), (two, None))
        site.landed()
        assert site.rows(TABLE, "SELECT v FROM rows") == [("c",)]

    def test_a_prefix_keeps_the_columns_of_a_composite_key_apart_from_those_of_the_value(self, site: Site) -> None:
        options = ", 'key.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY', 'key.fields-prefix' = 'k_'"
        site.declare(keyed("k_region STRING, k_id INT, id STRING", "k_region, k_id", options))
        for region, number, name in (("eu", 1, "a"), ("us", 1, "b"), ("eu", 1, "c"), ("eu", 2, "d"), ("us", 1, None)):
            value = None if name is None else in_json({"id": name})
            site.send(TOPIC, (in_json({"region": region, "id": number}), value))
        site.landed()
        assert site.rows(TABLE) == [("eu", 1, "c"), ("eu", 2, "d")]

    def test_a_prefix_with_columns_from_the_registry(self, site: Site) -> None:
        options = (
            ", 'value.format' = 'avro-registry', 'key.format' = 'avro-registry', 'value.fields-include' = 'EXCEPT_KEY', "
            "'key.fields-prefix' = 'k_'"
        )
        site.declare(keyed("", "k_id", options))
        key, row = record(("id", "long"), name="Key"), record(("id", "string"), ("n", ["null", "int"]))
        for number, name in ((1, "a"), (2, "b"), (1, None)):
            value = None if name is None else site.avro("items-value", row, {"id": name, "n": number})
            site.send(TOPIC, (site.avro("items-key", key, {"id": number}), value))
        site.landed()
        assert site.rows(TABLE, "SELECT k_id, id, n FROM rows") == [(2, "b", 2)]

    def test_a_null_or_missing_key_is_rejected_alone(self, site: Site) -> None:
        options = ", 'key.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY', 'on_error' = 'dead_letter'"
        site.declare(keyed("id INT, v STRING", options=options))
        value = in_json({"v": "x"})
        keys = [
            in_json({"id": 1}),
            in_json({"id": None}),
            b"{}",
            None,
            in_json({"id": "1"}),
            b"{broken",
            in_json({"id": 1 << 40}),
        ]
        site.send(TOPIC, *((key, value) for key in keys))
        assert site.landed()["written"] == 1
        assert site.rows(TABLE) == [(1, "x")]
        found = site.letters('SELECT "offset", kind, error FROM rows ORDER BY 1')
        assert [(offset, kind) for offset, kind, _ in found] == [
            (1, "misfit"), (2, "misfit"), (3, "misfit"), (4, "misfit"), (5, "malformed"), (6, "misfit")
        ]  # fmt: skip
        assert "its key: there is none" in found[2][2]

    def test_a_column_of_the_key_may_be_null_in_a_table_that_grows(self, site: Site) -> None:
        options = ", 'key.format' = 'json', 'key.fields' = 'id', 'value.fields-include' = 'EXCEPT_KEY'"
        site.declare(declared("id INT, v STRING", options))
        site.send(TOPIC, (in_json({"id": None}), in_json({"v": "x"})), (in_json({"id": 2}), in_json({"v": "y"})))
        site.landed()
        assert site.rows(TABLE, "SELECT v, id FROM rows ORDER BY v") == [("x", None), ("y", 2)]

    def test_a_record_whose_value_holds_the_key_needs_none(self, site: Site) -> None:
        site.declare(keyed("id INT, v STRING", options=", 'key.format' = 'json', 'on_error' = 'skip'"))
        site.send(TOPIC, (None, in_json({"id": 1, "v": "a"})), (b"{broken", in_json({"id": 2, "v": "b"})), (None, None))
        assert site.landed()["skipped"] == 1
        assert site.rows(TABLE) == [(1, "a"), (2, "b")]

    def test_a_tombstone_by_a_key_of_another_type_suspends_where_it_stands(self, site: Site) -> None:
        options = ", 'value.format' = 'avro-registry', 'key.format' = 'avro-registry'"
        site.declare(keyed("id BIGINT, v STRING", options=options))
        row = record(("id", "long"), ("v", "string"))
        wrong = site.avro("items-key", record(("id", "string"), name="Key"), {"id": "1"})
        site.send(TOPIC, (wrong, site.avro("items-value", row, {"id": 1, "v": "a"})), (wrong, None))
        ran = site.refused()
        assert f"suspended at topic '{TOPIC}', partition 0, offset 1" in ran.err
        assert "int64" in ran.err
        assert "string" in ran.err
        assert site.rows(TABLE) == [(1, "a")]

    def test_keys_of_several_types_in_one_batch_stop_at_the_first_that_does_not_fit(self, site: Site) -> None:
        options = (
            ", 'value.format' = 'avro-registry', 'key.format' = 'avro-registry', 'value.fields-include' = 'EXCEPT_KEY', "
            "'key.fields-prefix' = 'k_'"
        )
        site.declare(keyed("k_id BIGINT, v STRING", "k_id", options))
        for place, (kind, key) in enumerate([("int", 1), ("long", 2), ("int", 3), ("string", "4"), ("long", 5)]):
            number = site.avro("items-key", record(("id", kind), name="Key"), {"id": key})
            site.send(TOPIC, (number, site.avro("items-value", record(("v", "string")), {"v": f"v{place}"})))
        ran = site.refused()
        assert "partition 0, offset 3: table bronze.items cannot evolve" in ran.err
        assert site.rows(TABLE) == [(1, "v0"), (2, "v1"), (3, "v2")]

    @pytest.mark.parametrize("evolves", ["on", "off"])
    def test_a_tombstone_by_a_key_that_is_wider_than_the_column(self, site: Site, evolves: str) -> None:
        options = f", 'value.format' = 'avro-registry', 'key.format' = 'avro-registry', 'schema.evolution' = '{evolves}'"
        site.declare(keyed("id INT, v STRING", options=options))
        row, key = record(("id", "int"), ("v", "string")), record(("id", "long"), name="Key")
        site.send(TOPIC, (None, site.avro("items-value", row, {"id": 1, "v": "a"})))
        site.send(TOPIC, *((site.avro("items-key", key, {"id": number}), None) for number in (1, 1 << 40)))
        if evolves == "on":
            site.landed()
            assert site.rows(TABLE) == []
            assert str(site.shop.project.lake.table(TABLE).schema().find_field("id").field_type) == "long"
        else:
            assert "offset 1: the declared columns of table bronze.items do not hold" in site.refused().err
            assert site.rows(TABLE) == [(1, "a")]


class TestKeysInPartitions:
    def test_rows_move_between_buckets_and_days_and_leave_none_behind(self, site: Site) -> None:
        site.declare(keyed("id BIGINT, seen TIMESTAMP(6), v INT", more="PARTITIONED BY (bucket(4, id), day(seen))"))

        def on(number: int, day: int, v: int) -> tuple[bytes, bytes]:
            return change(number, seen=f"2013-01-{day:02}T10:00:00", v=v)

        site.send(TOPIC, *(on(number, 1, 0) for number in range(40)))
        site.landed()
        site.send(TOPIC, *(on(number, 1 + number % 3, 1) for number in range(0, 40, 2)), gone(1), on(1, 9, 2), gone(3))
        site.landed()
        expected = dict.fromkeys(range(40), (1, 0)) | {number: (1 + number % 3, 1) for number in range(0, 40, 2)}
        expected = {**expected, 1: (9, 2)}
        del expected[3]
        found = site.rows(TABLE, "SELECT id, date_part('day', seen), v FROM rows ORDER BY id")
        assert found == [(number, *rest) for number, rest in sorted(expected.items())]

    def test_the_day_of_a_row_may_become_null_and_come_back(self, site: Site) -> None:
        site.declare(keyed("id BIGINT, seen TIMESTAMP(6)", more="PARTITIONED BY (day(seen))"))
        for at in ("2013-01-01T00:00:00", None, "2013-01-02T00:00:00"):
            site.send(TOPIC, change(1, seen=at), change(2, seen="2013-01-01T00:00:00"))
            site.landed()
        assert site.rows(TABLE, "SELECT id, date_part('day', seen) FROM rows ORDER BY id") == [(1, 2), (2, 1)]


class TestKeysThatEvolve:
    OPTIONS = ", 'value.format' = 'avro-registry', 'key.format' = 'avro-registry'"

    def test_columns_come_and_widen_while_rows_are_updated(self, site: Site) -> None:
        site.declare(keyed("", options=self.OPTIONS, more="PARTITIONED BY (bucket(2, id))"))
        first = record(("id", "int"), ("n", "int"), ("f", ["null", "float"]))
        second = record(("id", "int"), ("n", "long"), ("f", ["null", "double"]), ("tag", ["null", "string"]))
        wide = record(("id", "long"), ("n", "long"))

        def sent(schema: dict[str, Any], **row: Any) -> tuple[None, bytes]:
            return None, site.avro("items-value", schema, row)

        site.registry.store.register("items-key", *self.key())
        site.send(TOPIC, *(sent(first, id=number, n=number, f=0.5) for number in range(1, 5)))
        site.landed()
        site.send(TOPIC, sent(second, id=1, n=1 << 40, f=1e300, tag="x"), sent(first, id=2, n=-2, f=None))
        site.send(TOPIC, sent(wide, id=3, n=-3), sent(wide, id=1 << 40, n=0), sent(first, id=1, n=7, f=2.5))
        result = site.landed()
        assert result["written"] == 5
        assert site.rows(TABLE, "SELECT id, n, f, tag FROM rows ORDER BY id") == [
            (1, 7, 2.5, None), (2, -2, None, None), (3, -3, None, None), (4, 4, 0.5, None), (1 << 40, 0, None, None)
        ]  # fmt: skip

    @staticmethod
    def key() -> tuple[Any, str]:
        from lakeflow.topics.registered import SchemaKind

        return SchemaKind.AVRO, in_json(record(("id", "int"), name="Key")).decode()


KINDS = ("order", "refund", "")


class TestRoutes:
    @pytest.mark.parametrize("by", ["header", "field"])
    def test_one_topic_lands_in_three_tables_and_every_record_in_one(self, site: Site, by: str) -> None:
        site.declare(
            "".join(
                declared(
                    "id INT, kind STRING",
                    f", 'route.by' = '{by}:kind', 'route.values' = '{kind}', 'metadata.columns' = 'offset'",
                    table=f"bronze.{kind or 'other'}",
                )
                for kind in KINDS
            )
        )
        for number in range(30):
            kind = KINDS[number % 3]
            headers = [("kind", b"order"), ("kind", kind.encode())] if kind else [("other", b"order")]
            site.send(TOPIC, (None, in_json({"id": number, "kind": kind or None}), 0, 1000, headers))
        results = {result["table"]: result for result in site.land()}
        for place, kind in enumerate(KINDS):
            table = f"bronze.{kind or 'other'}"
            assert (results[table]["written"], results[table]["filtered"]) == (10, 20)
            assert site.rows(table, "SELECT id FROM rows ORDER BY id") == [(number,) for number in range(place, 30, 3)]
        assert all(result["status"] == "empty" for result in site.land())

    def test_a_table_by_key_takes_the_tombstones_that_carry_its_header(self, site: Site) -> None:
        options = ", 'key.format' = 'json', 'route.by' = 'header:kind', 'route.values' = 'order'"
        site.declare(keyed("id INT, v STRING", options=options))
        order, refund = [("kind", b"order")], [("kind", b"refund")]
        key, value = in_json({"id": 1}), in_json({"id": 1, "v": "a"})
        site.send(TOPIC, (key, value, 0, 1000, order), (key, None, 0, 1000, refund))
        assert site.landed()["filtered"] == 1
        assert site.rows(TABLE) == [(1, "a")]
        site.send(TOPIC, (key, None, 0, 1000, order))
        site.landed()
        assert site.rows(TABLE) == []


ORIGIN = ", 'metadata.columns' = 'topic, offset'"


class TestSeveralTopics:
    def test_two_topics_by_name_and_a_pattern_each_with_its_own_offsets(self, site: Site) -> None:
        by_name = declared("id INT", ORIGIN, topic="'topic' = 'eu-items;us-items'")
        by_pattern = declared("id INT", ORIGIN, topic="'topic-pattern' = '(eu|us|as)-.*'", table="bronze.all_items")
        site.declare(by_name + by_pattern)
        site.send("eu-items", *values({"id": number} for number in range(3)))
        site.send("us-items", *values({"id": number} for number in range(10, 12)))
        site.send("as-items", *values([{"id": 20}]))
        assert {result["table"]: result["written"] for result in site.land()} == {TABLE: 5, "bronze.all_items": 6}
        named = [(0, "eu-items", 0), (1, "eu-items", 1), (2, "eu-items", 2), (10, "us-items", 0), (11, "us-items", 1)]
        assert site.rows(TABLE) == named
        assert site.rows("bronze.all_items") == [*named, (20, "as-items", 0)]
        site.send("us-items", *values([{"id": 12}]))
        site.send("af-items", *values([{"id": 30}]))
        assert [result["written"] for result in site.land()] == [1, 1]

    def test_a_topic_that_appears_later_is_found_while_following(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "LOOK_SECONDS", 0.2)
        site.declare(declared("id INT", ORIGIN + ", 'commit.interval' = '0.1'", topic="'topic-pattern' = '.*-items'"))
        site.send("eu-items", *values([{"id": 1}]))

        def meanwhile() -> None:
            wait_for(lambda: site.rows(TABLE) == [(1, "eu-items", 0)])
            site.send("us-items", *values([{"id": 2}, {"id": 3}]))
            wait_for(lambda: len(site.rows(TABLE)) == 3)
            site.send("eu-items", *values([{"id": 4}]))
            wait_for(lambda: len(site.rows(TABLE)) == 4)

        site.follow(meanwhile=meanwhile)
        assert site.rows(TABLE) == [(1, "eu-items", 0), (2, "us-items", 0), (3, "us-items", 1), (4, "eu-items", 1)]
        assert site.landed()["status"] == "empty"

    def test_a_topic_that_is_taken_out_and_put_back_goes_on_where_it_was(self, site: Site) -> None:
        both = declared("id INT", ORIGIN, topic="'topic' = 'eu-items;us-items'")
        one = declared("id INT", ORIGIN, topic="'topic' = 'eu-items'")
        site.declare(both)
        site.send("eu-items", *values([{"id": 1}]))
        site.send("us-items", *values([{"id": 10}]))
        assert site.landed()["read"] == 2
        site.declare(one)
        site.send("eu-items", *values([{"id": 2}]))
        site.send("us-items", *values([{"id": 11}]))
        assert site.landed()["read"] == 1
        site.declare(both)
        assert site.landed()["read"] == 1
        assert [row[0] for row in site.rows(TABLE)] == [1, 2, 10, 11]

    def test_a_topic_that_is_not_there_is_named(self, site: Site) -> None:
        site.declare(declared("id INT", topic="'topic' = 'eu-items;uk-items'"))
        site.send("eu-items", *values([{"id": 1}]))
        assert "uk-items" in site.refused(code=2).err


MOMENT = dt.datetime(2013, 1, 31, 12, 0, 0, 5000, dt.UTC)


def test_metadata_columns_of_the_embedded_broker(site: Site) -> None:
    site.declare(declared("id INT", ", 'metadata.columns' = 'all'"))
    stamp = int(MOMENT.timestamp() * 1000)
    site.send(TOPIC, (b"k", in_json({"id": 1}), 0, stamp, [("a", b"1"), ("a", None)]), (None, in_json({"id": 2}), 0, stamp))
    site.landed()
    found = site.rows(
        TABLE, "SELECT * EXCLUDE (kafka_timestamp, kafka_leader_epoch), epoch_ms(kafka_timestamp) FROM rows ORDER BY id"
    )
    headers = [{"key": "a", "value": b"1"}, {"key": "a", "value": None}]
    assert found == [
        (1, TOPIC, 0, 0, "CreateTime", headers, b"k", in_json({"id": 1}), stamp),
        (2, TOPIC, 0, 1, "CreateTime", [], None, in_json({"id": 2}), stamp),
    ]
