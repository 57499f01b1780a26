"""A stand-in for a language model, so that the example runs without a network: an HTTP server that answers as OpenAI's chat
completions do.

It does not understand anything. Of the chunks that it is given it picks the sentence that shares the most words with the
question, rare words counting more and those that no chunk has the most, and cites the chunk that it stands in; where too
little is shared, it has no answer.

    python examples/rag/local_model.py     serves until Ctrl-C and prints what to export
"""

from __future__ import annotations

import json
import math
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

ENOUGH = 0.45
"""The share of the question's words, by weight, that a sentence has to have."""
MOST_BYTES = 1 << 20
LONGEST_ANSWER = 400

_ASKED = re.compile(r"\AQuestion: (?P<question>.*?)\n\nChunks:\n\n(?P<chunks>.*)\Z", re.DOTALL)
_CHUNK = re.compile(r"^\[(\d+)\] ", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n\s*\n|\n(?=[#>*-])")
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*|\d+")
_COMMON = frozenset(
    _WORD.findall(
        "a an and are as at be by can do does for from have how i if in into is it its of on one or s that the there this to "
        "use used using was what when where which who with you your python module function method class"
    )
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said, None where nothing is known, and the numbers of the chunks that it stands in."""

    answer: str | None
    citations: tuple[int, ...]


def answer(question: str, chunks: dict[int, str]) -> Answer:
    """The sentence of the chunks that is nearest to the question by its words, and the chunk's number."""
    wanted = words(question)
    sentences = [(number, sentence) for number, text in chunks.items() for sentence in sentences_of(text)]
    weights = weights_of(words(f"{chunks[number].splitlines()[0]} {sentence}") for number, sentence in sentences)
    unknown = 2 * max(weights.values(), default=1.0)
    whole = sum(weights.get(word, unknown) for word in wanted)
    best, best_share = None, 0.0
    for number, sentence in sentences:
        # What a chunk is about stands in its first lines, which a sentence does not repeat.
        heading = words(" ".join(chunks[number].splitlines()[:2]))
        own = words(sentence)
        share = sum(weights[word] * (1.0 if word in own else 0.5) for word in wanted & (own | heading) if word in weights)
        share /= whole or 1.0
        if share > best_share and len(own) > 2:
            best, best_share = (number, sentence), share
    if best is None or best_share < ENOUGH:
        return Answer(None, ())
    return Answer(best[1][:LONGEST_ANSWER], (best[0],))


def sentences_of(text: str) -> list[str]:
    return [" ".join(one.split()) for one in _SENTENCE.split(text) if one.strip()]


def words(text: str) -> frozenset[str]:
    """The words of a text in their stems, roughly, without the commonest ones."""
    found = (word.lower() for part in _WORD.findall(text) for word in part.split("_"))
    return frozenset(_stem(word) for word in found if word and word not in _COMMON)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending).rstrip("e")
    return word.rstrip("e")


def weights_of(sentences: Iterable[frozenset[str]]) -> dict[str, float]:
    """Rare words weigh more: 1 + ln(number of sentences / those that have it)."""
    listed = list(sentences)
    counts = Counter(word for one in listed for word in one)
    return {word: 1.0 + math.log(len(listed) / count) for word, count in counts.items()}


def read_prompt(text: str) -> tuple[str, dict[int, str]]:
    """Question and numbered chunks of the prompt in tables/models.sql. Raises ValueError for another text."""
    found = _ASKED.match(text)
    if found is None:
        raise ValueError("the prompt is not of the form 'Question: .. Chunks: [1] ..'")
    parts = _CHUNK.split(found["chunks"])
    return found["question"], {int(number): text.strip() for number, text in zip(parts[1::2], parts[2::2], strict=True)}


class LocalModel:
    """Serves on 127.0.0.1, at a port of the system's choice, within the block.

    `asked` has the question of each request. `invents` is a question to which it cites a chunk that it was not given, as
    language models do at times. `on_question` is called with each question before it is answered.
    """

    def __init__(self, invents: str | None = None, on_question: Callable[[str], None] = lambda question: None) -> None:
        self.asked: list[str] = []
        self._invents, self.on_question = invents, on_question
        model = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                if not 0 < length <= MOST_BYTES:
                    self._reply(413, _error(f"a body of {length} bytes"))
                    return
                body = self.rfile.read(length)
                if self.path != "/v1/chat/completions":
                    self._reply(404, _error(f"there is no {self.path} here"))
                    return
                try:
                    self._reply(200, model.completion(json.loads(body)))
                except (ValueError, KeyError, IndexError, TypeError) as error:
                    self._reply(400, _error(str(error)))

            def _reply(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: questions are nobody's business."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """For RAG_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a reply to a request's. Raises ValueError and KeyError for one that it cannot read."""
        asked = body["messages"][-1]["content"]
        question, chunks = read_prompt(asked)
        self.asked.append(question)
        self.on_question(question)
        found = answer(question, chunks)
        if question == self._invents:
            found = Answer(found.answer or "It is so.", (max(chunks, default=0) + 5,))
        said = json.dumps({"answer": found.answer, "citations": list(found.citations)})
        tokens = {"prompt_tokens": len(asked.split()), "completion_tokens": len(said.split())}
        return {
            "id": f"chatcmpl-{len(self.asked)}",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": said, "refusal": None}, "finish_reason": "stop"}
            ],
            "usage": {**tokens, "total_tokens": sum(tokens.values())},
        }

    def __enter__(self) -> LocalModel:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    """Without a word about clients that have gone: one is killed in the example."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def main() -> None:
    with LocalModel() as model:
        print(
            f"export RAG_ENDPOINT={model.endpoint} RAG_MODEL=extractive LAKEFLOW_SECRET_RAG_API_KEY=not-asked-for", flush=True
        )
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
