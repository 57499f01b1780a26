"""What the documentation says is what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from lakeflow.config import settings_of
from lakeflow.keys import documentation

REPOSITORY = Path(__file__).parents[2]


def test_the_page_of_the_configuration_is_the_generated_one() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == documentation(), "run make docs"


def test_the_example_in_the_page_of_the_configuration_is_valid() -> None:
    lines = documentation().splitlines()
    example = tomllib.loads("\n".join(line[4:] for line in lines if line.startswith("    ")))
    settings = settings_of(example, REPOSITORY, "servers", {})
    assert dict(settings.catalog) == {"type": "rest", "uri": "http://localhost:8181"}


def test_the_configuration_of_the_repository_is_valid_without_servers() -> None:
    document = tomllib.loads((REPOSITORY / "lakeflow.toml").read_text(encoding="utf-8"))
    settings = settings_of(document, REPOSITORY, None, {})
    assert settings.catalog["type"] == "sql"


def test_the_makefile_lists_every_command_of_its_own() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    documented = [line.split(":")[0] for line in text.splitlines() if "  ## " in line]
    assert sorted(documented) == sorted(phony)


def test_the_map_names_every_module_in_its_room() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {part.split("\n")[0]: part for part in re.split(r"^#{2,3} ", page, flags=re.MULTILINE)}
    package = REPOSITORY / "lakeflow"
    missing = []
    for file in package.rglob("*.py"):
        room, *inner = file.relative_to(package).parts if file.parent != package else ("ground", file.name)
        named = {"/".join(inner), file.name} if "templates" in inner else {"/".join(inner)}
        if file.name != "__init__.py" and not any(f"`{name}`" in rooms[room] for name in named):
            missing.append(str(file))
    assert missing == []
