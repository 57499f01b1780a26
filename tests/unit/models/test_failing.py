"""What becomes of a row without an answer: the options, what stands in, and who is asked what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, LakeflowError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.failing import Failed, OnError, error_of, read_failing, with_told
from lakeflow.models.providers.base import Provider
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.dialect import ErrorKind
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec, Task
from tests.failing import Failing, Strict, spec_of


def always(x: float) -> bool:
    return True


def never(x: float) -> bool:
    return False


@contextmanager
def opened(*providers: tuple[ModelSpec, Provider]) -> Iterator[ModelSet]:
    by_name = {spec.name: provider for spec, provider in providers}
    with ModelSet([spec for spec, _ in providers], lambda spec: by_name[spec.name]) as models:
        yield models


def ask(models: ModelSet, *values: float) -> list[object]:
    model = models.get("m")
    answers = model.predict(pa.RecordBatch.from_pydict({"x": values}, schema=model.spec.input))
    assert answers.schema.equals(model.spec.output)
    return [tuple(row.values()) if len(row) > 1 else row["y"] for row in answers.to_pylist()]


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "meant", "retries"),
        [
            ({}, OnError.FAIL, 10),
            ({"on_error": "SKIP"}, OnError.SKIP, 10),
            ({"error_handling_strategy": "RETRY"}, OnError.FAIL, 10),
            ({"error_handling_strategy": "RETRY", "retry_fallback_strategy": "IGNORE", "retry_num": "3"}, OnError.IGNORE, 3),
            ({"retry_fallback_strategy": "ignore"}, OnError.IGNORE, 10),
            ({"error_handling_strategy": "FAILOVER"}, OnError.FAIL, 0),
            ({"error_handling_strategy": "IGNORE"}, OnError.IGNORE, 0),
            ({"error_handling_strategy": "ignore", "on_error": "ignore"}, OnError.IGNORE, 0),
        ],
    )
    def test_flinks_names_mean_one_thing_each(self, options: dict[str, str], meant: OnError, retries: int) -> None:
        spec = spec_of(**options)
        assert read_failing(spec).on_error is meant
        assert read_remote(spec).retries == retries

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"on_error": "skip", "error_handling_strategy": "ignore"}, "which means 'ignore', contradict each other"),
            ({"on_error": "fail", "retry_fallback_strategy": "ignore"}, "contradict each other"),
            ({"error_handling_strategy": "failover", "retry_fallback_strategy": "ignore"}, "makes none"),
            ({"error_handling_strategy": "failover", "retry_num": "3"}, "leave out 'retry_num'"),
            ({"on_error": "dead_leter"}, "did you mean 'dead_letter'"),
            ({"on_error": "skip", "error_columns": "true"}, "needs 'on_error' = 'ignore'"),
            ({"default_value": "{}"}, "'default_value' does not fit OUTPUT (y double)"),
            ({"default_value": "late"}, "'y' is 'late', which is no double"),
            ({"default_value": '{"z": 1}'}, "does not fit OUTPUT"),
            ({"async": "false", "max_concurrent_operations": "5"}, "one request at a time"),
            ({"async": "maybe"}, "valid: true, false"),
            ({"output_mode": "unordered"}, "did you mean 'ordered'"),
        ],
    )
    def test_contradictions_and_slips_are_refused(self, options: dict[str, str], said: str) -> None:
        def read() -> None:
            read_failing(spec_of(**options))
            read_remote(spec_of(**options))

        with pytest.raises(DeclarationError) as caught:
            read()
        assert said in str(caught.value)

    def test_flinks_defaults_hold(self) -> None:
        plain = read_remote(spec_of())
        assert (plain.concurrency, plain.timeout) == (10, 180.0)
        assert read_remote(spec_of(**{"async": "false"})).concurrency == 1
        assert read_remote(spec_of(output_mode="ALLOW_UNORDERED")) == plain

    @pytest.mark.parametrize(
        ("text", "kind", "default"),
        [
            ("0.5", pa.float64(), (0.5,)),
            ('{"y": 1.5}', pa.float64(), (1.5,)),
            ("null", pa.float64(), (None,)),
            ("unknown", pa.string(), ("unknown",)),
            ('"unknown"', pa.string(), ("unknown",)),
            ("7", pa.string(), ("7",)),
            ("[1.0, 2.0]", pa.list_(pa.float32()), ([1.0, 2.0],)),
        ],
    )
    def test_a_default_is_a_bare_value_or_an_object(self, text: str, kind: pa.DataType, default: tuple[object, ...]) -> None:
        spec = ModelSpec("m", "fake", Task.REGRESSION, spec_of().input, pa.schema([("y", kind)]), {"default_value": text})
        assert read_failing(spec).default == default

    def test_columns_that_tell_are_no_part_of_what_is_asked(self) -> None:
        columns = [
            ("y", pa.float64()),
            ("error-string", pa.string()),
            ("http_status_code", pa.int32()),
            ("http-headers-map", pa.map_(pa.string(), pa.list_(pa.string()))),
        ]
        given: Mapping[str, str] = {"on_error": "ignore", "answered_by": "true", "error_columns": "true"}
        spec = ModelSpec("m", "fake", Task.REGRESSION, spec_of().input, with_told(pa.schema(columns), given), given)
        assert spec.output.names[4:] == ["error_kind", "error_message", "answered_by"]
        assert set(read_failing(spec).told) == set(spec.output.names[1:])
        failing = ModelSpec("m", "fake", Task.REGRESSION, spec.input, pa.schema(columns), {})
        assert not read_failing(failing).told, "with 'fail' these are columns like any other"
        wrong = ModelSpec(
            "m", "fake", Task.REGRESSION, spec.input, pa.schema([*columns[:1], ("error_string", pa.int32())]), given
        )
        with pytest.raises(DeclarationError, match="tells of errors, so it is string, not int32"):
            read_failing(wrong)

    @pytest.mark.parametrize("kind", list(ErrorKind))
    def test_each_kind_has_an_error_that_says_how_to_go_on(self, kind: ErrorKind) -> None:
        error = error_of("model 'm'", Failed(kind, "so"))
        assert isinstance(error, ProviderUnavailable if kind.retryable and kind is not ErrorKind.BROKEN_ANSWER else ModelError)
        assert error.message == f"model 'm': {kind}: so"
        assert error.next_step


class TestStandIns:
    def test_another_model_answers_what_this_one_leaves_open(self) -> None:
        big, small = spec_of(fallback_model="small"), spec_of("small")
        main, other = Failing(big, lambda x: x > 2), Failing(small, never, factor=-1.0)
        with opened((big, main), (small, other)) as models:
            assert ask(models, 1, 3, 2, 4) == [2.0, -3.0, 4.0, -4.0]
            assert other.asked == {3.0: 1, 4.0: 1}
            usage = models.usage.by_model()
            assert (usage["m"].rows, usage["small"].rows) == (4, 2), "each is counted under its own name"

    def test_they_form_a_chain_that_ends_in_a_default(self) -> None:
        specs = [spec_of(fallback_model="b"), spec_of("b", fallback_model="c"), spec_of("c", default_value="0")]
        fails = [always, lambda x: x > 1, lambda x: x > 2]
        told = [(spec, Failing(spec, fail, factor=10.0**n)) for n, (spec, fail) in enumerate(zip(specs, fails, strict=True))]
        with opened(*told) as models:
            assert ask(models, 1, 2, 3) == [10.0, 200.0, 0.0]

    def test_who_answered_is_told_on_request(self) -> None:
        given = {"fallback_model": "b", "default_value": "null", "answered_by": "true"}
        plain = spec_of()
        main = ModelSpec("m", "fake", plain.task, plain.input, with_told(plain.output, given), given)
        other = spec_of("b")
        with opened((main, Failing(plain, lambda x: x > 1)), (other, Failing(other, lambda x: x > 2))) as models:
            assert ask(models, 1, 2, 3) == [(2.0, "m"), (4.0, "b"), (None, "default_value")]

    def test_the_first_models_on_error_says_what_becomes_of_the_rest(self) -> None:
        other = spec_of("b")
        for on_error in OnError:
            main = spec_of(fallback_model="b", on_error=str(on_error))
            with opened((main, Failing(main, lambda x: x > 1)), (other, Strict(other, lambda x: x > 2))) as models:
                if on_error is OnError.FAIL:
                    with pytest.raises(ModelError, match="row 1 does not fit"):
                        ask(models, 1, 2, 3)
                    continue
                assert ask(models, 1, 2, 3) == [2.0, 4.0, None]
                batch = pa.RecordBatch.from_pydict({"x": [1.0, 3.0]}, schema=main.input)
                [(place, failed)] = models.get("m").answer(batch).failed.items()
                assert (place, failed.message) == (1, "no 3.0; in its place: row 0 does not fit the graph")

    def test_a_fallback_is_opened_with_the_model_so_that_its_slips_are_found_before_a_row_is(self) -> None:
        def refused(*specs: ModelSpec) -> LakeflowError:
            with opened(*((spec, Failing(spec, never)) for spec in specs)) as models, pytest.raises(LakeflowError) as caught:
                models.get("m")
            return caught.value

        assert isinstance(refused(spec_of(fallback_model="smal"), spec_of("small")), UnknownName)
        said = refused(spec_of(fallback_model="b"), spec_of("b", fallback_model="c"), spec_of("c", fallback_model="b"))
        assert "b -> c -> b" in str(said)
        assert "m -> m" in str(refused(spec_of(fallback_model="m")))
        wide = ModelSpec("b", "fake", Task.REGRESSION, spec_of().input, pa.schema([("y", pa.float32())]))
        assert "another OUTPUT: y float; this one has y double" in str(refused(spec_of(fallback_model="b"), wide))


class TestHalves:
    def test_rows_that_fail_are_found_among_those_that_do_not(self) -> None:
        spec = spec_of(on_error="ignore")
        model = Strict(spec, lambda x: x in (3, 4, 900))
        with opened((spec, model)) as models:
            answers = ask(models, *range(1000))
        assert answers == [None if x in (3, 4, 900) else 2.0 * x for x in range(1000)]
        assert model.calls < 60

    def test_one_row_that_fails_every_call_and_none_at_all(self) -> None:
        spec = spec_of(on_error="ignore")
        with opened((spec, Strict(spec, always))) as models:
            assert ask(models, 1) == [None]
            assert ask(models) == []
            assert ask(models, 1, 2, 3) == [None, None, None]

    def test_fail_asks_no_halves(self) -> None:
        spec = spec_of()
        model = Strict(spec, always)
        with opened((spec, model)) as models, pytest.raises(ModelError, match="row 0 does not fit"):
            ask(models, 1, 2, 3)
        assert model.calls == 1

    def test_an_output_that_cannot_be_null_is_no_place_for_a_row_without_an_answer(self) -> None:
        output = pa.schema([pa.field("y", pa.float64(), nullable=False)])
        spec = ModelSpec("m", "fake", Task.REGRESSION, spec_of().input, output, {"on_error": "ignore"})
        with opened((spec, Failing(spec, lambda x: x > 1))) as models, pytest.raises(ModelError, match="NOT NULL, and 1 rows"):
            ask(models, 1, 2)
