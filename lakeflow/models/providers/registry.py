"""The list of providers: a new one is one file beside this and one line below."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from lakeflow.errors import Terminal, UnknownName

if TYPE_CHECKING:
    from lakeflow.models.providers.base import Provider

PROVIDERS = (
    ("onnx", "lakeflow.models.providers.onnx:OnnxProvider"),
    ("local", "lakeflow.models.providers.onnx:OnnxProvider"),
    ("python", "lakeflow.models.providers.python:PythonProvider"),
    ("openai", "lakeflow.models.providers.openai:OpenAIProvider"),
    ("anthropic", "lakeflow.models.providers.anthropic:AnthropicProvider"),
    ("googleai", "lakeflow.models.providers.googleai:GoogleAIProvider"),
    ("vertex", "lakeflow.models.providers.vertex:VertexProvider"),
    ("azure_openai", "lakeflow.models.providers.azure_openai:AzureOpenAIProvider"),
    ("bedrock", "lakeflow.models.providers.bedrock:BedrockProvider"),
    ("sagemaker", "lakeflow.models.providers.sagemaker:SageMakerProvider"),
    ("azureml", "lakeflow.models.providers.azureml:AzureMLProvider"),
    ("triton", "lakeflow.models.providers.triton:TritonProvider"),
)


def registered(entries: Iterable[tuple[str, str]] = PROVIDERS) -> Mapping[str, str]:
    """Provider name -> `module:class`. Raises Terminal where a name stands there twice."""
    known: dict[str, str] = {}
    for name, place in entries:
        if name in known:
            raise Terminal(f"provider {name!r} is registered twice: {known[name]} and {place}")
        known[name] = place
    return known


def provider_type(name: str, label: str) -> type[Provider]:
    """The class of a provider; it is imported here and not before. Raises UnknownName."""
    known = registered()
    if name not in known:
        raise UnknownName(f"provider of {label}", name, known)
    module, _, attribute = known[name].partition(":")
    return cast("type[Provider]", getattr(importlib.import_module(module), attribute))
