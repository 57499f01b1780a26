"""The options of provider python that are not its class's own. Nothing is imported here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.remote.settings import NullPolicy
from lakeflow.models.spec import ModelSpec

OWN_OPTIONS = ("class", "batch_size", "null_policy", *options.FAILING_OPTIONS)
ROWS = 10_000
_PLACE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
_ENTRY = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class PythonSettings:
    """`module` is one of the project's, in dots, and `name` a class in it; without a module `name` is an entry point."""

    module: str | None
    name: str
    batch_size: int
    null_policy: NullPolicy


def read_settings(spec: ModelSpec) -> PythonSettings:
    """The settings in a spec's options. Raises DeclarationError; options of the class are judged when it is there."""
    text = options.required(spec, "class")
    place = _PLACE.fullmatch(text)
    if place is None and not _ENTRY.fullmatch(text):
        raise DeclarationError(
            f"{spec.label}: option 'class' is {text!r}; valid: 'models.risk:Risk' for the class Risk in models/risk.py of the "
            "project, or the name of an entry point in the group lakeflow.models"
        )
    return PythonSettings(
        module=place[1] if place else None,
        name=place[2] if place else text,
        batch_size=options.whole_number(spec, "batch_size", ROWS),
        null_policy=options.choice(spec, "null_policy", NullPolicy) or NullPolicy.NULL,
    )
