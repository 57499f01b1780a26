"""Tokens of texts, as the tokenizer of a model makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from lakeflow.errors import ModelError
from lakeflow.models.registry import Model


@runtime_checkable
class Tokenizing(Protocol):
    """A provider that shows where the tokens of a text begin."""

    def token_starts(self, text: str) -> Sequence[int] | None:
        """The places of the text's tokens, in characters, ascending; those that the model itself adds are left out.

        Of a text of any length, in memory for a part of it at a time beside the places. None where the model takes no texts.
        """
        ...


def require_tokens(model: Model) -> Callable[[str], Sequence[int]]:
    """Where tokens begin. Raises ModelError for a model that does not show them, such as one that is asked over a network."""
    provider = model.provider
    if isinstance(provider, Tokenizing) and provider.token_starts("") is not None:
        return lambda text: provider.token_starts(text) or ()
    raise ModelError(
        f"{model.spec.label} does not show its tokens; sizes in tokens are for text models of the provider 'onnx'",
        next_step="say unit='characters'; a token of English has four characters on average",
    )
