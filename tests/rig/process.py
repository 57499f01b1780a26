"""A server as a process of its own on the loopback address, that ends with the rig or with this process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HOST = "127.0.0.1"
FIRST_PORT = 20_000
IANA_EPHEMERAL = 49_152
READY_SECONDS = 120.0
STOP_SECONDS = 10.0


class NotReady(Exception):
    """A server ended or did not answer in time; the message ends with its log's last lines."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, different ones; none that the system would hand to somebody else's connection."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            one = socket.socket()
            try:
                one.bind((HOST, random.randrange(FIRST_PORT, _first_of_the_systems())))
            except OSError:
                one.close()
            else:
                sockets.append(one)
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _first_of_the_systems() -> int:
    """Where the ports begin that the system gives to outgoing connections, and to who binds port 0."""
    known = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(known.read_text().split()[0]) if known.exists() else IANA_EPHEMERAL
    return first if first > FIRST_PORT + 1000 else 1 << 16


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((HOST, port)) == 0


def java(heap_mib: int, class_path: str) -> list[str]:
    """The command up to the main class: a small heap, a quick start."""
    return ["java", f"-Xmx{heap_mib}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path]


class Process:
    """One server process. `start` waits until `is_ready`; `stop` asks, then kills; `kill` is SIGKILL at once."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [*_until_we_end(user), *command]
        self._is_ready = is_ready
        self._environment = {**os.environ, **(environment or {})}
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def launch(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.log.parent,
                env=self._environment, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Returns once the server answers. Raises NotReady where it ends or stays silent for READY_SECONDS."""
        deadline = time.monotonic() + READY_SECONDS
        while (code := self._ended()) is not None or not self._is_ready():
            if code is not None or time.monotonic() > deadline:
                self.kill()
                said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                reason = f"ended with {code}" if code is not None else f"did not answer within {READY_SECONDS:g} s"
                raise NotReady(f"{self.name} {reason}; {self.log} ends:\n{said}")
            time.sleep(0.05)

    def _ended(self) -> int | None:
        """Asked before whether somebody answers: at our port that may be another server, while ours has given up."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        self.launch()
        self.wait()

    def stop(self) -> None:
        self._end(self._stop_signal, STOP_SECONDS)

    def kill(self) -> None:
        self._end(signal.SIGKILL, STOP_SECONDS)

    def pause(self, paused: bool) -> None:
        """SIGSTOP, or SIGCONT."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def _end(self, how: signal.Signals, seconds: float) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(seconds)


def _until_we_end(user: str | None) -> list[str]:
    """Where the system can, the server is killed when this process dies without stopping it; and runs as `user`."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return [] if user is None else ["runuser", "-u", user, "--"]
    as_user = [] if user is None else [f"--reuid={user}", f"--regid={user}", "--init-groups"]
    return [setpriv, *as_user, "--pdeathsig=KILL", "--"]
