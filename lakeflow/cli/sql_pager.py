"""Results that are longer than the terminal, by way of the user's pager."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys

from lakeflow.cli.output import note

PROMPT_LINES = 2
LESS = "FRSX"
"""Leaves by itself where all fits, shows colours, cuts long lines (arrows scroll), and leaves the text on the screen."""


def show(text: str, *, paged: bool) -> None:
    """Text on stdout; through the pager where it is `paged` and does not fit."""
    command = pager_command() if paged and is_long(text, *shutil.get_terminal_size()) else []
    if not command or not _page(command, text):
        sys.stdout.write(text)
        sys.stdout.flush()


def is_long(text: str, columns: int, lines: int) -> bool:
    """Whether a text does not fit a terminal of so many columns and lines."""
    found = text.splitlines()
    return len(found) > lines - PROMPT_LINES or any(len(line) > columns for line in found)


def pager_command() -> list[str]:
    """$PAGER, else less where there is one; none where $PAGER is empty."""
    said = os.environ.get("PAGER")
    if said is not None:
        return shlex.split(said)
    less = shutil.which("less")
    return [less] if less else []


def _page(command: list[str], text: str) -> bool:
    """Whether the pager took the text. Ctrl-C is the pager's while it runs."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        subprocess.run(command, input=text, text=True, check=False, env={"LESS": LESS, **os.environ})
    except OSError as error:
        note(f"the pager {command[0]!r} cannot be run: {error.strerror}; \\pager off leaves it out")
        return False
    finally:
        signal.signal(signal.SIGINT, previous)
    return True
