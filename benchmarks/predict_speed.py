"""ml_predict and ml_embed against a bare `session.run` on arrays that lie ready, at the same batch size."""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks import graphs
from benchmarks.harness import Bar, Best, Result, Settings, Spent, in_child, spending, thousands
from lakeflow import Project, ml_embed, ml_predict
from lakeflow.models.predict import bound
from lakeflow.models.providers.onnx_pooling import cut_by_tokens, padded
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task

Arrays = Mapping[str, NDArray[Any]]

GRAPHS = {"linear": graphs.linear, "trees": graphs.trees}
ROWS = {"linear": 4_000_000, "trees": 800_000}
FLIGHT_COPIES = 20
BATCHES = (1_000, 10_000, 100_000)
TEXTS = 2_000
TOKENS_A_BATCH = 1_024
THREADS = (1, 2)
MOST_TOKENS = 256
SHARE_OF_RAW = 0.70
SHARE_OF_EMBEDDING = 0.90
CACHEFUL = 32_768
MODELS = "LAKEFLOW_TEST_MODELS"
REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "flights"


@dataclass(frozen=True, slots=True)
class Pair:
    """The best of several rounds of one model at one batch size: bare and through lakeflow."""

    what: str
    rows: int
    raw: Spent
    ours: Spent
    bar: float = SHARE_OF_RAW

    @property
    def share(self) -> float:
        return self.raw.cpu / self.ours.cpu


def run(settings: Settings) -> Result:
    """Each model in a process of its own, both ways in turn there."""
    pairs: list[Pair] = []
    for model, rows in ROWS.items():
        path = settings.place(model) / f"{model}.onnx"
        GRAPHS[model](path)
        pairs += in_child(drawn, path, settings.count(rows), settings.rounds).value
    pairs += in_child(flights, settings.count(FLIGHT_COPIES), settings.rounds).value
    matrix = in_child(converted, settings.count(ROWS["linear"]), settings.rounds).value
    notes = [
        _ceiling(pairs, matrix),
        "Each run of ONNX Runtime has one thread; CPU times are those of all threads of the process.",
    ]
    if folder := os.environ.get(MODELS):
        minilm = Path(folder) / "minilm"
        pairs += [in_child(texts, minilm, settings.count(TEXTS), settings.rounds, threads).value for threads in THREADS]
    else:
        notes.append(f"Embeddings were left out: {MODELS} names no folder with minilm/ in it.")
    return Result(
        title="Models: speed beside a bare ONNX Runtime",
        data=(
            f"A logistic regression and {graphs.TREES} boosted trees of depth {graphs.DEPTH} over {graphs.FEATURES} columns of "
            "DOUBLE; the delay model of examples/flights over its 11 columns, three of them strings; all-MiniLM-L6-v2 over "
            f"{settings.count(TEXTS):,} documentation strings of Python's standard library, {TOKENS_A_BATCH:,} padded tokens a "
            "batch. lakeflow: a Polars frame through ml_predict or ml_embed, streamed as a job streams it. Bare: `session.run` "
            f"batch by batch on arrays (for texts: padded tokens) that lie ready. Best of {settings.rounds} rounds."
        ),
        columns=("model, batch", "bare / CPU-s", "lakeflow / CPU-s", "share", "bare / s", "lakeflow / s"),
        rows=tuple(_row(pair) for pair in pairs),
        bars=tuple(Bar(f"{pair.what}: share of bare, CPU", pair.share, pair.bar) for pair in pairs),
        notes=tuple(notes),
    )


def _row(pair: Pair) -> tuple[str, ...]:
    cpu = (thousands(pair.raw.rate(pair.rows)), thousands(pair.ours.rate(pair.rows)))
    wall = (thousands(pair.raw.wall_rate(pair.rows)), thousands(pair.ours.wall_rate(pair.rows)))
    return (pair.what, *cpu, f"{pair.share:.2f}", *wall)


def drawn(path: Path, rows: int, rounds: int) -> list[Pair]:
    """A graph over drawn numbers, at every batch size."""
    names = [f"feature_{number}" for number in range(graphs.FEATURES)]
    matrix = np.random.default_rng(1).normal(size=(rows, graphs.FEATURES))
    frame = pl.DataFrame({name: np.ascontiguousarray(matrix[:, place]) for place, name in enumerate(names)})
    spec = ModelSpec(
        name=path.stem,
        provider="onnx",
        task=Task.CLASSIFICATION,
        input=pa.schema([(name, pa.float64()) for name in names]),
        output=pa.schema([("score", pa.float32())]),
        options={"model_path": str(path), "outputs": "scores[1]:score"},
    )
    ready = {"features": matrix.astype(np.float32)}
    return [_tabular(spec, frame, ready, "scores", batch, rounds) for batch in BATCHES]


def converted(rows: int, rounds: int) -> float:
    """CPU-seconds a row of turning columns of DOUBLE into a matrix of FLOAT, by NumPy alone, a cacheful of rows at a time."""
    columns = list(np.random.default_rng(1).normal(size=(graphs.FEATURES, rows)))
    best = Best()
    for _ in range(1 + rounds):
        with spending() as spent:
            for at in range(0, rows, CACHEFUL):
                matrix = np.empty((min(CACHEFUL, rows - at), len(columns)), np.float32)
                for place, column in enumerate(columns):
                    matrix[:, place] = column[at : at + CACHEFUL]
        best.take(spent)
    return best.spent.cpu / rows


def _ceiling(pairs: list[Pair], matrix: float) -> str:
    fastest = min(pair.raw.cpu / pair.rows for pair in pairs if pair.what.startswith("linear"))
    return (
        f"The linear model takes {fastest * 1e9:.0f} ns a row, and turning {graphs.FEATURES} columns into the matrix that it "
        f"reads takes {matrix * 1e9:.0f} ns by NumPy alone: with nothing else to do, the share could be "
        f"{fastest / (fastest + matrix):.2f}."
    )


def flights(copies: int, rounds: int) -> list[Pair]:
    """The delay model over January's flights, over and over, at every batch size."""
    job = runpy.run_path(str(REPOSITORY / "jobs" / "score_flights.py"))
    tables = (pl.scan_parquet(EXAMPLE / "data" / f"{name}.parquet") for name in ("flights", "weather"))
    frame: pl.DataFrame = pl.concat([job["with_features"](*tables).select(job["FEATURES"]).collect()] * copies).rechunk()
    declared = Project.open(REPOSITORY).declared_tables.models["delay_classifier"]
    spec = dataclasses.replace(ModelSpec.from_declaration(declared, REPOSITORY), name="delay")
    ready = {
        name: column.to_numpy().astype(object if column.dtype == pl.String else np.float32).reshape(-1, 1)
        for name, column in frame.to_dict().items()
    }
    return [_tabular(spec, frame, ready, "probabilities", batch, rounds) for batch in BATCHES]


def _tabular(spec: ModelSpec, frame: pl.DataFrame, ready: Arrays, output: str, batch: int, rounds: int) -> Pair:
    session = _session(spec.path("model_path"))
    sized = dataclasses.replace(spec, options={**spec.options, "batch_size": str(batch)})

    def raw() -> list[NDArray[np.float32]]:
        return [
            session.run([output], {name: array[at : at + batch] for name, array in ready.items()})[0]
            for at in range(0, frame.height, batch)
        ]

    with ModelSet([sized]) as models, bound(models):
        answer = spec.output.names[0]
        answers = ml_predict(frame.lazy(), spec.name, frame.columns).select(answer)

        def ours() -> list[pl.DataFrame]:
            return list(answers.collect_batches(maintain_order=True, engine="streaming"))

        given = pl.concat(ours())[answer].to_numpy()
        assert np.array_equal(given, np.concatenate(raw())[:, 1]), f"{spec.name}: lakeflow gives other answers"
        return _in_turn(f"{spec.name}, {batch:,}", frame.height, raw, ours, rounds)


def texts(folder: Path, count: int, rounds: int, threads: int) -> Pair:
    """MiniLM: padded tokens, sorted by length, against ml_embed on the texts; both ways `threads` runs at once."""
    given = _documentation(count)
    session = _session(folder / "onnx" / "model.onnx")
    batches = _padded_batches(folder, given)
    taken, output = [node.name for node in session.get_inputs()], session.get_outputs()[0].name
    spec = ModelSpec(
        name="minilm",
        provider="onnx",
        task=Task.EMBEDDING,
        input=pa.schema([("text", pa.string())]),
        output=pa.schema([("embedding", pa.list_(pa.float32()))]),
        options={
            "model_path": str(folder),
            "batch_tokens": str(TOKENS_A_BATCH),
            "max_tokens": str(MOST_TOKENS),
            "threads": str(threads),
        },
    )

    def embedded(feeds: Arrays) -> None:
        session.run([output], {name: feeds[name] for name in taken})

    def raw() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(embedded, batches):
                pass

    with ModelSet([spec]) as models, bound(models):
        vectors = ml_embed(pl.LazyFrame({"text": given}), spec.name, "text").select("embedding")

        def ours() -> None:
            given_back = sum(chunk.height for chunk in vectors.collect_batches(maintain_order=True, engine="streaming"))
            assert given_back == count, f"{given_back} of {count} texts"

        runs = "1 thread" if threads == 1 else f"{threads} threads"
        pair = _in_turn(f"minilm, {TOKENS_A_BATCH:,} tokens, {runs}", count, raw, ours, rounds)
        return dataclasses.replace(pair, bar=SHARE_OF_EMBEDDING)


def _documentation(count: int) -> list[str]:
    """The texts of the demo's corpus, over and over where it is too short."""
    command = [sys.executable, str(EXAMPLE / "docs_corpus.py")]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    corpus = [json.loads(line)["text"] for line in lines]
    return [corpus[number % len(corpus)] for number in range(count)]


def _padded_batches(folder: Path, given: list[str]) -> list[Arrays]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    tokens = sorted((encoding.ids for encoding in tokenizer.encode_batch(given)), key=len)
    batches: list[Arrays] = []
    for cut in cut_by_tokens([len(text) for text in tokens], TOKENS_A_BATCH):
        ids, mask = padded(tokens[cut], 0)
        batches.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    return batches


def _session(path: Path) -> onnxruntime.InferenceSession:
    """One thread, as lakeflow opens it by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _in_turn(what: str, rows: int, raw: Callable[[], object], ours: Callable[[], object], rounds: int) -> Pair:
    """Both ways once unmeasured, then in turn."""
    best = {raw: Best(), ours: Best()}
    for way in best:
        way()
    for _ in range(rounds):
        for way, kept in best.items():
            with spending() as spent:
                way()
            kept.take(spent)
    return Pair(what, rows, best[raw].spent, best[ours].spent)
