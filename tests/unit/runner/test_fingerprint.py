"""What of a job is other than at its last commit. The command line is in tests/integration/cli/test_job_changes.py."""

from __future__ import annotations

from lakeflow.runner.fingerprint import CODE, MODELS, _changes


def test_models_by_their_versions() -> None:
    facts = {CODE: "a", MODELS: "delay$1,fraud$2,gone$1,pinned$3"}
    assert _changes("a", facts, {"delay": 2, "fraud": 2, "new": 1}) == ["model delay, from version 1 to 2"]
    assert _changes("b", facts, {}) == ["its code"]


def test_a_commit_from_before_there_were_fingerprints_tells_nothing() -> None:
    assert _changes("a", {}, {"delay": 2}) == []
