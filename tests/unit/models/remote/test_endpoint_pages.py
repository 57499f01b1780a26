"""What the pages of providers say of options is what the providers take, and their examples are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lakeflow.models.context import CONTEXT_OPTIONS
from lakeflow.models.providers import azureml, bedrock_settings, sagemaker, triton_settings
from lakeflow.models.spec import ModelSpec
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.statements import CreateModel

PAGES = Path(__file__).parents[4] / "docs" / "models"
OPTIONS = {
    "azureml": azureml.SERVICE_OPTIONS,
    "bedrock": (
        *bedrock_settings.SERVICE_OPTIONS,
        *bedrock_settings.TEXT_OPTIONS,
        *bedrock_settings.EMBEDDING_OPTIONS,
        *CONTEXT_OPTIONS,
    ),
    "sagemaker": (*sagemaker.SERVICE_OPTIONS, *sagemaker.HEADERS),
    "triton": triton_settings.SERVICE_OPTIONS,
}


@pytest.mark.parametrize("provider", OPTIONS)
def test_a_page_has_a_row_for_each_option_and_for_no_other(provider: str) -> None:
    page = (PAGES / f"{provider}.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| option \|.*?\n\n", page, flags=re.MULTILINE | re.DOTALL)
    rows = [line.split("|")[1] for table in tables for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} == set(OPTIONS[provider])


@pytest.mark.parametrize("provider", OPTIONS)
def test_the_examples_of_a_page_are_valid(provider: str) -> None:
    page = (PAGES / f"{provider}.md").read_text(encoding="utf-8")
    examples = re.findall(r"^ {4}CREATE MODEL .*?;$", page, flags=re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        text = re.sub(r"\{\{.*?\}\}", "a-secret", example)
        [statement] = parse_declarations(text)
        assert isinstance(statement, CreateModel)
        assert ModelSpec.from_declaration(statement.model, Path()).provider == provider
