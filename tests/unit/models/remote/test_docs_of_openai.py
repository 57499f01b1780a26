"""The examples in the pages of providers openai and azure_openai are declarations that hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lakeflow.models.context import CONTEXT_OPTIONS
from lakeflow.models.providers.azure_openai_settings import PLACE_OPTIONS as AZURE_OPTIONS
from lakeflow.models.providers.openai_settings import (
    ANSWER_OPTIONS,
    CHAT_OPTIONS,
    EMBEDDING_OPTIONS,
    PLACE_OPTIONS,
    RESPONSES_OPTIONS,
)
from lakeflow.models.spec import ModelSpec
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.statements import CreateModel

PAGES = Path(__file__).parents[4] / "docs" / "models"
OWN = (*PLACE_OPTIONS, *ANSWER_OPTIONS, *CHAT_OPTIONS, *RESPONSES_OPTIONS, *EMBEDDING_OPTIONS, *CONTEXT_OPTIONS, "prompt")


@pytest.mark.parametrize("name", ["openai", "azure_openai"])
def test_examples_hold(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    text = "\n".join(line[4:] for line in page.splitlines() if line.startswith("    "))
    declared = [one for one in parse_declarations(text) if isinstance(one, CreateModel)]
    specs = [ModelSpec.from_declaration(one.model, Path()) for one in declared]
    assert specs
    assert {one.provider for one in specs} == {name}


@pytest.mark.parametrize(("name", "options"), [("openai", OWN), ("azure_openai", AZURE_OPTIONS)])
def test_every_option_is_in_the_page(name: str, options: tuple[str, ...]) -> None:
    rows = [
        line.split("|")[1] + line.split("|")[-2]
        for line in (PAGES / f"{name}.md").read_text().splitlines()
        if line.startswith("|")
    ]
    named = set(re.findall(r"`([a-z_]+)`", " ".join(rows)))
    assert sorted(set(options) - named) == []
