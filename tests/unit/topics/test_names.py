"""Which topics a declaration names, and which of those that are there it comes to."""

from __future__ import annotations

import pytest

from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.topics.names import NamedTopics, TopicPattern, Topics, includes, resolved, topics_of

THERE = ["sales-de", "sales-fr", "other", "__consumer_offsets", "__sales-x"]


@pytest.mark.parametrize(
    ("options", "topics"),
    [
        ({"topic": "a"}, NamedTopics(("a",))),
        ({"topic": "a;b.c; d_e"}, NamedTopics(("a", "b.c", "d_e"))),
        ({"topic-pattern": "sales-.*"}, TopicPattern("sales-.*")),
    ],
)
def test_options_name_topics(options: dict[str, str], topics: Topics) -> None:
    assert topics_of(options) == topics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no topic is named; add 'topic' = '..' or 'topic-pattern'"),
        ({"topic": ""}, "'' is no topic's name"),
        ({"topic": "a;;b"}, "'' is no topic's name"),
        ({"topic": "a,b"}, "'a,b' is no topic's name; valid: letters"),
        ({"topic": ".."}, "'..' is no topic's name"),
        ({"topic": "a;b;a"}, "names 'a' twice"),
        ({"topic": "a", "topic-pattern": "b"}, "exclude each other"),
        ({"topic-pattern": "sales-["}, "'sales-[', which is no regular expression"),
        ({"topic-pattern": ""}, "'topic-pattern' is empty"),
    ],
)
def test_wrong_options_say_what_is_valid(options: dict[str, str], message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        topics_of(options)
    assert message in caught.value.message


def test_a_pattern_is_of_whole_names_and_never_of_kafkas_own() -> None:
    assert resolved(TopicPattern("sales-.."), THERE) == ("sales-de", "sales-fr")
    assert resolved(TopicPattern(".*"), THERE) == ("other", "sales-de", "sales-fr")
    assert not includes(TopicPattern("sales"), "sales-de")
    assert not includes(TopicPattern("__.*"), "__consumer_offsets")


def test_named_topics_stay_in_their_order_and_may_be_kafkas_own() -> None:
    assert resolved(NamedTopics(("sales-fr", "__consumer_offsets", "other")), THERE) == (
        "sales-fr",
        "__consumer_offsets",
        "other",
    )


def test_a_name_that_is_not_there_is_refused_with_the_near_one() -> None:
    with pytest.raises(UnknownName, match=r"unknown topic 'sales-d'; did you mean 'sales-de'\?") as caught:
        resolved(NamedTopics(("other", "sales-d")), THERE)
    assert "consumer_offsets" not in caught.value.message


def test_a_pattern_of_no_topic_is_refused_with_the_topics_there() -> None:
    with pytest.raises(UnknownName, match=r"unknown topic of pattern 'orders-\.\*'; valid: other, sales-de, sales-fr"):
        resolved(TopicPattern("orders-.*"), THERE)
