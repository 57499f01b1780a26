"""The command as a process: what goes to which stream, and a reader that goes away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.cli.conftest import Shop


def test_data_is_alone_on_standard_output_and_no_question_is_asked(stocked: Shop) -> None:
    command = [sys.executable, "-m", "lakeflow", "-vv", "run", "large", "--project", str(stocked.folder), "--output", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    [result] = json.loads(ran.stdout)
    assert (result["status"], result["written"]) == ("done", 3)


def test_a_reader_that_goes_away_ends_a_query_quietly(stocked: Shop) -> None:
    sql = "SELECT range FROM range(5000000)"
    command = [sys.executable, "-m", "lakeflow", "query", sql, "--project", str(stocked.folder), "--output", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "range\n"
        process.stdout.close()
        said = process.stderr.read()
        code = process.wait()
    assert (code, said) == (1, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_query_at_once_and_leaves_nothing(number: int, code: int, stocked: Shop) -> None:
    sql = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"
    command = [sys.executable, "-m", "lakeflow", "query", sql, "--project", str(stocked.folder)]
    spilled = stocked.folder / ".lakeflow" / "tmp"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not spilled.is_dir() or not list(spilled.iterdir()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (code, "", "")
    assert list(spilled.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_ends_a_statement_that_waits_for_its_query(stocked: Shop) -> None:
    query = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"
    command = [
        sys.executable,
        "-m",
        "lakeflow",
        "sql",
        "-e",
        f"INSERT INTO gold.sums {query}",
        "--project",
        str(stocked.folder),
    ]
    spilled = stocked.folder / ".lakeflow" / "tmp"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not spilled.is_dir() or not list(spilled.iterdir()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "")
    assert list(spilled.iterdir()) == []


def test_what_a_job_prints_does_not_spoil_the_data(stocked: Shop) -> None:
    (stocked.folder / "jobs" / "talkative.py").write_text(
        "import os\nimport lakeflow as lf\n\nprint('loaded')\n\n\n"
        '@lf.job(target="gold.talkative")\ndef talkative(orders=lf.Read("bronze.orders")):\n'
        "    print('called')\n    os.write(1, b'written')\n    os.system('echo started')\n    return orders\n"
    )
    command = [sys.executable, "-m", "lakeflow", "run", "talkative", "--project", str(stocked.folder), "--output", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout)[0]["status"] == "done"
    assert all(word in ran.stderr for word in ("loaded", "called", "written", "started"))
