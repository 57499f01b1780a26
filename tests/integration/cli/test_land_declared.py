"""`lakeflow land` of declared columns: that differ from the writer's schema, and that change between two landings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.cli.landings import TABLE, TOPIC, Site, declared, record, values
from tests.lakes import live_paths

PLACE = record(("city", "string"), ("zip", "int"), name="Place")


class TestRegistryBesideADeclaration:
    """The writer has id, price, place of city and zip."""

    WRITER = record(("id", "int"), ("price", "double"), ("place", ["null", PLACE]))

    def land(self, site: Site, columns: str, options: str = "", writer: dict[str, Any] | None = None, **row: Any) -> None:
        site.declare(declared(columns, ", 'value.format' = 'avro-registry'" + options))
        sent = {"id": 1, "price": 2.5, "place": {"city": "Ulm", "zip": 89073}} | row
        site.send(TOPIC, (None, site.avro(f"{TOPIC}-value", writer or self.WRITER, sent)))

    @pytest.mark.parametrize(
        ("columns", "row"),
        [
            ("id INT, price DOUBLE, place ROW<city STRING, zip INT>", (1, 2.5, {"city": "Ulm", "zip": 89073})),
            ("id BIGINT, price DOUBLE", (1, 2.5)),
            ("price DOUBLE, id INT NOT NULL", (2.5, 1)),
            ("id INT, later STRING", (1, None)),
            ("id INT, place ROW<zip BIGINT>", (1, {"zip": 89073})),
            ("id INT, place ROW<city STRING, street STRING>", (1, {"city": "Ulm", "street": None})),
        ],
        ids=["the same", "wider", "another order", "one that is missing", "nested extra and wider", "nested missing"],
    )
    def test_what_the_columns_hold_lands(self, site: Site, columns: str, row: tuple[Any, ...]) -> None:
        self.land(site, columns)
        site.landed()
        assert site.rows(TABLE) == [row]

    @pytest.mark.parametrize(
        ("columns", "sides"),
        [
            ("id INT, price FLOAT", ("price", "float", "double")),
            ("id STRING", ("id", "string", "int32")),
            ("id INT, place ROW<zip STRING>", ("place.zip", "string", "int32")),
            ("id INT, place STRING", ("place", "string", "struct")),
        ],
        ids=["narrower", "another type", "nested another type", "no struct"],
    )
    @pytest.mark.parametrize("on_error", ["suspend", "skip"])
    def test_what_they_do_not_hold_suspends_with_both_sides(
        self, site: Site, columns: str, sides: tuple[str, ...], on_error: str
    ) -> None:
        self.land(site, columns, f", 'on_error' = '{on_error}'")
        ran = site.refused()
        assert f"suspended at topic '{TOPIC}', partition 0, offset 0" in ran.err
        for side in sides:
            assert side in ran.err
        assert "on_error" not in ran.err, "which would not help"
        assert site.rows(TABLE) == []

    def test_a_record_without_a_required_column_is_rejected_by_itself(self, site: Site) -> None:
        columns = "id INT, later STRING NOT NULL"
        self.land(site, columns, "")
        assert "column 'later' is NOT NULL and the record has none" in site.refused().err
        self.land(site, columns, ", 'on_error' = 'skip'")
        (landed,) = site.shop.json("land", "bronze.items")
        assert (landed["written"], landed["skipped"]) == (0, 2)

    def test_a_table_that_follows_its_topic_keeps_its_declared_columns_and_more(self, site: Site) -> None:
        options = ", 'schema.evolution' = 'on'"
        self.land(site, "id INT, later STRING, price FLOAT", options)
        site.landed()
        self.land(site, "id INT, later STRING, price FLOAT", options, record(("id", "long"), ("price", "float")), id=1 << 40)
        site.landed()
        found = site.rows(TABLE, "SELECT id, later, price, place.city FROM rows ORDER BY id")
        assert found == [(1, None, 2.5, "Ulm"), (1 << 40, None, 2.5, None)]
        assert site.landed()["status"] == "empty"
        types = {field.name: str(field.field_type) for field in site.shop.project.lake.table(TABLE).schema().fields}
        assert (types["id"], types["later"], types["price"]) == ("long", "string", "double")

    def test_a_table_that_follows_its_topic_still_refuses_another_type(self, site: Site) -> None:
        self.land(site, "id STRING", ", 'schema.evolution' = 'on'")
        assert "another type" in site.refused().err


BEFORE = "id INT NOT NULL, price FLOAT, name STRING NOT NULL"


class TestADeclarationThatChanges:
    @pytest.fixture
    def before(self, site: Site) -> Site:
        site.declare(declared(BEFORE))
        site.send(TOPIC, *values([{"id": 1, "price": 1.5, "name": "a"}, {"id": 2, "price": 2.5, "name": "b"}]))
        site.landed()
        return site

    def changed(self, site: Site, columns: str, row: dict[str, Any], more: str = "") -> list[tuple[Any, ...]]:
        site.declare(declared(columns, more=more))
        site.send(TOPIC, *values([row]))
        assert site.landed()["written"] == 1
        return site.rows(TABLE)

    @pytest.mark.parametrize(
        ("columns", "more", "change"),
        [
            (f"{BEFORE}, tag STRING", "", "tag"),
            (BEFORE.replace("INT", "BIGINT"), "", "id"),
            (BEFORE, "PARTITIONED BY (name)", "partitioning: none -> identity(name), for files to come"),
        ],
        ids=["a column added", "a column widened", "another partitioning"],
    )
    def test_a_plan_shows_what_becomes_of_the_table_and_changes_nothing(
        self, before: Site, columns: str, more: str, change: str
    ) -> None:
        before.declare(declared(columns, more=more))
        table = before.shop.project.lake.table(TABLE).metadata_location
        [planned] = before.shop.json("plan")["landings"]
        assert [change in line for line in planned["alters_table"]] == [True]
        assert f"alters the table: {planned['alters_table'][0]}" in " ".join(before.shop("plan").out.split())
        assert before.shop.project.lake.table(TABLE).metadata_location == table
        before.landed()
        [planned] = before.shop.json("plan")["landings"]
        assert planned["alters_table"] == []

    def test_a_column_that_is_added(self, before: Site) -> None:
        rows = self.changed(before, f"{BEFORE}, tag STRING", {"id": 3, "price": 3.5, "name": "c", "tag": "new"})
        assert rows == [(1, 1.5, "a", None), (2, 2.5, "b", None), (3, 3.5, "c", "new")]

    def test_columns_that_are_widened(self, before: Site) -> None:
        rows = self.changed(
            before, "id BIGINT NOT NULL, price DOUBLE, name STRING NOT NULL", {"id": 1 << 40, "price": 1e300, "name": "c"}
        )
        assert rows == [(1, 1.5, "a"), (2, 2.5, "b"), (1 << 40, 1e300, "c")]

    def test_a_not_null_that_is_dropped(self, before: Site) -> None:
        rows = self.changed(before, BEFORE.replace("name STRING NOT NULL", "name STRING"), {"id": 3, "price": 3.5})
        assert rows == [(1, 1.5, "a"), (2, 2.5, "b"), (3, 3.5, None)]

    def test_a_partitioning_that_changes_holds_for_files_to_come(self, before: Site) -> None:
        rows = self.changed(before, BEFORE, {"id": 3, "price": 3.5, "name": "c"}, "PARTITIONED BY (name)")
        assert rows == [(1, 1.5, "a"), (2, 2.5, "b"), (3, 3.5, "c")]
        rows = self.changed(before, BEFORE, {"id": 4, "price": 4.5, "name": "d"}, "PARTITIONED BY (bucket(4, id))")
        assert len(rows) == 4
        names = [path.rsplit("/", 2)[1] for path in live_paths(before.shop.project.lake.table(TABLE))]
        assert sum("name=c" in name for name in names) == 1
        assert sum("id_bucket" in name for name in names) == 1

    @pytest.mark.parametrize(
        ("columns", "sides"),
        [
            ("id INT NOT NULL, price FLOAT", ("name",)),
            ("id INT NOT NULL, price FLOAT, label STRING NOT NULL", ("name", "label")),
            ("id INT NOT NULL, price FLOAT, label STRING", ("name", "in the table string")),
            ("id INT NOT NULL, price STRING, name STRING NOT NULL", ("price", "float", "string")),
            ("id INT NOT NULL, price FLOAT NOT NULL, name STRING NOT NULL", ("price", "NOT NULL")),
            (f"{BEFORE}, tag STRING NOT NULL", ("tag", "NOT NULL")),
            (f"{BEFORE}, Name STRING", ("Name", "name")),
        ],
        ids=[
            "removed",
            "renamed",
            "renamed to a nullable one",
            "another type",
            "made required",
            "added required",
            "another case",
        ],
    )
    def test_what_no_evolution_leads_to_is_refused_before_a_record_is_read(
        self, before: Site, columns: str, sides: tuple[str, ...]
    ) -> None:
        before.declare(declared(columns))
        before.send(TOPIC, *values([{"id": 3, "price": 3.5, "name": "c"}]))
        planned = before.shop("plan", "--output", "json")
        assert planned.code == (2 if "Name" in columns else 1)
        if planned.code == 1:
            assert all(side in " ".join(planned.json["landings"][0]["skipped"].split()) for side in sides)
        ran = before.refused(code=2 if "Name" in columns else 1)
        for side in sides:
            assert side in ran.err
        before.declare(declared(BEFORE))
        assert before.landed()["read"] == 1
        assert before.rows(TABLE) == [(1, 1.5, "a"), (2, 2.5, "b"), (3, 3.5, "c")]
