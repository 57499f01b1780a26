"""What [models] of lakeflow.toml means for remote models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from lakeflow.config import CONFIG_FILE, ModelSettings
from lakeflow.errors import ConfigError
from lakeflow.models.cache import KeptAnswers, SqliteAnswers
from lakeflow.models.postgres_cache import PostgresAnswers, is_postgres
from lakeflow.models.usage import Budget, Price
from lakeflow.postgres import read_place

JOURNALS = ("wal", "delete")


def budget_of(settings: ModelSettings) -> Budget:
    """What a run may take at the most."""
    return Budget(settings.max_calls, settings.max_tokens, settings.max_cost)


def prices_of(settings: ModelSettings, root: Path) -> Mapping[str, Price]:
    """Prices by model. Raises ConfigError for what is no price."""
    found: dict[str, dict[str, float]] = {}
    for key, text in settings.prices.items():
        model, _, part = key.rpartition(".")
        price = _number(text)
        if not model or part not in ("input", "output") or price is None:
            raise ConfigError(
                f"{root / CONFIG_FILE}: {key} in [models.prices] is {text!r}; valid: NAME.input, NAME.output, numbers",
                next_step='write "NAME" = { input = 0.4, output = 1.6 }, what a million tokens cost',
            )
        found.setdefault(model, {})[part] = price
    return {model: Price(parts.get("input", 0.0), parts.get("output", 0.0)) for model, parts in found.items()}


def answers_of(settings: ModelSettings, root: Path) -> KeptAnswers:
    """The cache of answers, not opened yet. Raises ConfigError for a place or a journal that cannot be meant."""
    days = settings.cache_days or None
    if is_postgres(settings.cache):
        return PostgresAnswers(read_place(settings.cache), days=days, most_bytes=settings.cache_bytes)
    if "://" in settings.cache:
        scheme = settings.cache.partition("://")[0]
        raise ConfigError(
            f"{root / CONFIG_FILE}: cache in [models] is an address of kind {scheme!r}; "
            "valid: the path of a file, postgresql://USER:{{ secret.NAME }}@HOST/DATABASE"
        )
    if settings.cache_journal not in JOURNALS:
        raise ConfigError(
            f"{root / CONFIG_FILE}: cache_journal in [models] is {settings.cache_journal!r}; valid: {', '.join(JOURNALS)}"
        )
    return SqliteAnswers(Path(settings.cache), days=days, most_bytes=settings.cache_bytes, journal=settings.cache_journal)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
