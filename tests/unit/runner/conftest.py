from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs import World, open_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return open_world(tmp_path)
