"""Where the files of an ONNX model lie, and what the configuration beside a text model says.

The layout is that in which sentence-transformers publishes models: the graph in `model.onnx` or `onnx/model.onnx`, and
beside it tokenizer.json, modules.json, 1_Pooling/config.json and sentence_bert_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx_settings import Pooling

GRAPHS = ("model.onnx", "onnx/model.onnx")
WEIGHTS = (".data", "_data")
"""What stands behind the graph's name in that of the file with its weights."""
TOKENIZER = "tokenizer.json"
MODULES = "modules.json"
LENGTHS = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
TOKENS_WITHOUT_LIMIT = 1_000_000
DEFAULT_MAX_TOKENS = 512
CORRECT_PATH = "correct 'model_path' in its WITH (..); a relative path starts at the project's folder"
INSIDE_MODULES = ("Transformer", "StaticEmbedding", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True)
class TextLayout:
    """A text model as its folder describes it. `pooling` of None: nothing, or nothing that is understood, is said.

    `max_tokens` counts the special tokens too. `beyond_pooling` are modules that only a graph with the vectors of
    whole texts can hold.
    """

    graph: Path
    tokenizer: Path
    pooling: Pooling | None
    normalize: bool
    max_tokens: int
    lower_case: bool
    beyond_pooling: tuple[str, ...] = ()


def graph_files(label: str, path: Path) -> Mapping[str, Path]:
    """The graph and, where it keeps its weights beside it, their file. `path` is the graph or the folder that holds it.

    Raises ModelError where the graph is missing.
    """
    found = next((path / name for name in GRAPHS if (path / name).is_file()), None)
    graph = path if found is None else found
    if not graph.is_file():
        what = f"is a folder, and holds none of {', '.join(GRAPHS)}" if path.is_dir() else "is not there"
        raise ModelError(f"{label}: model_path {path} {what}; it is the .onnx file of the graph", next_step=CORRECT_PATH)
    beside = {f"graph{suffix}": graph.with_name(graph.name + suffix) for suffix in WEIGHTS}
    return {"graph": graph, **{name: file for name, file in beside.items() if file.is_file()}}


def text_files(label: str, path: Path) -> Mapping[str, Path]:
    """The graph, the tokenizer and the configuration that is there. Raises ModelError where one of the first two is not."""
    folder, graph = _graph_in(label, path)
    if not (folder / TOKENIZER).is_file():
        raise ModelError(
            f"{label}: {folder / TOKENIZER} is not there; a text model's folder holds it and one of {', '.join(GRAPHS)}",
            next_step="copy the whole folder of the model, not the graph alone",
        )
    names = text_names(label, folder)
    return {**graph_files(label, graph), **{name: folder / name for name in names if (folder / name).is_file()}}


def text_names(label: str, folder: Path) -> tuple[str, ...]:
    """What is read beside the graph of a text model, as far as it is there; modules.json says where one of them lies.

    Raises ModelError where modules.json is no list of modules, or names a place outside of the folder.
    """
    pooling = next((place for kind, place in _modules(label, folder) if kind == "Pooling"), "1_Pooling")
    if PurePosixPath(pooling).is_absolute() or ".." in PurePosixPath(pooling).parts:
        raise ModelError(f"{label}: {folder / MODULES} names the place {pooling!r}, which is outside of its folder")
    return (TOKENIZER, MODULES, f"{pooling}/config.json", *(name for name, _ in LENGTHS))


def read_layout(label: str, path: Path) -> TextLayout:
    """What the folder says. Raises ModelError where a file is missing or cannot be read."""
    files = text_files(label, path)
    folder = files[TOKENIZER].parent
    modules = _modules(label, folder)
    pooling = [file for name, file in files.items() if name.endswith("/config.json")]
    return TextLayout(
        graph=files["graph"],
        tokenizer=files[TOKENIZER],
        pooling=_pooling(_read(label, pooling[0])) if pooling else None,
        normalize=any(kind == "Normalize" for kind, _ in modules),
        max_tokens=_max_tokens(label, folder),
        lower_case=bool(_read(label, folder / "sentence_bert_config.json").get("do_lower_case")),
        beyond_pooling=tuple(kind for kind, _ in modules if kind not in INSIDE_MODULES),
    )


def _graph_in(label: str, path: Path) -> tuple[Path, Path]:
    if path.is_file():
        return (path.parent.parent if path.parent.name == "onnx" else path.parent), path
    found = [path / name for name in GRAPHS if (path / name).is_file()]
    if not found:
        what = f"holds none of {', '.join(GRAPHS)}" if path.is_dir() else "is not there"
        raise ModelError(f"{label}: model_path {path} {what}", next_step=CORRECT_PATH)
    return path, found[0]


def _pooling(config: Mapping[str, Any]) -> Pooling | None:
    flags = {
        "pooling_mode_mean_tokens": Pooling.MEAN,
        "pooling_mode_cls_token": Pooling.CLS,
        "pooling_mode_max_tokens": Pooling.MAX,
    }
    if config.get("pooling_mode") in list(Pooling):
        return Pooling(config["pooling_mode"])
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    return flags.get(chosen[0]) if len(chosen) == 1 else None


def _max_tokens(label: str, folder: Path) -> int:
    for name, key in LENGTHS:
        limit = _read(label, folder / name).get(key)
        if isinstance(limit, int | float) and 0 < limit < TOKENS_WITHOUT_LIMIT:
            return int(limit)
    return DEFAULT_MAX_TOKENS


def _modules(label: str, folder: Path) -> list[tuple[str, str]]:
    """(kind, sub-folder) in their order; the kind is the last word of the class's name."""
    content = _json(label, folder / MODULES) if (folder / MODULES).is_file() else []
    if not (isinstance(content, list) and all(isinstance(module, dict) for module in content)):
        raise ModelError(f"{label}: {folder / MODULES} is not a list of modules")
    return [(str(module.get("type", "")).rpartition(".")[2], str(module.get("path", ""))) for module in content]


def _read(label: str, path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    content = _json(label, path)
    if not isinstance(content, dict):
        raise ModelError(f"{label}: {path} is not a JSON object")
    return content


def _json(label: str, path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{label}: {path} cannot be read as JSON: {error}") from error
