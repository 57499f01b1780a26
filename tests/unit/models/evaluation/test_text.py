"""Agreement with sacrebleu and rouge-score over whole corpora."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from lakeflow.errors import ConfigError
from lakeflow.models.evaluation.text import Texts
from tests.unit.models.evaluation.answers import answered, measured

WORDS = ["the", "flight", "is", "late", "because", "of", "storm", "over", "coast,", "and", "waits", "at", "gate", "7."]
RANDOM = np.random.default_rng(1)
LABELS = [" ".join(RANDOM.choice(WORDS, 12)) for _ in range(40)]
PREDICTED = [
    label if at % 4 == 0 else " ".join([*label.split()[: RANDOM.integers(1, 12)], "now"]) for at, label in enumerate(LABELS)
]


def test_a_corpus_scores_as_the_libraries_say() -> None:
    found = measured(Texts(), answered(pa.array(LABELS), pa.array(PREDICTED)), [7, 30]).metrics
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(PREDICTED, [LABELS]).score, abs=1e-9)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name, ours in (("rouge1", "rouge_1"), ("rouge2", "rouge_2"), ("rougeL", "rouge_l")):
        scores = [scorer.score(label, text)[name].fmeasure for label, text in zip(LABELS, PREDICTED, strict=True)]
        assert found[ours] == pytest.approx(np.mean(scores))
    assert found["exact_match"] == np.mean([label == text for label, text in zip(LABELS, PREDICTED, strict=True)])
    assert found["exact_match"] in (0.25, 0.275)


@pytest.mark.parametrize("texts", [["", "a b c d e"], ["late", "late"], ["晚点", "a"], [" ", "..."]])
def test_short_empty_and_foreign_texts(texts: list[str]) -> None:
    found = measured(Texts(), answered(pa.array(texts), pa.array(texts[::-1])), [1]).metrics
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts[::-1], [texts]).score)


def test_no_rows() -> None:
    assert set(Texts().result().metrics.values()) == {None}


def test_without_the_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("rouge_score"):
            raise ModuleNotFoundError("No module named 'rouge_score'", name="rouge_score")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="rouge_score is not installed") as caught:
        Texts()
    assert caught.value.next_step == 'pip install "lakeflow[evaluate]"'
