"""What may not stand in the registry, and how its parts are found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration, Origin
from lakeflow.errors import DeclarationError
from lakeflow.runner.model_registry import refuse_secrets
from lakeflow.runner.model_statements import is_like


def model(**options: str) -> ModelDeclaration:
    columns = pa.schema([("x", pa.string())])
    return ModelDeclaration("m", columns, columns, options, origin=Origin(Path("tables/m.sql"), 3))


@pytest.mark.parametrize(
    "options",
    [
        {"api-key": "hunter22"},
        {"API_KEY": "hunter22 {{ secret.K }}"},
        {"endpoint": "https://me:hunter22@example.org/v1"},
        {"endpoint": "https://example.org/v1?api-key=hunter22"},
        {"endpoint": "https://example.org/v1?a=1&access_token=hunter22#x"},
        {"prompt": "look at https://me:hunter22@example.org and {x}"},
    ],
)
def test_a_secret_as_it_is_is_refused_and_not_repeated(options: dict[str, str]) -> None:
    with pytest.raises(
        DeclarationError, match=r"^tables/m\.sql:3: option .* in plain text, which the registry must not"
    ) as raised:
        refuse_secrets(model(**options))
    assert "hunter22" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"api-key": "{{ secret.K }}"},
        {"api-key": "  {{secret.K}} "},
        {"endpoint": "https://me:{{secret.K}}@example.org/v1?api-key={{ secret.K }}"},
        {"endpoint": "https://example.org/v1?api-version=2026-01-01"},
        {"prompt": "is this a secret?token=1 {x}", "max_tokens": "5", "tokenizer": "t.json"},
        {"endpoint": "${HOST:-http://localhost:8000}/v1"},
    ],
)
def test_references_and_plain_options_may_stand_there(options: dict[str, str]) -> None:
    refuse_secrets(model(**options))


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        ("price", "price", True),
        ("price", "p%", True),
        ("price", "%i%", True),
        ("price", "pric", False),
        ("price", "PRICE", False),
        ("price", "p_ice", True),
        ("price", "____", False),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("a_c", r"a\_c", True),
        ("abc", r"a\_c", False),
        ("50%", r"50\%", True),
        ("a\nb", "a%", True),
        ("a\\", "a\\", True),
        ("", "%", True),
    ],
)
def test_a_pattern_of_sql_finds_names(text: str, pattern: str, found: bool) -> None:
    assert is_like(text, pattern) is found
