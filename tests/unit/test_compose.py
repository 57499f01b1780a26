"""docker-compose.yml fits [target.servers], is reachable from this machine only and pins what it runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakeflow.config import Settings, settings_of

REPOSITORY = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
ONCE = {"bucket"}


def published() -> dict[int, str]:
    """Each port of this machine, with the service behind it."""
    return {int(port.split(":")[1]): name for name, service in SERVICES.items() for port in service.get("ports", [])}


def settings(target: str) -> Settings:
    document = tomllib.loads((REPOSITORY / "lakeflow.toml").read_text(encoding="utf-8"))
    storage, environment = SERVICES["storage"]["environment"], SERVICES["postgres"]["environment"]
    secrets = {
        "LAKEFLOW_SECRET_S3_ACCESS_KEY": storage["MINIO_ROOT_USER"],
        "LAKEFLOW_SECRET_S3_SECRET_KEY": storage["MINIO_ROOT_PASSWORD"],
        "LAKEFLOW_SECRET_POSTGRES_PASSWORD": environment["POSTGRES_PASSWORD"],
    }
    return settings_of(document, REPOSITORY, target, secrets)


@pytest.mark.parametrize("name", SERVICES)
def test_every_port_is_on_the_loopback_address_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert re.search(r"\d+\.\d+|RELEASE\.\d{4}-", tag)


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))
def test_every_server_says_when_it_is_ready(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_a_server_waits_for_those_it_needs(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        assert wait["condition"] == ("service_completed_successfully" if other in ONCE else "service_healthy")


def test_the_target_servers_names_the_published_ports() -> None:
    chosen = settings("servers")
    named = {
        "catalog": chosen.catalog["uri"],
        "storage": chosen.catalog["s3.endpoint"],
        "kafka": chosen.kafka_options()["bootstrap.servers"],
        "registry": chosen.registry["url"],
    }
    for service, address in named.items():
        host, _, port = address.rpartition("/")[2].partition(":")
        assert host in ("localhost", "127.0.0.1")
        assert published()[int(port)] == service
    assert chosen.index.storage["endpoint"] == chosen.catalog["s3.endpoint"]


def test_the_target_servers_names_the_warehouse_the_bucket_and_the_keys_of_the_storage() -> None:
    chosen = settings("servers")
    storage, catalog = SERVICES["storage"]["environment"], SERVICES["catalog"]["environment"]
    assert chosen.catalog["warehouse"] == catalog["CATALOG_WAREHOUSE"]
    assert chosen.catalog["s3.region"] == catalog["AWS_REGION"]
    assert (catalog["AWS_ACCESS_KEY_ID"], catalog["AWS_SECRET_ACCESS_KEY"]) == tuple(storage.values())
    assert (chosen.catalog["s3.access-key-id"], chosen.catalog["s3.secret-access-key"]) == tuple(storage.values())
    made = SERVICES["bucket"]["command"][0]
    for place in (chosen.catalog["warehouse"], chosen.index.uri):
        assert f"storage/{place.removeprefix('s3://').partition('/')[0]}" in made.split()


def test_the_target_postgres_names_the_database() -> None:
    environment = SERVICES["postgres"]["environment"]
    user, password, database = (environment[f"POSTGRES_{name}"] for name in ("USER", "PASSWORD", "DB"))
    assert settings("postgres").catalog["uri"] == f"postgresql+psycopg2://{user}:{password}@localhost:5432/{database}"
    assert published()[5432] == "postgres"
