"""The pages about SQL: their examples are statements, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lakeflow.sql.script import parse_script

DOCS = Path(__file__).parents[3] / "docs"


def examples(page: Path) -> list[str]:
    """The indented blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    ]


def test_every_example_of_the_page_of_statements_is_one() -> None:
    found = [statement for block in examples(DOCS / "sql" / "statements.md") for statement in parse_script(block)]
    assert len(found) > 35
    assert len({type(statement) for statement in found}) > 25


@pytest.mark.parametrize("page", [DOCS / "sql.md", *sorted((DOCS / "sql").glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_to_pages_that_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    text = (DOCS / "sql.md").read_text(encoding="utf-8")
    assert [page.name for page in (DOCS / "sql").glob("*.md") if f"(sql/{page.name})" not in text] == []
