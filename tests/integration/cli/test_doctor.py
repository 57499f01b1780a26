"""`lakeflow doctor`: each check tries the real thing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop

NOBODY_THERE = '\n[kafka]\n"bootstrap.servers" = "localhost:1"\n[run]\nconnect_seconds = 0.3\n'


def checked(shop: Shop, *words: str, code: int = 1) -> dict[str, dict[str, Any]]:
    """The checks by name."""
    ran = shop("doctor", *words, "--output", "json")
    assert ran.code == code, ran.out
    assert ran.json["ok"] is (code == 0)
    return {check["name"]: check for check in ran.json["checks"]}


def states(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: check["state"] for name, check in checks.items()}


def test_a_project_without_servers_is_well(shop: Shop) -> None:
    found = checked(shop, code=0)
    assert states(found) == {
        "configuration": "ok",
        "declarations": "ok",
        "catalog": "ok",
        "warehouse": "ok",
        "brokers": "not configured",
        "model docs_embedding": "ok",
        "index folder": "ok",
    }
    assert "bronze.orders" in found["brokers"]["next_step"]
    assert found["declarations"]["detail"] == "2 tables, 1 models, 1 indexes, 3 jobs"
    assert list((shop.folder / ".lakeflow" / "warehouse").iterdir()) == []
    assert not (shop.folder / ".lakeflow" / "index").exists()


def test_text_has_a_line_a_check_then_settings_and_versions(shop: Shop) -> None:
    lines = shop("doctor", "--target", "demo").out.splitlines()
    assert "ok              catalog: " in lines[2]
    [index] = [line for line in lines if line.startswith("index.uri")]
    assert index.split()[1:] == [str(shop.folder / ".lakeflow" / "other-index"), "target", "demo"]
    assert "pyiceberg" in lines[-1]


def test_secrets_are_not_shown_and_where_they_come_from_is(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_KAFKA", "hunter-two")
    monkeypatch.setenv("BROKERS", "localhost:1")
    shop.configure(
        '[kafka]\n"bootstrap.servers" = "${BROKERS}"\n"sasl.password" = "{{ secret.KAFKA }}"\n[run]\nconnect_seconds = 0.3\n'
    )
    for form in ("text", "json"):
        ran = shop("doctor", "--output", form)
        assert ran.code == 1
        assert "hunter-two" not in ran.out + ran.err
        assert "secret KAFKA" in ran.out
        assert "environment BROKERS" in ran.out


def test_brokers_that_do_not_answer(shop: Shop) -> None:
    shop.configure(NOBODY_THERE)
    found = checked(shop)
    assert states(found)["brokers"] == "failed"
    assert states(found)["topic of bronze.orders"] == "not checked"
    assert "localhost:1" in found["brokers"]["detail"]
    assert "bootstrap.servers" in found["brokers"]["next_step"]
    planned = shop.json("plan")
    assert "localhost:1" in planned["landings"][0]["skipped"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[run]\nmax_row = 1\n", "max_rows"),
        ("[kafka\n", "not TOML"),
        ('[kafka]\n"sasl.password" = "{{ secret.GONE }}"\n', "LAKEFLOW_SECRET_GONE"),
        ('[kafka]\n"bootstrap.servers" = "${GONE}"\n', "GONE"),
    ],
)
def test_a_broken_configuration_is_told_alike_by_all(text: str, told: str, shop: Shop) -> None:
    shop.configure(text)
    found = checked(shop, code=2)
    assert list(found) == ["configuration"]
    assert told in found["configuration"]["detail"] + (found["configuration"]["next_step"] or "")
    for words in (("tables",), ("plan",), ("query", "SELECT 1"), ("runs",), ("status",), ("land",)):
        ran = shop(*words)
        assert ran.code == 2
        assert told in ran.err
        assert ran.out == ""


def test_an_unknown_target(shop: Shop) -> None:
    assert "did you mean 'demo'" in checked(shop, "--target", "demos", code=2)["configuration"]["detail"]
    ran = shop("jobs", "--target", "demos")
    assert (ran.code, ran.out) == (2, "")


def test_a_declaration_that_does_not_parse(shop: Shop) -> None:
    shop.declare("tables/broken.sql", "CREATE TABLE bronze.x (a STRNG);")
    found = checked(shop)
    assert found["declarations"]["state"] == "failed"
    assert "tables/broken.sql:1" in found["declarations"]["detail"]
    assert states(found)["catalog"] == "ok"


def test_a_model_that_is_not_there(shop: Shop) -> None:
    shop.declare(
        "tables/gone.sql",
        "CREATE MODEL gone INPUT (text STRING) OUTPUT (v ARRAY<FLOAT>) "
        "WITH ('provider' = 'onnx', 'task' = 'embedding', 'model_path' = 'models/gone');",
    )
    found = checked(shop)
    assert states(found)["model docs_embedding"] == "ok"
    assert found["model gone"]["state"] == "failed"
    assert "models/gone" in found["model gone"]["detail"]


def test_a_catalog_that_cannot_be_opened(shop: Shop) -> None:
    (shop.folder / "file").touch()
    shop.configure('[catalog]\nuri = "sqlite:///file/catalog.db"\n')
    found = checked(shop)
    assert states(found)["catalog"] == "failed"
    assert states(found)["warehouse"] == "not checked"


def test_a_catalog_of_a_kind_that_is_none(shop: Shop) -> None:
    shop.configure('[catalog]\ntype = "sqll"\n')
    found = checked(shop)
    assert "sqll" in found["catalog"]["detail"]
    assert "[catalog]" in found["catalog"]["next_step"]


def test_a_warehouse_and_an_index_folder_where_a_file_stands(shop: Shop) -> None:
    (shop.folder / "file").touch()
    shop.configure('[catalog]\nwarehouse = "file/warehouse"\n[index]\nuri = "file/index"\n')
    found = checked(shop)
    assert states(found)["warehouse"] == "failed"
    assert states(found)["index folder"] == "failed"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_warehouse_that_may_not_be_written(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o500)
    shop.configure(f'[catalog]\nwarehouse = "{tmp_path}/kept/warehouse"\n[index]\nuri = "{tmp_path}/kept/index"\n')
    found = checked(shop)
    assert states(found)["warehouse"] == "failed"
    assert states(found)["index folder"] == "failed"
