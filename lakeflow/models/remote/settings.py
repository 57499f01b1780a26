"""The options that every remote provider has, read into values. Names with dashes mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Price

REMOTE_OPTIONS = (
    "max_concurrent_operations",
    "timeout",
    "request_timeout",
    "retry_num",
    "retry_after_cap",
    "requests_per_minute",
    "tokens_per_minute",
    "circuit_breaker_failures",
    "circuit_breaker_pause",
    "on_error",
    "error_columns",
    "cache",
    "null_policy",
    "price_input",
    "price_output",
)

LATER_ON_ERROR = {
    "skip": "a model adds columns to rows and cannot drop one",
    "dead_letter": "a model adds columns to rows and cannot move one elsewhere",
}


class OnError(StrEnum):
    """What becomes of a row that has no answer after all retries."""

    FAIL = "fail"
    IGNORE = "ignore"


class NullPolicy(StrEnum):
    """What becomes of a row with a null or NaN in a column that its question holds."""

    NULL = "null"
    ERROR = "error"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """How a service is asked. Seconds throughout; `timeout` spans retries, `request_timeout` is that of one request."""

    concurrency: int = 10
    timeout: float = 180.0
    request_timeout: float = 60.0
    retries: int = 10
    retry_after_cap: float = 60.0
    requests_a_minute: int | None = None
    tokens_a_minute: int | None = None
    breaker_failures: int = 50
    breaker_pause: float = 10.0
    on_error: OnError = OnError.FAIL
    error_columns: bool = False
    cache: bool = True
    null_policy: NullPolicy = NullPolicy.NULL
    price: Price | None = None


def read_remote(spec: ModelSpec) -> RemoteSettings:
    """The settings in a spec's options. Raises DeclarationError."""
    plain = RemoteSettings()
    return RemoteSettings(
        concurrency=options.whole_number(spec, "max_concurrent_operations", plain.concurrency),
        timeout=options.seconds(spec, "timeout", plain.timeout),
        request_timeout=options.seconds(spec, "request_timeout", plain.request_timeout),
        retries=options.whole_number(spec, "retry_num", plain.retries, least=0),
        retry_after_cap=options.seconds(spec, "retry_after_cap", plain.retry_after_cap),
        requests_a_minute=options.whole_number(spec, "requests_per_minute", 0) or None,
        tokens_a_minute=options.whole_number(spec, "tokens_per_minute", 0) or None,
        breaker_failures=options.whole_number(spec, "circuit_breaker_failures", plain.breaker_failures),
        breaker_pause=options.seconds(spec, "circuit_breaker_pause", plain.breaker_pause),
        on_error=_on_error(spec),
        error_columns=_error_columns(spec),
        cache=_switch(spec, "cache", default=plain.cache),
        null_policy=options.choice(spec, "null_policy", NullPolicy) or plain.null_policy,
        price=_price(spec),
    )


def _on_error(spec: ModelSpec) -> OnError:
    text = spec.options.get("on_error", "")
    if reason := LATER_ON_ERROR.get(text.lower()):
        raise DeclarationError(
            f"{spec.label}: option 'on_error' = {text!r} is not possible: {reason}; valid: fail, ignore",
            next_step="say 'on_error' = 'ignore' and 'error_columns' = 'true', and filter on error_kind in the job",
        )
    return options.choice(spec, "on_error", OnError) or OnError.FAIL


def _error_columns(spec: ModelSpec) -> bool:
    wanted = options.truth(spec, "error_columns") or False
    if wanted and _on_error(spec) is OnError.FAIL:
        raise DeclarationError(
            f"{spec.label}: 'error_columns' = 'true' needs 'on_error' = 'ignore'; with 'fail' no row with an error is left"
        )
    return wanted


def _switch(spec: ModelSpec, name: str, *, default: bool) -> bool:
    text = spec.options.get(name)
    if text is None:
        return default
    if text.lower() not in ("on", "off"):
        raise DeclarationError(f"{spec.label}: option '{name}' is {text!r}; valid: on, off")
    return text.lower() == "on"


def _price(spec: ModelSpec) -> Price | None:
    """Of a million tokens. Where only that of input is given, as for embeddings, output is free."""
    if "price_input" not in spec.options and "price_output" not in spec.options:
        return None
    return Price(
        options.fraction(spec, "price_input", least=0.0) or 0.0, options.fraction(spec, "price_output", least=0.0) or 0.0
    )
