"""The scripts of examples/flights import each other by their bare names, as scripts do."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]

sys.path.insert(0, str(REPOSITORY / "examples" / "flights"))
