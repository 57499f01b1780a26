"""Providers of models by name. A new one is a file here and a line in registry.py."""

from lakeflow.models.providers.registry import PROVIDERS, provider_type, registered

__all__ = ["PROVIDERS", "provider_type", "registered"]
