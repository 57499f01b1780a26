"""Imports run one way, each library stays in its room, and starting is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAVY = {
    "confluent_kafka",
    "duckdb",
    "httpx",
    "lancedb",
    "numpy",
    "onnxruntime",
    "pandas",
    "polars",
    "prompt_toolkit",
    "pyarrow",
    "pyiceberg",
    "sqlalchemy",
    "sqlglot",
    "tokenizers",
}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False, encoding="utf-8"
    )


def test_imports_keep_to_the_contracts() -> None:
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    ran = python("-c", lint)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_fenced_library_has_a_contract() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    fenced = {name for contract in contracts for name in contract.get("protected_modules", [])}
    fenced_here = {"confluent_kafka", "duckdb", "google", "httpcore", "httpx", "lancedb", "msgspec", "onnxruntime", "ptars"}
    measuring = {"sacrebleu", "rouge_score", "matplotlib"}
    signing = {"botocore", "cryptography"}
    rooms = {
        *fenced_here,
        *measuring,
        *signing,
        "cronsim",
        "markdown_it",
        "prompt_toolkit",
        "psycopg2",
        "pyiceberg",
        "sqlglot",
        "tokenizers",
        "yaml",
    }
    assert fenced == rooms


@pytest.mark.parametrize("module", ["lakeflow", "lakeflow.cli", "lakeflow.config", "lakeflow.job", "lakeflow.declare"])
def test_starting_loads_no_heavy_library(module: str) -> None:
    ran = python("-c", f"import sys, {module}; print(*sys.modules)")
    assert ran.returncode == 0, ran.stderr
    assert HEAVY.isdisjoint(ran.stdout.split())


def test_package_files_hold_nothing_or_hand_names_on() -> None:
    """The root hands on lazily, and the command line's entry point stands in its package: these two may hold a function."""
    package = REPOSITORY / "lakeflow"
    for file in set(package.rglob("__init__.py")) - {package / "__init__.py", package / "cli" / "__init__.py"}:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            assert docstring or names or isinstance(node, ast.Import | ast.ImportFrom), f"{file}:{node.lineno}"


def test_modules_stay_readable_in_one_sitting() -> None:
    lengths = {
        str(file.relative_to(REPOSITORY)): len(file.read_text(encoding="utf-8").splitlines())
        for file in (REPOSITORY / "lakeflow").rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 420} == {}
