"""What the SQL shell proposes at the cursor."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lakeflow.cli.sql_complete import Proposal, proposals, quoted

COLUMNS = {
    "bronze.orders": ["order_id", "customer", "Ship To"],
    "bronze.docs": ["doc_id", "text"],
    "gold.large": ["order_id", "amount"],
}


class Shop:
    def tables(self) -> Sequence[str]:
        return list(COLUMNS)

    def columns(self, table: str) -> Sequence[str]:
        return COLUMNS.get(table, [])

    def models(self) -> Sequence[str]:
        return ["price", "delay"]

    def indexes(self) -> Sequence[str]:
        return ["docs_index"]


def functions() -> Sequence[str]:
    return ["count", "concat", "ML_PREDICT"]


def at(text: str) -> list[Proposal]:
    """The proposals where the bar stands, at the end without one."""
    before, _, after = text.partition("|")
    return proposals(before + after, len(before), Shop(), functions)


def texts(text: str) -> list[str]:
    return [one.text for one in at(text)]


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ("SEL", ["SELECT"]),
        ("sel", ["select"]),
        ("SELECT 1; SHOW CREATE M", ["MODEL"]),
        ("SELECT 1; DROP VEC", ["VECTOR INDEX"]),
        ("drop m", ["materialized table", "model"]),
        ("EXPLAIN INS", ["INSERT INTO", "INSERT OVERWRITE"]),
        ("DESCRIBE ", ["TABLE", "MODEL", "VECTOR INDEX", "bronze.orders", "bronze.docs", "gold.large"]),
        ("FROM bro", ["bronze.orders", "bronze.docs"]),
        ("FROM BRONZE.o", ["bronze.orders"]),
        ("SELECT * FROM gold.large JOIN bronze.d", ["bronze.docs"]),
        ("SELECT * FROM gold.large l, bronze.d", ["bronze.docs"]),
        ("INSERT INTO g", ["gold.large"]),
        ("INSERT OVERWRITE g", ["gold.large"]),
        ("SHOW CREATE TABLE gold", ["gold.large"]),
        ("DESCRIBE EXTENDED gold", ["gold.large"]),
        ("WITH recent AS (SELECT 1) SELECT * FROM re", ["recent"]),
        ("SELECT cust| FROM bronze.orders", ["customer"]),
        ("SELECT am| FROM bronze.orders", []),
        ("SELECT ship| FROM bronze.orders", ['"Ship To"']),
        ('SELECT "Sh| FROM bronze.orders', []),
        ("SELECT o.c| FROM bronze.orders AS o JOIN gold.large l ON true", ["o.customer"]),
        ("SELECT l.a| FROM bronze.orders AS o JOIN gold.large l ON true", ["l.amount"]),
        ("SELECT orders.c| FROM bronze.orders", ["orders.customer"]),
        ("SELECT x.c| FROM bronze.orders", []),
        ("SELECT * FROM ML_PREDICT(TABLE bronze.o", ["bronze.orders"]),
        ("SELECT * FROM ML_PREDICT(TABLE bronze.orders, MODEL p", ["price"]),
        ("SELECT * FROM ML_PREDICT(TABLE bronze.orders, MODEL price, DESCRIPTOR(cu", ["customer"]),
        ("ALTER MODEL d", ["delay"]),
        ("DROP VECTOR INDEX d", ["docs_index"]),
        ("CREATE MODEL d", []),
        ("CREATE VECTOR INDEX d", []),
        ("SELECT 'FROM b", []),
        ("SELECT 1 -- FROM b", []),
        ("SELECT /* b", []),
        ("SELECT cou", ["count"]),
        ("SELECT COU", ["count"]),
        ("SELECT ML_P", ["ML_PREDICT"]),
        ("SELECT ml_p", ["ml_predict"]),
        ("\\ti", ["\\timing"]),
        ("\\timing o", ["on", "off"]),
        ("\\d gold", ["gold.large"]),
        ("\\dm pr", ["price"]),
        ("\\di do", ["docs_index"]),
        ("\\format j", ["json"]),
    ],
)
def test_what_may_stand_there_is_proposed(text: str, proposed: list[str]) -> None:
    assert texts(text) == proposed


def test_columns_come_before_words() -> None:
    first, *others = at("SELECT o| FROM bronze.orders")
    assert first == Proposal("order_id", 1, "column")
    assert {one.kind for one in others} == {"keyword"}


def test_a_table_named_twice_offers_both_aliases() -> None:
    assert texts("SELECT | FROM bronze.orders one JOIN bronze.orders AS two ON true")[:5] == [
        "order_id",
        "customer",
        '"Ship To"',
        "one",
        "two",
    ]


def test_functions_are_not_asked_for_where_none_may_stand() -> None:
    def asked() -> Sequence[str]:
        raise AssertionError("functions were asked for")

    assert [one.text for one in proposals("FROM go", 7, Shop(), asked)] == ["gold.large"]


def test_a_name_is_quoted_where_sql_needs_it() -> None:
    assert [quoted("bronze.orders"), quoted('my ns.a"b'), quoted("b.2x")] == ["bronze.orders", '"my ns"."a""b"', 'b."2x"']
