"""The protocol that every provider of models keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from lakeflow.models.spec import ModelSpec


class Provider(Protocol):
    """One opened model. Made from its spec, checked once, asked from any number of threads, closed.

    The constructor opens nothing and imports nothing heavy: it is called to check a declaration. It raises UnknownName
    for an option or a task that it does not know and DeclarationError for an option's value that cannot be meant.
    """

    def __init__(self, spec: ModelSpec) -> None: ...

    def identity(self) -> Mapping[str, str | Path]:
        """What decides the answers: options by name, artifacts by a name and the path that holds their bytes.

        May be called before `check`. Options that change only speed are not in it. Raises ModelError where a folder
        that names the artifacts is missing.
        """
        ...

    def check(self) -> None:
        """Opens everything. Called before any row is read; after it, `predict` fails for reasons of the rows alone.

        Raises ModelError where the artifacts are missing or do not fit the declaration; may be called again.
        """
        ...

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The OUTPUT columns for rows of exactly the INPUT columns, the same length and order, empty ones too.

        The answers to a row do not depend on the rows beside it. Called from several threads at once. Raises
        ModelError, or ProviderUnavailable where asking again may help.
        """
        ...

    def close(self) -> None:
        """Lets go of everything; may be called again, and without a `check` before it."""
        ...
