"""The dimensions of a run of a job in Python, as frames: tables as of its start, files, and rows of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, assert_never

import polars as pl

from lakeflow.errors import DeclarationError, JobFailed, UnknownName
from lakeflow.fill import Environment, fill, has_password
from lakeflow.lake.catalog import Lake
from lakeflow.lookup import Lookup, LookupFile, LookupPostgres, Outside
from lakeflow.runner.frames import read_up_to, scan
from lakeflow.runner.plan import JobPlan, Source, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeflow.runner.lookup_postgres import KeyedLookup

KEPT_LOOKUP_BYTES: Final = 64 << 20
KEPT_FILE_BYTES: Final = 8 << 20
"""The size up to which a file is read once for a run, and not by each part of it anew."""
SCANS: Final[Mapping[str, Callable[..., pl.LazyFrame]]] = {
    "csv": lambda path, **more: pl.scan_csv(path, try_parse_dates=True, **more),
    "tsv": lambda path, **more: pl.scan_csv(path, try_parse_dates=True, separator="\t", **more),
    "parquet": pl.scan_parquet,
    "ndjson": pl.scan_ndjson,
    "ipc": pl.scan_ipc,
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What dimensions outside of the lake are found by: the project's folder, the environment for secrets, the file properties
    of [catalog] for object storage."""

    root: Path = field(default_factory=Path)
    environment: Environment = field(default_factory=lambda: Environment({}))
    storage: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(slots=True)
class Lookups:
    """The lookups of a run, as of its start. They are read once and kept as long as there is room, else by each part."""

    sources: Sequence[Source]
    room: int = field(default_factory=lambda: KEPT_LOOKUP_BYTES)
    kept: dict[str, Any] = field(default_factory=dict)
    outside: Mapping[str, Outside] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)

    def frames(self) -> dict[str, pl.LazyFrame | KeyedLookup]:
        """What the job gets for each parameter. Raises JobFailed and UnknownName for what cannot be read."""
        for source in self.sources:
            if source.parameter not in self.kept:
                self.kept[source.parameter] = self._frame(source)
        for parameter, lookup in self.outside.items():
            if parameter not in self.kept:
                self.kept[parameter] = opened(lookup, self.surroundings)
        return dict(self.kept)

    def _frame(self, source: Source) -> pl.LazyFrame:
        rows = read_up_to(source.table, source.splits, self.room) if source.bytes <= self.room else None
        if rows is None:
            return scan(source.table, source.splits)
        self.room -= int(rows.estimated_size())
        return rows.lazy()


def as_of_now(plan: JobPlan, lake: Lake) -> JobPlan:
    """The plan with the lookups that are to be fresh as of now; itself where there is none, or none has changed."""
    fresh = {name for name, source in plan.job.inputs.items() if isinstance(source, Lookup) and source.fresh}
    if not fresh:
        return plan
    now = tuple(whole(one.parameter, lake.table(one.name)) if one.parameter in fresh else one for one in plan.lookups)
    return plan if [one.snapshot_id for one in now] == [one.snapshot_id for one in plan.lookups] else replace(plan, lookups=now)


def facts_of(plan: JobPlan, root: Path) -> dict[str, str]:
    """What a commit's summary says of the dimensions that its rows were joined to: a table's snapshot, a file's time."""
    facts = {f"lakeflow.lookup.{source.name}": str(source.snapshot_id or "empty") for source in plan.lookups}
    for lookup in plan.job.outside.values():
        if isinstance(lookup, LookupFile) and (local := local_path(lookup, root)) is not None and local.exists():
            written = datetime.fromtimestamp(local.stat().st_mtime, UTC)
            facts[f"lakeflow.lookup.{lookup.path}"] = f"{written.isoformat()}, {local.stat().st_size} bytes"
    return facts


def local_path(lookup: LookupFile, root: Path) -> Path | None:
    """Where a file lies on this machine; None for an address elsewhere, and for a pattern of several files."""
    if "://" in lookup.path or set("*?[") & set(lookup.path):
        return None
    return root / lookup.path


def opened(lookup: Outside, surroundings: Surroundings) -> pl.LazyFrame | KeyedLookup:
    """What a job gets for a dimension outside of the lake. Raises JobFailed, UnknownName, ConfigError, DeclarationError."""
    match lookup:
        case LookupFile():
            return _file(lookup, surroundings)
        case LookupPostgres():
            from lakeflow.runner.lookup_postgres import KeyedLookup, PostgresRows

            if has_password(re.sub(r":\s*\{\{\s*secret\.\w+\s*\}\}@", "@", lookup.url)):
                raise DeclarationError(
                    f"LookupPostgres({lookup.table!r}): url holds a password in plain text",
                    next_step="write {{ secret.NAME }} in its place, and export LAKEFLOW_SECRET_NAME",
                )
            url = fill(lookup.url, surroundings.environment, f"LookupPostgres({lookup.table!r})")
            rows = PostgresRows(lookup, url)
            return KeyedLookup(rows) if lookup.keys else rows.whole().lazy()
        case _:
            assert_never(lookup)


def _file(lookup: LookupFile, surroundings: Surroundings) -> pl.LazyFrame:
    local = local_path(lookup, surroundings.root)
    if local is not None and not local.exists():
        near = [one.name for one in local.parent.glob("*") if one.is_file()] if local.parent.is_dir() else []
        raise UnknownName("file, looked up by the job:", lookup.path, near)
    place = lookup.path if "://" in lookup.path else str(surroundings.root / lookup.path)
    more: dict[str, Any] = {"storage_options": _storage(surroundings.storage)} if place.startswith("s3://") else {}
    with reading(lookup.path):
        frame = SCANS[lookup.kind](place, **more)
        if local is not None and local.is_file() and local.stat().st_size <= KEPT_FILE_BYTES:
            return frame.collect().lazy()
        frame.collect_schema()
        return frame


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What Polars and the system say of a file that cannot be read, as JobFailed."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise JobFailed(
            f"the file {path!r}, which the job looks up, cannot be read: {str(error).splitlines()[0][:300]}",
            next_step="mend the file, or say its format: lf.LookupFile(path, format='csv')",
        ) from error


def _storage(properties: Mapping[str, str]) -> dict[str, str]:
    """The properties of PyIceberg's S3 files as Polars takes them."""
    names = {
        "s3.endpoint": "aws_endpoint_url",
        "s3.access-key-id": "aws_access_key_id",
        "s3.secret-access-key": "aws_secret_access_key",
        "s3.session-token": "aws_session_token",
        "s3.region": "aws_region",
    }
    given = {theirs: properties[ours] for ours, theirs in names.items() if ours in properties}
    plain = given.get("aws_endpoint_url", "").startswith("http://")
    return given | ({"aws_allow_http": "true"} if plain else {})
