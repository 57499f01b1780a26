"""The [kafka] settings as librdkafka gets them: the user's, what lakeflow must own, and its own defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lakeflow.errors import ConfigError

OWNED: Mapping[str, tuple[str, str]] = {
    "enable.auto.commit": ("false", "progress is kept in the table"),
    "enable.auto.offset.store": ("false", "progress is kept in the table"),
    "auto.offset.reset": ("error", "a landing never jumps to other records by itself"),
    "enable.partition.eof": ("true", "it tells when a landing has caught up"),
}
"""Key to the only value that it may have, and why."""

DEFAULTS: Mapping[str, str] = {
    # The default of 1000 leaves the consumer idle most of the time once its queue was full.
    "fetch.queue.backoff.ms": "1",
    "queued.max.messages.kbytes": "65536",
    "isolation.level": "read_committed",
    "allow.auto.create.topics": "false",
}

SECRET = re.compile(r"password|secret|\.pem$|sasl\.oauthbearer\.config|token|jaas|credential")
"""Keys whose values must not be shown."""


def consumer_settings(settings: Mapping[str, str], group: str) -> dict[str, str]:
    """What the consumer is made with. Raises ConfigError for a key that lakeflow owns and for a missing broker address."""
    for key, (value, reason) in OWNED.items():
        if str(settings.get(key, value)).lower() != value:
            raise ConfigError(
                f"[kafka] {key} is {settings[key]!r}, but lakeflow needs {value!r}: {reason}",
                next_step=f"remove {key} from [kafka] in lakeflow.toml",
            )
    if settings.get("group.id", group) != group:
        raise ConfigError(
            f"[kafka] group.id is {settings['group.id']!r}, but a landing shows its lag under {group!r}",
            next_step="remove group.id from [kafka] in lakeflow.toml",
        )
    if not settings.get("bootstrap.servers") and not settings.get("metadata.broker.list"):
        raise ConfigError(
            "[kafka] bootstrap.servers is missing",
            next_step='set it in lakeflow.toml, for instance: bootstrap.servers = "localhost:9092"',
        )
    owned = {key: value for key, (value, _) in OWNED.items()}
    return {**DEFAULTS, **settings, **owned, "group.id": group}


def without_secrets(message: str, settings: Mapping[str, str]) -> str:
    """`message` with the value of every secret setting blotted out."""
    for key, value in settings.items():
        if SECRET.search(key) and value:
            message = message.replace(str(value), "***")
    return message


def brokers(settings: Mapping[str, str]) -> str:
    """The broker addresses, for messages."""
    return settings.get("bootstrap.servers") or settings.get("metadata.broker.list") or "(none)"
