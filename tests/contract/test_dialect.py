"""What every dialect keeps, whatever its service says: an answer for each row, or blame, and never an exception."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import LakeflowError
from lakeflow.models.answering import Leniency
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.remote.dialect import Blame, Dialect, Reading
from lakeflow.models.remote.provider import RemoteProvider
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.shapes import column_of
from tests.contract.test_provider import SERVICES, Case
from tests.services.http import Asked, Reply, Server

ODD: Sequence[object] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    "x",
    "\ud800",
    "0001-01-01T00:00:00+23:59",
    [],
    [[]],
    {},
    [None],
    [1, "x"],
    [10**400],
    float("nan"),
)
BROKEN = (b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5_000, b"<html>", b'"x"', b"NaN")
REASONS = (
    *BROKEN,
    b'{"error":null}',
    b'{"error":[]}',
    b'{"error":{"message":5,"code":{},"type":[],"param":{},"details":5,"innererror":{"content_filter_result":{"a":5}}}}',
    b'{"error":{"message":"try again in ' + b"9" * 500 + b' seconds","details":[5,null,{"retryDelay":"x"}],"status":7}}',
    b'{"error":{"details":[{"@type":5,"retryDelay":"' + b"9" * 400 + b's","violations":5,"reason":[]}]}}',
    b'{"message":{},"__type":5,"Message":[],"OriginalStatusCode":"x","OriginalMessage":5}',
    b'{"type":"error","error":{"type":{},"message":[]}}',
)
WAITS: tuple[dict[str, str], ...] = (
    {},
    {"retry-after": "Mon, 01 Jan 2020 99999999999999999999:00:00 GMT"},
    {"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"},
    {"retry-after": "-5", "retry-after-ms": "nan"},
    {"retry-after": "1" * 400},
    {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9" * 400 + "s"},
    {"x-amzn-errortype": "", "x-amzn-sagemaker-original-status": "x"},
)
PLAIN = ("host", "user-agent", "accept", "accept-encoding", "content-type", "content-length")
"""Headers that tell nothing of who asks."""
STATUSES = (201, 204, 302, 400, 401, 403, 404, 408, 413, 418, 422, 424, 429, 500, 503, 529, 530)


@dataclass(frozen=True)
class Spoken:
    """A dialect, its answer columns, and an answer of its service to so many rows."""

    dialect: Dialect
    columns: Sequence[pa.Field]
    answer: bytes
    rows: int


@pytest.fixture(params=SERVICES)
def spoken(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spoken]:
    maker: Callable[[Path, str], Case] = request.param
    service = SERVICES[maker]()
    replies: list[Reply] = []

    async def noted(asked: Asked) -> Reply:
        replies.append(await service(asked))
        return replies[-1]

    with Server(noted) as server:
        case = maker(tmp_path, server.url)
        provider = case.make(case.spec)
        assert isinstance(provider, RemoteProvider)
        provider.check()
        provider.predict(case.rows)
        dialect, answer = provider._dialect, replies[-1].body
        rows = next(count for count in (1, 2, 3) if isinstance(dialect.read(answer, count), Reading))
        yield Spoken(dialect, provider._columns, answer, rows)
        provider.close()


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("maker", SERVICES)
def test_a_service_that_repeats_what_it_is_sent_tells_nobody_a_secret(
    maker: Callable[[Path, str], Case], status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever the message that is made of it is cut."""
    caplog.set_level(logging.DEBUG)
    service = SERVICES[maker]()
    before: int | None = None

    async def repeating(asked: Asked) -> Reply:
        if before is None:
            return await service(asked)
        sent = " ".join(value for name, value in asked.headers.items() if name not in PLAIN)
        return Reply(status, json.dumps({"error": {"message": "x" * before + sent}}).encode())

    with Server(repeating) as server:
        case = maker(tmp_path, server.url)
        provider = case.make(replace(case.spec, options={**case.spec.options, "retry_num": "0"}))
        assert isinstance(provider, RemoteProvider)
        provider.surround(Surroundings(answers=SqliteAnswers(tmp_path / "answers.db")))
        provider.check()
        shown = []
        for place in range(228, 301, 12):
            before = place
            with pytest.raises(LakeflowError) as caught:
                provider.tell(case.rows, Leniency())
            shown.append(str(caught.value))
        secrets = [secret[:6] for secret in provider._dialect.secrets]
        provider.close()
    assert secrets or case.spec.provider == "triton"
    kept = [file.read_bytes().decode("latin-1") for file in tmp_path.glob("answers*")]
    assert [text for text in (*shown, caplog.text, *kept) for secret in secrets if secret in text] == []


def test_an_answer_of_any_shape_is_read_or_blamed(spoken: Spoken) -> None:
    bodies = [*BROKEN, *(json.dumps(odd).encode() for odd in _spoilt(json.loads(spoken.answer)))]
    read = [spoken.dialect.read(body, spoken.rows) for body in bodies]
    for said in read:
        if isinstance(said, Blame):
            assert said.message
            continue
        assert len(said.answers) == spoken.rows
        for place, column in enumerate(spoken.columns):
            column_of([answer[place] for answer in said.answers], column)
        json.dumps(said.answers, ensure_ascii=False).encode()
    assert {type(said) for said in read} == {Reading, Blame}


def test_any_failure_is_blamed(spoken: Spoken) -> None:
    for status in STATUSES:
        for headers in WAITS:
            for body in REASONS:
                blame = spoken.dialect.blame(status, headers, body)
                assert blame.message
                assert blame.retry_after is None or blame.retry_after >= 0


def _spoilt(document: object) -> Iterator[object]:
    """The document with each of its values in turn replaced by odd ones; within texts of JSON too."""
    for path in _paths(document):
        value = _at(document, path)
        for odd in ODD:
            yield _with(document, path, odd)
        if isinstance(value, str) and value.startswith(("{", "[")):
            for inner in _spoilt(json.loads(value)):
                yield _with(document, path, json.dumps(inner))


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from _paths(value[key], (*before, key))


def _at(value: Any, path: tuple[Any, ...]) -> object:
    for key in path:
        value = value[key]
    return value


def _with(value: Any, path: tuple[Any, ...], odd: object) -> object:
    if not path:
        return odd
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], odd)
    return copy
