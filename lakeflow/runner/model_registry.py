"""The registry of a project's models: what tables/ declares and what lakeflow.models holds, as one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakeflow.config import Settings
from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.fill import has_password, looks_secret
from lakeflow.models.spec import ModelSpec
from lakeflow.models.versions import Entry, History, Identified, Source, Version, decide, entry_of
from lakeflow.runner.load import filled_by_reference

if TYPE_CHECKING:
    from lakeflow.runner.model_log import ModelLog

_SECRET = re.compile(r"\{\{\s*secret\.\w+\s*\}\}")
_PARAMETER = re.compile(r"[?&](?P<name>[^=&#]+)=[^&#]")


class ModelRegistry:
    """See `Registry` of the models room. `tables` is what tables/ declares, by name."""

    def __init__(self, tables: Mapping[str, ModelDeclaration], settings: Settings, log: ModelLog) -> None:
        self._tables = tables
        self._settings = settings
        self._log = log

    def histories(self) -> Mapping[str, History]:
        found = self._log.histories()
        for name, history in found.items():
            if name in self._tables and history.declared is not None:
                raise DeclarationError(
                    f"{self._tables[name].origin}: model {name!r} is declared here and by lakeflow sql, in version "
                    f"{history.current}; a model has one place",
                    next_step=f'delete this declaration, or: lakeflow sql -e "DROP MODEL {name}"',
                )
        return found

    @property
    def declarations(self) -> Mapping[str, ModelDeclaration]:
        """What is declared under each name now, in tables/ or by a statement, as written. Raises as `histories` does."""
        by_statement = {name: history.declared for name, history in self.histories().items()}
        return {**self._tables, **{name: declared for name, declared in by_statement.items() if declared is not None}}

    def history(self, name: str) -> History:
        """What is known of a declared name. Raises UnknownName."""
        if name not in (known := self.declarations):
            raise UnknownName("model", name, known, next_step="lakeflow models")
        return self.histories().get(name, History())

    def declaration(self, name: str) -> ModelDeclaration:
        if name in self._tables:
            return self._tables[name]
        declared = self._log.histories()[name].declared
        assert declared is not None, "the name is declared in tables/ or by a statement"
        return declared

    def spec(self, version: Version) -> ModelSpec:
        return replace(spec_of(version.declaration, self._settings), version=version.number)

    def record(self, name: str, identified: Identified) -> int:
        declaration = self.declaration(name)
        source = Source.TABLES if name in self._tables else Source.STATEMENT
        refuse_secrets(declaration)

        def entry(found: Mapping[str, History]) -> Entry | None:
            return entry_of(found.get(name, History()), declaration, identified, source, datetime.now(UTC))

        self._log.append(entry)
        return decide(self._log.histories()[name], declaration, identified).version


def spec_of(declaration: ModelDeclaration, settings: Settings) -> ModelSpec:
    """The spec of a declaration, its options filled in. Raises ConfigError, and as `ModelSpec.from_declaration` does."""
    options = filled_by_reference(declaration.options, declaration.origin, settings)
    return ModelSpec.from_declaration(replace(declaration, options=options), settings.root)


def refuse_secrets(declaration: ModelDeclaration) -> None:
    """The registry holds options as written. Raises DeclarationError for a secret that stands in one as it is."""
    for name, text in declaration.options.items():
        bare = _SECRET.sub("", text)
        parameters = [found["name"] for word in bare.split() if "://" in word for found in _PARAMETER.finditer(word)]
        said = [parameter for parameter in parameters if looks_secret(parameter.replace("_", "-"))]
        if (looks_secret(name.replace("_", "-")) and bare.strip()) or has_password(bare) or said:
            what = f"a value for {said[0]!r}" if said else "a secret"
            raise DeclarationError(
                f"{declaration.origin}: option '{name}' of model {declaration.name!r} holds {what} in plain text, "
                "which the registry must not keep",
                next_step="write {{ secret.NAME }} in its place, and export LAKEFLOW_SECRET_NAME",
            )
