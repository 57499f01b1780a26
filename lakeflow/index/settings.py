"""The WITH options of an index, as values with their bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError, did_you_mean

KINDS = ("auto", "flat", "ivf_flat", "ivf_sq", "ivf_pq", "ivf_rq", "ivf_hnsw_flat", "ivf_hnsw_sq", "ivf_hnsw_pq")
GRAPHS = ("ivf_hnsw_flat", "ivf_hnsw_sq", "ivf_hnsw_pq")
AS_WRITTEN = "none"
LANGUAGES = (
    *("arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian", "norwegian"),
    *("portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish", AS_WRITTEN),
)
"""Languages whose words are brought to their stems, and whose commonest words are left out; `none`: words as written."""
DECLARED_ELSEWHERE = frozenset({"key", "metric", "model", "columns", "vectors_of"})
NAME = re.compile(r"[A-Za-z0-9_]+")
RABITQ_WIDTH = 8


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How an index is kept.

    `kind`: auto is flat (every row compared, exact) below `flat_below` rows and ivf_rq from there on, or ivf_sq where
    the width is no multiple of 8; the others are LanceDB's own. `bits` an element are what ivf_rq keeps. `probes` partitions
    are searched, or in a graph 10 * `probes` candidates are followed, and `refine` * k candidates are compared exactly.
    `unindexed` rows may wait outside the approximate index. Versions older than `keep_versions` are removed; a search
    that takes longer than that may fail. An upsert holds about `chunk_bytes` of rows at a time. `filter_columns` are indexed
    for conditions and `text_columns` for words, which are those of `language`.
    """

    kind: str = "auto"
    flat_below: int = 50_000
    probes: int = 20
    refine: int = 2
    unindexed: int = 1_000
    keep_versions: timedelta = timedelta(minutes=60)
    chunk_bytes: int = 64 << 20
    filter_columns: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    language: str = "english"
    bits: int = 8

    def kind_for(self, rows: int, width: int) -> str:
        """The kind, not auto, for an index of `rows` vectors of `width` elements."""
        if self.kind != "auto":
            return self.kind
        if rows < self.flat_below:
            return "flat"
        return "ivf_rq" if width % RABITQ_WIDTH == 0 else "ivf_sq"


WHOLE_NUMBERS = {
    "bits": (1, 8),
    "flat_below": (1, 1 << 40),
    "probes": (1, 1 << 20),
    "refine": (1, 1_000),
    "unindexed": (0, 1 << 40),
    "keep_versions_minutes": (1, 1 << 20),
    "chunk_mib": (1, 1 << 20),
}
COLUMN_LISTS = ("filter_columns", "text_columns")


def settings_of(spec: IndexSpec) -> IndexSettings:
    """The settings of a declared index. Raises DeclarationError for an option or value that is not valid."""
    if not NAME.fullmatch(spec.name):
        raise DeclarationError(f"{spec.origin}: index {spec.name!r}: a name is made of letters, digits and underscores")
    known = {"kind", "language", *COLUMN_LISTS, *WHOLE_NUMBERS}
    for option in spec.options:
        if option not in known | DECLARED_ELSEWHERE:
            raise DeclarationError(
                f"{spec.origin}: index {spec.name!r}: unknown option {option!r}{did_you_mean(option, known)}"
            )
    numbers = {option: _whole_number(spec, option) for option in WHOLE_NUMBERS if option in spec.options}
    named = IndexSettings(
        kind=_one_of(spec, "kind", KINDS, "auto"),
        filter_columns=_column_list(spec, "filter_columns"),
        text_columns=_column_list(spec, "text_columns"),
        language=_one_of(spec, "language", LANGUAGES, "english"),
    )
    return _settings(named, numbers)


def _settings(default: IndexSettings, numbers: Mapping[str, int]) -> IndexSettings:
    minutes = numbers.get("keep_versions_minutes")
    mebibytes = numbers.get("chunk_mib")
    return replace(
        default,
        flat_below=numbers.get("flat_below", default.flat_below),
        probes=numbers.get("probes", default.probes),
        refine=numbers.get("refine", default.refine),
        unindexed=numbers.get("unindexed", default.unindexed),
        keep_versions=default.keep_versions if minutes is None else timedelta(minutes=minutes),
        bits=numbers.get("bits", default.bits),
        chunk_bytes=default.chunk_bytes if mebibytes is None else mebibytes << 20,
    )


def _one_of(spec: IndexSpec, option: str, valid: Sequence[str], default: str) -> str:
    said = spec.options.get(option, default).strip().lower()
    if said not in valid:
        raise DeclarationError(f"{spec.origin}: index {spec.name!r}: {option} is {said!r}{did_you_mean(said, valid)}")
    return said


def _column_list(spec: IndexSpec, option: str) -> tuple[str, ...]:
    if option not in spec.options:
        return ()
    columns = tuple(part.strip() for part in spec.options[option].split(","))
    if not all(columns) or len(set(columns)) != len(columns):
        raise DeclarationError(
            f"{spec.origin}: index {spec.name!r}: {option} is {spec.options[option]!r}; "
            "valid: each column once, with commas between: 'title, body'"
        )
    return columns


def _whole_number(spec: IndexSpec, option: str) -> int:
    lowest, highest = WHOLE_NUMBERS[option]
    text = spec.options[option].strip()
    if not re.fullmatch(r"[0-9]{1,15}", text) or not lowest <= int(text) <= highest:
        raise DeclarationError(
            f"{spec.origin}: index {spec.name!r}: {option} is {text!r}; valid: a whole number from {lowest} to {highest}"
        )
    return int(text)
