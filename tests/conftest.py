"""Fixtures that every suite shares, and the Hypothesis profiles."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, event

pytest_plugins = ["tests.rig.fixtures"]

settings.register_profile("default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, max_examples=25, print_blob=True)
settings.register_profile("long", settings.get_profile("default"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "default"))


@event.listens_for(Engine, "connect")
def _catalogs_do_not_wait_for_the_disk(connection: object, _: object) -> None:
    """A process that dies loses nothing by it, and no test turns the machine off."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def require(variable: str, reason: str) -> str:
    """The environment variable `variable`. Without it the test is skipped for `reason`, and fails where CI=true."""
    if value := os.environ.get(variable):
        return value
    if os.environ.get("CI") == "true":
        pytest.fail(f"{variable} is not set: {reason}")
    pytest.skip(f"{variable} is not set: {reason}")


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    """The folder of a project with nothing but defaults, in an otherwise empty place."""
    folder = tmp_path / "project"
    (folder / "tables").mkdir(parents=True)
    (folder / "jobs").mkdir()
    (folder / "lakeflow.toml").write_text('[project]\nname = "test"\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 as ONNX, with its tokenizer and reference vectors."""
    return Path(require("LAKEFLOW_TEST_MODELS", "the folder that holds minilm/ is needed")) / "minilm"
