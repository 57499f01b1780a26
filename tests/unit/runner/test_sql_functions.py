from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import ModelError, UnknownName, UsageError
from lakeflow.models.answering import Answers, Leniency
from lakeflow.models.failing import Failed
from lakeflow.models.lost import LostRow
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.dialect import ErrorKind
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.sql_functions import functions_for, threads_for
from lakeflow.sql.compiled import Call, Compiled, PredictCall, PureCall, SearchCall, Signature
from lakeflow.testing.provider import EchoProvider

SPEC = ModelSpec(
    "double",
    "fake",
    Task.REGRESSION,
    pa.schema([("n", pa.int64()), ("x", pa.float64())]),
    pa.schema([("twice", pa.int64()), ("note", pa.string())]),
)


class Doubling:
    """Doubles n; no answer where it is negative. `asked` holds the rows of each call, of all providers."""

    asked: list[list[dict[str, Any]]]
    opened: list[ModelSpec]
    closed: int

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in self.spec.options.items() if name == "temperature"}

    def check(self) -> None:
        Doubling.opened.append(self.spec)

    def close(self) -> None:
        Doubling.closed += 1

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return self.tell(rows, Leniency()).rows

    def tell(self, rows: pa.RecordBatch, leniency: Leniency) -> Answers:
        Doubling.asked.append(rows.to_pylist())
        numbers = rows.column("n").to_pylist()
        failed = {place: Failed(ErrorKind.REFUSED, f"no {n}") for place, n in enumerate(numbers) if n is not None and n < 0}
        if failed and leniency.strict:
            raise ModelError("a row was refused")
        twice = [None if n is None or n < 0 else 2 * n for n in numbers]
        notes = [None if n is None else f"n is {n}" for n in twice]
        return Answers(pa.RecordBatch.from_pydict({"twice": twice, "note": notes}, schema=self.spec.output), failed)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Doubling.asked, Doubling.opened, Doubling.closed = [], [], 0


@dataclass
class Kept:
    """Where rows are left: some may be letters of an earlier try already."""

    before: int = 0
    letters: list[LostRow] = field(default_factory=list)
    skipped: int = 0

    @property
    def holds(self) -> bool:
        return self.before > 0

    def held(self, keys: Sequence[bytes]) -> Sequence[bool]:
        return [place < self.before for place in range(len(keys))]

    def skip(self, rows: int) -> None:
        self.skipped += rows

    def keep(self, rows: Sequence[LostRow]) -> None:
        self.letters.extend(rows)


def models(**options: str) -> ModelSet:
    return ModelSet([replace(SPEC, options=options)], Doubling)


def compiled(*calls: Call) -> Compiled:
    return Compiled("", "", (), calls)


def predict(model: ModelSpec = SPEC, **config: str) -> PredictCall:
    return PredictCall("ai_0", Signature(model.name, str(model.task), model.input, model.output), config)


def answers(models: ModelSet, numbers: Sequence[int | None], lost: Kept | None = None, **config: str) -> list[Any]:
    [function] = functions_for(compiled(predict(SPEC, **config)), models, lost=lost)
    rows = pa.record_batch({"a": pa.array(numbers, pa.int64()), "b": pa.array([0.5] * len(numbers))})
    found = function.call(rows)
    assert (function.name, found.type) == ("ai_0", function.result)
    listed: list[Any] = found.to_pylist()
    return listed


def test_arguments_fill_input_by_position_and_answers_are_structs() -> None:
    assert answers(models(), [3, None]) == [{"twice": 6, "note": "n is 6"}, {"twice": None, "note": None}]
    assert Doubling.asked == [[{"n": 3, "x": 0.5}, {"n": None, "x": 0.5}]]


def test_arguments_are_cast_as_ml_predict_casts_them() -> None:
    [function] = functions_for(compiled(predict()), models())
    assert function.parameters == (pa.int64(), pa.float64())
    rows = pa.record_batch({"a": pa.array([3], pa.int8()), "b": pa.array([1], pa.int32())})
    assert function.call(rows).to_pylist() == [{"twice": 6, "note": "n is 6"}]


def test_models_are_opened_before_a_row_is_read() -> None:
    functions_for(compiled(predict()), models())
    assert (len(Doubling.opened), Doubling.asked) == (1, [])
    with pytest.raises(UnknownName, match="unknown model 'other'"):
        functions_for(compiled(predict(replace(SPEC, name="other"))), models())


def test_no_rows_have_no_answers() -> None:
    assert answers(models(), []) == []


class TestRowsWithoutAnswer:
    def test_they_fail_the_query_by_default(self) -> None:
        with pytest.raises(ModelError, match="a row was refused"):
            answers(models(), [1, -1])

    def test_ignored_they_have_nulls_in_a_struct(self) -> None:
        assert answers(models(on_error="ignore"), [1, -1]) == [
            {"twice": 2, "note": "n is 2"},
            {"twice": None, "note": None},
        ]

    def test_skipped_they_have_null_in_place_of_a_struct_and_are_counted(self) -> None:
        lost = Kept()
        assert answers(models(on_error="skip"), [-1, 1, -2], lost) == [None, {"twice": 2, "note": "n is 2"}, None]
        assert (lost.skipped, lost.letters) == (2, [])

    def test_dead_letters_are_kept(self) -> None:
        lost = Kept()
        assert answers(models(on_error="dead_letter"), [1, -1], lost) == [{"twice": 2, "note": "n is 2"}, None]
        assert [(one.model, one.input, one.why.message) for one in lost.letters] == [
            ("double", b'{"n": -1, "x": 0.5}', "no -1")
        ]

    def test_dead_letters_of_an_earlier_try_are_not_asked_again(self) -> None:
        lost = Kept(before=2)
        assert answers(models(on_error="dead_letter"), [-1, 1, 2, -3], lost) == [
            None,
            None,
            {"twice": 4, "note": "n is 4"},
            None,
        ]
        assert [row["n"] for row in Doubling.asked[-1]] == [2, -3]
        assert len(lost.letters) == 1

    def test_a_query_outside_of_a_job_has_no_place_for_dead_letters(self) -> None:
        with pytest.raises(UsageError, match="keeps rows of jobs only"):
            answers(models(on_error="dead_letter"), [-1])


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "options"),
        [
            ({"max-concurrent-operations": "4", "TIMEOUT": "100s"}, {"max_concurrent_operations": "4", "timeout": "100s"}),
            ({"async": "false", "output-mode": "ORDERED"}, {"async": "false", "output_mode": "ORDERED"}),
            ({"async_enabled": "true", "max_parallelism": "3"}, {"async": "true", "max_concurrent_operations": "3"}),
            ({"client_timeout": "30", "retry_count": "2"}, {"timeout": "30s", "retry_num": "2"}),
        ],
    )
    def test_settings_are_the_models_options_for_this_call(self, config: dict[str, str], options: dict[str, str]) -> None:
        opened = models(temperature="0")
        assert answers(opened, [1], None, **config) == [{"twice": 2, "note": "n is 2"}]
        assert dict(Doubling.opened[-1].options) == {"temperature": "0", **options}
        assert dict(opened.get("double").spec.options) == {"temperature": "0"}

    def test_calls_with_equal_settings_share_a_provider_and_all_are_closed(self) -> None:
        with models() as opened:
            for setting in ("3", "3", "4"):
                answers(opened, [1], max_parallelism=setting)
            assert len(Doubling.opened) == 3, "the model as it is declared, and one for each of two settings"
        assert Doubling.closed == 3

    def test_answers_are_counted_under_the_models_name(self) -> None:
        opened = models()
        answers(opened, [1, 2], max_parallelism="3")
        assert [(name, of.rows) for name, of in opened.usage.by_model().items()] == [("double", 2)]

    def test_an_option_that_decides_answers_is_not_one_of_a_call(self) -> None:
        with pytest.raises(UsageError, match="temperature changes its answers, which only its declaration may"):
            models().configured("double", {"temperature": "1"})


def test_a_setting_that_a_provider_does_not_have_is_refused_by_name() -> None:
    onnx = replace(SPEC, provider="onnx", options={"model_path": "missing.onnx"})

    class Opened(EchoProvider):
        def __init__(self, spec: ModelSpec) -> None:
            if "timeout" in spec.options:
                raise UnknownName("option of provider onnx", "timeout", ["model_path"])
            super().__init__(spec)

    with pytest.raises(UsageError, match="CONFIG for model 'double' does not go with it: unknown option of provider onnx"):
        functions_for(compiled(predict(timeout="1s")), ModelSet([onnx], Opened))


def test_pure_functions_stand_behind_their_calls() -> None:
    call = PureCall("ai_0", "ML_NGRAMS", (pa.list_(pa.string()),), pa.list_(pa.string()))
    [function] = functions_for(compiled(call), models())
    rows = pa.record_batch({"c0": pa.array([["a", "b", "c"]])})
    assert function.call(rows).to_pylist() == [["a b", "b c"]]


def test_a_search_needs_a_lake() -> None:
    call = SearchCall("ai_0", "gold.docs", "vector", 3, pa.schema([("id", pa.int64())]), pa.list_(pa.float32()))
    with pytest.raises(UsageError, match=r"VECTOR_SEARCH over gold.docs has no lake to search in"):
        functions_for(compiled(call), models())


def test_functions_stand_in_the_order_of_their_calls() -> None:
    pure = PureCall("ai_1", "ML_NGRAMS", (pa.list_(pa.string()),), pa.list_(pa.string()))
    assert [one.name for one in functions_for(compiled(predict(), pure), models())] == ["ai_0", "ai_1"]


def test_a_query_that_waits_for_a_service_has_more_threads() -> None:
    remote = replace(
        SPEC,
        provider="openai",
        task=Task.TEXT_GENERATION,
        input=pa.schema([("text", pa.string())]),
        output=pa.schema([("answer", pa.string())]),
        options={"endpoint": "http://127.0.0.1:1/v1", "model": "m", "api_key": "k", "prompt": "{text}"},
    )
    with ModelSet([remote]) as opened:
        assert threads_for(compiled(predict(remote)), opened, 2) == 8
        assert threads_for(compiled(predict(remote)), opened, 12) == 12
    assert threads_for(compiled(predict()), models(), 2) == 2
