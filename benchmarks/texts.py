"""Short real texts of what every machine with Python has, and their embeddings, which are kept for the next run.

Texts are the docstrings and comments of Python's standard library and of the installed packages, and the paragraphs of
/usr/share/doc and of the manual pages where these are there. They depend on the machine, and on nothing else: no two are alike
but for digits and case, and they are in the order of their hashes, so that any part of them is a sample of all.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lakeflow import ml_embed
from lakeflow.models.predict import bound
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task

WIDTH = 384
FEWEST_WORDS, MOST_WORDS = 8, 40
POOL = 250_000
PIECE = 5_000
MOST_BYTES = 4 << 20
DOCUMENTATION = Path("/usr/share/doc")
MANUAL = Path("/usr/share/man")
SENTENCE = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z\"'`(])")
SEPARATORS = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*+]|:\w+|\d+[.)])\s)")
ESCAPES = re.compile(r"\\f\(..|\\f.|\\[&|^/%]|\\s[-+]?\d|\\\*?\(..")
MARKUP = re.compile(r"<[^>]{1,200}>")
COMMENT = re.compile(r"(?:^[ \t]*#[ \t][^\n]*\n)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Text:
    """A passage, its kind (docstring, comment, manual, documentation) and the package or folder that it comes from."""

    text: str
    kind: str
    package: str


def real_texts(cache: Path, count: int) -> pl.DataFrame:
    """`count` texts: id, text, kind, package, and lot (0 to 999, by chance), gathered where the cache does not hold them.

    Raises ValueError where the machine has fewer.
    """
    file = cache / "texts.parquet"
    if not file.exists():
        gathered = _gathered()
        gathered.write_parquet(file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    texts = pl.scan_parquet(file).head(count).collect()
    if texts.height < count:
        raise ValueError(f"this machine has {texts.height:,} texts of {count:,}; install more packages, or lower --scale")
    return texts


def _gathered() -> pl.DataFrame:
    distinct: dict[bytes, Text] = {}
    for one in everything():
        distinct.setdefault(_digest(re.sub(r"[\W\d_]+", " ", one.text).lower()), one)
    chosen = [distinct[digest] for digest in sorted(distinct)[:POOL]]
    print(f"gathered {len(chosen):,} of {len(distinct):,} texts", file=sys.stderr, flush=True)
    return pl.DataFrame(
        {
            "id": range(len(chosen)),
            "text": [one.text for one in chosen],
            "kind": [one.kind for one in chosen],
            "package": [one.package for one in chosen],
            "lot": np.random.default_rng(3).integers(0, 1000, len(chosen)),
        }
    )


def everything() -> Iterator[Text]:
    """All passages of this machine, in the order of its files' names."""
    for folder, file in python_files():
        package = file.relative_to(folder).parts[0].removesuffix(".py")
        source = text_of(file)
        for kind, found in (("docstring", docstrings(source)), ("comment", comments(source))):
            yield from (Text(text, kind, package) for block in found for text in passages(block))
    for path, kind, plain in ((DOCUMENTATION, "documentation", _plain), (MANUAL, "manual", _without_roff)):
        for file in sorted(path.rglob("*")) if path.is_dir() else ():
            if _is_prose(file, path):
                package = file.relative_to(path).parts[0] if kind == "documentation" else file.name.partition(".")[0]
                yield from (Text(text, kind, package) for text in passages(plain(text_of(file))))


def python_files() -> Iterator[tuple[Path, Path]]:
    """(folder, file) of the standard library's modules and of the installed packages'."""
    paths = sysconfig.get_paths()
    for folder in (Path(paths["stdlib"]), Path(paths["purelib"])):
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(folder).parts
            if not {"site-packages", "dist-packages", "lib2to3", "_vendor", "vendored"} & set(inside):
                yield folder, file


def docstrings(source: str) -> Iterator[str]:
    """Those of the module, its classes and functions; none where it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def comments(source: str) -> Iterator[str]:
    """Lines of comments that follow each other, as one text."""
    for found in COMMENT.finditer(source):
        yield "\n".join(line.strip().lstrip("#").strip() for line in found.group().splitlines())


def passages(block: str) -> Iterator[str]:
    """The paragraphs of `block` that read like prose, cut between sentences where they are long."""
    for paragraph in SEPARATORS.split(block):
        words: list[str] = []
        for sentence in SENTENCE.split(" ".join(paragraph.split())):
            more = sentence.split()
            if words and len(words) + len(more) > MOST_WORDS:
                yield from _prose(words)
                words = []
            words += more
        yield from _prose(words[:MOST_WORDS])


def _prose(words: Sequence[str]) -> Iterator[str]:
    text = " ".join(words)
    letters = sum(letter.isalpha() and letter.isascii() for letter in text)
    alike = sum(word.isalpha() for word in (word.strip(".,;:()'\"`") for word in words))
    if len(words) >= FEWEST_WORDS and letters > 0.65 * len(text) and alike > 0.6 * len(words) and ">>>" not in text:
        yield text


def _is_prose(file: Path, below: Path) -> bool:
    name = file.name.lower().removesuffix(".gz")
    if not readable(file):
        return False
    if below == MANUAL:
        return file.parent.parent == MANUAL and file.parent.name.startswith("man")
    if "change" in name or "news" in name or "history" in name:
        return False
    return name.endswith((".txt", ".md", ".rst", ".html")) or "readme" in name or name == "copyright"


def readable(file: Path) -> bool:
    """Whether it is a file of its own, and not too large."""
    return file.is_file() and not file.is_symlink() and file.stat().st_size <= MOST_BYTES


def text_of(file: Path) -> str:
    """What it holds, unpacked."""
    if file.suffix != ".gz":
        return file.read_bytes().decode("utf-8", "replace")
    with gzip.open(file) as stream:
        return stream.read(MOST_BYTES).decode("utf-8", "replace")


def _plain(text: str) -> str:
    return MARKUP.sub(" ", text)


def _without_roff(page: str) -> str:
    lines = (("" if line[:1] in ".'" else ESCAPES.sub("", line)) for line in page.splitlines())
    return "\n".join(lines).replace("\\-", "-").replace("\\", "")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def minilm(folder: Path, threads: int = 2) -> ModelSpec:
    """all-MiniLM-L6-v2 in 32-bit floats, as a job declares it; `folder` holds the model."""
    return ModelSpec(
        name="minilm",
        provider="onnx",
        task=Task.EMBEDDING,
        input=pa.schema([("text", pa.string())]),
        output=pa.schema([("embedding", pa.list_(pa.float32()))]),
        options={"model_path": str(folder), "batch_tokens": "1024", "max_tokens": "256", "threads": str(threads)},
    )


def embedded(cache: Path, model: Path, texts: Iterable[str]) -> NDArray[np.float32]:
    """The texts' embeddings [texts, 384], of which those that were made before are read from `cache`, a piece at a time."""
    given = list(texts)
    spec = minilm(model)
    place = cache / "embeddings"
    place.mkdir(parents=True, exist_ok=True)
    vectors = np.empty((len(given), WIDTH), np.float32)
    with ModelSet([spec]) as models, bound(models):
        for at in range(0, len(given), PIECE):
            piece = given[at : at + PIECE]
            file = place / f"minilm-{_digest(chr(0).join(piece)).hex()[:24]}.parquet"
            if not file.exists():
                _embed(piece, spec.name, file)
            flat = pq.read_table(file).column("embedding").combine_chunks().flatten()
            vectors[at : at + len(piece)] = np.asarray(flat).reshape(-1, WIDTH)
    return vectors


def _embed(piece: list[str], model: str, file: Path) -> None:
    made = ml_embed(pl.LazyFrame({"text": piece}), model, "text").select("embedding").collect(engine="streaming")
    part = file.with_suffix(".part")
    made.write_parquet(part)
    part.rename(file)
    print(f"embedded {len(piece):,} texts: {file.name}", file=sys.stderr, flush=True)


def described(texts: pl.DataFrame) -> str:
    """What the texts are, in a sentence."""
    kinds = ", ".join(f"{count:,} of kind {kind}" for kind, count in sorted(Counter(texts["kind"]).items()))
    words = texts.select(pl.col("text").str.split(" ").list.len().cast(pl.Float64)).to_numpy().mean()
    return (
        f"{texts.height:,} distinct real texts of this machine ({kinds}; {texts['package'].n_unique():,} packages, {words:.0f} "
        "words on average), embedded by all-MiniLM-L6-v2 to 384 elements"
    )
