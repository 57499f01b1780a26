from __future__ import annotations

from pathlib import Path

import pytest

from lakeflow.lake.catalog import Lake
from tests.lakes import open_lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)
