"""Where statements are typed: history, several lines, completion."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle

from lakeflow.cli.output import note
from lakeflow.cli.sql_commands import is_whole
from lakeflow.cli.sql_complete import Names, proposals

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import AnyFormattedText

HISTORY_FILE = "sql_history"


class Proposing(Completer):
    """What `proposals` proposes, as prompt_toolkit asks for it."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        from lakeflow.sql.vocabulary import function_names

        for one in proposals(document.text, document.cursor_position, self._names, function_names):
            yield Completion(one.text, start_position=-one.replaced, display_meta=one.kind)


class KeptStatements(FileHistory):
    """History in a file. What begins with a blank is not kept, as in shells."""

    def store_string(self, string: str) -> None:
        if not string.startswith(" "):
            super().store_string(string)


def state_folder() -> Path:
    """Where the user's state of lakeflow is: XDG's folder for it, or that of Windows."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lakeflow"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "lakeflow"


def history() -> History:
    """The user's history, which nobody else can read. Where it cannot be kept, that of this shell alone."""
    file = state_folder() / HISTORY_FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError as error:
        note(f"the history of statements is not kept: {file}: {error.strerror}")
        return InMemoryHistory()
    return KeptStatements(str(file))


def prompt_of(names: Names, target: str | None) -> PromptSession[str]:
    """What asks for statements. Its `prompt` raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C."""
    head = f"lakeflow[{target}]> " if target else "lakeflow> "

    def behind(width: int, line: int, wrapped: int) -> AnyFormattedText:
        return "... ".rjust(width)

    return PromptSession(
        head,
        multiline=True,
        prompt_continuation=behind,
        history=history(),
        completer=ThreadedCompleter(Proposing(names)),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE if os.environ.get("TERM") == "dumb" else CompleteStyle.COLUMN,
        key_bindings=_keys(),
        enable_history_search=False,
    )


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: KeyPressEvent) -> None:
        """Take the completion that is chosen; else run what is whole, or begin another line."""
        buffer = get_app().current_buffer
        state = buffer.complete_state
        if state is not None and state.current_completion is not None:
            buffer.apply_completion(state.current_completion)
        elif is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return keys
