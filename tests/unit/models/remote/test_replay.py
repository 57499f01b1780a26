"""A run killed anywhere and started anew pays for no answer twice, and ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from tests.services.carried import text_spec
from tests.services.http import Server
from tests.services.openai import OpenAI

ROWS = 120
RUN = """
import json, sys
from pathlib import Path
import pyarrow as pa
from lakeflow.models.cache import SqliteAnswers
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from tests.services.carried import text_spec

url, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with ModelSet([text_spec(url)], surroundings=Surroundings(answers=SqliteAnswers(folder / "answers.db"))) as models:
    texts = pa.array([f"text {number % 100}" for number in range(rows)])
    answers = models.get("m").predict(pa.RecordBatch.from_arrays([texts], names=["t"]))
    (folder / "out.json").write_text(json.dumps(answers.column("a").to_pylist()))
"""


def started(url: str, folder: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[4]
    return subprocess.Popen([sys.executable, "-c", RUN, url, str(folder), str(ROWS)], cwd=root)


def ran_to_the_end(url: str, folder: Path) -> list[str]:
    assert started(url, folder).wait() == 0
    answers: list[str] = json.loads((folder / "out.json").read_text())
    return answers


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_random_points_asks_for_nothing_that_was_answered(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    service = OpenAI(latency=0.05, random_answers=True)
    with Server(service) as server:
        for _ in range(3):
            seen = len(server.asked)
            process = started(server.url, tmp_path)
            until = seen + draw.randrange(1, 40)
            while len(server.asked) < until and process.poll() is None:
                time.sleep(0.005)
            process.kill()
            process.wait()
        first = ran_to_the_end(server.url, tmp_path)
        asked = len(server.asked)
        assert ran_to_the_end(server.url, tmp_path) == first, "the service answers at random, the cache does not"
        assert len(server.asked) == asked
    assert len(first) == ROWS
    assert first[:20] == first[100:], "equal inputs have equal answers"
    assert all(answer.startswith(f"text {number % 100}!") for number, answer in enumerate(first))
    lost = {text: count - 1 for text, count in service.answered.items() if count > 1}
    assert sum(lost.values()) <= 3 * 10, "what was under way at a kill is lost: ten at the most, each time"


def test_what_was_kept_is_never_asked_again(tmp_path: Path) -> None:
    service = OpenAI(random_answers=True)
    with Server(service) as server:
        process = started(server.url, tmp_path)
        while sum(service.answered.values()) < 50 and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
        before = _kept(tmp_path)
        asked = dict(service.answered)
        ran_to_the_end(server.url, tmp_path)
    again = {text for text, count in service.answered.items() if asked.get(text, 0) < count}
    assert before
    assert not again & {text.partition("!")[0] for text in before.values()}


def _kept(folder: Path) -> Mapping[bytes, str]:
    import sqlite3

    with sqlite3.connect(folder / "answers.db") as connection:
        rows = {key: json.loads(answer)[0] for key, answer in connection.execute("SELECT key, answer FROM answers")}
    connection.close()
    return rows


def test_two_runs_that_ask_the_same_at_once_use_the_answers_that_were_kept_first(tmp_path: Path) -> None:
    service = OpenAI(latency=0.05, random_answers=True)
    said: list[list[str]] = [[], []]
    texts = pa.RecordBatch.from_pydict({"t": [f"text {number}" for number in range(40)]})
    both_ready = threading.Barrier(2)

    def ask(url: str, place: int) -> None:
        surroundings = Surroundings(answers=SqliteAnswers(tmp_path / "answers.db"))
        with ModelSet([text_spec(url)], surroundings=surroundings) as models:
            model = models.get("m")
            both_ready.wait()
            said[place] = model.predict(texts).column("a").to_pylist()

    with Server(service) as server:
        threads = [threading.Thread(target=ask, args=(server.url, place)) for place in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(service.answered.values()) == 2, "both asked"
    assert said[0] == said[1]
    assert sorted(said[0]) == sorted(_kept(tmp_path).values())
