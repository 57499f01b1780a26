"""JSON Schema documents: which schema a `$ref` means, across drafts and subjects. Pure.

A reference is resolved against the `$id` (`id` in draft 4) around it. It may be a JSON pointer (RFC 6901), an anchor, the
`$id` of a schema within a document, or the name of another subject's schema, as the registry's references name it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.registered import RegisteredSchema

Schema = dict[str, Any] | bool
"""An object of keywords; True takes any value, False none."""

DYNAMIC = ("$dynamicRef", "$recursiveRef")
PLAIN_CONTENT = frozenset(("enum", "const", "default", "examples"))
"""Keywords whose values are data, in which nothing is a schema."""


@dataclass(frozen=True, slots=True)
class Node:
    """A schema, the URI that references within it are relative to, and where it stands."""

    schema: Schema
    base: str
    place: str

    def below(self, *steps: str | int) -> Node:
        """The schema at `steps` below this one."""
        found: Any = self.schema
        for step in steps:
            found = found[step]
        return _node(found, self.base, "/".join([self.place, *map(str, steps)]))

    def keyword(self, name: str) -> Any:
        """The value of a keyword, None where the schema has none."""
        return self.schema.get(name) if isinstance(self.schema, dict) else None

    def members(self, name: str) -> dict[str, Any]:
        """The value of a keyword that is an object; empty where it is none."""
        found = self.keyword(name)
        return found if isinstance(found, dict) else {}

    def elements(self, name: str) -> list[Any]:
        """The value of a keyword that is an array; empty where it is none."""
        found = self.keyword(name)
        return found if isinstance(found, list) else []


class Documents:
    """A registered schema and those that it refers to."""

    def __init__(self, schema: RegisteredSchema, referenced: Mapping[str, RegisteredSchema]) -> None:
        self._by_uri: dict[str, Node] = {}
        for name, other in referenced.items():
            self._add(name, _parsed(other.text, f"the schema referred to as {name!r}"))
        self.root = self._add("", _parsed(schema.text, "the schema"))

    def target(self, node: Node, ref: Any) -> Node:
        """The schema that `$ref` in `node` means. Raises SchemaMismatch where there is none."""
        if not isinstance(ref, str):
            raise SchemaMismatch(f"{node.place}: $ref is {ref!r}; wanted a string")
        for uri in (urljoin(node.base, ref), ref):
            if (found := self._by_uri.get(uri) or self._by_uri.get(uri.removesuffix("#"))) is not None:
                return found
            document, fragment = urldefrag(uri)
            if fragment.startswith("/") and document in self._by_uri:
                return _pointed(self._by_uri[document], fragment)
        known = ", ".join(sorted(uri for uri in self._by_uri if uri)[:20]) or "none"
        raise SchemaMismatch(f"{node.place}: $ref {ref!r} is not among the registered references; those are: {known}")

    def _add(self, name: str, schema: Schema) -> Node:
        root = _node(schema, name, "#" if not name else f"{name}#")
        self._by_uri[name] = root
        for node in _schemas(root):
            if isinstance(node.schema, dict):
                if named := _id(node.schema):
                    uri = urljoin(node.base, named) if named.startswith("#") else node.base.removesuffix("#")
                    self._by_uri.setdefault(uri, node)
                for anchor in ("$anchor", "$dynamicAnchor"):
                    if isinstance(node.schema.get(anchor), str):
                        self._by_uri.setdefault(f"{node.base}#{node.schema[anchor]}", node)
        return root


def _parsed(text: str, what: str) -> Schema:
    try:
        schema = json.loads(text)
        json.dumps(schema, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise SchemaMismatch(f"{what} holds half of a surrogate pair") from error
    except ValueError as error:
        raise SchemaMismatch(f"{what} is no JSON: {error}") from error
    except RecursionError as error:
        raise SchemaMismatch(f"{what} is nested too deeply") from error
    if not isinstance(schema, dict | bool):
        raise SchemaMismatch(f"{what} is {schema!r:.60}; wanted an object, true or false")
    return schema


def _id(schema: dict[str, Any]) -> str:
    """The URI that a schema gives itself. An `id` that is a schema is a property of that name, within `properties`."""
    found = schema.get("$id", schema.get("id"))
    return found if isinstance(found, str) else ""


def _node(schema: Schema, base: str, place: str) -> Node:
    if isinstance(schema, dict) and (named := _id(schema)):
        absolute = urljoin(base, named)
        # A fragment alone (drafts 4 to 7) names the schema, and leaves the base as it is.
        base = absolute if not named.startswith("#") else base
    return Node(schema, base, place)


def _schemas(root: Node) -> Iterator[Node]:
    """Every object and truth value below `root`: more than schemas, which does no harm to those that look URIs up."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node.schema, dict):
            for name, value in node.schema.items():
                if name not in PLAIN_CONTENT:
                    waiting.extend(_children(node, name, value))


def _children(node: Node, name: str, value: Any) -> Iterator[Node]:
    if isinstance(value, dict):
        yield _node(value, node.base, f"{node.place}/{name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, dict):
                yield _node(item, node.base, f"{node.place}/{name}/{place}")


def _pointed(document: Node, pointer: str) -> Node:
    node = document
    for raw in pointer.split("/")[1:]:
        step = unquote(raw).replace("~1", "/").replace("~0", "~")
        inside: Any = node.schema
        try:
            found = inside[int(step)] if isinstance(inside, list) else inside[step]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise SchemaMismatch(f"{document.place}: there is no {pointer!r}") from error
        node = _node(found, node.base, f"{node.place}/{step}")
    if not isinstance(node.schema, dict | bool):
        raise SchemaMismatch(f"{node.place} is no schema")
    return node
