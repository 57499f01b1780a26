"""The options that every remote provider has, read into values. Names with dashes mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.failing import never_retries
from lakeflow.models.spec import ModelSpec
from lakeflow.models.usage import Price

REMOTE_OPTIONS = (
    "async",
    "max_concurrent_operations",
    "output_mode",
    "timeout",
    "request_timeout",
    "retry_num",
    "retry_after_cap",
    "requests_per_minute",
    "tokens_per_minute",
    "circuit_breaker_failures",
    "circuit_breaker_pause",
    "cache",
    "null_policy",
    "price_input",
    "price_output",
)


class OutputMode(StrEnum):
    """Flink's 'output-mode'. Rows come in their order with both: a batch is written as a whole, so order costs nothing."""

    ORDERED = "ordered"
    ALLOW_UNORDERED = "allow_unordered"


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
    cache: bool = True
    null_policy: NullPolicy = NullPolicy.NULL
    price: Price | None = None


def read_remote(spec: ModelSpec) -> RemoteSettings:
    """The settings in a spec's options. Raises DeclarationError."""
    plain = RemoteSettings()
    options.choice(spec, "output_mode", OutputMode)
    return RemoteSettings(
        concurrency=_concurrency(spec, plain.concurrency),
        timeout=options.seconds(spec, "timeout", plain.timeout),
        request_timeout=options.seconds(spec, "request_timeout", plain.request_timeout),
        retries=0 if never_retries(spec) else options.whole_number(spec, "retry_num", plain.retries, least=0),
        retry_after_cap=options.seconds(spec, "retry_after_cap", plain.retry_after_cap),
        requests_a_minute=options.whole_number(spec, "requests_per_minute", 0) or None,
        tokens_a_minute=options.whole_number(spec, "tokens_per_minute", 0) or None,
        breaker_failures=options.whole_number(spec, "circuit_breaker_failures", plain.breaker_failures),
        breaker_pause=options.seconds(spec, "circuit_breaker_pause", plain.breaker_pause),
        cache=_switch(spec, "cache", default=plain.cache),
        null_policy=options.choice(spec, "null_policy", NullPolicy) or plain.null_policy,
        price=_price(spec),
    )


def _concurrency(spec: ModelSpec, plain: int) -> int:
    """Flink's 'async' = 'false' is one request at a time."""
    at_once = options.whole_number(spec, "max_concurrent_operations", plain)
    if options.truth(spec, "async") is not False:
        return at_once
    if "max_concurrent_operations" in spec.options and at_once > 1:
        raise DeclarationError(
            f"{spec.label}: 'async' = 'false' is one request at a time, and 'max_concurrent_operations' = '{at_once}' more; "
            "give one of them"
        )
    return 1


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
