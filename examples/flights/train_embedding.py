"""Make models/docs-embedding: a small static embedding model, learnt from the standard library's documentation strings.

    python examples/flights/train_embedding.py

Needs the extra `train`; takes a minute or two on two cores. A BPE tokenizer is trained on the corpus (not WordPiece, whose
trainer breaks ties by chance, so that no run repeats another). A token's vector comes from the singular value decomposition
either of the positive pointwise mutual information of tokens that share a window (O. Levy and Y. Goldberg, "Neural Word
Embedding as Implicit Matrix Factorization", 2014) or of the TF-IDF matrix (latent semantic analysis). It is scaled by the
token's weight, and the direction that all texts share is taken out (S. Arora et al., "A Simple but Tough-to-Beat Baseline for
Sentence Embeddings", 2017). A text is the normalised sum of its tokens' vectors.

What is learnt is unsupervised: no query is seen. Settings are chosen with vectors learnt from eight tenths of the rows, on
queries of another tenth; the last tenth is held out and has no say in the choice. The model that is written is then learnt
from all rows, as a user of the index would have it, so its own figures ("in corpus") are those of texts that it has read.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from docs_corpus import Doc, corpus
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper
from retrieval import HUMP, Embed, mean_mrr, measure, part, tasks
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = Path(__file__).parent / "models" / "docs-embedding"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]"]
PAD, CLS = 0, 2
MOST_TOKENS = 512
SHORTEST = 1e-3  # length of [CLS], which alone stands for a text without words: too short to turn any other text
CONTEXT_SMOOTHING = 0.75
SPECTRUM_POWER = 0.25

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tried. `window` is in tokens, 0 for TF-IDF over whole texts; `weight` is idf or sif."""

    vocabulary: int
    width: int
    window: int
    weight: str


SETTINGS = [
    Setting(8000, 384, 24, "idf"),
    Setting(8000, 384, 24, "sif"),
    Setting(8000, 384, 64, "idf"),
    Setting(8000, 384, 0, "idf"),
    Setting(8000, 256, 24, "idf"),
    Setting(8000, 256, 0, "idf"),
    Setting(8000, 128, 24, "idf"),
    Setting(5000, 384, 24, "idf"),
    Setting(5000, 256, 24, "idf"),
]


def titled(doc: Doc) -> str:
    """What jobs/embed_docs.py embeds."""
    return f"{doc.doc_id}. {doc.text}"


def train_tokenizer(setting: Setting, texts: Sequence[str]) -> Tokenizer:
    """Lower case, accents off, split at humps and at whatever is no letter or digit. [CLS] stands before every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(vocab_size=setting.vocabulary, special_tokens=SPECIAL, min_frequency=2, show_progress=False)
    humps = normalizers.Replace(Regex("(?<=[a-z0-9])(?=[A-Z])"), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), humps, normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), "removed")
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", CLS)])
    return tokenizer


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def counts(rows: Sequence[Sequence[int]], vocabulary: int) -> Any:
    """The sparse matrix [rows, vocabulary] of how often each token stands in each row."""
    counter = CountVectorizer(
        analyzer=lambda row: row, vocabulary={token: token for token in range(vocabulary)}, dtype=np.float64
    )
    return counter.transform(rows)


def windows(rows: Sequence[list[int]], length: int) -> Iterator[list[int]]:
    """Windows of `length` tokens, each overlapping the next by half."""
    step = length // 2
    for row in rows:
        for start in range(0, max(1, len(row) - step), step):
            yield row[start : start + length]


def mutual_information(rows: Sequence[list[int]], vocabulary: int, window: int) -> Any:
    """The sparse symmetric matrix max(0, log p(a, b) / (p(a) p(b))) over tokens that share a window."""
    present = counts(list(windows(rows, window)), vocabulary)
    present.data[:] = 1
    together = (present.T @ present).tocoo()
    totals = np.bincount(together.row, together.data, vocabulary)
    smoothed = totals**CONTEXT_SMOOTHING / (totals**CONTEXT_SMOOTHING).sum()
    information = np.log(together.data / (totals[together.row] * smoothed[together.col]))
    together.data = np.maximum(information, 0)
    return together.tocsr()


def inverse_frequency(rows: Sequence[list[int]], vocabulary: int) -> NDArray[np.float64]:
    held = counts(rows, vocabulary)
    return np.log((len(rows) + 1) / (np.bincount(held.indices, minlength=vocabulary) + 0.5))


def token_vectors(setting: Setting, rows: Sequence[list[int]], vocabulary: int) -> Floats:
    """[vocabulary, width]: directions by SVD, lengths by weight, the texts' common direction taken out of all but [CLS]."""
    idf = inverse_frequency(rows, vocabulary)
    if setting.window:
        matrix = mutual_information(rows, vocabulary, setting.window)
    else:
        matrix = normalize(counts(rows, vocabulary).multiply(idf[None, :])).T.tocsr()
    left, spectrum, _ = randomized_svd(matrix, setting.width, n_iter=4, random_state=0)
    weight = idf
    if setting.weight == "sif":
        share = np.asarray(counts(rows, vocabulary).sum(axis=0)).ravel() / sum(map(len, rows))
        weight = 1e-3 / (1e-3 + share)
    vectors = normalize(left * spectrum**SPECTRUM_POWER) * weight[:, None]
    vectors[: len(SPECIAL)] = 0
    common = randomized_svd(normalize(counts(rows, vocabulary) @ vectors), 1, n_iter=4, random_state=0)[2][0]
    vectors -= (vectors @ common)[:, None] * common
    vectors[CLS] = SHORTEST * common
    return np.asarray(vectors, np.float32)


def summing(tokenizer: Tokenizer, vectors: Floats) -> Embed:
    """The model in NumPy, for trying settings out."""

    def embed(texts: Sequence[str]) -> Any:
        return normalize(counts(token_ids(tokenizer, texts), len(vectors)) @ vectors + vectors[CLS])

    return embed


def learn(setting: Setting, docs: Sequence[Doc]) -> tuple[Tokenizer, Floats]:
    texts = [titled(doc) for doc in docs]
    tokenizer = train_tokenizer(setting, texts)
    return tokenizer, token_vectors(setting, token_ids(tokenizer, texts), tokenizer.get_vocab_size())


def tfidf(docs: Sequence[Doc]) -> Embed:
    """The baseline: cosine of TF-IDF vectors over the same words, sublinear counts, learnt from the same rows."""
    model = TfidfVectorizer(
        sublinear_tf=True, token_pattern="[A-Za-z0-9]+", preprocessor=lambda text: HUMP.sub(" ", text).lower()
    )
    model.fit([titled(doc) for doc in docs])
    return lambda texts: model.transform(texts)


def graph(vectors: Floats) -> bytes:
    """ONNX: look up (stored as float16), sum under the attention mask, normalise to length 1."""
    width = vectors.shape[1]
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["halves"], axis=0),
        helper.make_node("Cast", ["halves"], ["tokens"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "one"], ["row"]),
        helper.make_node("MatMul", ["row", "tokens"], ["summed"]),
        helper.make_node("Squeeze", ["summed", "one"], ["sum"]),
        helper.make_node("ReduceL2", ["sum"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "least"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["sentence_embedding"]),
    ]
    constants = {"vectors": vectors.astype(np.float16), "one": np.array([1]), "least": np.array(1e-12, np.float32)}
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")
    ]
    result = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", width])
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "docs-embedding", ids, [result], initial),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def write_folder(folder: Path, tokenizer: Tokenizer, content: bytes, width: int) -> None:
    """The layout that sentence-transformers models are published in."""
    shutil.rmtree(folder, ignore_errors=True)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    config = {"model_type": "static", "hidden_size": width, "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": PAD}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "config.json": config,
        "sentence_bert_config.json": {"max_seq_length": MOST_TOKENS, "do_lower_case": False},
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False))
    (folder / "model.onnx").write_bytes(content)


def running(folder: Path, model: str = "model.onnx") -> Embed:
    """A model folder as it runs: tokenizer.json and ONNX, with inputs by name and a pooled, normalised output."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
    tokenizer.enable_padding(pad_id=PAD)
    session = onnxruntime.InferenceSession(folder / model, providers=["CPUExecutionProvider"])
    inputs = {given.name for given in session.get_inputs()}

    def embed(texts: Sequence[str]) -> Floats:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors: list[Any] = [None] * len(texts)
        for start in range(0, len(order), 16):
            block = order[start : start + 16]
            encoded = tokenizer.encode_batch([texts[i] for i in block])
            ids, mask = np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            found = session.run(["sentence_embedding"], {name: given[name] for name in inputs})[0]
            for i, vector in zip(block, found, strict=True):
                vectors[i] = vector
        return np.array(vectors, np.float32)

    return embed


def main() -> None:
    docs = corpus()
    over = tasks(docs)
    train = [doc for doc in docs if part(doc.doc_id) == "train"]
    tried = []
    for setting in SETTINGS:
        figures = measure(summing(*learn(setting, train)), over, "choose")
        tried.append((mean_mrr(figures), setting))
        print(f"{tried[-1][0]:.4f} {setting}", file=sys.stderr)
    best = max(tried, key=lambda one: one[0])[1]
    held_out, baseline = measure(summing(*learn(best, train)), over, "held out"), measure(tfidf(train), over, "held out")

    tokenizer, vectors = learn(best, docs)
    content = graph(vectors)
    write_folder(FOLDER, tokenizer, content, best.width)
    sample = over[0].texts[:300]
    apart = float(np.abs(running(FOLDER)(sample) - summing(tokenizer, vectors)(sample)).max())
    if apart > 2e-3:
        sys.exit(f"the ONNX graph differs from NumPy by {apart:.2g}; at most 2e-3 is allowed, as float16 gives")
    quality = {
        "setting": asdict(best),
        "rows": {"corpus": len(docs), "train": len(train)},
        "held_out": held_out,
        "held_out_of_tfidf": baseline,
        "in_corpus": measure(running(FOLDER), over),
        "in_corpus_of_tfidf": measure(tfidf(docs), over),
        "tried_mean_mrr": [{**asdict(setting), "mean_mrr": mrr} for mrr, setting in tried],
        "bytes": len(content),
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("tokenizers", "scikit-learn", "onnx", "numpy")},
        },
    }
    (FOLDER / "quality.json").write_text(json.dumps(quality, indent=2) + "\n")
    print(json.dumps(quality, indent=2))
    if models_at := os.environ.get("LAKEFLOW_TEST_MODELS"):
        print(
            "MiniLM, held out:", json.dumps(measure(running(Path(models_at) / "minilm", "onnx/model.onnx"), over, "held out"))
        )


if __name__ == "__main__":
    main()
