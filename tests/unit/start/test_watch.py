"""Which files count, and that a change is told once it holds still."""

from __future__ import annotations

from pathlib import Path

from lakeflow.start.watch import Seen, Watch, declared_in, seen


def test_what_a_project_is_declared_in(tmp_path: Path) -> None:
    for name in ("tables/a.sql", "tables/deep/b.sql", "jobs/c.py", "jobs/d.sql"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("tables/e.py", "jobs/.c.py.swp", "jobs/.hidden/f.py", "jobs/notes.txt", "data/g.sql"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {str(path.relative_to(tmp_path)) for path in declared_in(tmp_path)}
    assert found == {"lakeflow.toml", "tables/a.sql", "tables/deep/b.sql", "jobs/c.py", "jobs/d.sql"}
    assert tmp_path / "lakeflow.toml" not in seen(declared_in(tmp_path)), "which is not there"


def test_a_file_that_takes_another_ones_place_is_another(tmp_path: Path) -> None:
    file, other = tmp_path / "a.sql", tmp_path / "b.sql"
    file.write_text("one")
    before = seen([file])
    other.write_text("two")
    other.rename(file)
    assert seen([file]) != before


class Looks:
    def __init__(self, *looks: str) -> None:
        self.looks = list(looks)

    def __call__(self) -> Seen:
        return {Path(name): (1, 1, 1) for name in self.looks.pop(0)}


def test_a_change_is_told_once_it_holds_still_and_once_alone() -> None:
    watch = Watch(Looks("a", "a", "ab", "abc", "abc", "abc"))
    told = ["".join(sorted(str(path) for path in watch.changed())) for _ in range(5)]
    assert told == ["", "", "", "bc", ""]


def test_what_comes_and_goes_is_no_change() -> None:
    watch = Watch(Looks("a", "ab", "a", "a"))
    assert not any(watch.changed() for _ in range(3))


def test_a_file_that_goes_is_a_change() -> None:
    watch = Watch(Looks("ab", "a", "a"))
    assert [watch.changed(), watch.changed()] == [frozenset(), {Path("b")}]
