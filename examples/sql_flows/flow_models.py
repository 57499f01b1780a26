"""The models of this example: a few lines each, so that every answer can be checked by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

TOPICS = ("order", "refund", "invoice", "login", "password", "delivery", "coffee", "tea", "mug")


def each(rows: pa.RecordBatch, answer: Callable[..., Any]) -> list[Any]:
    """The answer to each row, given its columns."""
    return [answer(*row.values()) for row in rows.to_pylist()]


class Embedder:
    """How often each topic is named, and one more place that is never zero."""

    def predict(self, rows: pa.RecordBatch) -> list[list[float]]:
        return each(rows, lambda text: [*(float(text.lower().count(topic)) for topic in TOPICS), 0.1])


class Assistant:
    """Repeats the first sentence of the context, or says yes or no to whether a text asks for haste."""

    def predict(self, rows: pa.RecordBatch) -> list[str]:
        return each(rows, self._answer)

    @staticmethod
    def _answer(prompt: str) -> str:
        if prompt.startswith("Is this urgent?"):
            return "urgent" if "today" in prompt else "normal"
        context = prompt.partition("Context: ")[2].partition(" Question: ")[0]
        return context.partition(".")[0] + "."


class Agent:
    """Which tool it would use, as JSON."""

    def predict(self, rows: pa.RecordBatch) -> list[str]:
        return each(rows, self._reply)

    @staticmethod
    def _reply(prompt: str) -> str:
        order = re.search(r"order (\d+)", prompt)
        action = "refund" if "refund" in prompt else "answer"
        return json.dumps({"action": action, "arguments": {"order_id": int(order[1]) if order else None}, "sure": bool(order)})


class Urgency:
    """0.9 with a cry, 0.5 with a plea, 0.1 else."""

    def predict(self, rows: pa.RecordBatch) -> list[float]:
        return each(rows, lambda body: 0.9 if "!" in body else 0.5 if "please" in body else 0.1)


class Click:
    """The nearer and the cheaper, the likelier."""

    def predict(self, rows: pa.RecordBatch) -> list[float]:
        return each(rows, lambda nearness, price: round(nearness / (1 + price / 10), 4))


class NextHour:
    """A tenth more for each unit of size."""

    def predict(self, rows: pa.RecordBatch) -> list[float]:
        return each(rows, lambda sales, size: round(sales * (1 + size / 10), 2))
