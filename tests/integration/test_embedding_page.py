"""The example of docs/embedding.md, with its own files and commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from lakeflow.cli import main
from tests.unit.models import graphs

PAGE = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_does_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lakeflow.toml").write_text("")
    graphs.text_model(tmp_path / "models" / "minilm", special=True)
    for kind, text in (("tables", blocks("sql")[0]), ("jobs", blocks("python")[0])):
        (tmp_path / kind).mkdir()
        named = re.match(rf"(?:--|#) {kind}/(\S+)\n", text)
        assert named is not None
        (tmp_path / kind / named[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    said = []
    for line in blocks("sh")[0].splitlines():
        assert main([*shlex.split(line)[1:], "--output", "json"]) == 0, line
        said.append(json.loads(capsys.readouterr().out))
    _, first, _, _, second, [verified], hits = said
    for (job, index), written, asked, reused in ((first, 2, 2, 0), (second, 2, 1, 1)):
        assert (job["status"], job["written"], index["status"]) == ("done", written, "done")
        assert (job["models"]["embedder"]["rows"], job["reused"]) == (asked, reused)
    assert (verified["rows"], verified["missing"], verified["differing"], verified["extra"]) == (2, 0, 0, 0)
    assert {(hit["doc_id"], hit["chunk"], *hit["chunk_headings"]) for hit in hits} == {
        ("a", "# Gates\nlate flight gate", "Gates"),
        ("a", "# More\na storm", "More"),
    }
