"""lakeflow: a batch-and-stream job runner for a lakehouse on Apache Iceberg."""

from lakeflow.job import Job, Lookup, Mode, Output, Read, job

__all__ = ["Job", "Lookup", "Mode", "Output", "Read", "job"]
