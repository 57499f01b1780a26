"""Which topics a table is landed from: some by name, or all whose names match a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from lakeflow.errors import DeclarationError, UnknownName

TOPIC = "topic"
PATTERN = "topic-pattern"
SEPARATOR = ";"
INTERNAL = "__"
"""What the names of Kafka's own topics begin with."""

VALID_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class NamedTopics:
    """Topics by name; each must be there."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return SEPARATOR.join(self.names)


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """The topics whose whole names match `pattern`, a regular expression of Python; never Kafka's own."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern


Topics = NamedTopics | TopicPattern


def topics_of(options: Mapping[str, str]) -> Topics:
    """The topics that a table's WITH pairs name, by 'topic' = 'a;b' or 'topic-pattern' = 'sales-.*', as in Flink.

    Raises DeclarationError where there are none, both, one twice, or what is no name or no pattern.
    """
    names, pattern = options.get(TOPIC), options.get(PATTERN)
    if names is not None and pattern is not None:
        raise DeclarationError(f"options {TOPIC!r} and {PATTERN!r} exclude each other: {names!r}, {pattern!r}")
    if names is not None:
        return _named(names)
    if pattern is not None:
        return _pattern(pattern)
    raise DeclarationError(f"no topic is named; add {TOPIC!r} = '..' or {PATTERN!r} = '..' to the WITH options")


def only_topic(topics: Topics) -> str | None:
    """The name, where there is only one."""
    return topics.names[0] if isinstance(topics, NamedTopics) and len(topics.names) == 1 else None


def includes(topics: Topics, name: str) -> bool:
    """Whether `topics` are meant to hold the topic `name`."""
    match topics:
        case NamedTopics(names):
            return name in names
        case TopicPattern(pattern):
            return not name.startswith(INTERNAL) and re.fullmatch(pattern, name) is not None
        case _:
            assert_never(topics)


def resolved(topics: Topics, known: Iterable[str]) -> tuple[str, ...]:
    """The names of `topics`, given the topics `known` to be there. Named ones as they are named, others sorted.

    Raises UnknownName for a name that is not there, and for a pattern that matches none.
    """
    there = {name for name in known if not name.startswith(INTERNAL) or includes(topics, name)}
    match topics:
        case NamedTopics(names):
            for name in names:
                if name not in there:
                    raise UnknownName(TOPIC, name, there, next_step=f"create it, or correct {TOPIC!r} in the table's options")
            return names
        case TopicPattern(pattern):
            found = tuple(sorted(name for name in there if includes(topics, name)))
            if not found:
                raise UnknownName(
                    "topic of pattern", pattern, there, next_step=f"create one, or correct {PATTERN!r} in the table's options"
                )
            return found
        case _:
            assert_never(topics)


def _named(text: str) -> NamedTopics:
    names = tuple(name.strip() for name in text.split(SEPARATOR))
    for name in names:
        if not VALID_NAME.fullmatch(name) or name in (".", ".."):
            raise DeclarationError(
                f"option {TOPIC!r} is {text!r}, and {name!r} is no topic's name; valid: letters, digits, '.', '_' and '-', "
                f"several topics with {SEPARATOR!r} between"
            )
        if names.count(name) > 1:
            raise DeclarationError(f"option {TOPIC!r} names {name!r} twice: {text!r}")
    return NamedTopics(names)


def _pattern(text: str) -> TopicPattern:
    try:
        re.compile(text)
    except re.error as error:
        raise DeclarationError(f"option {PATTERN!r} is {text!r}, which is no regular expression: {error}") from None
    if not text:
        raise DeclarationError(f"option {PATTERN!r} is empty; valid: a regular expression such as 'sales-.*'")
    return TopicPattern(text)
