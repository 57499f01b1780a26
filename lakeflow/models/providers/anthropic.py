"""Provider anthropic: the Messages API of Anthropic, or of any service that speaks it.

The options stand in anthropic_settings.py, what is said in anthropic_messages.py, errors in anthropic_errors.py. Source:
Anthropic's API reference, "Messages", "Errors" and "Rate limits".
"""

from __future__ import annotations

from lakeflow.models.providers.anthropic_messages import AnthropicMessages
from lakeflow.models.providers.anthropic_settings import read_anthropic
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec


class AnthropicProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        settings = read_anthropic(spec, answer_columns(spec, remote))
        super().__init__(spec, remote, AnthropicMessages(settings), settings.prompt)
