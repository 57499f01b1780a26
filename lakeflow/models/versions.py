"""Versions of models: what the registry knows, and what a declaration comes to beside it. Pure.

The registry is a log of entries, in order: a version was made, its options that change only speed were stated anew, a
default was set, a model was renamed or dropped. `histories` folds it into what is known of each name.

A model's INPUT and OUTPUT stay as they are under one name. Whatever else decides the answers, by the model's fingerprint,
makes a version. A declaration whose fingerprint is that of an earlier version stands for that version again, so that two
processes with two declarations do not make versions in turns. A version's number is never given again, not even after DROP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import assert_never

import pyarrow as pa

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, ModelError, UnknownName, UsageError

DEFAULT_VERSION = "default_version"
"""The option of ALTER MODEL that says which version a name without one means."""
ALL = "all"


class Event(StrEnum):
    """What an entry of the registry tells."""

    VERSION = "version"
    OPTIONS = "options"
    DEFAULT = "default"
    RENAME = "rename"
    DROP = "drop"


class Source(StrEnum):
    """Where a model is declared: in tables/, or by a statement that `lakeflow sql` ran."""

    TABLES = "tables"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True)
class Identified:
    """What decides a model's answers: its fingerprint, and in it the SHA-256 of each artifact by name, both in hex."""

    fingerprint: str
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model. `declaration` is as written, secrets unfilled."""

    number: int
    declaration: ModelDeclaration
    identified: Identified
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the registry. `version` is made by VERSION, stated anew by OPTIONS, the default by DEFAULT (None: none).

    VERSION and OPTIONS have a source, a declaration and what it comes to, RENAME a new name.
    """

    event: Event
    name: str
    at: datetime
    version: int | None = None
    source: Source | None = None
    declaration: ModelDeclaration | None = None
    identified: Identified | None = None
    renamed_to: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What the registry knows of one name. `current` was declared last, `last` is the highest number ever given."""

    versions: Mapping[int, Version] = field(default_factory=dict)
    current: int | None = None
    default: int | None = None
    last: int = 0
    source: Source | None = None

    @property
    def is_live(self) -> bool:
        """Whether there is a version; not after DROP and RENAME."""
        return bool(self.versions)

    @property
    def declared(self) -> ModelDeclaration | None:
        """The last declaration by a statement; None where there is none, or tables/ has it."""
        return self.versions[self.current].declaration if self.current and self.source is Source.STATEMENT else None


@dataclass(frozen=True, slots=True)
class Known:
    """The declaration is that of a version."""

    version: int


@dataclass(frozen=True, slots=True)
class Due:
    """The declaration is to be made a version. `why` is a sentence for people."""

    version: int
    why: str


Decision = Known | Due


@dataclass(frozen=True, slots=True)
class Reference:
    """A model as it is asked for: `m`, `m$2`, `m$all`."""

    name: str
    version: int | None = None
    every: bool = False

    def __str__(self) -> str:
        return f"{self.name}${ALL}" if self.every else self.name if self.version is None else f"{self.name}${self.version}"


def reference(text: str) -> Reference:
    """The model and version that a text names. Raises UsageError for a `$` with no version behind it."""
    name, dollar, version = text.rpartition("$")
    if not dollar:
        return Reference(text)
    if name and version == ALL:
        return Reference(name, every=True)
    if not name or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise UsageError(f"{text!r} names no version of a model; valid: m, m$2, m$all", next_step="lakeflow models")
    return Reference(name, int(version))


def histories(entries: Iterable[Entry], start: Mapping[str, History] = MappingProxyType({})) -> dict[str, History]:
    """What is known of each name after these entries, in their order, on top of `start`."""
    found = dict(start)
    for entry in entries:
        history = found.get(entry.name, History())
        match entry.event:
            case Event.VERSION | Event.OPTIONS:
                found[entry.name] = _declared(history, entry)
            case Event.DEFAULT:
                found[entry.name] = replace(history, default=entry.version)
            case Event.RENAME:
                assert entry.renamed_to is not None, "an entry of this kind has a new name"
                found[entry.renamed_to] = _renamed(history, entry.renamed_to, found.get(entry.renamed_to, History()).last)
                found[entry.name] = History(last=history.last)
            case Event.DROP:
                found[entry.name] = History(last=history.last)
            case _:
                assert_never(entry.event)
    return found


def _declared(history: History, entry: Entry) -> History:
    number, declaration, identified = entry.version, entry.declaration, entry.identified
    assert number is not None, "an entry of this kind has a version"
    assert declaration is not None, "an entry of this kind has a declaration"
    assert identified is not None, "an entry of this kind has a fingerprint"
    before = history.versions.get(number)
    version = Version(number, declaration, identified, entry.at if before is None else before.created_at)
    return History({**history.versions, number: version}, number, history.default, max(history.last, number), entry.source)


def _renamed(history: History, name: str, last: int) -> History:
    versions = {
        number: replace(version, declaration=replace(version.declaration, name=name))
        for number, version in history.versions.items()
    }
    return replace(history, versions=versions, last=max(history.last, last))


def decide(history: History, declaration: ModelDeclaration, identified: Identified) -> Decision:
    """What a declaration comes to: a version that there is, or the next one.

    Raises DeclarationError where its INPUT or OUTPUT is another than that of the versions before, showing both sides.
    """
    if not history.is_live:
        return Due(history.last + 1, "it has no version yet")
    newest = history.versions[max(history.versions)]
    _require_same_columns(declaration, newest)
    for number in sorted(history.versions, reverse=True):
        if history.versions[number].identified.fingerprint == identified.fingerprint:
            return Known(number)
    before = history.versions[history.current] if history.current else newest
    return Due(history.last + 1, changed(before, declaration, identified))


def entry_of(
    history: History, declaration: ModelDeclaration, identified: Identified, source: Source, at: datetime
) -> Entry | None:
    """The entry that a declaration makes; None where the registry has it as it is. Raises as `decide` does."""
    match decide(history, declaration, identified):
        case Due(number):
            return Entry(Event.VERSION, declaration.name, at, number, source, declaration, identified)
        case Known(number):
            if source is Source.TABLES:
                return None
            stated = history.current == number and history.source is source
            if stated and _as_written(history.versions[number].declaration) == _as_written(declaration):
                return None
            return Entry(Event.OPTIONS, declaration.name, at, number, source, declaration, identified)


def changed(before: Version, declaration: ModelDeclaration, identified: Identified) -> str:
    """In what a declaration differs from a version whose fingerprint is another. Names only, no values."""
    old, new = named_alike(before.declaration.options), named_alike(declaration.options)
    options = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    hashes = before.identified.artifacts, identified.artifacts
    artifacts = sorted(name for name in {*hashes[0], *hashes[1]} if hashes[0].get(name) != hashes[1].get(name))
    parts = [f"{_listed(options)} changed"] if options else []
    if artifacts:
        parts.append(f"the bytes of {_listed(artifacts)} changed")
    return "; ".join(parts) or "what its options stand for changed"


def version_of(name: str, number: int, history: History) -> Version:
    """The version of that number. Raises UnknownName, listing those that there are."""
    if number not in history.versions:
        raise UnknownName(
            f"version of model {name!r}",
            str(number),
            [str(known) for known in history.versions],
            next_step=f"lakeflow models versions {name}",
        )
    return history.versions[number]


def require_same_bytes(version: Version, identified: Identified, label: str) -> None:
    """Raises ModelError where a version's artifacts, or what its options stand for, are no longer what they were."""
    recorded = version.identified
    if recorded.fingerprint == identified.fingerprint:
        return
    for name, was in recorded.artifacts.items():
        now = identified.artifacts.get(name)
        if now != was:
            raise ModelError(
                f"{label}: version {version.number} was made of {name} with the SHA-256 {was}, and the bytes there are now "
                f"{'gone' if now is None else now}",
                next_step="put the file of that version back, or keep each version's file under a path of its own",
            )
    raise ModelError(
        f"{label}: version {version.number} has the fingerprint {recorded.fingerprint}, and its options now come to "
        f"{identified.fingerprint}: the environment fills in something else, or this release counts something else in",
        next_step="set the variables that its options name, or make a new version: lakeflow models register",
    )


def named_alike(options: Mapping[str, str]) -> dict[str, str]:
    """Options by name as they are compared: in lower case, with underscores."""
    return {option_name(name): value for name, value in options.items()}


def option_name(written: str) -> str:
    return written.lower().replace("-", "_")


def with_options(declaration: ModelDeclaration, options: Mapping[str, str]) -> ModelDeclaration:
    """The declaration with these options set; one that is there under another spelling gives way."""
    given = set(named_alike(options))
    kept = {name: value for name, value in declaration.options.items() if option_name(name) not in given}
    return replace(declaration, options={**kept, **options})


def without_options(declaration: ModelDeclaration, names: Sequence[str]) -> ModelDeclaration:
    """The declaration without these options. Raises UnknownName for one that is not set."""
    known = named_alike(declaration.options)
    for name in names:
        if option_name(name) not in known:
            raise UnknownName(f"option of model {declaration.name!r}", name, known)
    gone = {option_name(name) for name in names}
    kept = {name: value for name, value in declaration.options.items() if option_name(name) not in gone}
    return replace(declaration, options=kept)


def columns_shown(schema: pa.Schema) -> str:
    """Columns for a message: names, types, NOT NULL."""
    return ", ".join(f"{column.name} {column.type}{'' if column.nullable else ' NOT NULL'}" for column in schema)


def _require_same_columns(declaration: ModelDeclaration, version: Version) -> None:
    sides = (
        ("INPUT", version.declaration.input, declaration.input),
        ("OUTPUT", version.declaration.output, declaration.output),
    )
    for part, was, now in sides:
        if columns_shown(was) != columns_shown(now):
            name = declaration.name
            raise DeclarationError(
                f"{declaration.origin}: model {name!r} cannot have another {part} under one name:\n"
                f"  version {version.number}: {columns_shown(was)}\n  declared: {columns_shown(now)}",
                left_behind=f"the versions of {name!r}, as they were",
                next_step=f'declare it under a new name, or forget all versions: lakeflow sql -e "DROP MODEL {name}"',
            )


def _as_written(declaration: ModelDeclaration) -> tuple[object, ...]:
    columns = [field for schema in (declaration.input, declaration.output) for field in schema]
    comments = [(column.metadata or {}).get(b"doc") for column in columns]
    return dict(declaration.options), declaration.comment, comments


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
