"""Protobuf schemas for tests, compiled: a file in proto3 and one in proto2 that use every kind of field."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import FileDescriptor

from lakeflow.topics.formats.protobuf_compile import compile_text
from lakeflow.topics.formats.protobuf_files import describe, well_known_files
from lakeflow.topics.registered import RegisteredSchema, SchemaKind

PROTO3 = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/any.proto";
import "google/protobuf/field_mask.proto";
import "google/type/date.proto";
import "google/type/timeofday.proto";
import "google/type/decimal.proto";
import "confluent/meta.proto";
import "confluent/type/decimal.proto";

enum Color { RED = 0; GREEN = 1; BLUE = 5; }
message Order {
  int32 i32 = 1; sint32 s32 = 2; sfixed32 sf32 = 3; uint32 u32 = 4; fixed32 f32 = 5;
  int64 i64 = 6; sint64 s64 = 7; sfixed64 sf64 = 8; uint64 u64 = 9; fixed64 f64 = 10;
  bool flag = 11; float real = 12; double wide = 13; string text = 14; bytes raw = 15; Color color = 16;
  optional int32 maybe = 17; optional string note = 18; optional uint64 large = 19;
  message Item { string name = 2; uint32 count = 1; repeated double prices = 3; optional Color color = 4; }
  Item item = 20; repeated Item items = 21;
  repeated int32 numbers = 22; repeated fixed64 fixed = 23; repeated string texts = 24; repeated Color colors = 25;
  repeated bool flags = 26; repeated float vector = 27;
  map<string, int32> by_name = 28; map<uint64, Item> by_number = 29; map<bool, Color> by_flag = 30;
  oneof choice { string left = 31; Item middle = 32; uint32 right = 33; google.protobuf.Empty none = 34;
                 google.protobuf.Value other = 35; google.type.Date day = 37; }
  google.protobuf.Empty empty = 36;
}
message Known {
  google.protobuf.Timestamp moment = 1; google.protobuf.Duration lasted = 2; repeated google.protobuf.Timestamp moments = 3;
  google.protobuf.StringValue text = 4; google.protobuf.UInt64Value large = 5; google.protobuf.BoolValue flag = 6;
  google.protobuf.Struct tree = 7; repeated google.protobuf.Value values = 8; map<string, google.protobuf.Value> named = 9;
  google.protobuf.ListValue list = 10; google.protobuf.Any any = 11; google.protobuf.FieldMask mask = 12;
  google.type.Date day = 13; google.type.TimeOfDay time = 14; google.type.Decimal written = 15;
  google.type.Decimal price = 16
      [(confluent.field_meta) = {params: [{key: "precision", value: "10"}, {key: "scale", value: "2"}]}];
  confluent.type.Decimal loose = 17;
  confluent.type.Decimal exact = 18
      [(confluent.field_meta) = {params: [{key: "precision", value: "10"}, {key: "scale", value: "2"}]}];
  repeated google.protobuf.Empty empties = 19; map<string, google.protobuf.Timestamp> when = 20;
  google.protobuf.DoubleValue d = 21; google.protobuf.FloatValue f = 22; google.protobuf.Int64Value i64 = 23;
  google.protobuf.Int32Value i32 = 24; google.protobuf.UInt32Value u32 = 25; google.protobuf.BytesValue raw = 26;
}
"""

PROTO2 = """
syntax = "proto2";
package old;
enum Level { LOW = 1; HIGH = 2; }
message Order {
  required int32 id = 1; optional string note = 2 [default = "none"]; required Level level = 3;
  message Line { required string name = 1; optional int64 count = 2; optional Level level = 3; }
  optional Line line = 4; repeated Line lines = 5; repeated int32 loose = 6; repeated int32 tight = 7 [packed = true];
  map<int32, Line> by_number = 8; optional uint32 small = 9; repeated Level levels = 10; required Line last = 11;
  oneof choice { Line left = 12; string right = 13; }
}
"""


class FakeRegistry:
    """A registry of a few schemas by id, held in a dict; of those that are compiled it gives the serialized descriptors."""

    def __init__(
        self, schemas: Mapping[int, RegisteredSchema], *, named: Mapping[str, int] | None = None, serialized: bool = True
    ) -> None:
        self._schemas = schemas
        self._named = named or {}
        self._serialized = serialized

    def by_id(self, schema_id: int) -> RegisteredSchema | None:
        return self._schemas.get(schema_id)

    def latest(self, subject: str) -> RegisteredSchema:
        return self._schemas[self._named.get(subject, min(self._schemas))]

    def referenced(self, schema: RegisteredSchema) -> Mapping[str, RegisteredSchema]:
        found: dict[str, RegisteredSchema] = {}
        for reference in schema.references:
            one = self._schemas[self._named[reference.subject]]
            found.update(self.referenced(one))
            found[reference.name] = one
        return found

    def serialized(self, schema_id: int) -> bytes | None:
        if not self._serialized:
            return None
        schema = self._schemas[schema_id]
        texts = {name: one.text for name, one in self.referenced(schema).items()}
        file = compile_text("default.proto", schema.text, texts, well_known_files(texts))["default.proto"]
        file.name = "default"  # as the registry calls every file
        raw: bytes = file.SerializeToString()
        return raw


def registered(text: str, schema_id: int = 1) -> RegisteredSchema:
    return RegisteredSchema(schema_id, SchemaKind.PROTOBUF, text)


@cache
def compiled(text: str) -> FileDescriptor:
    """The descriptor of a file without references."""
    return describe(registered(text), FakeRegistry({1: registered(text)}))
