"""`lakeflow sql` on a terminal: several lines, completion, cancelling, history, the pager; and without one."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shop
from tests.integration.cli.terminal import CTRL_C, CTRL_D, ENTER, SECONDS, TAB, UP, Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")

PROMPT = "lakeflow>"
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b;"


def shell(site: Shop, tmp_path: Path, *arguments: str, pager: str = "") -> Terminal:
    """A shell whose history is in a folder of the test."""
    variables = {"XDG_STATE_HOME": str(tmp_path / "state"), "PAGER": pager}
    return Terminal("sql", "--project", str(site.folder), *arguments, variables=variables, folder=tmp_path)


def _wait_until_it_runs(site: Shop) -> Path:
    """Until a query has its folder for what it spills; the folder of those."""
    spilled = site.folder / ".lakeflow" / "tmp"
    end = time.monotonic() + SECONDS
    while not spilled.is_dir() or not list(spilled.glob("query-*")):
        assert time.monotonic() < end, "no query began"
        time.sleep(0.02)
    return spilled


def test_a_statement_may_take_several_lines_and_errors_end_none_but_themselves(stocked: Shop, tmp_path: Path) -> None:
    with shell(stocked, tmp_path) as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"SELECT order_id,{ENTER}")
        terminal.expect("...")
        terminal.type(f"amount FROM bronze.orders ORDER BY 1 LIMIT 2;{ENTER}")
        shown = terminal.expect("order_id  amount", "s)", PROMPT)
        assert "o1" in shown
        assert "o2" in shown
        assert "o3" not in shown
        terminal.type(f"SELECT * FROM bronze.nope;{ENTER}")
        terminal.expect("error: line 1:15: unknown table 'bronze.nope'", PROMPT)
        terminal.type(f"SELECT 1 AS one; SELECT nope; SELECT 3 AS three;{ENTER}")
        shown = terminal.expect("one", "error:", PROMPT)
        assert "three\n" not in shown
        terminal.type(CTRL_D)
        assert terminal.code() == 0


def test_tables_and_columns_are_completed(stocked: Shop, tmp_path: Path) -> None:
    with shell(stocked, tmp_path) as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"FROM bronze.or{TAB}")
        terminal.expect("bronze.or", "ders")
        terminal.type(f" SELECT cust{TAB}")
        terminal.expect("cust", "omer")
        terminal.type(f" ORDER BY 1 LIMIT 1;{ENTER}")
        terminal.expect("customer\n", "s)", PROMPT)
        terminal.type(f"\\q{ENTER}")
        assert terminal.code() == 0


def test_ctrl_c_cancels_the_statement_and_not_the_shell(stocked: Shop, tmp_path: Path) -> None:
    with shell(stocked, tmp_path) as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"half a statement{CTRL_C}")
        terminal.expect(PROMPT)
        terminal.type(ENDLESS + f" SELECT 7 AS behind;{ENTER}")
        spilled = _wait_until_it_runs(stocked)
        terminal.type(CTRL_C)
        terminal.expect("cancelling; Ctrl-C again leaves at once")
        assert "behind" not in terminal.expect("cancelled", PROMPT)
        assert list(spilled.iterdir()) == []
        terminal.type(f"SELECT 41 + 1 AS answer;{ENTER}")
        terminal.expect("answer\n", "42")
        terminal.expect(PROMPT)
        terminal.type(CTRL_D)
        assert terminal.code() == 0


def test_a_cancelled_insert_writes_nothing(stocked: Shop, tmp_path: Path) -> None:
    endless = "SELECT count(*) AS n FROM bronze.orders, range(10000000) a, range(1000000) b WHERE a.range * b.range = amount;"
    with shell(stocked, tmp_path) as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"CREATE TABLE gold.once (n BIGINT);{ENTER}")
        terminal.expect("created", PROMPT)
        terminal.type(f"INSERT INTO gold.once {endless}{ENTER}")
        _wait_until_it_runs(stocked)
        terminal.type(CTRL_C)
        terminal.expect("the query was interrupted", "stopped", PROMPT)
        terminal.type(f"SELECT count(*) AS written FROM gold.once;{ENTER}")
        terminal.expect("written\n", "0\n", PROMPT)
        terminal.type(CTRL_D)
        assert terminal.code() == 0
    [run] = [one for one in stocked.json("runs") if one["name"] == "lakeflow sql"]
    assert run["status"] == "stopped"


def test_history_is_the_users_and_outlives_the_shell(stocked: Shop, tmp_path: Path) -> None:
    with shell(stocked, tmp_path) as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"SELECT 'kept' AS word,{ENTER}2 AS line;{ENTER}")
        terminal.expect("word  line\n", PROMPT)
        terminal.type(f" SELECT 'not kept' AS word;{ENTER}")
        terminal.expect("word\n", PROMPT)
        terminal.type(CTRL_D)
        assert terminal.code() == 0
    file = tmp_path / "state" / "lakeflow" / "sql_history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "not kept" not in file.read_text()
    with shell(stocked, tmp_path) as terminal:
        terminal.expect(PROMPT)
        terminal.type(UP)
        terminal.expect("SELECT 'kept' AS word,")
        terminal.expect("2 AS line;")
        terminal.type(ENTER)
        terminal.expect("word  line\n", "kept     2\n")


def test_long_results_go_through_the_pager_until_it_is_off(stocked: Shop, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    with shell(stocked, tmp_path, pager=f"tee {taken}") as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"SELECT range FROM range(100);{ENTER}")
        terminal.expect("   99\n", PROMPT)
        assert taken.read_text().splitlines()[-1] == "   99"
        taken.unlink()
        terminal.type(f"\\pager off{ENTER}")
        terminal.expect("\\pager is off\n", PROMPT)
        terminal.type(f"SELECT range FROM range(100);{ENTER}")
        terminal.expect("   99\n", PROMPT)
        assert not taken.exists()


def test_commands_show_what_there_is_and_how(stocked: Shop, tmp_path: Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text("SELECT 5 AS five;\nSELECT 6 AS six;", encoding="utf-8")
    with shell(stocked, tmp_path) as terminal:
        for typed, *shown in (
            ("\\d", "bronze.orders"),
            ("\\d bronze.orders", "order_id", "STRING", "location"),
            ("\\dm", "docs_embedding"),
            ("\\di", "docs_index"),
            ("\\dj", "large", "totals"),
            ("\\?", "\\timing [on|off]"),
            ("\\x", "\\x is on"),
            ("SELECT 1 AS a, 2 AS b;", "- row 1 -", "a  1\n", "b  2\n"),
            ("\\x off", "\\x is off"),
            ("\\format csv", "rows are written as csv"),
            ("SELECT 1 AS a, 'b,c' AS b;", "a,b\n", '1,"b,c"\n'),
            ("\\format text", "rows are written as text"),
            ("\\limit 3", "the first 3 rows are shown"),
            ("SELECT range FROM range(100);", "range\n", "    2\n", "the first 3 rows are shown; \\limit ROWS shows more"),
            (f"\\i {script}", "five\n", "six\n"),
            ("\\i none.sql", "error: the file of statements 'none.sql' cannot be read"),
            ("\\dd", "error: unknown command"),
            ("\\timing off", "\\timing is off"),
        ):
            terminal.expect(PROMPT)
            terminal.type(typed + ENTER)
            terminal.expect(*shown)


def test_a_table_is_dropped_once_the_user_says_so(stocked: Shop, tmp_path: Path) -> None:
    with shell(stocked, tmp_path) as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"CREATE TABLE gold.once AS SELECT * FROM bronze.orders;{ENTER}")
        terminal.expect("CREATE TABLE AS  gold.once  done", PROMPT)
        for answer, status in (("n", "kept"), ("y", "dropped")):
            terminal.type(f"DROP TABLE gold.once;{ENTER}")
            terminal.expect("Drop table gold.once from the catalog? [y/N]: ")
            terminal.type(f"{answer}\n")
            terminal.expect(f"gold.once  {status}", PROMPT)
    assert not stocked.project.lake.exists("gold.once")


def test_models_answer_one_statement_after_the_other(stocked: Shop, tmp_path: Path) -> None:
    with shell(stocked, tmp_path) as terminal:
        for _ in range(2):
            terminal.expect(PROMPT)
            terminal.type(f"SELECT len(ML_EMBED(MODEL docs_embedding, customer)) AS width FROM bronze.orders LIMIT 1;{ENTER}")
            terminal.expect("width\n", "s)")


def test_nothing_is_asked_without_a_terminal(stocked: Shop, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lakeflow", "sql", "--project", str(stocked.folder)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "give a file, - for standard input, or -e with the statements" in ended.stderr
    dropped = subprocess.run(
        [*command, "-"], input="DROP TABLE bronze.orders", capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (dropped.returncode, dropped.stdout) == (2, "")
    assert "There is no terminal to ask on\nnext: lakeflow sql --yes .." in dropped.stderr
    assert stocked.project.lake.exists("bronze.orders")
