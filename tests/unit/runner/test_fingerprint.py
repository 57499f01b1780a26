"""What of a job is other than at its last commit. The command line is in tests/integration/cli/test_job_changes.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lakeflow.job import Job
from lakeflow.runner.fingerprint import CODE, MODELS, _changes, code_of


def test_models_by_their_versions() -> None:
    facts = {CODE: "a", MODELS: "delay$1,fraud$2,gone$1,pinned$3"}
    assert _changes("a", facts, {"delay": 2, "fraud": 2, "new": 1}) == ["model delay, from version 1 to 2"]
    assert _changes("b", facts, {}) == ["its code"]


def test_a_commit_from_before_there_were_fingerprints_tells_nothing() -> None:
    assert _changes("a", {}, {"delay": 2}) == []


JOB = """
import lakeflow as lf


@lf.job(target="gold.t")
def passed(rows=lf.Read("bronze.t")):
    return rows{more}
"""


def test_a_file_that_is_edited_while_its_job_runs_does_not_change_what_runs(tmp_path: Path) -> None:
    def loaded() -> Job:
        spec = importlib.util.spec_from_file_location("edited", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        job: Job = module.passed
        return job

    file = tmp_path / "edited.py"
    file.write_text(JOB.replace("{more}", ""))
    runs = loaded()
    before = code_of(runs)
    file.write_text("# moved\n\n" + JOB.replace("{more}", ".head(1000)"))
    assert code_of(runs) == before
    assert code_of(loaded()) != before
