"""Each documentation string as a vector, for docs_index."""

import polars as pl

import lakeflow as lf


@lf.job(target="gold.doc_embeddings", mode="incremental")
def embed_docs(docs=lf.Read("bronze.docs")) -> pl.LazyFrame:
    """The rows of bronze.docs with the vector of name and text together."""
    titled = docs.with_columns(pl.format("{}. {}", "doc_id", "text").alias("titled"))
    return lf.ml_embed(titled, "docs_embedding", "titled", into="embedding").drop("titled")
