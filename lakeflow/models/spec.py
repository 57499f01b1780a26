"""A model as a plain value: what CREATE MODEL declares, checked as far as that goes without opening a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pyarrow as pa

from lakeflow.declare import UNKNOWN, ModelDeclaration, Origin
from lakeflow.errors import DeclarationError, ModelError, UnknownName
from lakeflow.fill import Options
from lakeflow.models.failing import asked_of, with_told
from lakeflow.models.providers import provider_type
from lakeflow.models.versions import Identified

READ_SIZE = 1 << 20
CHECKSUM = "sha256:"
"""What a provider's identity says of bytes that lie elsewhere begins so."""


class Task(StrEnum):
    """What a model does; it decides which OUTPUT columns make sense."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    CLUSTERING = "clustering"
    EMBEDDING = "embedding"
    TEXT_GENERATION = "text_generation"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A declared model. `input` and `output` are the INPUT and OUTPUT columns, in their order.

    `options` are the WITH pairs but provider and task, names in lower case with underscores. Relative paths in them
    start at `root`, the project's folder. Secrets among them are not shown.
    """

    name: str
    provider: str
    task: Task
    input: pa.Schema
    output: pa.Schema
    options: Mapping[str, str] = field(default_factory=dict)
    root: Path = Path()
    version: int = 1
    origin: Origin = field(default=UNKNOWN, compare=False)

    @classmethod
    def from_declaration(cls, declaration: ModelDeclaration, root: Path) -> ModelSpec:
        """The spec of a CREATE MODEL. No file is opened and no heavy library imported.

        Raises UnknownName for a provider, a task or an option that is not there, DeclarationError for a missing one,
        for columns declared twice or not at all, and for an option's value that cannot be meant.
        """
        label = _label(declaration.name, declaration.origin)
        options = _named_alike(declaration.options, label)
        for needed in ("provider", "task"):
            if needed not in options:
                raise DeclarationError(
                    f"{label}: option '{needed}' is missing", next_step=f"add '{needed}' = '..' to its WITH (..)"
                )
        provider, task = options["provider"], options["task"].lower()
        if task not in list(Task):
            raise UnknownName(f"task of {label}", task, [str(known) for known in Task])
        for part, schema in (("INPUT", declaration.input), ("OUTPUT", declaration.output)):
            _check_columns(label, part, schema)
        output = with_told(declaration.output, options)
        options = Options({name: value for name, value in options.items() if name not in ("provider", "task")})
        spec = cls(declaration.name, provider, Task(task), declaration.input, output, options, root, 1, declaration.origin)
        provider_type(provider, label)(asked_of(spec))
        return spec

    @property
    def label(self) -> str:
        """The model's name as messages show it, with the place of its declaration where that is known."""
        return _label(self.name, self.origin) + (f" (version {self.version})" if self.version > 1 else "")

    def path(self, option: str) -> Path:
        """The path that `option` holds, relative ones taken from `root`."""
        return (self.root / Path(self.options[option]).expanduser()).resolve()

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that decides the answers: see `fingerprint_of`. Raises ModelError for a missing file."""
        asked = asked_of(self)
        return fingerprint_of(asked, provider_type(self.provider, self.label)(asked).identity())


def fingerprint_of(spec: ModelSpec, identity: Mapping[str, str | Path]) -> str:
    """The fingerprint of `identified`."""
    return identified(spec, identity).fingerprint


def identified(spec: ModelSpec, identity: Mapping[str, str | Path]) -> Identified:
    """SHA-256 over provider, task, INPUT, OUTPUT and a provider's `identity()`: options and bytes of artifacts.

    Where the artifacts lie, and options that change only speed, have no part in it. Raises ModelError for a missing file.
    """
    digest = hashlib.sha256()
    artifacts: dict[str, str] = {}
    for part in (spec.provider, str(spec.task), _columns_text(spec.input), _columns_text(spec.output)):
        _absorb(digest, part.encode())
    for name, value in sorted(identity.items()):
        _absorb(digest, name.encode())
        if isinstance(value, Path):
            content = _file_digest(value, spec.label)
            artifacts[name] = content.hex()
            _absorb(digest, content)
        else:
            if value.startswith(CHECKSUM):
                artifacts[name] = value.removeprefix(CHECKSUM)
            _absorb(digest, value.encode())
    return Identified(digest.hexdigest(), artifacts)


def _absorb(digest: hashlib._Hash, content: bytes) -> None:
    """Length first, so that no two lists of parts are one string of bytes."""
    digest.update(len(content).to_bytes(8, "big"))
    digest.update(content)


def _file_digest(path: Path, label: str) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(READ_SIZE):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{label}: cannot read {path}: {error.strerror}") from error
    return digest.digest()


def _columns_text(schema: pa.Schema) -> str:
    return "\n".join(f"{column.name} {column.type}" for column in schema)


def _label(name: str, origin: Origin) -> str:
    return f"{origin}: model {name!r}" if origin.path else f"model {name!r}"


def _named_alike(options: Mapping[str, str], label: str) -> Options:
    alike: dict[str, str] = {}
    for written, value in options.items():
        name = written.lower().replace("-", "_")
        if name in alike:
            raise DeclarationError(f"{label}: option {name!r} is given twice")
        alike[name] = value
    return Options(alike)


def _check_columns(label: str, part: str, schema: pa.Schema) -> None:
    if not len(schema):
        raise DeclarationError(f"{label}: {part} (..) declares no column")
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise DeclarationError(f"{label}: {part} declares column {twice[0]!r} twice")
