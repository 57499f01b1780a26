"""Protobuf text to descriptors, by protoc as the extra `protobuf-text` brings it (grpcio-tools)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from lakeflow.errors import ConfigError, SchemaMismatch

COMPILE_SECONDS = 60
"""More than any schema takes: a registered one is some kilobytes."""


def compile_text(
    name: str, text: str, references: Mapping[str, str], known: Mapping[str, FileDescriptorProto]
) -> dict[str, FileDescriptorProto]:
    """The files of the schema `text`, called `name`, and of what it imports out of `references` (texts) and `known`.

    Raises ConfigError where protoc is not installed, SchemaMismatch where it refuses the text.
    """
    if importlib.util.find_spec("grpc_tools") is None:
        raise ConfigError(
            "the schema registry gives Protobuf schemas as text only, and no compiler for them is installed",
            next_step="pip install 'lakeflow[protobuf-text]'",
        )
    with tempfile.TemporaryDirectory(prefix="lakeflow-protobuf-") as folder:
        room = Path(folder)
        sources = room / "sources"
        for path, source in {**references, name: text}.items():
            _write(sources, path, source)
        (room / "known").write_bytes(FileDescriptorSet(file=known.values()).SerializeToString())
        _run_protoc(room, name)
        compiled = FileDescriptorSet.FromString((room / "compiled").read_bytes())
    return {file.name: file for file in compiled.file}


def _write(sources: Path, path: str, source: str) -> None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\0" in path or "\\" in path:
        raise SchemaMismatch(f"the schema refers to {path!r}, which is no relative path")
    target = sources / parts
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source, encoding="utf-8")


def _run_protoc(room: Path, name: str) -> None:
    """protoc writes `compiled` of `name`, the files that it imports included. It runs by itself, as it may abort."""
    arguments = [
        sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={room / 'sources'}", f"--descriptor_set_in={room / 'known'}",
        f"--descriptor_set_out={room / 'compiled'}", "--include_imports", name,
    ]  # fmt: skip
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise SchemaMismatch(f"protoc took more than {COMPILE_SECONDS} s over the schema's text") from error
    if done.returncode != 0:
        raise SchemaMismatch(f"protoc refuses the schema's text: {done.stderr.strip()[:500]}")
