"""The engines. Which one runs is chosen in runner/project.py."""

from lakeflow.runner.engines.engine import Engine
from lakeflow.runner.engines.threads import Threads

__all__ = ["Engine", "Threads"]
