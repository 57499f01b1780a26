"""The command line."""

from lakeflow.cli.app import main

__all__ = ["main"]
