"""JSON Schema to columns: how each value is written in JSON, and the type that holds it. Pure.

Only what says of which type a value is counts; lengths, ranges and patterns are the writer's concern. Where a schema
leaves the type open, the value is kept as JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats import logical_reads as reads
from lakeflow.topics.formats.json_schema_documents import DYNAMIC, Documents, Node
from lakeflow.topics.formats.json_schema_unions import union_of
from lakeflow.topics.formats.logical import Logical, entries_of, leaf, list_of, map_of, plain, struct_of
from lakeflow.topics.formats.logical_types import (
    DATE,
    DECIMAL,
    MEANINGS,
    MOMENT,
    TIME,
    VARIABLE_SCALE,
    VARIABLE_SCALE_WRITTEN,
    named_type,
)
from lakeflow.topics.formats.shape import JSON_TEXT

KINDS: Final = ("string", "number", "integer", "boolean", "object", "array", "null")
CHOICES: Final = ("oneOf", "anyOf")
OBJECT_KEYWORDS: Final = ("properties", "patternProperties")
ARRAY_KEYWORDS: Final = ("items", "prefixItems")

INTEGERS: Final[Mapping[str, pa.DataType]] = {
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
}
FORMATS: Final[Mapping[str, tuple[pa.DataType, bool, str]]] = {
    "date": (DATE, False, "DATE"),
    "time": (TIME, True, "TIME(6), in UTC or without a zone"),
    "date-time": (MOMENT, False, "TIMESTAMP_LTZ(6), which needs a zone"),
}
"""Of strings: the column, whether a zone of UTC is dropped, what fits."""

Typed = tuple[Logical, bool]
"""A field `value`, and whether null fits too."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the schemas that a value must fit at once, and the targets of references on the way to it."""

    node: Node
    trail: frozenset[int]


Parts = Sequence[Part]


class Types:
    """The columns of a schema and those that it refers to. `zoned` as in `named_type`."""

    def __init__(self, documents: Documents, *, zoned: bool = True) -> None:
        self._documents = documents
        self._zoned = zoned

    def root(self) -> Typed:
        """The whole value. Raises SchemaMismatch, naming the path of what no table can hold."""
        root = self._documents.root
        try:
            return self._of(self._flat(Part(root, frozenset({id(root.schema)})), "$"), "$")
        except RecursionError as error:
            raise SchemaMismatch("the schema is nested too deeply") from error

    def _flat(self, part: Part, path: str) -> list[Part]:
        """`part` and what it draws in by `$ref` and `allOf`."""
        node = part.node
        if node.schema is True:
            return []
        if node.schema is False:
            raise SchemaMismatch(f"{path} takes no value at all (its schema is false)")
        if any(node.keyword(name) is not None for name in DYNAMIC):
            raise SchemaMismatch(f"{path} is recursive, which no table can hold")
        found = [part]
        if (ref := node.keyword("$ref")) is not None:
            target = self._documents.target(node, ref)
            if id(target.schema) in part.trail:
                raise SchemaMismatch(f"{path} is recursive (by $ref {ref!r}), which no table can hold")
            found += self._flat(Part(target, part.trail | {id(target.schema)}), path)
        for place in range(len(node.elements("allOf"))):
            found += self._flat(_below(part, "allOf", place), path)
        return found

    def _of(self, parts: Parts, path: str) -> Typed:
        chosen, null, branches = self._choose(parts, path)
        kinds = self._kinds(chosen, path)
        null = null or any(part.node.keyword("nullable") is True for part in chosen)
        if branches:
            typed = [self._of(branch, path) for branch in branches]
            if kinds is not None and any(_keywords(part, OBJECT_KEYWORDS) for part in chosen):
                raise SchemaMismatch(
                    f"{path} chooses among several objects by oneOf or anyOf, which its value alone does not tell"
                )
            return self._union([each for each, _ in typed], path), null or any(also for _, also in typed)
        if kinds is None:
            return leaf("value", JSON_TEXT, pa.string(), reads.starting_with(""), "JSON"), True
        wanted = [kind for kind in KINDS if kind in kinds and kind != "null"]
        if not wanted:
            return leaf("value", JSON_TEXT, pa.string(), reads.starting_with(""), "JSON"), True
        each = [self._kind(kind, chosen, path) for kind in wanted]
        return (each[0] if len(each) == 1 else self._union(each, path)), null or "null" in kinds

    def _union(self, branches: Sequence[Logical], path: str) -> Logical:
        return union_of([branch.nullable() for branch in branches], path)

    def _choose(self, parts: Parts, path: str) -> tuple[list[Part], bool, list[list[Part]]]:
        """`parts` with the only branch of each oneOf and anyOf, if one is null, and the branches where there are several."""
        found, null, several = list(parts), False, []
        for part, name in _choices(parts):
            branches = [self._flat(_below(part, name, place), path) for place in range(len(part.node.elements(name)))]
            kinds = [self._branch_kinds(branch, path) for branch in branches]
            if None in kinds:
                if any(_keywords(each, OBJECT_KEYWORDS) for branch in branches for each in branch):
                    raise SchemaMismatch(f"{path} may have properties of {name}, which its value alone does not tell")
                continue
            rest = [branch for branch, kind in zip(branches, kinds, strict=True) if kind != {"null"}]
            null = null or len(rest) < len(branches)
            if len(rest) == 1:
                inner, inner_null, more = self._choose(rest[0], path)
                found, null = found + inner, null or inner_null
                several += more
            elif several:
                raise SchemaMismatch(f"{path} has several oneOf or anyOf, and no table holds their product")
            else:
                several = rest
        return found, null, several

    def _branch_kinds(self, branch: Parts, path: str) -> set[str] | None:
        """The kinds that a branch takes; None where it takes all."""
        own = self._kinds(branch, path)
        inner: set[str] = set()
        for part, name in _choices(branch):
            for place in range(len(part.node.elements(name))):
                kinds = self._branch_kinds(self._flat(_below(part, name, place), path), path)
                if kinds is None:
                    return own
                inner |= kinds
        return own if own is not None else inner or None

    def _kinds(self, parts: Parts, path: str) -> set[str] | None:
        """The JSON kinds that all of `parts` take, choices aside; None where they take all."""
        found: set[str] | None = None
        for part in parts:
            kinds = _own_kinds(part.node, path)
            if kinds is not None:
                found = kinds if found is None else _both(found, kinds)
        if found is not None and not found:
            raise SchemaMismatch(f"{path} takes no value at all: its types exclude each other")
        return found

    def _kind(self, kind: str, parts: Parts, path: str) -> Logical:
        named = _named(kind, parts, path, zoned=self._zoned)
        if named is not None:
            return named
        connect = _first(parts, "connect.type")
        match kind:
            case "boolean":
                return plain("value", pa.bool_())
            case "integer":
                return plain("value", INTEGERS.get(connect, pa.int64()))
            case "number":
                return plain("value", pa.float32() if connect == "float32" else pa.float64())
            case "string":
                return _string(parts, connect)
            case "array":
                return self._array(parts, connect, path)
            case _:
                return self._object(parts, path)

    def _array(self, parts: Parts, connect: Any, path: str) -> Logical:
        if any(_keywords(part, ["prefixItems"]) or isinstance(part.node.keyword("items"), list) for part in parts):
            return leaf("value", JSON_TEXT, pa.string(), reads.starting_with("["), "an array")
        items = [
            each for part in parts if _keywords(part, ["items"]) for each in self._flat(_below(part, "items"), f"{path}[]")
        ]
        if connect == "map" and (names := self._properties(items)) and set(names) == {"key", "value"}:
            key, item = (self._field(names[name], name, f"{path}[].{name}", True) for name in ("key", "value"))
            return entries_of("value", key, item)
        element, null = self._of(items, f"{path}[]")
        return list_of("value", element.nullable(null))

    def _object(self, parts: Parts, path: str) -> Logical:
        properties = self._properties(parts)
        required = {name for part in parts for name in part.node.elements("required") if isinstance(name, str)}
        fields = []
        for name, found in properties.items():
            if not any(part.node.schema is False for part in found):
                fields.append(self._field(found, name, f"{path}.{name}", name not in required))
        _refuse_clashes([field.kept.name for field in fields], path)
        if fields:
            return struct_of("value", fields)
        return self._map(parts, path)

    def _map(self, parts: Parts, path: str) -> Logical:
        """An object of no known properties: a map where their schema is known, JSON text where it is not."""
        inside = f"{path}{{}}"
        found: list[Part] = []
        closed = False
        for part in parts:
            more = part.node.keyword("additionalProperties")
            closed = closed or more is False
            if isinstance(more, dict) and more:
                found += self._flat(_below(part, "additionalProperties"), inside)
            patterns = part.node.members("patternProperties")
            if len(patterns) == 1 and more in (None, False):
                found += self._flat(_below(part, "patternProperties", next(iter(patterns))), inside)
        if not found and closed:
            raise SchemaMismatch(f"{path} is an object of no properties, which no table can hold")
        if not found:
            return leaf("value", JSON_TEXT, pa.string(), reads.starting_with("{"), "an object")
        item, null = self._of(found, inside)
        return map_of("value", item.nullable(null))

    def _properties(self, parts: Parts) -> dict[str, list[Part]]:
        """The schemas of each property, in the order of `connect.index` where that is given."""
        found: dict[str, list[Part]] = {}
        for part in parts:
            for name in part.node.members("properties"):
                found.setdefault(name, []).append(_below(part, "properties", name))
        return dict(sorted(found.items(), key=lambda pair: _index(pair[1])))

    def _field(self, parts: Parts, name: str, path: str, optional: bool) -> Logical:
        flat = [each for part in parts for each in self._flat(part, path)]
        logical, null = self._of(flat, path)
        return logical.named(name).nullable(optional or null)


def _choices(parts: Parts) -> Iterator[tuple[Part, str]]:
    for part in parts:
        for name in CHOICES:
            if part.node.elements(name):
                yield part, name


def _below(part: Part, *steps: str | int) -> Part:
    return Part(part.node.below(*steps), part.trail)


def _keywords(part: Part, names: Sequence[str]) -> bool:
    return any(part.node.keyword(name) is not None for name in names)


def _index(parts: Parts) -> int:
    found = _first(parts, "connect.index")
    return found if isinstance(found, int) else 0


def _first(parts: Parts, keyword: str) -> Any:
    return next((found for part in parts if (found := part.node.keyword(keyword)) is not None), None)


def _own_kinds(node: Node, path: str) -> set[str] | None:
    types = node.keyword("type")
    found: set[str] | None = None
    if types is not None:
        named = types if isinstance(types, list) else [types]
        found = {kind for kind in KINDS if kind in named}
        if len(found) < len(named):
            raise SchemaMismatch(f"{path} is of type {types!r}; valid: {', '.join(KINDS)}")
    elif any(node.keyword(name) is not None for name in OBJECT_KEYWORDS) or isinstance(
        node.keyword("additionalProperties"), dict
    ):
        found = {"object"}
    elif any(node.keyword(name) is not None for name in ARRAY_KEYWORDS):
        found = {"array"}
    listed = _listed_kinds(node)
    if listed is not None:
        # 1 and 1.0 are one number to a schema, so that the type says how it may be written.
        numbers = {"integer", "number"} if listed & {"integer", "number"} else set()
        found = listed if found is None else found & (listed | numbers)
    return found - {"integer"} if found and "number" in found else found


def _listed_kinds(node: Node) -> set[str] | None:
    """The kinds of the values that `enum` and `const` name."""
    if not isinstance(node.schema, dict):
        return None
    values = [node.schema["const"]] if "const" in node.schema else node.schema.get("enum")
    return {_kind_of(value) for value in values} if isinstance(values, list) and values else None


def _both(one: set[str], other: set[str]) -> set[str]:
    """The kinds in both, a whole number being a number too."""
    found = one & other
    if ("integer" in one and "number" in other) or ("integer" in other and "number" in one):
        found = found | {"integer"}
    return found - {"integer"} if "number" in found else found


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _named(kind: str, parts: Parts, path: str, *, zoned: bool) -> Logical | None:
    """The field of a named type of Connect or Debezium, which its converter writes as the title."""
    title = _first(parts, "title")
    if not isinstance(title, str) or (title not in MEANINGS and title not in (DECIMAL, VARIABLE_SCALE)):
        return None
    parameters = _first(parts, "connect.parameters")
    written: dict[str, Callable[[], pa.DataType]] = {
        "integer": lambda: INTEGERS.get(_first(parts, "connect.type"), pa.int64()),
        "number": lambda: JSON_TEXT,
        "string": lambda: JSON_TEXT if title == DECIMAL else pa.string(),
        "object": lambda: VARIABLE_SCALE_WRITTEN,
    }
    if kind not in written:
        return None
    try:
        return named_type(title, parameters if isinstance(parameters, dict) else {}, written[kind](), zoned=zoned)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{path} {error.message}") from error


def _string(parts: Parts, connect: Any) -> Logical:
    encoding = _first(parts, "contentEncoding")
    if connect == "bytes" or (isinstance(encoding, str) and encoding.lower() == "base64"):
        return plain("value", pa.binary())
    format_ = _first(parts, "format")
    if isinstance(format_, str) and format_ in FORMATS:
        kept, utc, wanted = FORMATS[format_]
        return leaf("value", pa.string(), kept, reads.texts(kept, utc=utc), wanted)
    return plain("value", pa.string())


def _refuse_clashes(names: Sequence[str], path: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise SchemaMismatch(f"{path} has {seen[name.lower()]!r} and {name!r}, which differ by case only")
        seen[name.lower()] = name
