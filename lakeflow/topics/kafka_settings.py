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

STRATEGY = "partition.assignment.strategy"
COOPERATIVE = "cooperative-sticky"
SESSION = "session.timeout.ms"
HEARTBEAT = 3000
"""librdkafka's milliseconds between two signs of life. It does not fit them to a shorter session, which so ends at once."""
SHARED: Mapping[str, str] = {
    # A rebalance takes only the partitions away that move, and lets the others be read meanwhile.
    STRATEGY: COOPERATIVE,
    # A commit, with its retries, is a pause between two polls; a process that died is found by session.timeout.ms.
    "max.poll.interval.ms": "900000",
}
"""What is added for a source that several processes share."""

READERS_ONLY = re.compile(
    r"group\.|session\.timeout|heartbeat\.|max\.poll|partition\.assignment|auto\.|fetch\.|queued\.|isolation\.level$"
    r"|check\.crcs$|offset\.|coordinator\.|max\.partition\.fetch|allow\.auto|enable\.(auto|partition)|consume\."
)
"""Keys that a client which only asks takes no notice of, but for a warning."""

SECRET = re.compile(r"password|secret|\.pem$|sasl\.oauthbearer\.config|token|jaas|credential")
"""Keys whose values must not be shown."""


def consumer_settings(settings: Mapping[str, str], group: str, *, shared: bool = False) -> dict[str, str]:
    """What the consumer is made with; `shared` where the group deals the partitions out.

    Raises ConfigError for a key that lakeflow owns and for a missing broker address.
    """
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
    return {**DEFAULTS, **(_shared(settings) if shared else {}), **settings, **owned, "group.id": group}


def _shared(settings: Mapping[str, str]) -> dict[str, str]:
    """With brokers that assign librdkafka takes neither a strategy nor times: the brokers have them."""
    if _brokers_assign(settings):
        return {key: value for key, value in SHARED.items() if key != STRATEGY}
    session = settings.get(SESSION, "")
    beats = {"heartbeat.interval.ms": str(min(HEARTBEAT, int(session) // 3))} if session.isdecimal() else {}
    return {**SHARED, **beats}


def is_cooperative(conf: Mapping[str, str]) -> bool:
    """Whether partitions come and go by themselves, in place of all at each rebalance."""
    return _brokers_assign(conf) or conf.get(STRATEGY, "") == COOPERATIVE


def _brokers_assign(conf: Mapping[str, str]) -> bool:
    """KIP-848, in place of the protocol in which a member of the group does it."""
    return conf.get("group.protocol", "").lower() == "consumer"


def asking_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """The user's settings for a client that reads nothing."""
    return {key: value for key, value in settings.items() if not READERS_ONLY.match(key)}


def without_secrets(message: str, settings: Mapping[str, str]) -> str:
    """`message` with the value of every secret setting blotted out."""
    for key, value in settings.items():
        if SECRET.search(key) and value:
            message = message.replace(str(value), "***")
    return message


def brokers(settings: Mapping[str, str]) -> str:
    """The broker addresses, for messages."""
    return settings.get("bootstrap.servers") or settings.get("metadata.broker.list") or "(none)"
