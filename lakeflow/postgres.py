"""Where a PostgreSQL database is, and its driver, psycopg2, which is an extra and is loaded with the first use.

Source of the connection's parameters: PostgreSQL's documentation, "libpq: Database Connection Control Functions".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from lakeflow.errors import ConfigError

CONNECT = {"connect_timeout": "10", "keepalives_idle": "30", "tcp_user_timeout": "30000", "application_name": "lakeflow"}
_PLACE = re.compile(
    r"postgres(?:ql)?(?:\+psycopg2)?://(?:(?P<user>[^:/?#@]*)(?::(?P<password>.*))?@)?"
    r"(?P<host>[^:/?#@]+)(?::(?P<port>\d{1,5}))?/(?P<database>[^/?#@]+)(?:\?(?P<query>[^@]*))?"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is, and as whom it is asked. `str` shows neither the password nor the query."""

    host: str
    port: int
    database: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"postgresql://{f'{self.user}@' if self.user else ''}{self.host}:{self.port}/{self.database}"

    def parameters(self) -> dict[str, str]:
        """What libpq is given."""
        own = {"host": self.host, "port": str(self.port), "dbname": self.database}
        named = {name: value for name, value in (("user", self.user), ("password", self.password)) if value is not None}
        return {**CONNECT, **self.query, **own, **named}


CACHE = "cache in [models]"


def read_place(text: str, what: str = CACHE) -> Place:
    """`postgresql://user:password@host:port/database?sslmode=require` as a value; %41 in a part is A.

    Of what stands before the last @, all after the first colon is the password. Raises ConfigError, which calls the address
    `what` and shows none of it.
    """
    found = _PLACE.fullmatch(text)
    query = dict(parse_qsl((found and found["query"]) or ""))
    if found is None or "password" in query:
        raise ConfigError(
            f"{what} is no address of a database; valid: postgresql://USER:{{{{ secret.NAME }}}}@HOST[:PORT]/DATABASE, "
            "with libpq's parameters but the password after a ?",
            next_step="write each %, / and @ of a user's name as %25, %2F and %40, and each % of a password as %25",
        )
    password = None if found["password"] is None else unquote(found["password"])
    port = int(found["port"] or 5432)
    return Place(
        unquote(found["host"]), port, unquote(found["database"]), unquote(found["user"] or "") or None, password, query
    )


def driver(what: str = CACHE) -> Any:
    """The module psycopg2. Raises ConfigError where it is not installed; `what` names what needs it."""
    try:
        import psycopg2
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{what} is a PostgreSQL database, for which psycopg2 is not installed",
            next_step='pip install "lakeflow[postgres]"',
        ) from error
    return psycopg2
