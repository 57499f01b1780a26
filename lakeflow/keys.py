"""Every key of lakeflow.toml: one table, from which defaults, checks, messages and docs/configuration.md come."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from lakeflow.errors import ConfigError, did_you_mean

Value = str | int | float | bool | None


class Kind(StrEnum):
    """What a value may be. Seconds are numbers; a size is a count of bytes, or a text such as "64 MiB"."""

    TEXT = "text"
    LOCATION = "path or URI"
    INTEGER = "integer"
    NUMBER = "number"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Section:
    """A [section]. An open one takes any key, for it is handed to a library; its values become texts."""

    name: str
    doc: str
    open: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """One documented key. `default` is None where there is none; `low` and `high` bound numbers,
    both inclusive; a `high` comes with a `low`. `secret` is set where the value may hold one."""

    section: str
    name: str
    kind: Kind
    default: Value
    doc: str
    low: float | None = None
    high: float | None = None
    secret: bool = False

    @property
    def valid(self) -> str:
        """The valid values, in words."""
        if self.low is None:
            return str(self.kind)
        return (
            f"{self.kind}, {self.low:.15g} or more"
            if self.high is None
            else f"{self.kind}, {self.low:.15g} to {self.high:.15g}"
        )


SECTIONS = (
    Section("project", "The project itself."),
    Section("catalog", "Handed to PyIceberg: any of its catalog and file properties.", open=True),
    Section("kafka", "Handed to librdkafka: any of its client properties.", open=True),
    Section(
        "registry",
        "The Schema Registry, for formats that use one. Its keys are those of Confluent's clients: `basic.auth.user.info`, "
        "`bearer.auth.token`, `ssl.ca.location`, `ssl.certificate.location`, `ssl.key.location`, and `timeout` in seconds.",
        open=True,
    ),
    Section("index", "Where vector indexes are kept."),
    Section("index.storage", "Handed to LanceDB: options of the object store that holds the indexes.", open=True),
    Section(
        "models",
        "Where the answers of remote models are kept, and what a run may take of them at the most: one that reaches a limit "
        "stops before the next call, with exit code 1; the steps before it stay committed and its answers kept.",
    ),
    Section(
        "models.prices",
        "What a million tokens cost, by the service's own name of a model, in your own currency: "
        '`"gpt-4.1-mini" = { input = 0.4, output = 1.6 }`.',
        open=True,
    ),
    Section("run", "How much landings and jobs take at once, and when they commit."),
    Section(
        "start",
        "How `lakeflow start` keeps landings, jobs and indexes going in one process. "
        "A job takes memory as [run] has it, so all take "
        "`jobs` times as much at the most, and each landing its `buffer_bytes`.",
    ),
    Section(
        "maintain",
        "How `lakeflow maintain`, and `lakeflow land --follow` beside its landings, keep tables: small files are compacted, "
        "manifests merged, old snapshots dropped, and files deleted that nothing names.",
    ),
    Section("serve", "The HTTP search of `lakeflow serve`, and its bounds."),
    Section("secrets", "Where secrets are found beside the environment."),
)

_MiB = 1024**2

KEYS = (
    Key("project", "name", Kind.TEXT, None, "The project's name in reports and runs. Without it, the name of its folder."),
    Key("project", "demo", Kind.TEXT, None, "The Python script that `lakeflow demo` runs, seen from the project."),
    Key("catalog", "type", Kind.TEXT, "sql", "The kind of catalog: sql, rest, glue, hive, or another that PyIceberg knows."),
    Key(
        "catalog",
        "uri",
        Kind.TEXT,
        "sqlite:///.lakeflow/catalog.db",
        "Where the catalog is. The default holds for type sql; a relative SQLite path is seen from the project.",
    ),
    Key(
        "catalog",
        "warehouse",
        Kind.TEXT,
        ".lakeflow/warehouse",
        "Where data files go. The default holds for type sql; a relative path is seen from the project.",
    ),
    Key("kafka", "bootstrap.servers", Kind.TEXT, None, "The brokers, `host:port` with commas between. Landing needs it."),
    Key("registry", "url", Kind.TEXT, None, "Its address, or several with commas between, tried in this order."),
    Key("index", "uri", Kind.LOCATION, ".lakeflow/index", "The folder or bucket; a relative path is seen from the project."),
    Key(
        "models",
        "cache",
        Kind.LOCATION,
        ".lakeflow/answers.db",
        "What keeps paid answers: a SQLite file, which processes share (a relative path is seen from the project), or a "
        "database, which machines share: `postgresql://USER:{{ secret.NAME }}@HOST/DATABASE`, with the extra `postgres`.",
        secret=True,
    ),
    Key("models", "cache_days", Kind.NUMBER, 0.0, "How long an answer counts; 0 is for ever.", 0, 36_500),
    Key("models", "cache_bytes", Kind.SIZE, 4 * 1024 * _MiB, "What the answers may take; the oldest go first.", _MiB),
    Key(
        "models",
        "cache_journal",
        Kind.TEXT,
        "wal",
        "SQLite's journal: wal on a local disk, delete where machines share the file over a network.",
    ),
    Key("models", "max_calls", Kind.INTEGER, None, "Requests that a run may send, retries among them.", 0),
    Key("models", "max_tokens", Kind.INTEGER, None, "Tokens that a run may pay for, in and out.", 0),
    Key(
        "models", "max_cost", Kind.NUMBER, None, "What a run may cost, by the prices below; a model without one is refused.", 0
    ),
    Key(
        "run",
        "threads",
        Kind.INTEGER,
        0,
        "Workers of a job: each reads files, computes and writes. 0 is one for each processor.",
        0,
        1024,
    ),
    Key("run", "max_rows", Kind.INTEGER, 5_000_000, "Rows in one batch of an incremental run of a job.", 1),
    Key("run", "max_files", Kind.INTEGER, 1000, "Data files in one batch of an incremental run; it holds one at the least.", 1),
    Key("run", "max_bytes", Kind.SIZE, 512 * _MiB, "Bytes of data files in one batch of an incremental run.", 1),
    Key("run", "commit_rows", Kind.INTEGER, 1_000_000, "A landing commits when it holds this many rows,", 1),
    Key("run", "commit_bytes", Kind.SIZE, 128 * _MiB, "or this many bytes of records,", 1),
    Key("run", "commit_seconds", Kind.NUMBER, 60.0, "or when its oldest record waited this long.", 0.1, 86_400),
    Key(
        "run",
        "buffer_bytes",
        Kind.SIZE,
        64 * _MiB,
        "Bytes of rows that a landing, and each worker of a job, holds in memory before they go to a data file.",
        _MiB,
    ),
    Key("run", "memory_bytes", Kind.SIZE, 512 * _MiB, "Memory that relational SQL may take before it goes to disk.", 64 * _MiB),
    Key(
        "run",
        "target_file_bytes",
        Kind.SIZE,
        128 * _MiB,
        "The size that data files are written to, about.",
        1024,
    ),
    Key("run", "max_snapshots", Kind.INTEGER, 100, "Snapshots that a table keeps; a commit slows down with each.", 2, 10_000),
    Key("run", "poll_seconds", Kind.NUMBER, 0.5, "The longest wait for records before a landing looks at the clock.", 0.01, 60),
    Key(
        "run",
        "connect_seconds",
        Kind.NUMBER,
        10.0,
        "How long brokers may take to answer; `doctor`, `plan` and `status` wait for 3 seconds at the most.",
        0.1,
        600,
    ),
    Key(
        "run",
        "follow_seconds",
        Kind.NUMBER,
        10.0,
        "The interval at which `lakeflow run --follow` and `lakeflow start` look for new data.",
        0.1,
        86_400,
    ),
    Key("start", "jobs", Kind.INTEGER, 2, "Jobs and indexes that run at the same time.", 1, 64),
    Key(
        "start",
        "listen",
        Kind.TEXT,
        "127.0.0.1:8470",
        "Where health, readiness and metrics are served, `host:port`; off for nowhere. There is no password.",
    ),
    Key(
        "start",
        "attempts",
        Kind.INTEGER,
        20,
        "Failures in a row for something that may pass, after which a part is given up; "
        "the waits between them grow to a minute.",
        1,
        1_000_000,
    ),
    Key(
        "start",
        "most_ahead",
        Kind.INTEGER,
        0,
        "Rows that a landing may be ahead of the slowest job or index that reads its table, "
        "before it waits for it; 0 is no bound.",
        0,
    ),
    Key(
        "start",
        "stop_seconds",
        Kind.NUMBER,
        8.0,
        "How long what is under way may take to commit once a signal came; "
        "what has not by then is done anew at the next start.",
        0,
        3600,
    ),
    Key(
        "maintain",
        "interval_seconds",
        Kind.NUMBER,
        3600.0,
        "The interval of `lakeflow maintain --follow`, and of the same beside `lakeflow land --follow` "
        "and in `lakeflow start`; 0 is none there.",
        0,
        2_592_000,
    ),
    Key(
        "maintain",
        "compact_below_bytes",
        Kind.SIZE,
        32 * _MiB,
        "Files smaller than this are compacted into files of `target_file_bytes` of [run]; 0 compacts none.",
        0,
    ),
    Key("maintain", "compact_files", Kind.INTEGER, 4, "So many of them that follow each other are worth it.", 2, 1000),
    Key("maintain", "manifests", Kind.INTEGER, 20, "Small manifests that a table may have before they are merged.", 1, 10_000),
    Key("maintain", "keep_snapshots", Kind.INTEGER, 100, "The most snapshots that stay; the newest always does.", 1, 10_000),
    Key(
        "maintain",
        "snapshot_hours",
        Kind.NUMBER,
        120.0,
        "Older snapshots go, and the files that only they named; not those that a job or an index has still to pass.",
        0,
        876_000,
    ),
    Key(
        "maintain",
        "orphan_hours",
        Kind.NUMBER,
        72.0,
        "Files below a table's location that are older, and that nothing names, are deleted.",
        1,
        876_000,
    ),
    Key("serve", "listen", Kind.TEXT, "127.0.0.1:8480", "Where it listens, `host:port`; beyond loopback it needs a token."),
    Key("serve", "token", Kind.TEXT, None, "What callers show as `Authorization: Bearer`: a secret.", secret=True),
    Key("serve", "max_body_bytes", Kind.SIZE, _MiB, "The body of a request.", 1024, 1024 * _MiB),
    Key("serve", "max_k", Kind.INTEGER, 1000, "Hits of a query.", 1, 10_000),
    Key("serve", "max_queries", Kind.INTEGER, 64, "Queries in a request.", 1, 10_000),
    Key("serve", "max_requests", Kind.INTEGER, 8, "Searches at the same time; more are turned away with 503.", 1, 1024),
    Key("serve", "seconds", Kind.NUMBER, 30.0, "How long a search may take, and a caller to send its request.", 0.1, 3600),
    Key("secrets", "dir", Kind.LOCATION, None, "A folder with one file a secret, such as /run/secrets."),
)


def section(name: str, where: str) -> Section:
    """The section `name`. Raises ConfigError naming `where`, the nearest section and all of them."""
    for one in SECTIONS:
        if one.name == name:
            return one
    raise ConfigError(f"{where}: unknown section [{name}]{did_you_mean(name, [one.name for one in SECTIONS])}")


def keys_of(section_name: str) -> Iterator[Key]:
    """The documented keys of a section."""
    return (key for key in KEYS if key.section == section_name)


def key(section_name: str, name: str, where: str) -> Key:
    """The key `name` of a closed section. Raises ConfigError naming `where`, the nearest key and all of the section's."""
    for one in keys_of(section_name):
        if one.name == name:
            return one
    known = [one.name for one in keys_of(section_name)]
    raise ConfigError(f"{where}: unknown key {name!r} in [{section_name}]{did_you_mean(name, known)}")


def checked(key: Key, value: object, where: str, *, from_text: bool = False) -> Value:
    """`value` as the key's kind. Raises ConfigError naming `where`, key, value and what is valid.

    `from_text` is set for a text that the environment filled in, which may spell a number.
    """
    number = _number(key, value, from_text)
    if number is not None:
        if (key.low is None or number >= key.low) and (key.high is None or number <= key.high):
            return number
    elif key.kind in (Kind.TEXT, Kind.LOCATION) and isinstance(value, str) and value:
        return value
    raise ConfigError(f"{where}: {key.name} in [{key.section}] is {value!r}; valid: {key.valid}")


def _number(key: Key, value: object, from_text: bool) -> int | float | None:
    match key.kind:
        case Kind.TEXT | Kind.LOCATION:
            return None
        case Kind.INTEGER:
            spelt = int(value) if from_text and isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value) else value
            return spelt if isinstance(spelt, int) and not isinstance(spelt, bool) else None
        case Kind.NUMBER:
            spelt = float(value) if from_text and isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) else value
            return float(spelt) if isinstance(spelt, int | float) and not isinstance(spelt, bool) else None
        case Kind.SIZE:
            return _bytes(value)
    assert_never(key.kind)


_UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": _MiB, "GiB": 1024**3}


def _bytes(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,15})\s*([KMG]i?B|B|)", value)):
        return int(found[1]) * _UNITS[found[2]]
    return None


_INTRODUCTION = """\
# Configuration

A project is a folder with a `lakeflow.toml`. Every command looks for it from the current folder upward, or takes
`--project DIR`. An unknown section or key, a value of another type and one out of range are errors (exit code 2);
`lakeflow doctor` shows each value and where it came from. Every key may be left out. (This page is generated from
`lakeflow/keys.py`: run `make docs` after a change there.)

## Values
- `${NAME}` in a text is the environment variable NAME; `${NAME:-default}` is the default where it is unset or empty. A
  number may be given that way too: `max_rows = "${ROWS:-100000}"`. `$${` stands for `${` itself.
- `{{ secret.NAME }}` is a secret: the environment variable `LAKEFLOW_SECRET_NAME`, else the content of the file named by
  `LAKEFLOW_SECRET_NAME_FILE`, else the file NAME in the folder of `[secrets] dir`. Upper and lower case count. It stands in
  open sections, in `cache` of [models] and in the WITH options of declarations, and is printed nowhere: not in messages,
  logs, reports or tables.
- Values of keys that are named like secrets (password, secret, token, credential, sasl, access key ..) are not printed either.
- A size is a count of bytes, or a text such as `"64 MiB"` or `"1 GB"`.
- Sections marked open take any key of the library that they are handed to, with the library's own documentation; dots may
  be written plainly (`bootstrap.servers = ".."`), and numbers and booleans are handed on as text.

## Targets
`[target.NAME.SECTION]` holds what differs in one environment, chosen by `--target NAME`:

    [catalog]
    type = "sql"

    [target.servers.catalog]
    type = "rest"
    uri = "http://localhost:8181"

In a closed section, each key of the target replaces that key. An open section is replaced **whole**: what is left of one
kind of catalog would break another. A section that the target does not name stays as it is.
"""


def documentation() -> str:
    """The text of docs/configuration.md."""
    parts = [_INTRODUCTION]
    for one in SECTIONS:
        parts.append(f"## [{one.name}]{' (open)' if one.open else ''}\n{one.doc}\n")
        if rows := [_row(key) for key in keys_of(one.name)]:
            parts.append("\n".join(["| key | default | valid | meaning |", "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _row(key: Key) -> str:
    return f"| `{key.name}` | {_default(key)} | {_valid(key)} | {key.doc} |"


def _default(key: Key) -> str:
    if key.default is None:
        return "none"
    return f"`{_size(key.default)}`" if key.kind is Kind.SIZE else f"`{key.default}`"


def _valid(key: Key) -> str:
    if key.kind is Kind.SIZE and key.low is not None:
        return f"size, {_size(int(key.low))} or more"
    return key.valid


def _size(count: Value) -> str:
    return f"{count // _MiB} MiB" if isinstance(count, int) and count >= _MiB and not count % _MiB else f"{count} B"
