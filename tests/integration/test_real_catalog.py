"""The commit protocol over real catalogs and a real object store, and the whole flow on them by the commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyarrow.fs import FileSelector

from lakeflow.errors import CatalogUnavailable, SourceChanged, StorageUnavailable
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import Change, ProgressFence, SnapshotFence, fence_for
from lakeflow.lake.moments import at_ref
from lakeflow.lake.publish import AuditedCommitter
from lakeflow.lake.read import Snapshot
from tests.commit_systems import FaultyCatalog, RealSystem, System
from tests.contract.test_commit_processes import race_in_processes
from tests.contract.test_commit_protocol import TestEveryImplementation as TestEveryImplementation
from tests.contract.test_commit_protocol import TestRealCatalogs as TestRealCatalogs
from tests.contract.test_commit_protocol import step
from tests.lakes import NAME, append, id_rows, ids, live_paths, made, path_of, stored_files
from tests.rig.catalog import RestCatalog
from tests.rig.proxy import Fault, Proxy
from tests.rig.rig import Rig
from tests.rig.storage import Storage

SERVERS = ("rest", "postgres")
COMMIT_FILES = 3
Options = dict[str, str]

numbers = iter(range(1000))


@pytest.fixture(params=SERVERS)
def catalog(request: pytest.FixtureRequest) -> Options:
    """[catalog] of an empty lake."""
    if request.param == "rest":
        server: RestCatalog = request.getfixturevalue("rest_catalog")
        empty(server.options(), request.getfixturevalue("storage"))
        return server.options()
    request.getfixturevalue("postgres")
    request.getfixturevalue("storage")
    rig: Rig = request.getfixturevalue("rig")
    options = rig.postgres_options()
    name = f"lake{next(numbers)}"  # a catalog of its own in the same database
    return {**options, "name": name, "warehouse": f"{options['warehouse']}/{name}"}


def empty(options: Options, storage: Storage) -> None:
    """Without tables, and without the files that dropped ones leave."""
    lake = Lake.open(options)
    for name in lake.names():
        lake.drop(name)
    place = options["warehouse"].removeprefix("s3://")
    for found in storage.files().get_file_info(FileSelector(place, allow_not_found=True)):
        storage.files().delete_dir(found.path)


@pytest.fixture
def real(catalog: Options) -> Iterator[RealSystem]:
    """Whatever a test does to it, at the end every file that the table refers to is there."""
    lake = Lake.open(catalog)
    made(lake)
    system = RealSystem(lake, fence_for(lake), FaultyCatalog(lake.catalog))
    yield system
    assert {path_of(path) for path in live_paths(system.table())} <= stored_files(system.table())


@pytest.fixture
def system(real: RealSystem) -> System:
    return real


def test_the_fence_is_the_catalogs(catalog: Options) -> None:
    expected = SnapshotFence if catalog["type"] == "rest" else ProgressFence
    assert isinstance(fence_for(Lake.open(catalog)), expected)


def test_of_two_processes_from_one_start_one_lands(catalog: Options) -> None:
    race_in_processes(catalog, "snapshot fence" if catalog["type"] == "rest" else "progress fence")


def test_a_commit_waits_on_a_branch_until_it_is_looked_at(real: RealSystem) -> None:
    refused = SourceChanged("not as expected")

    def refuse(table: Table, snapshot: Snapshot, change: Change) -> None:
        assert at_ref(table, "audit")[1] == snapshot
        raise refused

    real.commits().commit(step(real, None, "a", 1))
    with pytest.raises(SourceChanged):
        AuditedCommitter(real.commits(), "audit", refuse).commit(step(real, "a", "b", 2))
    assert (real.rows(), real.commits().progress(NAME, "landing")) == ([1], "a")
    AuditedCommitter(real.commits(), "audit", lambda table, snapshot, change: None).commit(step(real, "a", "b", 3))
    assert (real.rows(), real.commits().progress(NAME, "landing"), list(real.table().metadata.refs)) == ([1, 3], "b", ["main"])


class TestLostAnswers:
    """Between lakeflow and the catalog a proxy loses, refuses and repeats: real sockets, the catalog's own answers."""

    @pytest.fixture
    def proxy(self, rest_catalog: RestCatalog, storage: Storage) -> Iterator[Proxy]:
        empty(rest_catalog.options(), storage)
        with Proxy(rest_catalog.uri) as opened:
            yield opened

    @pytest.fixture
    def behind(self, proxy: Proxy, rest_catalog: RestCatalog) -> RealSystem:
        lake = Lake.open({**rest_catalog.options(), "uri": proxy.uri})
        made(lake)
        return RealSystem(lake, fence_for(lake), FaultyCatalog(lake.catalog))

    @pytest.mark.parametrize(
        ("fault", "attempts"),
        [(Fault.LOST, 1), (Fault.UNKNOWN, 1), (Fault.REFUSED, 2), (Fault.CUT, 2), (Fault.TWICE, 1)],
    )
    def test_whatever_is_lost_the_change_lands_once(
        self, proxy: Proxy, behind: RealSystem, fault: Fault, attempts: int
    ) -> None:
        behind.commits().commit(step(behind, None, "a", 1))
        proxy.faults.append(fault)
        done = behind.commits().commit(step(behind, "a", "b", 2))
        assert not proxy.faults, "the commit went past the proxy's fault"
        assert (behind.rows(), behind.snapshots(), done.attempts) == ([1, 2], 2, attempts)
        assert behind.head() == done.snapshot_id

    def test_faults_in_a_row(self, proxy: Proxy, behind: RealSystem) -> None:
        start: str | None = None
        met = 0
        for turn, fault in enumerate([Fault.CUT, Fault.LOST, Fault.REFUSED, Fault.UNKNOWN, Fault.TWICE, Fault.CUT] * 2):
            proxy.faults.extend([fault, Fault.REFUSED] if turn % 2 else [fault])
            behind.commits(6).commit(step(behind, start, str(turn), turn))
            met += (2 if turn % 2 else 1) - len(proxy.faults)
            proxy.faults.clear()
            start = str(turn)
        assert (behind.rows(), behind.snapshots()) == (list(range(12)), 12)
        assert met >= 12


class TestServersAway:
    def test_a_catalog_that_is_away_is_the_catalog(self) -> None:
        with pytest.raises(CatalogUnavailable, match="the catalog did not answer"):
            Lake.open({"type": "rest", "uri": "http://127.0.0.1:1"})

    def test_a_database_that_is_away_is_the_catalog(self) -> None:
        with pytest.raises(CatalogUnavailable, match="the catalog did not answer"):
            Lake.open({"type": "sql", "uri": "postgresql+psycopg2://lakeflow:no@127.0.0.1:1/lakeflow", "warehouse": "s3://x/y"})

    def test_a_store_that_is_not_there_lands_nothing(self, catalog: Options) -> None:
        lake = Lake.open(catalog)
        table = made(lake)
        append(lake, ids(1))
        away = {**catalog, "s3.endpoint": "http://127.0.0.1:1", "s3.connect-timeout": "1", "s3.request-timeout": "1"}
        with pytest.raises((StorageUnavailable, CatalogUnavailable)):
            append(Lake.open(away), ids(2))
        append(lake, ids(3))
        assert id_rows(lake.table(NAME)) == [1, 3]
        assert table.location().startswith("s3://")
