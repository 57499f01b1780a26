"""Formats: record bytes to Arrow."""

from lakeflow.topics.formats.format import Decoded, Format, Opening, Part, Reject, RejectKind
from lakeflow.topics.formats.registry import open_format

__all__ = ["Decoded", "Format", "Opening", "Part", "Reject", "RejectKind", "open_format"]
