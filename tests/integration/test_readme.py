"""The README's first own project, with the README's own files and commands, against a broker."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lakeflow.cli import main
from lakeflow.landing.cut import Limits
from lakeflow.landing.spec import landing_spec
from lakeflow.sql.parse import parse_declarations, parse_jobs
from lakeflow.sql.statements import CreateTable
from lakeflow.topics.embedded import EmbeddedBroker

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PROJECT = README.partition("## A first own project")[2].partition("\n## ")[0]
INSTALLING = ("make ", "python3 ", "pip ", "cd ", "export ", "docker ")


def blocks(language: str, text: str = PROJECT) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The lakeflow commands in the shell blocks of a text, in order."""
    lines = [line for block in blocks("sh", text) for line in block.splitlines() if line]
    assert all(line.startswith(("lakeflow ", *INSTALLING)) for line in lines), lines
    return [shlex.split(line)[1:] for line in lines if line.startswith("lakeflow ")]


def write_classifier(path: Path) -> None:
    """A logistic regression on two columns, as scikit-learn's converter exports one: labels and probabilities."""
    weights = numpy_helper.from_array(np.array([[-0.01, 0.01], [0.02, -0.02]], np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 2])]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    graph = helper.make_graph(nodes, "fraud", inputs, outputs, [weights])
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), str(path))


def orders(count: int) -> list[tuple[bytes, bytes]]:
    example = json.loads(re.findall(r"such as `(\{.*?\})`", PROJECT)[0])
    return [
        (f"{number}".encode(), json.dumps({**example, "order_id": f"o{number}", "amount": number * 10.0}).encode())
        for number in range(count)
    ]


def test_the_first_own_project_works_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, *others = commands(PROJECT)
    assert main(first) == 0
    shop = tmp_path / first[-1]
    table, model, suspicious = blocks("sql")
    large, scored = blocks("python")
    (shop / "tables" / "orders.sql").write_text(table)
    (shop / "tables" / "fraud.sql").write_text(model)
    (shop / "jobs" / "large_orders.py").write_text(large)
    (shop / "jobs" / "score_orders.py").write_text(scored)
    (shop / "jobs" / "suspicious_orders.sql").write_text(suspicious)
    write_classifier(shop / "models" / "fraud.onnx")
    monkeypatch.chdir(shop)
    said: dict[str, str] = {}
    with EmbeddedBroker(partitions=2) as broker:
        broker.produce("orders", orders(30))
        monkeypatch.setenv("LAKEFLOW_KAFKA", broker.bootstrap)
        for words in others:
            capsys.readouterr()
            assert main(words) == 0, (words, capsys.readouterr().err)
            said[" ".join(words)] = capsys.readouterr().out
    [summed, ranked] = [out for words, out in said.items() if words.startswith("query")]
    assert summed.split()[-3:] == ["Ada", "19", "3800"]
    assert len(ranked.splitlines()) == 11
    scored_rows, suspicious_rows = (
        asked(capsys, f"SELECT order_id FROM gold.{name}")
        for name in ("scored_orders WHERE fraud_probability > 0.5", "suspicious_orders")
    )
    assert suspicious_rows == scored_rows
    assert 0 < len(suspicious_rows) < 30


def asked(capsys: pytest.CaptureFixture[str], query: str) -> list[str]:
    capsys.readouterr()
    assert main(["query", query, "--output", "json"]) == 0
    return sorted(json.loads(line)["order_id"] for line in capsys.readouterr().out.splitlines())


def test_the_template_of_a_new_project_is_the_one_that_the_readme_shows() -> None:
    template = Path(__file__).parents[2] / "lakeflow" / "cli" / "templates" / "project"
    shown = " ".join(blocks("sql")[0].split()).replace("( ", "(").replace(" )", ")")
    kept = re.sub(r"--.*", "", (template / "tables" / "orders.sql").read_text())
    assert " ".join(kept.split()).replace("( ", "(").replace(" )", ")") == shown


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_each_command_in_the_readme_is_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    verb = [word for word in words if word in ("index", "tables", "models", "jobs")] or words[:1]
    assert main([verb[0], "--help"]) == 0
    options = [word for word in words if word.startswith("--")]
    assert all(option in capsys.readouterr().out for option in options) or not options


def test_every_declaration_in_the_readme_can_be_read() -> None:
    texts = blocks("sql", README)
    found = [statement for text in texts if not text.startswith("INSERT") for statement in parse_declarations(text)]
    jobs = [statement for text in texts if text.startswith("INSERT") for statement in parse_jobs(text)]
    assert (len(found), len(jobs)) == (3, 1)
    landed = [one.table for one in found if isinstance(one, CreateTable) and one.table.options.get("connector") == "kafka"]
    assert [landing_spec(table, table.options, Limits(1, 1, 1.0)).table for table in landed] == [
        "bronze.customers",
        "bronze.orders",
    ]
