"""The engines by name. A new one is a file and a line here."""

from lakeflow.runner.engines.engine import Engine
from lakeflow.runner.engines.threads import Threads

__all__ = ["Engine", "Threads"]
