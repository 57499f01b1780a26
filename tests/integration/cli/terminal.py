"""The command line on a terminal of its own, typed at as its user would: a pseudo-terminal, and what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

SECONDS = 60.0
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07)")
TAB, ENTER, CTRL_C, CTRL_D, UP = "\t", "\r", "\x03", "\x04", "\x1b[A"


class Terminal:
    """A `lakeflow` command on a terminal of 30 lines of 100 characters. A context manager, which ends the command."""

    def __init__(self, *arguments: str, variables: Mapping[str, str], folder: Path) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("PAGER", "COLUMNS", "LINES")}
        environment |= {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **variables}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lakeflow", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._master = master
        self._shown = ""
        self._seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, *texts: str) -> str:
        """Wait until each has been shown, one behind the other, since the last that was waited for; all that was shown."""
        begin = self._seen
        for text in texts:
            while (at := self._plain().find(text, self._seen)) < 0:
                self._read(text)
            self._seen = at + len(text)
        return self._plain()[begin : self._seen]

    def code(self) -> int:
        """The exit code, once the command has ended."""
        return self._process.wait(SECONDS)

    def _plain(self) -> str:
        return ESCAPES.sub("", self._shown).replace("\r", "")

    def _read(self, wanted: str) -> None:
        end = time.monotonic() + SECONDS
        ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise AssertionError(f"{wanted!r} was not shown within {SECONDS:.0f} s; shown:\n{self._plain()[self._seen :]}")
        try:
            read = os.read(self._master, 65_536)
        except OSError:
            read = b""
        if not read:
            raise AssertionError(f"the command ended before {wanted!r} was shown:\n{self._plain()[self._seen :]}")
        self._shown += read.decode(errors="replace")
