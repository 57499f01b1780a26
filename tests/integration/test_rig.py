"""The rig itself: it starts what the repository names and nothing else, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar, cast

import pytest

from tests.rig import cache, parts
from tests.rig.cache import Missing, Spoiled
from tests.rig.fixtures import pytest_collection_modifyitems
from tests.rig.process import HOST, NotReady, Process, answers, free_ports
from tests.rig.rig import TRIES, Rig

SECONDS = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, with one thing recorded."""
    monkeypatch.setenv("LAKEFLOW_RIG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "CHECKSUMS", tmp_path)
    monkeypatch.setattr(cache, "tool", lambda name, package: name)
    jars = cache.jars_folder("thing")
    jars.mkdir(parents=True)
    (jars / "a.jar").write_bytes(b"a")
    cache.record("thing", cache.digests(jars))
    return jars


def test_what_is_as_recorded_is_used(folder: Path) -> None:
    assert cache.jars("thing") == f"{folder}/*"


def test_what_was_changed_added_or_removed_is_refused(folder: Path) -> None:
    (folder / "b.jar").write_bytes(b"b")
    with pytest.raises(Spoiled, match=r"b\.jar"):
        cache.jars("thing")
    (folder / "b.jar").unlink()
    (folder / "a.jar").write_bytes(b"other")
    with pytest.raises(Spoiled, match=r"a\.jar"):
        cache.jars("thing")
    (folder / "a.jar").unlink()
    with pytest.raises(Spoiled, match=r"a\.jar"):
        cache.jars("thing")


def test_what_was_not_fetched_is_missing_and_says_how_to_fetch_it(folder: Path) -> None:
    with pytest.raises(Missing, match="make rig"):
        cache.jars("other")


def test_a_program_that_is_not_there_is_missing_with_its_package() -> None:
    with pytest.raises(Missing, match="apt-get install some-package"):
        cache.tool("no-such-program", "some-package")


def listening(port: int) -> list[str]:
    return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]


def test_a_process_is_ready_when_it_answers_and_gone_when_it_is_stopped(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    server = Process("server", listening(port), tmp_path / "log", lambda: answers(port))
    server.start()
    assert answers(port)
    server.stop()
    server.stop()
    assert not answers(port)


def test_a_process_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    server = Process("server", [sys.executable, "-c", "raise SystemExit('no luck')"], tmp_path / "log", lambda: False)
    with pytest.raises(NotReady, match=r"(?s)server ended with 1; .*no luck"):
        server.start()


def test_a_process_that_ended_is_not_ready_though_another_answers_at_its_port(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        server = Process("server", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log", lambda: answers(port))
        server.launch()
        assert server.pid is not None
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NotReady, match="ended with 3"):
            server.wait()


@pytest.mark.skipif(not Path("/proc/sys/net/ipv4/ip_local_port_range").exists(), reason="only Linux tells its own ports")
def test_ports_are_none_that_the_system_gives_away() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < first


class Unlucky:
    """A server that does not come up for the first `times`."""

    tried: ClassVar[list[Path]] = []

    def __init__(self, folder: Path, times: int) -> None:
        self.tried.append(folder)
        self._times = times

    def start(self) -> None:
        if len(self.tried) <= self._times:
            raise NotReady(f"no luck {len(self.tried)}")

    def stop(self) -> None:
        pass


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("LAKEFLOW_RIG_CACHE", str(tmp_path))
    Unlucky.tried.clear()
    with Rig() as opened:
        yield opened


def test_a_server_that_does_not_come_up_is_tried_again_in_a_place_of_its_own(rig: Rig) -> None:
    server = rig.started("server", lambda folder: Unlucky(folder, TRIES - 1))
    assert len(set(Unlucky.tried)) == TRIES
    assert rig.started("server", lambda folder: Unlucky(folder, 0)) is server


def test_a_server_that_never_comes_up_says_why(rig: Rig) -> None:
    with pytest.raises(NotReady, match=f"no luck {TRIES}"):
        rig.started("server", lambda folder: Unlucky(folder, TRIES))


def test_the_ends_of_logs_are_told_by_their_places(rig: Rig) -> None:
    (rig.folder / "kafka" / "kafka1").mkdir(parents=True)
    (rig.folder / "kafka" / "kafka1" / "log").write_text("".join(f"line {number}\n" for number in range(100)))
    [(name, end)] = rig.logs().items()
    assert (name, end.splitlines()[0], end.splitlines()[-1]) == ("kafka/kafka1/log", "line 70", "line 99")


def test_a_server_waits_until_the_cache_is_filled(rig: Rig) -> None:
    done: list[str] = []

    def ask() -> None:
        rig.started("server", lambda folder: Unlucky(folder, 0))
        done.append("started")

    with ThreadPoolExecutor(1) as pool:
        with cache.locked(cache.FETCHING):
            asked = pool.submit(ask)
            time.sleep(0.2)
            done.append("filled")
        asked.result(SECONDS)
    assert done == ["filled", "started"]


def test_what_could_not_be_fetched_is_told_and_stops_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise Missing("not to be had")

    monkeypatch.setenv("LAKEFLOW_RIG_CACHE", str(tmp_path))
    monkeypatch.setattr(parts, "PARTS", {"a": parts.Part(refuse, "one"), "b": parts.Part(lambda: None, "one")})
    assert [(one.name, one.missing) for one in parts.fetch(["a", "b"])] == [("a", "not to be had"), ("b", None)]


def test_fetching_needs_no_package() -> None:
    """.ci/run begins it before anything is installed."""
    seen = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import tests.rig.__main__"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 0, seen.stderr


@dataclass(frozen=True, slots=True)
class Item:
    """What the ordering asks of a test."""

    name: str
    fixturenames: tuple[str, ...] = ()
    module: ModuleType = json  # one that has nothing of the rig
    groups: list[str] = field(default_factory=list)

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.groups.extend(mark.args)


def test_tests_with_servers_come_last_and_in_one_process_and_the_others_stay_in_order() -> None:
    this = sys.modules[__name__]
    items = [Item("a", ("rig", "x")), Item("b"), Item("c", (), this), Item("d", ("tmp_path",)), Item("e", ("rig",))]
    pytest_collection_modifyitems(cast(list[pytest.Item], items))
    assert [item.name for item in items] == ["b", "d", "a", "c", "e"]
    assert [item.groups for item in items] == [[], [], ["servers"], ["servers"], ["servers"]]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a process with its parent")
def test_servers_end_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    program = f"""
import time
from pathlib import Path
from tests.rig.process import Process, answers
Process("server", {listening(port)!r}, Path({str(tmp_path / "log")!r}), lambda: answers({port})).start()
time.sleep({SECONDS})
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    try:
        wait_until(port, there=True)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_until(port, there=False)


def wait_until(port: int, there: bool) -> None:
    deadline = time.monotonic() + SECONDS
    while answers(port) is not there:
        assert time.monotonic() < deadline
        time.sleep(0.05)
