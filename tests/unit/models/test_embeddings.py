"""What a run notes of its columns of vectors."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakeflow.errors import ModelError, Terminal, UsageError
from lakeflow.models.embeddings import PREFIX, Embedded, Embeddings, content_hashes, properties_of

VECTORS = pa.list_(pa.float32())
MADE = Embedded("m", 2, "abc")


def test_what_a_table_says_is_read_again() -> None:
    for one in (MADE, Embedded("m", 1, "", 384)):
        assert Embedded.loads(properties_of({"v": one})[PREFIX + "v"], "v") == one
    for text in ("", "{}", '{"model":"m","version":"x","fingerprint":"","width":1}', "[1]"):
        with pytest.raises(Terminal, match=r"lakeflow\.embedding\.v of a table is not readable"):
            Embedded.loads(text, "v")


def test_a_column_has_vectors_of_one_model_and_one_width() -> None:
    noted = Embeddings()
    noted.declare("v", MADE)
    noted.declare("v", Embedded("n", 1, "abc"))  # another name of the same
    with pytest.raises(UsageError, match="models 'm' and 'n' both make vectors into a column 'v'"):
        noted.declare("v", Embedded("n", 1, "xyz"))
    noted.saw("v", pa.array([None, None], VECTORS))
    assert noted.columns["v"].width is None
    noted.saw("v", pa.array([[1.0, 2.0], None], VECTORS))
    assert noted.columns["v"].width == 2
    with pytest.raises(ModelError, match="vectors of 2 and 3 elements for column 'v'"):
        noted.saw("v", pa.array([[1.0, 2.0, 3.0]], VECTORS))


def test_a_hash_is_of_the_text_and_the_model() -> None:
    hashes = content_hashes(pa.array(["a", "b", None, "a", ""]), "one")
    assert hashes[0] == hashes[3] != hashes[1]
    assert hashes[2] is None
    assert hashes[4] not in (None, hashes[0])
    assert not {*hashes[:2]} & {*content_hashes(pa.array(["a", "b"]), "two")}
    assert content_hashes(pa.array(["e"]), "on") != content_hashes(pa.array([""]), "one")
