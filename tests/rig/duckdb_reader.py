"""Runs in DuckDB's own environment (tests/rig/duck.py): reads what is asked as JSON, writes the answer as Parquet."""

import json
import sys
from pathlib import Path

import duckdb

asked = json.load(sys.stdin)
packages = Path(duckdb.__file__).parents[1]
connection = duckdb.connect()
for extension in ("avro", "httpfs", "iceberg"):
    [file] = (packages / f"duckdb_extension_{extension}").rglob("*.duckdb_extension")
    connection.execute(f"LOAD '{file}'")
if storage := asked["storage"]:
    endpoint = storage["s3.endpoint"].partition("://")[2]
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{storage['s3.access-key-id']}', SECRET '{storage['s3.secret-access-key']}', "
        f"ENDPOINT '{endpoint}', REGION '{storage['s3.region']}', URL_STYLE 'path', USE_SSL false)"
    )
connection.execute("SET TimeZone = 'UTC'")
connection.execute(f"CREATE VIEW rows AS SELECT * FROM iceberg_scan('{asked['metadata']}')")
connection.execute(f"COPY ({asked['sql']}) TO '{asked['answer']}' (FORMAT parquet)")
