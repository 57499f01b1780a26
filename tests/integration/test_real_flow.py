"""The whole flow by the commands, with every server real: Kafka, a catalog, tables and index in the object store."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector

from lakeflow.lake.catalog import Lake
from tests.integration.commands import Commands, project
from tests.lakes import query
from tests.rig.kafka import Kafka
from tests.rig.rig import Rig
from tests.rig.storage import BUCKET, SECRET_KEY

MODEL = Path(__file__).parents[2] / "examples" / "flights" / "models" / "docs-embedding"
T0 = 1_357_000_000_000
TEXTS = ("read a file line by line", "sort the items of a list", "open a socket to a server", "parse a date and a time")

TABLES = """
CREATE TABLE bronze.notes (id BIGINT NOT NULL, kind STRING NOT NULL, text STRING NOT NULL, noted TIMESTAMP_LTZ(6))
PARTITIONED BY (kind, day(noted))
WITH ('connector' = 'kafka', 'topic' = '{topic}', 'on_error' = 'dead_letter', 'commit.max-rows' = '150');

CREATE MODEL notes_embedding INPUT (text STRING) OUTPUT (embedding ARRAY<FLOAT>)
WITH ('provider' = 'onnx', 'task' = 'embedding', 'model_path' = '{model}');

CREATE VECTOR INDEX notes_index ON gold.embedded (embedding)
WITH ('key' = 'id', 'metric' = 'cosine', 'model' = 'notes_embedding', 'columns' = 'kind, text');
"""

JOBS = """
import polars as pl

import lakeflow as lf


@lf.job(target="gold.embedded", mode="incremental")
def embedded(notes=lf.Read("bronze.notes")) -> pl.LazyFrame:
    return lf.ml_embed(notes, "notes_embedding", "text", into="embedding")


@lf.job(target="gold.latest", key="kind")
def latest(notes=lf.Read("bronze.notes")) -> pl.LazyFrame:
    return notes.select("kind", "id")
"""

numbers = iter(range(100))


@pytest.fixture(params=["rest", "postgres"])
def catalog(request: pytest.FixtureRequest) -> dict[str, str]:
    server = request.getfixturevalue("rest_catalog" if request.param == "rest" else "postgres")
    request.getfixturevalue("storage")
    rig: Rig = request.getfixturevalue("rig")
    return dict(server.options()) if request.param == "rest" else {**rig.postgres_options(), "name": f"flow{next(numbers)}"}


def note(number: int) -> bytes:
    text = f"{TEXTS[number % len(TEXTS)]}, example {number}"
    noted = f"2013-01-0{1 + number % 3}T10:00:00Z"
    return json.dumps({"id": number, "kind": "ab"[number % 2], "text": text, "noted": noted}).encode()


def opened(folder: Path, catalog: dict[str, str], rig: Rig, topic: str) -> Commands:
    """A project that is told its secrets as a user would: in the environment, and only there."""
    shown = {name: text.replace(SECRET_KEY, "{{ secret.S3_SECRET_KEY }}") for name, text in catalog.items()}
    index = {name: text.replace(SECRET_KEY, "{{ secret.S3_SECRET_KEY }}") for name, text in rig.index_options().items()}
    settings = "\n".join(
        [
            '[project]\nname = "flow"',
            "[catalog]",
            *(f'"{name}" = "{text}"' for name, text in shown.items()),
            f'[kafka]\n"bootstrap.servers" = "{rig.kafka.bootstrap}"',
            f'[index]\nuri = "s3://{BUCKET}/{topic}"\n[index.storage]',
            *(f'{name} = "{text}"' for name, text in index.items()),
        ]
    )
    tables = TABLES.format(topic=topic, model=MODEL)
    return project(folder / "project", settings, tables, JOBS, LAKEFLOW_SECRET_S3_SECRET_KEY=SECRET_KEY)


def test_topic_to_table_to_job_to_index(catalog: dict[str, str], real_kafka: Kafka, rig: Rig, tmp_path: Path) -> None:
    topic = f"notes{next(numbers)}"
    real_kafka.create(topic, 3)
    flow = opened(tmp_path, catalog, rig, topic)
    real_kafka.produce(topic, [(None, note(number), number % 3, T0) for number in range(300)])
    real_kafka.produce(topic, [(b"bad", b'{"id": "no number"}', 0, T0)])

    (landed,) = flow.done("land")
    assert (landed["read"], landed["written"], landed["dead_lettered"]) == (301, 300, 1)
    assert {run["status"] for run in flow.done("run")} == {"done"}
    flow.done("index", "update")
    real_kafka.produce(topic, [(None, note(number), number % 3, T0) for number in range(300, 340)])
    flow.done("land")
    flow.done("run")
    flow.done("index", "update")

    lake = Lake.open(catalog)
    assert query(lake.table("gold.embedded"), "SELECT count(*), count(DISTINCT id), max(id) FROM rows") == [(340, 340, 339)]
    assert Counter(query(lake.table("gold.latest"), "SELECT kind FROM rows")) == {("a",): 1, ("b",): 1}
    assert flow.done("query", "SELECT count(*) AS n, sum(id) AS s FROM bronze.notes") == [{"n": 340, "s": sum(range(340))}]
    assert flow.done("query", "SELECT count(*) AS n FROM lakeflow.dead_letters WHERE key = 'bad'::BLOB") == [{"n": 1}]
    assert flow.done("query", "SELECT count(*) AS n FROM bronze.notes WHERE kind = 'a' AND noted < '2013-01-02'") == [
        {"n": len([number for number in range(340) if number % 2 == 0 and number % 3 == 0])}
    ]

    found = flow.done("search", "notes_index", "sort a list", "--top-k", "3")
    assert all("sort the items" in row["text"] for row in found)
    assert lake.table("bronze.notes").location().startswith(f"s3://{BUCKET}/")
    stored = rig.storage.files().get_file_info(FileSelector(f"{BUCKET}/{topic}", recursive=True))
    assert any(place.path.endswith(".lance") for place in stored)
    assert not list((tmp_path / "project").rglob("*.parquet")), "a table is on this machine's disk"


def test_the_doctor_finds_all_servers_and_tells_no_secret(
    catalog: dict[str, str], real_kafka: Kafka, rig: Rig, tmp_path: Path
) -> None:
    topic = f"notes{next(numbers)}"
    real_kafka.create(topic)
    ended = opened(tmp_path, catalog, rig, topic).run("doctor")
    assert ended.code == 0, ended.out + ended.err
    assert SECRET_KEY not in ended.out + ended.err
