"""Questions with the model's answer, and the chunks that it cites."""

import polars as pl

import lakeflow as lf

GIVEN = 4
"""Chunks that the model is given with a question."""
CITED = {"chunk_id": "cited", "page_id": "pages", "score": "scores"}
"""What a row of answers says of the chunks that are cited, and in which column."""


@lf.job(
    target="gold.answers",
    key="question_id",
    max_rows=1000,
    expect=[
        lf.satisfies("invented = 0", on_violation="dead_letter", name="cites_what_it_was_given"),
        lf.satisfies("answer IS NULL OR len(cited) > 0", on_violation="dead_letter", name="cites_what_it_says"),
    ],
)
def answers(questions=lf.Read("bronze.questions")) -> pl.LazyFrame:
    """Each question that came, once, with the index as it stands then. An answer that cites a chunk which was not given, or
    cites none, is a dead letter."""
    asked = questions.with_row_index("place")
    columns = ["chunk_id", "page_id", "text", "index_snapshot_id"]
    hits = lf.vector_search(asked, "doc_index", "question", GIVEN, mode="hybrid", columns=columns)
    given = hits.group_by("place", maintain_order=True).agg(
        pl.first("question_id", "question", "asked_at", "index_snapshot_id"), pl.col("chunk_id", "page_id", "score", "text")
    )
    numbers = pl.int_range(1, pl.len() + 1)
    chunks = pl.col("text").list.eval(pl.format("[{}] {}", numbers, pl.element())).list.join("\n\n")
    answered = lf.ml_predict(given.with_columns(chunks=chunks), "reader", ["question", "chunks"])
    return with_citations(answered).select(
        "question_id", "question", "answer", *CITED.values(), "given", "invented", "index_snapshot_id", "asked_at"
    )


def with_citations(answered: pl.LazyFrame) -> pl.LazyFrame:
    """The chunks behind the numbers in `citations`, each once: the first that was given is number 1. `invented` counts the
    numbers behind which there is none."""
    known = pl.element().is_between(1, GIVEN)
    places = pl.col("citations").list.eval(pl.when(known).then(pl.element() - 1).otherwise(GIVEN))
    once = places.list.unique(maintain_order=True)
    found = {name: pl.col(name).list.gather(once, null_on_oob=True).list.drop_nulls() for name in CITED}
    return answered.with_columns(
        *(found[name].alias(column) for name, column in CITED.items()),
        pl.col("chunk_id").alias("given"),
        (pl.col("citations").list.n_unique() - found["chunk_id"].list.len()).cast(pl.Int32).alias("invented"),
    )
