"""Registered schemas: what a format knows of a Schema Registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class SchemaKind(StrEnum):
    """The languages of schemas, by their names in the registry's API."""

    AVRO = "AVRO"
    PROTOBUF = "PROTOBUF"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Reference:
    """A schema that another one uses under `name`: version `version` of `subject`."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as the registry keeps it: its text and what that refers to."""

    id: int
    kind: SchemaKind
    text: str
    references: tuple[Reference, ...] = ()


class Registry(Protocol):
    """Looks schemas up. Answers are kept, as a registered schema never changes; the latest one of a subject is asked for.

    Each raises SourceUnavailable where the registry does not answer in time, ConfigError where it refuses the credentials.
    """

    def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """The schema with this id; None where there is none."""
        ...

    def latest(self, subject: str) -> RegisteredSchema:
        """The latest version of a subject. Raises UnknownName with the subjects that are there."""
        ...

    def referenced(self, schema: RegisteredSchema) -> Mapping[str, RegisteredSchema]:
        """Every schema that `schema` needs, its references' own included, by the name it is referred to, needed ones first.

        Raises SchemaMismatch where one is not there.
        """
        ...

    def serialized(self, schema_id: int) -> bytes | None:
        """A Protobuf schema as a serialized FileDescriptorProto; None where the registry does not give it so."""
        ...
