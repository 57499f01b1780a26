"""Opens the catalog; nowhere else does. `Lake` is what the other rooms hold of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table as Table
from pyiceberg.transforms import parse_transform
from sqlalchemy.exc import IntegrityError

from lakeflow.declare import SYSTEM_NAMESPACE as SYSTEM_NAMESPACE
from lakeflow.declare import TableSpec
from lakeflow.errors import CommitConflict, ConfigError, DeclarationError, UnknownName
from lakeflow.lake.commit_time import keep_in_order
from lakeflow.lake.declared import (
    DOC,
    NEW_TABLE_PROPERTIES,
    alteration,
    field_name,
    require_as_declared,
    transform_text,
)
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import AnsweringRestCatalog, forget_old_metadata
from lakeflow.lake.known import KnowingSqlCatalog, arrow_of, remember_readers
from lakeflow.lake.schema import require_columns, storable
from lakeflow.retry import Backoff, retrying

# Of two processes that open a new SQL catalog at once, one fails to make the tables that the other has just made.
OPEN_BACKOFF = Backoff(attempts=3, base=0.05, cap=0.2)

ALTER_BACKOFF = Backoff(attempts=8, base=0.02, cap=1.0)

logger = logging.getLogger("lakeflow.lake")


class Lake:
    """The tables of one catalog, by `namespace.table`."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    @staticmethod
    def open(properties: Mapping[str, str]) -> Lake:
        """Open the catalog that [catalog] describes; `properties` go to PyIceberg as they are.

        Raises ConfigError for properties that PyIceberg refuses, CatalogUnavailable where the catalog does not answer.
        """
        wanted = dict(properties)
        if wanted.get("type") == "sql" and wanted.get("uri", "").startswith("sqlite:///"):
            _prepare_sqlite(wanted)
        if wanted.get("type") == "rest":
            wanted["py-catalog-impl"] = f"{AnsweringRestCatalog.__module__}.{AnsweringRestCatalog.__qualname__}"
            del wanted["type"]
        if wanted.get("type") == "sql":
            wanted["py-catalog-impl"] = f"{KnowingSqlCatalog.__module__}.{KnowingSqlCatalog.__qualname__}"
            del wanted["type"]
        remember_readers()
        keep_in_order()
        name = wanted.pop("name", "lakeflow")

        def connect() -> Lake:
            with lake_errors("its tables"):
                return Lake(load_catalog(name, **wanted))

        try:
            return retrying(connect, OPEN_BACKOFF)
        except NotInstalledError as error:
            raise ConfigError(
                f"[catalog] of type {properties.get('type')!r} needs a driver that is not installed: {error}",
                next_step='pip install "lakeflow[postgres,s3]"',
            ) from error
        except (ValueError, TypeError, ImportError) as error:
            raise ConfigError(f"[catalog] cannot be opened: {error}", next_step="lakeflow doctor") from error

    def exists(self, name: str) -> bool:
        with lake_errors(f"table {name}"):
            return self.catalog.table_exists(name)

    def table(self, name: str) -> Table:
        """The table as it is now. Raises UnknownName, with the names that are there."""
        try:
            with lake_errors(f"table {name}"):
                return self.catalog.load_table(name)
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            raise UnknownName("table", name, self.names(), next_step="lakeflow tables") from error

    def find(self, name: str) -> Table | None:
        """The table as it is now; None where there is none. One look at the catalog, where `exists` and `table` are two."""
        try:
            with lake_errors(f"table {name}"):
                return self.catalog.load_table(name)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    def names(self) -> tuple[str, ...]:
        """Every table, sorted."""
        with lake_errors("the list of tables"):
            return tuple(
                sorted(
                    ".".join(table)
                    for namespace in self.catalog.list_namespaces()
                    for table in self.catalog.list_tables(namespace)
                )
            )

    def ensure(
        self, spec: TableSpec, properties: Mapping[str, str] | None = None, *, evolve: bool = False, wider: bool = False
    ) -> Table:
        """The table that `spec` declares, made where it is missing.

        With `evolve` a table that is there becomes what is declared, as far as docs/evolution.md allows. With `wider`
        too, it may hold more than is declared: columns that came with rows since.
        Raises SchemaMismatch where the table has other columns or another partitioning, showing both sides.
        """
        wanted = storable(spec.schema, f"table {spec.name}")
        _check_partitioning(spec, wanted)
        if not self.exists(spec.name):
            self._create(spec, _commented(wanted, spec.schema), properties or {})
        if evolve:
            return retrying(lambda: self._altered(spec, wanted, wider=wider), ALTER_BACKOFF)
        table = self.table(spec.name)
        require_as_declared(spec, wanted, table)
        return table

    def changes(self, spec: TableSpec, *, wider: bool = False) -> tuple[str, ...]:
        """What `ensure` with `evolve` would change of the table that is there, a line a change. Raises SchemaMismatch."""
        found = alteration(spec, storable(spec.schema, f"table {spec.name}"), self.table(spec.name), wider=wider)
        return () if found is None else found.changes

    def _altered(self, spec: TableSpec, wanted: pa.Schema, *, wider: bool) -> Table:
        """The table, altered in a commit of its own that holds no rows. Raises CommitConflict where another came first."""
        table = self.table(spec.name)
        found = alteration(spec, wanted, table, wider=wider)
        if found is None:
            return table
        with lake_errors(f"table {spec.name}"):
            try:
                answer = self.catalog.commit_table(table, found.layout.requirements, found.layout.updates)
            except CommitFailedException as error:
                raise CommitConflict(f"another commit to {spec.name} came first: {error}") from error
        forget_old_metadata(table, table.metadata, answer.metadata)
        for line in found.changes:
            logger.info("table %s: %s", spec.name, line)
        return self.table(spec.name)

    def drop(self, name: str) -> None:
        """Take a table out of the catalog. Its files stay where they are."""
        self.table(name)
        with lake_errors(f"table {name}"):
            self.catalog.drop_table(name)

    def _create(self, spec: TableSpec, schema: pa.Schema, properties: Mapping[str, str]) -> None:
        """Make the table, unless another process is first: what stands then is compared like any table that exists."""
        wanted = NEW_TABLE_PROPERTIES | dict(properties)
        if spec.comment:
            wanted["comment"] = spec.comment
        with lake_errors(f"table {spec.name}"):
            self.ensure_namespace(spec.name.rpartition(".")[0])
            try:
                transaction = self.catalog.create_table_transaction(spec.name, schema, properties=wanted)
                with transaction, transaction.update_spec() as update:
                    for part in spec.partitioning:
                        update.add_field(part.column, parse_transform(transform_text(part)), field_name(part))
            except (TableAlreadyExistsError, CommitFailedException):
                logger.debug("table %s was made by another process", spec.name)
            except ValueError as error:
                raise DeclarationError(f"{spec.origin}: table {spec.name} cannot be made: {error}") from error

    def ensure_namespace(self, namespace: str) -> None:
        """Make a namespace where it is missing."""
        try:
            self.catalog.create_namespace(namespace)
        except (NamespaceAlreadyExistsError, IntegrityError) as error:
            if not self.catalog.namespace_exists(namespace):
                raise
            logger.debug("namespace %s is there already: %s", namespace, error)


def arrow_schema(table: Table) -> pa.Schema:
    """The table's columns as Arrow, with field ids in the metadata: the schema that its data files are written in."""
    return arrow_of(table.schema())


def _commented(schema: pa.Schema, declared: pa.Schema) -> pa.Schema:
    """The columns as stored, with the comments of those that are declared."""
    comments = [(column.metadata or {}).get(DOC) for column in declared]
    return pa.schema(
        [
            column if comment is None else column.with_metadata({DOC: comment})
            for column, comment in zip(schema, comments, strict=True)
        ]
    )


def _check_partitioning(spec: TableSpec, schema: pa.Schema) -> None:
    columns = [part.column for part in spec.partitioning]
    require_columns(columns, schema, spec.name)
    for column in columns:
        if columns.count(column) > 1:
            raise DeclarationError(
                f"{spec.origin}: table {spec.name}: column {column!r} is there twice in PARTITIONED BY, "
                "which a declaration may have once; drop one of the two"
            )


def _prepare_sqlite(properties: dict[str, str]) -> None:
    """SQLite waits for a lock rather than fail, and the folder of its file is there."""
    uri = properties["uri"]
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    with lake_errors(f"the catalog file {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    if "timeout=" not in uri:
        properties["uri"] = f"{uri}{'&' if '?' in uri else '?'}timeout=30"
