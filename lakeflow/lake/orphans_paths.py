"""When two texts name one file: the forms that engines write locations in. Pure."""

from __future__ import annotations

import posixpath
import re

_S3 = re.compile(r"s3[an]://")
_FILE = re.compile(r"file:(//(?=/))?")


def normal(location: str) -> str:
    """One text for a location, however it is written: `file:/a`, `file:///a` and `/a`; `s3a://b/k` and `s3://b/k`.

    In object stores every character of a key counts; of a path on a disk `//` and `.` do not.
    """
    if (found := _FILE.match(location)) is not None or location.startswith("/"):
        path = location[found.end() :] if found else location
        return posixpath.normpath("/" + path.lstrip("/"))
    return _S3.sub("s3://", location, count=1).rstrip("/")


def is_under(location: str, folder: str) -> bool:
    """Whether a normal location lies within a normal folder, which is not within itself."""
    return location.startswith(folder.rstrip("/") + "/")
