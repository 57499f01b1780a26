"""The scripts of examples/flights and examples/rag import each other by their bare names, as scripts do."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]

for _example in ("flights", "rag"):
    sys.path.insert(0, str(REPOSITORY / "examples" / _example))
