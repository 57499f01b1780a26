"""When two texts name one file: pure."""

from __future__ import annotations

import pytest

from lakeflow.lake.orphans_paths import is_under, normal


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("/a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("file:////a//b/", "/a/b"),
        ("/a/./c/../b", "/a/b"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3a://bucket/a/b", "s3://bucket/a/b"),
        ("s3n://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a//b", "s3://bucket/a//b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("/a/part=x%3Ay/b", "/a/part=x%3Ay/b"),
    ],
)
def test_one_text_for_a_location(written: str, same: str) -> None:
    assert normal(written) == same


@pytest.mark.parametrize(
    ("location", "folder", "under"),
    [("/a/b/c", "/a/b", True), ("/a/bc", "/a/b", False), ("/a/b", "/a/b", False), ("s3://x/t2/f", "s3://x/t", False)],
)
def test_what_lies_in_a_folder(location: str, folder: str, under: bool) -> None:
    assert is_under(location, folder) is under
