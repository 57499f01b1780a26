"""Descriptors of a registered Protobuf schema: its own file, those it imports, and the well-known ones.

The registry is asked for serialized descriptors first; where it gives none, the text is compiled (`protobuf_compile.py`).
Files that begin with one of WELL_KNOWN come from installed packages where no reference of that name is registered, and
Confluent's two from here: https://github.com/confluentinc/schema-registry (confluent/meta.proto, confluent/type/decimal.proto).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.protobuf_compile import compile_text
from lakeflow.topics.registered import RegisteredSchema, Registry

WELL_KNOWN = ("google/protobuf/", "google/type/")

META_NUMBER = 1088
"""The number of Confluent's extension of each kind of options."""

Files = dict[str, FileDescriptorProto]
"""By the name they are imported under."""


def describe(schema: RegisteredSchema, registry: Registry) -> FileDescriptor:
    """The descriptor of the schema's file, in a pool of its own.

    Raises SchemaMismatch where it cannot be read or an import is not there, ConfigError where it must be compiled and
    the compiler is not installed.
    """
    name = f"schema-{schema.id}.proto"
    files = _serialized(name, schema, registry)
    if files is None:
        texts = {path: one.text for path, one in registry.referenced(schema).items()}
        files = compile_text(name, schema.text, texts, well_known_files(texts))
    return _pooled(name, files)


def _serialized(name: str, schema: RegisteredSchema, registry: Registry) -> Files | None:
    """The files as the registry serializes them; None where it does not, for one of them at least."""
    files: Files = {}
    needed = {path: one.id for path, one in registry.referenced(schema).items()}
    for path, schema_id in {**needed, name: schema.id}.items():
        raw = registry.serialized(schema_id)
        if raw is None:
            return None
        try:
            files[path] = FileDescriptorProto.FromString(raw)
        except DecodeError as error:
            raise SchemaMismatch(f"the registry's descriptor of {path!r} cannot be read: {error}") from error
        files[path].name = path  # a registry names the descriptor as it likes; imports go by the reference's name
    return files


def _pooled(name: str, files: Mapping[str, FileDescriptorProto]) -> FileDescriptor:
    pool = DescriptorPool()
    added: set[str] = set()

    def add(path: str, importer: str) -> None:
        if path in added:
            return
        added.add(path)
        proto = files.get(path) or well_known(path)
        if proto is None:
            raise SchemaMismatch(f"{importer!r} imports {path!r}, which is no reference of the schema and not well known")
        for dependency in proto.dependency:
            add(dependency, path)
        try:
            pool.AddSerializedFile(proto.SerializeToString())
        except TypeError as error:
            raise SchemaMismatch(f"the descriptor of {path!r} does not hold together: {error}") from error

    add(name, name)
    return pool.FindFileByName(name)


def well_known(path: str) -> FileDescriptorProto | None:
    """The file that every schema may import as `path`; None where there is no such file."""
    if path in CONFLUENT:
        return CONFLUENT[path]
    if not path.startswith(WELL_KNOWN) or not path.endswith(".proto"):
        return None
    try:
        module = importlib.import_module(path.removesuffix(".proto").replace("/", ".") + "_pb2")
    except ModuleNotFoundError:
        return None
    proto = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(proto)
    return proto


def well_known_files(taken: Mapping[str, object]) -> Files:
    """The well-known files that the compiler does not bring along, needed ones first, without those of the names `taken`."""
    paths = [
        "google/protobuf/descriptor.proto",
        *(
            f"google/protobuf/{name}.proto"
            for name in ("timestamp", "duration", "wrappers", "struct", "any", "field_mask", "empty")
        ),
        *CONFLUENT,
        *(f"google/type/{name}.proto" for name in GOOGLE_TYPES),
    ]
    found = {path: well_known(path) for path in paths if path not in taken}
    return {path: proto for path, proto in found.items() if proto is not None}


GOOGLE_TYPES = (
    "calendar_period", "color", "date", "datetime", "dayofweek", "decimal", "expr", "fraction", "interval", "latlng",
    "localized_text", "money", "month", "phone_number", "postal_address", "quaternion", "timeofday",
)  # fmt: skip


def _meta_file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="confluent/meta.proto", package="confluent", syntax="proto3")
    file.dependency.append("google/protobuf/descriptor.proto")
    meta = file.message_type.add(name="Meta")
    meta.field.add(name="doc", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
    params = meta.field.add(name="params", number=2, type=FieldDescriptorProto.TYPE_MESSAGE, label=3)
    params.type_name = ".confluent.Meta.ParamsEntry"
    meta.field.add(name="tags", number=3, type=FieldDescriptorProto.TYPE_STRING, label=3)
    entry = meta.nested_type.add(name="ParamsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=FieldDescriptorProto.TYPE_STRING, label=1)
    for kind in ("File", "Message", "Field", "Enum", "EnumValue"):
        name = "enum_value_meta" if kind == "EnumValue" else f"{kind.lower()}_meta"
        extension = file.extension.add(name=name, number=META_NUMBER, type=FieldDescriptorProto.TYPE_MESSAGE, label=1)
        extension.type_name, extension.extendee = ".confluent.Meta", f".google.protobuf.{kind}Options"
        extension.proto3_optional = False
    return file


def _decimal_file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="confluent/type/decimal.proto", package="confluent.type", syntax="proto3")
    decimal = file.message_type.add(name="Decimal")
    decimal.field.add(name="value", number=1, type=FieldDescriptorProto.TYPE_BYTES, label=1)
    decimal.field.add(name="precision", number=2, type=FieldDescriptorProto.TYPE_UINT32, label=1)
    decimal.field.add(name="scale", number=3, type=FieldDescriptorProto.TYPE_INT32, label=1)
    return file


CONFLUENT: Mapping[str, FileDescriptorProto] = {file.name: file for file in (_meta_file(), _decimal_file())}


def _options_file() -> FileDescriptorProto:
    """Options of a field, of which only Confluent's extension counts: read so, it need not be registered anywhere."""
    file = FileDescriptorProto(name="options.proto", package="options", syntax="proto3", dependency=["confluent/meta.proto"])
    holder = file.message_type.add(name="Options")
    meta = holder.field.add(name="meta", number=META_NUMBER, type=FieldDescriptorProto.TYPE_MESSAGE, label=1)
    meta.type_name = ".confluent.Meta"
    return file


_Options = GetMessageClass(_pooled("options.proto", {"options.proto": _options_file()}).message_types_by_name["Options"])


def field_params(options: bytes) -> Mapping[str, str]:
    """The params of `confluent.field_meta` in a field's serialized options."""
    return dict(_Options.FromString(options).meta.params)
