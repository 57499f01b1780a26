"""Formats: record bytes to Arrow."""

from lakeflow.topics.formats.format import Decoded, Format, Reject, RejectKind
from lakeflow.topics.formats.registry import open_format

__all__ = ["Decoded", "Format", "Reject", "RejectKind", "open_format"]
