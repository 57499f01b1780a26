"""Text generation: texts against reference texts, by sacrebleu and rouge-score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeflow.errors import ConfigError
from lakeflow.models.evaluation.values import Answered, Result

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

ORDERS = 4
ROUGE = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}
INSTALL = 'pip install "lakeflow[evaluate]"'


def require_libraries() -> tuple[type[BLEU], type[RougeScorer]]:
    """Raises ConfigError where sacrebleu or rouge-score is not installed."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ConfigError(
            f"the metrics of text need sacrebleu and rouge-score; {error.name} is not installed", next_step=INSTALL
        ) from error
    return BLEU, RougeScorer


class Texts:
    """`bleu`: of the whole corpus, 0 to 100, by sacrebleu with its defaults (13a tokens, exponential smoothing).
    `rouge_1`, `rouge_2`, `rouge_l`: the mean F-measure of rouge-score, 0 to 1, without stemming; its tokens are runs of
    a-z and 0-9, so it is 0 for texts in other scripts. `exact_match`: the share of texts that are the label, byte for byte.

    BLEU's counts of n-grams add up over sentences, so no text is kept. Raises ConfigError without the libraries.
    """

    def __init__(self) -> None:
        bleu, rouge = require_libraries()
        self._bleu = bleu(effective_order=True)
        self._rouge = rouge(list(ROUGE), use_stemmer=False)
        self._counts, self._totals = [0] * ORDERS, [0] * ORDERS
        self._length = self._reference_length = 0
        self._rouges = dict.fromkeys(ROUGE, 0.0)
        self._exact = self._rows = 0

    def add(self, rows: Answered) -> None:
        assert rows.label is not None, "generated text has a label"
        assert rows.prediction is not None, "generated text has a prediction"
        for label, predicted in zip(rows.label.to_pylist(), rows.prediction.to_pylist(), strict=True):
            self._rows += 1
            self._exact += label == predicted
            self._add_bleu(label, predicted)
            for name, score in self._rouge.score(label, predicted).items():
                self._rouges[name] += float(score.fmeasure)

    def _add_bleu(self, label: str, predicted: str) -> None:
        found = self._bleu.sentence_score(predicted, [label])
        self._counts = [sum(pair) for pair in zip(self._counts, found.counts, strict=True)]
        self._totals = [sum(pair) for pair in zip(self._totals, found.totals, strict=True)]
        self._length += found.sys_len
        self._reference_length += found.ref_len

    def result(self) -> Result:
        if not self._rows:
            return Result(dict.fromkeys(["bleu", *ROUGE.values(), "exact_match"]))
        whole = self._bleu.compute_bleu(
            list(self._counts), list(self._totals), self._length, self._reference_length, smooth_method="exp"
        )
        rouges = {kept: self._rouges[name] / self._rows for name, kept in ROUGE.items()}
        return Result({"bleu": float(whole.score), **rouges, "exact_match": self._exact / self._rows})
