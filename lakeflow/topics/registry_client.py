"""The Schema Registry over HTTP, by Confluent's API.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html. Settings have Confluent's names.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from lakeflow.errors import ConfigError, RegistryUnavailable, SchemaMismatch, UnknownName
from lakeflow.retry import Backoff, retrying
from lakeflow.topics.registered import Reference, RegisteredSchema, SchemaKind

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 16 * 1024**2
"""Of one answer."""
MOST_REDIRECTS = 3
ABSENT_SECONDS = 30.0
"""How long the registry's word is kept that it has no schema of an id."""
MOST_ABSENT = 10_000

KEYS = (
    "url",
    "basic.auth.user.info",
    "bearer.auth.token",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "timeout",
)
DEFAULT_SECONDS = 10.0
MOST_SECONDS = 600.0

NO_SUBJECT, NO_VERSION, NO_SCHEMA = 40401, 40402, 40403
BUSY = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Access:
    """Where registries are, in the order in which they are asked, and with what. `seconds` bound one request."""

    urls: tuple[str, ...]
    user: tuple[str, str] | None
    token: str | None
    ca: str | None
    certificate: str | None
    key: str | None
    seconds: float

    def __repr__(self) -> str:
        return f"Access({', '.join(self.urls)})"


def access(settings: Mapping[str, str]) -> Access:
    """What [registry] says. Raises UnknownName for a key, ConfigError for a value; no secret is in a message."""
    for name in settings:
        if name not in KEYS:
            raise UnknownName("key of [registry]", name, KEYS)
    user, token = settings.get("basic.auth.user.info"), settings.get("bearer.auth.token")
    if user and ":" not in user:
        raise ConfigError("[registry] basic.auth.user.info has no colon; it is user:password")
    urls = tuple(_bare(url.strip()) for url in settings.get("url", "").split(",") if url.strip())
    if not urls:
        raise ConfigError("[registry] url is missing", next_step='set it in lakeflow.toml, as in url = "http://localhost:8081"')
    if user and token:
        raise ConfigError("[registry] has basic.auth.user.info and bearer.auth.token; one can be sent, remove the other")
    if settings.get("ssl.key.location") and not settings.get("ssl.certificate.location"):
        raise ConfigError("[registry] has ssl.key.location, and no ssl.certificate.location that it belongs to")
    name, _, password = (user or "").partition(":")
    return Access(
        urls,
        (name, password) if user else None,
        token or None,
        settings.get("ssl.ca.location") or None,
        settings.get("ssl.certificate.location") or None,
        settings.get("ssl.key.location") or None,
        _seconds(settings.get("timeout", str(DEFAULT_SECONDS))),
    )


def _bare(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ConfigError("[registry] url is no URL") from None
    if "@" in parts.netloc:
        raise ConfigError(
            "[registry] url holds a user or a password, which would be logged",
            next_step='move them to basic.auth.user.info = "user:password", the password as {{ secret.NAME }}',
        )
    if not valid:
        raise ConfigError(f"[registry] url is {url!r}; valid: http://host:port, https://host:port, with commas between several")
    return url.rstrip("/")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MOST_SECONDS:
        raise ConfigError(f"[registry] timeout is {text!r}; valid: seconds, above 0 and up to {MOST_SECONDS:g}")
    return seconds


class _Absent(Exception):
    """The registry's own 404, with its code; never leaves this module."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


LARGEST_ID = 2**31 - 1


class HttpRegistry:
    """The Registry. One may be used by several threads."""

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        backoff: Backoff = Backoff(attempts=5, base=0.1),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises UnknownName, ConfigError for the settings; connects to nothing yet."""
        self._access = access(settings)
        self._backoff, self._clock, self._sleep = backoff, clock, sleep
        self._client = _client(self._access)
        self._known: dict[int, RegisteredSchema] = {}
        self._absent: dict[int, float] = {}
        """By id: until when it counts as not there."""
        self._versions: dict[tuple[str, int], RegisteredSchema] = {}
        self._serialized: dict[int, bytes | None] = {}

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """See the protocol. That a schema is not there is believed for 30 seconds, that it is for ever."""
        if (known := self._known.get(schema_id)) is not None:
            return known
        if schema_id > LARGEST_ID:  # garbage behind a zero byte: registries answer such a path as if it were none of theirs
            return None
        now = self._clock()
        if self._absent.get(schema_id, now) > now:
            return None
        try:
            found = _schema(self._get(f"/schemas/ids/{schema_id}"), schema_id)
        except _Absent:
            self._note_absent(schema_id, now)
            return None
        self._known[schema_id] = found
        return found

    def check(self) -> str:
        """Ask for what every registry answers: the languages that it knows. Raises as the look-ups do."""
        languages = self._get("/schemas/types")
        return ", ".join(sorted(map(str, languages))) if isinstance(languages, list) else "its languages are not told"

    def _note_absent(self, schema_id: int, now: float) -> None:
        if len(self._absent) >= MOST_ABSENT:
            self._absent = {other: until for other, until in self._absent.items() if until > now}
        if len(self._absent) < MOST_ABSENT:
            self._absent[schema_id] = now + ABSENT_SECONDS

    def latest(self, subject: str) -> RegisteredSchema:
        """See the protocol."""
        try:
            found = _schema(self._get(f"/subjects/{quote(subject, safe='')}/versions/latest"))
        except _Absent:
            raise UnknownName("subject of the schema registry", subject, self._subjects()) from None
        self._known[found.id] = found
        return found

    def _subjects(self) -> list[str]:
        subjects = self._get("/subjects")
        if not isinstance(subjects, list):
            raise RegistryUnavailable("the schema registry's list of subjects is no list")
        return [str(subject) for subject in subjects]

    def referenced(self, schema: RegisteredSchema) -> Mapping[str, RegisteredSchema]:
        """See the protocol."""
        found: dict[str, RegisteredSchema] = {}
        self._collect(schema, found, set())
        return found

    def _collect(self, schema: RegisteredSchema, found: dict[str, RegisteredSchema], seen: set[Reference]) -> None:
        for reference in schema.references:
            if reference not in seen:
                seen.add(reference)
                other = self._version(reference, schema)
                self._collect(other, found, seen)
                found.setdefault(reference.name, other)

    def _version(self, reference: Reference, of: RegisteredSchema) -> RegisteredSchema:
        place = (reference.subject, reference.version)
        if (known := self._versions.get(place)) is not None:
            return known
        try:
            found = _schema(self._get(f"/subjects/{quote(reference.subject, safe='')}/versions/{reference.version}"))
        except _Absent:
            raise SchemaMismatch(
                f"schema {of.id} refers to {reference.name!r}, version {reference.version} of subject "
                f"{reference.subject!r}, which is not in the registry"
            ) from None
        self._versions[place] = found
        return found

    def serialized(self, schema_id: int) -> bytes | None:
        """See the protocol."""
        if schema_id not in self._serialized:
            self._serialized[schema_id] = self._ask_serialized(schema_id)
        return self._serialized[schema_id]

    def _ask_serialized(self, schema_id: int) -> bytes | None:
        try:
            answer = self._get(f"/schemas/ids/{schema_id}?format=serialized")
        except _Absent:
            return None
        text = answer.get("schema") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise RegistryUnavailable(f"the schema registry's answer for schema {schema_id} has no schema")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return None  # a registry that does not know this format gives the text

    def _get(self, path: str) -> Any:
        """The answer's JSON. Raises _Absent, RegistryUnavailable after the last retry, ConfigError."""
        return retrying(lambda: self._ask_each(path), self._backoff, sleep=self._sleep)

    def _ask_each(self, path: str) -> Any:
        failures = []
        for url in self._access.urls:
            try:
                return self._ask(url, path)
            except RegistryUnavailable as failure:
                failures.append(failure)
        if len(failures) == 1:
            raise failures[0]
        raise RegistryUnavailable("; ".join(failure.message for failure in failures)) from failures[-1]

    def _ask(self, url: str, path: str) -> Any:
        import httpx

        try:
            status, body = self._receive(url, path)
        except httpx.TooManyRedirects as error:
            raise ConfigError(f"the schema registry at {url} redirects more than {MOST_REDIRECTS} times") from error
        except httpx.TimeoutException as error:
            raise RegistryUnavailable(f"the schema registry at {url} did not answer in {self._access.seconds:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryUnavailable(
                f"the schema registry at {url} is not reachable: {type(error).__name__}: {error}"
            ) from error
        return _understood(url, status, body)

    def _receive(self, url: str, path: str) -> tuple[int, bytes]:
        until = self._clock() + self._access.seconds
        body = bytearray()
        with self._client.stream("GET", url + path) as answer:
            for part in answer.iter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise RegistryUnavailable(f"the schema registry at {url} answers with more than {MOST_BYTES} bytes")
                if self._clock() > until:
                    raise RegistryUnavailable(
                        f"the schema registry at {url} did not end its answer in {self._access.seconds:g} s"
                    )
            return answer.status_code, bytes(body)


def _client(found: Access) -> httpx.Client:
    import httpx

    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    if found.token:
        headers["Authorization"] = f"Bearer {found.token}"
    return httpx.Client(
        auth=found.user,
        headers=headers,
        verify=_tls(found),
        timeout=found.seconds,
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
    )


def _tls(found: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=found.ca)
    except OSError as error:
        raise ConfigError(f"[registry] ssl.ca.location is {found.ca!r}, which cannot be read: {error}") from error
    if found.certificate:
        try:
            context.load_cert_chain(found.certificate, found.key)
        except OSError as error:
            raise ConfigError(
                f"[registry] ssl.certificate.location is {found.certificate!r} with ssl.key.location {found.key!r}, "
                f"which cannot be read: {error}"
            ) from error
    return context


def _understood(url: str, status: int, body: bytes) -> Any:
    """The JSON of an answer. Raises as `HttpRegistry._get` does. What a body holds is in no message."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if status in (401, 403):
        raise ConfigError(
            f"the schema registry at {url} refuses the credentials (status {status})",
            next_step="check basic.auth.user.info or bearer.auth.token under [registry], and what they may read",
        )
    code = answer.get("error_code") if isinstance(answer, dict) else None
    if status == 404 and code in (NO_SUBJECT, NO_VERSION, NO_SCHEMA):
        raise _Absent(code)
    if status >= 500 or status in BUSY:
        raise RegistryUnavailable(f"the schema registry at {url} answers with status {status}")
    if status != 200:
        raise ConfigError(
            f"{url} answers with status {status}, as no schema registry does",
            next_step="check url under [registry] in lakeflow.toml",
        )
    if answer is None:
        raise RegistryUnavailable(f"the schema registry at {url} answers with what is no JSON")
    return answer


def _schema(answer: Any, schema_id: int | None = None) -> RegisteredSchema:
    """A schema from the registry's JSON. Raises RegistryUnavailable where it is none, SchemaMismatch for an unknown kind."""
    try:
        number = int(answer["id"]) if schema_id is None else schema_id
        text, kind = answer["schema"], answer.get("schemaType") or SchemaKind.AVRO
        references = tuple(
            Reference(str(one["name"]), str(one["subject"]), int(one["version"])) for one in answer.get("references") or ()
        )
        if not isinstance(text, str):
            raise TypeError("schema is no text")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RegistryUnavailable(f"the schema registry's answer is no schema: {type(error).__name__}: {error}") from error
    try:
        return RegisteredSchema(number, SchemaKind(kind), text, references)
    except ValueError:
        raise SchemaMismatch(f"schema {number} is of {kind!r}; valid: {', '.join(SchemaKind)}") from None
