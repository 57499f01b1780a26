"""What the tests of providers have in common: the server in front of their `service`, and models that are closed in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.http import Handler, Server
from tests.unit.models.remote.asking import close_all


@pytest.fixture
def server(service: Handler) -> Iterator[Server]:
    """In front of the fixture `service` of the module that asks for it."""
    with Server(service) as server:
        yield server


@pytest.fixture(autouse=True)
def _models_are_closed() -> Iterator[None]:
    yield
    close_all()
