"""The rig itself: it starts what the repository names and nothing else, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.rig import cache
from tests.rig.cache import Missing, Spoiled
from tests.rig.process import NotReady, Process, answers, free_ports

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
