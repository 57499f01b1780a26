"""The corpus: the same on every run, several thousand rows, without side effects."""

from __future__ import annotations

import subprocess
import sys

import docs_corpus
import pytest
from docs_corpus import Doc, corpus

from tests.unit.examples.conftest import REPOSITORY


@pytest.fixture(scope="module")
def docs() -> list[Doc]:
    return corpus()


def test_ids_are_unique_and_in_order(docs: list[Doc]) -> None:
    ids = [doc.doc_id for doc in docs]
    assert ids == sorted(set(ids))
    assert len(ids) > 3000


def test_a_process_of_its_own_writes_the_same_twice_and_nothing_else() -> None:
    command = [sys.executable, "-W", "error", str(REPOSITORY / "examples" / "flights" / "docs_corpus.py")]
    first, second = (subprocess.run(command, capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout
    assert first.stdout.startswith(b'{"doc_id"')
    assert first.stderr == b""


@pytest.mark.parametrize(
    ("doc_id", "kind"),
    [
        ("json.dumps", "function"),
        ("time.sleep", "function"),
        ("os.rename", "function"),
        ("builtins.str.strip", "method"),
        ("builtins.dict.fromkeys", "method"),
        ("collections.OrderedDict", "class"),
        ("email.message.Message.get_payload", "method"),
    ],
)
def test_what_everyone_knows_is_there(docs: list[Doc], doc_id: str, kind: str) -> None:
    doc = {doc.doc_id: doc for doc in docs}[doc_id]
    assert doc.kind == kind
    assert doc.doc_id == f"{doc.module}.{doc.name}"
    assert len(doc.text.split()) >= docs_corpus.FEWEST_WORDS


def test_nothing_private_nothing_skipped_and_no_addresses(docs: list[Doc]) -> None:
    for doc in docs:
        assert not any(part.startswith("_") for part in doc.doc_id.split("."))
        assert doc.module.split(".")[0] not in docs_corpus.SKIPPED
        assert " at 0x" not in doc.signature + doc.text


def test_what_is_skipped_is_not_imported() -> None:
    script = (
        "import sys, docs_corpus; docs_corpus.corpus(); print({'this', 'antigravity', 'turtle', 'idlelib'} & set(sys.modules))"
    )
    folder = REPOSITORY / "examples" / "flights"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, check=True, text=True)
    assert done.stdout == "set()\n"


def test_an_object_speaks_for_itself_only() -> None:
    class Base:
        """What the base says about itself."""

    class Silent(Base):
        def told(self) -> None:
            """What the method says about itself."""

    found = list(docs_corpus._documented("m", "Silent", Silent))
    assert [(doc.doc_id, doc.kind, doc.signature) for doc in found] == [("m.Silent.told", "method", "(self) -> 'None'")]


def test_addresses_of_objects_are_taken_out() -> None:
    def told(what: object = object()) -> None:
        """Tells <thing at 0x7f00aa> to everyone."""

    [doc] = docs_corpus._documented("m", "told", told)
    assert doc.text == "Tells <thing> to everyone."
    assert "object object>" in doc.signature
