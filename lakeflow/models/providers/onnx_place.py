"""Where the option 'model_path' says that a model lies: on this disk, or somewhere that it is fetched from. Pure.

A path or URL that ends in `.onnx` is a graph; any other is the folder of a model, in the layout of onnx_layout.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.spec import ModelSpec

SCHEMES = ("s3", "http", "https")
GRAPH_SUFFIX = ".onnx"
MIB = 1 << 20
FETCH_MIB = 4_096
FETCH_SECONDS = 1_800.0
_CHECKSUM = re.compile(r"sha256:([0-9a-f]{64})")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A file or folder of this disk. `checksum` is SHA-256 in hex, or None where the files are taken as they are."""

    path: Path
    checksum: str | None


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """Files below `base`, which ends in a slash; `query` stands behind every name.

    `graph` is the graph's name there, None where the folder is named and the graph found in it. `most_bytes` bounds all
    files together, `seconds` the fetching of one.
    """

    base: str = field(repr=False)
    graph: str | None
    query: str = field(repr=False)
    checksum: str
    most_bytes: int
    seconds: float

    @property
    def scheme(self) -> str:
        return self.base.partition("://")[0]

    @property
    def shown(self) -> str:
        """The place as messages show it: without a user's name, a password or a signature."""
        return shown(self.base + (self.graph or ""))


def shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def read_place(spec: ModelSpec, *, text: bool) -> LocalPlace | RemotePlace:
    """The place that a spec's options name; `text` for a model whose folder holds a tokenizer.

    Raises DeclarationError for a missing or blank path, another scheme, a remote place without its checksum, and a
    checksum that is none.
    """
    path = options.required(spec, "model_path")
    checksum = _checksum(spec)
    most, seconds = options.whole_number(spec, "fetch_mib", FETCH_MIB), options.seconds(spec, "fetch_timeout", FETCH_SECONDS)
    scheme = _SCHEME.match(path.lower())
    if scheme is None:
        return LocalPlace(spec.path("model_path"), checksum)
    if scheme[1] not in SCHEMES:
        raise DeclarationError(
            f"{spec.label}: option 'model_path' starts with {scheme[0]!r}; "
            f"valid: a path on this disk, or {', '.join(f'{one}://' for one in SCHEMES)}"
        )
    _require_host(spec, path)
    if checksum is None:
        raise DeclarationError(
            f"{spec.label}: 'model_path' is {shown(path)}, and option 'checksum' is missing: "
            "what lies there could change without a word",
            next_step="add 'checksum' = 'sha256:..' to its WITH (..): what sha256sum prints for the file; of a folder, see "
            "docs/models/onnx.md",
        )
    return _remote(path, checksum, most * MIB, seconds, text=text)


def _require_host(spec: ModelSpec, path: str) -> None:
    """What stands there may hold a password, and is not repeated."""
    try:
        parts = urlsplit(path)
        has_host = options.is_host(parts.hostname) and parts.port != 0
    except ValueError:  # a port or a bracket that is none
        has_host = False
    if not has_host:
        raise DeclarationError(
            f"{spec.label}: option 'model_path' is no address; valid: s3://bucket/.., http(s)://host[:port]/.."
        )


def _remote(path: str, checksum: str, most_bytes: int, seconds: float, *, text: bool) -> RemotePlace:
    place, mark, query = path.partition("?") if not path.lower().startswith("s3://") else (path, "", "")
    if not place.lower().endswith(GRAPH_SUFFIX):
        return RemotePlace(place.rstrip("/") + "/", None, mark + query, checksum, most_bytes, seconds)
    folder, _, graph = place.rpartition("/")
    if text and folder.rpartition("/")[2] == "onnx":
        folder, graph = folder.rpartition("/")[0], f"onnx/{graph}"
    return RemotePlace(f"{folder}/", graph, mark + query, checksum, most_bytes, seconds)


def _checksum(spec: ModelSpec) -> str | None:
    text = spec.options.get("checksum")
    if text is None:
        return None
    found = _CHECKSUM.fullmatch(text.strip().lower())
    if found is None:
        raise DeclarationError(
            f"{spec.label}: option 'checksum' is {text!r}; valid: 'sha256:' and 64 hexadecimal digits, as sha256sum prints them"
        )
    return found[1]
