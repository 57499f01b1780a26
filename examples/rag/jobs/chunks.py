"""Pages as chunks with their vectors, for doc_index."""

import polars as pl

import lakeflow as lf


@lf.job(target="gold.chunks", by="page_id", on_change="recompute")
def chunks(pages=lf.Read("bronze.pages")) -> pl.LazyFrame:
    """A row a section, or a part of one that is long. Those of a page that is changed or removed go in the commit that brings
    what stands in their place; the vectors of texts that did not change are taken from the table."""
    parts = lf.split(pages, "body", by="markdown", size=1200, key="page_id")
    headings = pl.col("chunk_headings").list.join(" / ")
    titled = parts.with_columns(text=pl.concat_str(headings, "chunk", separator="\n"))
    columns = ["chunk_id", "page_id", "title", "chunk_no", "chunk_start", "chunk_end", "text"]
    embedded = lf.ml_embed(titled, "embedder", "text", into="embedding", hash_into="content_hash")
    return embedded.select(*columns, "embedding", "content_hash")
