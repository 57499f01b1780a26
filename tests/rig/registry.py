"""A Schema Registry with Confluent's API, in this process, in memory.

It conforms in what clients of schemas ask: paths, codes of errors, ids that equal schemas share, versions, references,
the forms of answers. What it does not prove: that schemas are compatible (every one is said to be), that they are
normalised as the real one does, leader election, modes, contexts, soft deletes, TLS, access control, rules and metadata.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import fastavro
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.protobuf_compile import compile_text
from lakeflow.topics.formats.protobuf_files import well_known_files
from lakeflow.topics.registered import Reference, SchemaKind
from tests.rig.process import HOST

SECONDS = 30
LATEST = ("latest", "-1")


class InvalidSchema(Exception):
    """A text is no schema of its language."""


class Language(Protocol):
    """What a registry knows of a language of schemas. `referenced` are texts by name, needed ones first."""

    def canonical(self, text: str, referenced: Mapping[str, str]) -> str:
        """The text as it is kept and compared. Raises InvalidSchema."""
        ...

    def serialized(self, text: str, referenced: Mapping[str, str]) -> bytes | None:
        """What `format=serialized` answers; None where the language has no such form."""
        ...


class JsonText:
    """A language whose schemas are JSON; no more is checked."""

    def canonical(self, text: str, referenced: Mapping[str, str]) -> str:
        try:
            return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
        except ValueError as error:
            raise InvalidSchema(str(error)) from error

    def serialized(self, text: str, referenced: Mapping[str, str]) -> bytes | None:
        return None


class Avro(JsonText):
    """Avro; what is valid is fastavro's to say."""

    def canonical(self, text: str, referenced: Mapping[str, str]) -> str:
        canonical = super().canonical(text, referenced)
        names: dict[str, dict[Any, Any]] = {}
        try:
            for other in referenced.values():
                fastavro.parse_schema(json.loads(other), named_schemas=names)
            fastavro.parse_schema(json.loads(canonical), named_schemas=names)
        except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
            raise InvalidSchema(str(error)) from error
        return canonical


class PlainText:
    """A language of which nothing is checked."""

    def canonical(self, text: str, referenced: Mapping[str, str]) -> str:
        return text

    def serialized(self, text: str, referenced: Mapping[str, str]) -> bytes | None:
        return None


class Protobuf(PlainText):
    """Protobuf, as text or, as some clients register it, as a descriptor in base64, which the real one would turn to text."""

    def canonical(self, text: str, referenced: Mapping[str, str]) -> str:
        if descriptor_in(text) is None:
            try:
                self.serialized(text, referenced)
            except SchemaMismatch as error:
                raise InvalidSchema(error.message) from error
        return text

    def serialized(self, text: str, referenced: Mapping[str, str]) -> bytes | None:
        file = descriptor_in(text)
        if file is None:
            file = compile_text("default", text, referenced, well_known_files(referenced))["default"]
        file.name = "default"
        serialized: bytes = file.SerializeToString()
        return serialized


def descriptor_in(text: str) -> FileDescriptorProto | None:
    """The file that base64 text holds; None where it is the text of a file."""
    try:
        return FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (ValueError, DecodeError):
        return None


LANGUAGES: dict[SchemaKind, Language] = {
    SchemaKind.AVRO: Avro(),
    SchemaKind.JSON: JsonText(),
    SchemaKind.PROTOBUF: Protobuf(),
}
"""A better one may be put in the place of one."""


class Refusal(Exception):
    """An answer that is an error, by the registry's code; the first three digits are the status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def no_subject(subject: str) -> Refusal:
    return Refusal(40401, f"Subject '{subject}' not found.")


@dataclass(frozen=True)
class Kept:
    """A schema as it is kept."""

    kind: SchemaKind
    text: str
    references: tuple[Reference, ...] = ()

    def told(self) -> dict[str, Any]:
        """As the API gives it: what is AVRO, or has no references, does not say so."""
        out: dict[str, Any] = {"schema": self.text}
        if self.kind is not SchemaKind.AVRO:
            out["schemaType"] = self.kind.value
        if self.references:
            out["references"] = [{"name": o.name, "subject": o.subject, "version": o.version} for o in self.references]
        return out


@dataclass
class Store:
    """Schemas by id, ids by subject and version (the first version is 1)."""

    schemas: dict[int, Kept] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    levels: dict[str | None, str] = field(default_factory=lambda: {None: "BACKWARD"})
    lock: threading.RLock = field(default_factory=threading.RLock)

    def register(self, subject: str, kind: SchemaKind, text: str, references: Sequence[Reference] = ()) -> int:
        """The id of a schema under a subject: its own if it is known, and its version if the subject has it."""
        with self.lock:
            kept = self.canonical(kind, text, references)
            number = next((known for known, other in self.schemas.items() if other == kept), len(self.schemas) + 1)
            self.schemas[number] = kept
            versions = self.subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            return number

    def canonical(self, kind: SchemaKind, text: str, references: Sequence[Reference]) -> Kept:
        try:
            referenced = {name: other.text for name, other in self.referenced(references).items()}
            return Kept(kind, LANGUAGES[kind].canonical(text, referenced), tuple(references))
        except InvalidSchema as error:
            raise Refusal(42201, f"Invalid schema: {error}") from error

    def referenced(self, references: Sequence[Reference]) -> dict[str, Kept]:
        """What is referred to, needed ones first. Raises InvalidSchema."""
        found: dict[str, Kept] = {}
        for one in references:
            try:
                kept = self.schemas[self.version(one.subject, str(one.version))[1]]
            except Refusal as error:
                raise InvalidSchema(f"no schema reference found for {one}") from error
            found = {**found, **self.referenced(kept.references), one.name: kept}
        return found

    def versions(self, subject: str) -> list[int]:
        if subject not in self.subjects:
            raise no_subject(subject)
        return self.subjects[subject]

    def version(self, subject: str, text: str) -> tuple[int, int]:
        """The number of a version and its id."""
        ids = self.versions(subject)
        if text in LATEST:
            return len(ids), ids[-1]
        if not text.isdecimal() or text == "0":
            raise Refusal(42202, f"The specified version '{text}' is not a valid version id.")
        if int(text) > len(ids):
            raise Refusal(40402, f"Version {text} not found.")
        return int(text), ids[int(text) - 1]

    def schema(self, text: str) -> Kept:
        kept = self.schemas.get(int(text)) if text.isdecimal() else None
        if kept is None:
            raise Refusal(40403, f"Schema {text} not found")
        return kept

    def serialized(self, kept: Kept) -> dict[str, Any]:
        """The answer for `format=serialized`: where a language has no such form, the text, as the real one does."""
        referenced = {name: other.text for name, other in self.referenced(kept.references).items()}
        data = LANGUAGES[kept.kind].serialized(kept.text, referenced)
        return kept.told() if data is None else {**kept.told(), "schema": base64.b64encode(data).decode()}


class SchemaRegistry:
    """The server; use in a `with`. `url` is where it listens, `store` what it holds, `asked` each request's path."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self.store, self.asked))
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> SchemaRegistry:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SECONDS)


def answer(store: Store, method: str, path: list[str], query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
    """What one request is answered with. Raises Refusal."""
    with store.lock:
        match method, path:
            case "GET", []:
                return {}
            case "GET", ["schemas", "types"]:
                return [kind.value for kind in LANGUAGES]
            case "GET", ["schemas", "ids", number]:
                kept = store.schema(number)
                return store.serialized(kept) if query.get("format") == "serialized" else kept.told()
            case "GET", ["schemas", "ids", number, "subjects" | "versions" as which]:
                store.schema(number)
                places = [(name, ids.index(int(number)) + 1) for name, ids in store.subjects.items() if int(number) in ids]
                return [{"subject": name, "version": at} if which == "versions" else name for name, at in places]
            case "GET", ["config", *subject]:
                return {"compatibilityLevel": store.levels.get(subject[0] if subject else None, store.levels[None])}
            case "PUT", ["config", *subject]:
                store.levels[subject[0] if subject else None] = body["compatibility"]
                return {"compatibility": body["compatibility"]}
            case "POST", ["compatibility", "subjects", _, "versions", *_]:
                store.canonical(*_posted(body))
                return {"is_compatible": True}
            case _, ["subjects", *rest]:
                return _of_subjects(store, method, rest, body)
            case _:
                raise Refusal(404, "HTTP 404 Not Found")


def _of_subjects(store: Store, method: str, path: list[str], body: Mapping[str, Any]) -> Any:
    match method, path:
        case "GET", []:
            return sorted(store.subjects)
        case "GET", [subject, "versions"]:
            return list(range(1, len(store.versions(subject)) + 1))
        case "GET", [subject, "versions", version]:
            return _told(store, subject, *store.version(subject, version))
        case "GET", [subject, "versions", version, "schema"]:
            return json.loads(store.schemas[store.version(subject, version)[1]].text)
        case "GET", [subject, "versions", version, "referencedby"]:
            number, _ = store.version(subject, version)
            return [
                known
                for known, kept in store.schemas.items()
                if any((one.subject, one.version) == (subject, number) for one in kept.references)
            ]
        case "POST", [subject, "versions"]:
            number = store.register(subject, *_posted(body))
            return {"id": number, "version": store.subjects[subject].index(number) + 1, **store.schemas[number].told()}
        case "POST", [subject]:
            ids = store.versions(subject)
            kept = store.canonical(*_posted(body))
            found = [at for at, number in enumerate(ids) if store.schemas[number] == kept]
            if not found:
                raise Refusal(40403, "Schema not found")
            return _told(store, subject, found[-1] + 1, ids[found[-1]])
        case _:
            raise Refusal(404, "HTTP 404 Not Found")


def _told(store: Store, subject: str, version: int, number: int) -> dict[str, Any]:
    return {"subject": subject, "version": version, "id": number, **store.schemas[number].told()}


def _posted(body: Mapping[str, Any]) -> tuple[SchemaKind, str, tuple[Reference, ...]]:
    try:
        kind = SchemaKind(body.get("schemaType") or SchemaKind.AVRO)
        references = tuple(Reference(one["name"], one["subject"], one["version"]) for one in body.get("references") or ())
        return kind, body["schema"], references
    except (KeyError, ValueError) as error:
        raise Refusal(42201, f"Invalid schema {body}: {error}") from error


def _handler(store: Store, asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            asked.append(self.path)
            parts = urlsplit(self.path)
            path = [unquote(part) for part in parts.path.split("/") if part]
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                status, found = 200, answer(store, self.command, path, query, json.loads(data) if data else {})
            except Refusal as refusal:
                status = refusal.code if refusal.code < 1000 else refusal.code // 100
                found = {"error_code": refusal.code, "message": str(refusal)}
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _any

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's own output matters."""

    return Handler
