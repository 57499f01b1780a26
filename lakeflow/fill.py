"""`${NAME}` and `{{ secret.NAME }}` in the values of lakeflow.toml and of WITH (..), and keeping secrets out of sight.

`fill` puts the environment and secrets into values, `Options` is a mapping that hands secrets to a library but never
shows them, `Environment.redact` takes every secret that was given out of a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from os.path import isfile
from pathlib import Path
from typing import overload
from urllib.parse import quote, quote_plus, unquote

from lakeflow.errors import ConfigError

MASK = "***"
SECRET_VARIABLE = "LAKEFLOW_SECRET_"
SHORTEST_REMEMBERED = 4
"""A literal value of a key that looks secret is taken out of texts from this length on: without "a" no text is readable."""

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<variable>[^}]*)\}|(?P<open>\$\{)|\{\{\s*(?P<secret>secrets?\b(?:[^}]|\}(?!\}))*)\}\}"
)
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_SECRET = re.compile(r"secret\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*")
_PASSWORD_IN_URI = re.compile(r"(?P<before>://[^/@:\s]*:)(?P<password>[^/\s]+)(?=@)")

_SECRET_WORDS = {"password", "passwd", "passphrase", "secret", "token", "credential", "credentials", "sasl", "jaas", "apikey"}
_SECRET_WORDS |= {"authorization"}
_SECRET_PAIRS = {(first, "key") for first in ("api", "access", "private", "account", "secret", "service", "ssl", "shared")}
_SECRET_PAIRS |= {("user", "info"), ("connection", "string"), ("key", "pem")}
_PUBLIC_WORDS = {"mechanism", "mechanisms", "username"}


def looks_secret(key: str) -> bool:
    """Whether the values of `key` are kept out of sight by its name alone, as of `sasl.password` or `s3.access-key-id`."""
    words = [word for word in re.split(r"[^a-z0-9]+", key.lower()) if word]
    if _PUBLIC_WORDS.intersection(words):
        return False
    return not _SECRET_WORDS.isdisjoint(words) or not _SECRET_PAIRS.isdisjoint(pairwise(words))


def has_password(text: str) -> bool:
    """Whether `text` holds a URI with a password in it, as `postgresql://me:password@host/db`."""
    return _PASSWORD_IN_URI.search(text) is not None


class Options(Mapping[str, str]):
    """Text options on their way to a library, in the order they were written.

    Reading a key gives the real value; `str`, `repr` and `shown` give what may be seen of it.
    """

    __slots__ = ("_shown", "_values")

    def __init__(self, values: Mapping[str, str], shown: Mapping[str, str] | None = None) -> None:
        given = shown or {}
        self._values = dict(values)
        self._shown = {key: _visible(key, given.get(key, value)) for key, value in values.items()}

    @property
    def shown(self) -> dict[str, str]:
        """Every key with its value, secrets masked."""
        return dict(self._shown)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Options({self._shown!r})"


def _visible(key: str, value: str) -> str:
    if looks_secret(key):
        return MASK
    return _PASSWORD_IN_URI.sub(rf"\g<before>{MASK}", value)


@dataclass(frozen=True, slots=True)
class Environment:
    """Where values are filled from: the variables of the process and, optionally, a folder with one file a secret.

    It remembers each secret that it gave out, so that `redact` can take it out of a text.
    """

    variables: Mapping[str, str] = field(repr=False)
    folder: Path | None = None
    _given: set[str] = field(default_factory=set, repr=False, compare=False)

    def variable(self, name: str, default: str | None, where: str) -> str:
        """The variable `name`; the default where it is unset or empty. Raises ConfigError where there is neither."""
        value = self.variables.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise ConfigError(
                f"{where}: the environment variable {name!r} is not set",
                next_step=f"export {name}=VALUE, or give a default with ${{{name}:-default}}",
            )
        return value

    def secret(self, name: str, where: str) -> str:
        """The secret `name`. Raises ConfigError where no place has it, or its file cannot be read."""
        variable = SECRET_VARIABLE + name
        if (value := self.variables.get(variable)) is not None:
            return self._give(value)
        if file := self.variables.get(f"{variable}_FILE"):
            return self._give(_text_of(Path(file), name, where))
        if self.folder is not None and isfile(self.folder / name):
            return self._give(_text_of(self.folder / name, name, where))
        elsewhere = f", and {str(self.folder / name)!r} is no file" if self.folder is not None else ""
        raise ConfigError(
            f"{where}: the secret {name!r} is missing: neither {variable} nor {variable}_FILE is set{elsewhere}",
            next_step=f"export {variable}=VALUE, or export {variable}_FILE=PATH of a file that holds it",
        )

    def remember(self, key: str, value: str) -> None:
        """Note what is secret in the value of `key`: all of it where the key looks secret, the password of a URI."""
        if looks_secret(key) and len(value) >= SHORTEST_REMEMBERED:
            self._give(value)
        for found in _PASSWORD_IN_URI.finditer(value):
            if len(found["password"]) >= SHORTEST_REMEMBERED:
                self._give(found["password"])
                self._give(unquote(found["password"]))

    def redact(self, text: str) -> str:
        """`text` without any secret that was given out, as it is or as URIs, JSON and Python write it."""
        spellings = {spelling for secret in self._given for spelling in _spellings(secret)}
        for spelling in sorted(spellings, key=len, reverse=True):
            text = text.replace(spelling, MASK)
        return text

    def _give(self, secret: str) -> str:
        if secret:
            self._given.add(secret)
        return secret


def _spellings(secret: str) -> set[str]:
    return {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def _text_of(path: Path, name: str, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{where}: the file {str(path)!r} of the secret {name!r} cannot be read: {reason}",
            next_step=f"make {path} a text file that this user may read",
        ) from error


@dataclass(frozen=True, slots=True)
class Filled:
    """One value: `text` as it is meant, `shown` with secrets masked, `sources` the variables and secrets it came from."""

    text: str = field(repr=False)
    shown: str
    sources: tuple[str, ...] = ()


def fill_text(value: str, environment: Environment, where: str) -> Filled:
    """Replace `${NAME}`, `${NAME:-default}` and `{{ secret.NAME }}` in `value`; `$${` stands for `${`.

    What was put in is not looked at again. `where` names file and key for messages. Raises ConfigError where a
    variable or a secret is missing or a reference is misspelt.
    """
    text, shown, sources, end = "", "", [], 0
    for found in _REFERENCE.finditer(value):
        between = value[end : found.start()]
        put, visible, source = _resolve(found, environment, where)
        text, shown, end = text + between + put, shown + between + visible, found.end()
        sources += [source] if source else []
    return Filled(text + value[end:], shown + value[end:], tuple(sources))


def _resolve(found: re.Match[str], environment: Environment, where: str) -> tuple[str, str, str]:
    if found["escaped"]:
        return "${", "${", ""
    if found["secret"] is not None:
        if secret := _SECRET.fullmatch(found["secret"]):
            return environment.secret(secret["name"], where), MASK, f"secret {secret['name']}"
    elif found["variable"] is not None and (variable := _VARIABLE.fullmatch(found["variable"])):
        put = environment.variable(variable["name"], variable["default"], where)
        fell_back = not environment.variables.get(variable["name"]) and variable["default"] is not None
        return put, put, f"default for {variable['name']}" if fell_back else f"environment {variable['name']}"
    raise ConfigError(
        f"{where}: {found.group()!r} is no reference; valid: ${{NAME}}, ${{NAME:-default}}, {{{{ secret.NAME }}}}, "
        "and $${ for a dollar and a brace as they are"
    )


@overload
def fill(value: str, environment: Environment, where: str) -> str: ...


@overload
def fill(value: Mapping[str, str], environment: Environment, where: str) -> Options: ...


def fill(value: str | Mapping[str, str], environment: Environment, where: str) -> str | Options:
    """A text, or every value of a mapping, with the environment and secrets filled in.

    `where` names what is filled in ("tables/flights.sql:3: WITH"). Raises ConfigError as `fill_text` does.
    """
    if isinstance(value, str):
        return fill_text(value, environment, where).text
    filled = {key: fill_text(text, environment, f"{where}: {key}") for key, text in value.items()}
    for key, one in filled.items():
        environment.remember(key, one.text)
    return Options({key: one.text for key, one in filled.items()}, {key: one.shown for key, one in filled.items()})
