"""Where an Azure OpenAI model is asked, and as whom: its two kinds of addresses, of which 'endpoint' may give any part.

Dated: https://HOST/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21 (responses without a deployment).
v1: https://HOST/openai/v1/chat/completions, with the deployment as the model of each request.
Source: Azure's REST reference of OpenAI, and "API version lifecycle".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.providers.openai_settings import (
    PATHS,
    RESPONSES_PATH,
    ChatSettings,
    EmbeddingSettings,
    Place,
    credential,
    path_of,
    read_address,
    read_settings,
    refuse_others,
)
from lakeflow.models.spec import ModelSpec

PLACE_OPTIONS = ("endpoint", "deployment", "model", "api_version", "api_key", "azure_ad_token")
FIRST_RESPONSES = "2025-03-01-preview"
"""The first dated version that has the Responses API."""

_PATH = re.compile(
    r"(?P<before>.*?)(?:/openai(?:/(?P<v1>v1)|/deployments/(?P<deployment>[^/]+))?(?:/chat/completions|/responses|/embeddings)?)?"
)
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_V1_VERSIONS = ("v1", "preview", "latest")


@dataclass(frozen=True, slots=True)
class _Address:
    """What an endpoint says: `base` is all before /openai; `version` is that of the option or the query."""

    base: str
    v1: bool
    deployment: str
    version: str


def read_azure(spec: ModelSpec, columns: Sequence[pa.Field]) -> ChatSettings | EmbeddingSettings:
    """The settings in a spec's options; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    refuse_others(spec, PLACE_OPTIONS)
    written = read_address(spec)
    path = path_of(spec, written)
    address = _read(spec, written)
    deployment = _deployment(spec, address.deployment)
    version = f"?api-version={quote(address.version)}" if address.version else ""
    names_model = address.v1 or path == RESPONSES_PATH
    if address.v1:
        url = f"{address.base}/openai/v1{path}{version}"
    elif path == RESPONSES_PATH:
        _require_responses(spec, address.version)
        url = f"{address.base}/openai{path}{version}"
    else:
        url = f"{address.base}/openai/deployments/{quote(deployment, safe='')}{path}{version}"
    secret, header = _credential(spec)
    return read_settings(spec, columns, Place(url, deployment, secret, header, names_model), path)


def _read(spec: ModelSpec, written: SplitResult) -> _Address:
    found = _PATH.fullmatch(written.path)
    assert found is not None, "every path fits: what is before /openai may be anything"
    if any(found["before"].endswith(path) for path in PATHS):
        raise DeclarationError(
            f"{spec.label}: option 'endpoint' is no address of Azure OpenAI: there is no /openai in its path {written.path!r}",
            next_step="write https://NAME.openai.azure.com alone, or ask another service by provider 'openai'",
        )
    version = _version(spec, written)
    dated = _DATED.fullmatch(version) is not None
    if version and not dated and version not in _V1_VERSIONS:
        raise DeclarationError(
            f"{spec.label}: option 'api_version' is {version!r}; valid: a date as '2024-10-21' or '{FIRST_RESPONSES}', "
            f"or for v1 {', '.join(_V1_VERSIONS)}, or nothing"
        )
    if found["v1"] and dated:
        raise DeclarationError(f"{spec.label}: 'endpoint' is one of v1, which takes no dated 'api_version' as {version!r}")
    if found["deployment"] and not dated:
        raise DeclarationError(
            f"{spec.label}: 'endpoint' names a deployment, and addresses of that kind need a dated 'api_version'",
            next_step="add 'api_version' = '2024-10-21', or end 'endpoint' after the host to be asked by v1",
        )
    base = f"{written.scheme}://{written.netloc}{found['before']}"
    return _Address(base, not dated, unquote(found["deployment"] or ""), version)


def _version(spec: ModelSpec, written: SplitResult) -> str:
    query = dict(parse_qsl(written.query, keep_blank_values=True))
    of_query = query.pop("api-version", "").strip()
    if query:
        raise DeclarationError(
            f"{spec.label}: option 'endpoint' has more in its query than an api-version: {sorted(query)[0]!r}"
        )
    of_option = spec.options.get("api_version", "").strip()
    if of_query and of_option and of_query != of_option:
        raise DeclarationError(
            f"{spec.label}: 'endpoint' says api-version {of_query!r}, and option 'api_version' {of_option!r}"
        )
    return (of_option or of_query).lower()


def _deployment(spec: ModelSpec, of_address: str) -> str:
    given = {name: spec.options[name].strip() for name in ("deployment", "model") if spec.options.get(name, "").strip()}
    names = {*given.values(), *([of_address] if of_address else [])}
    if len(names) > 1:
        raise DeclarationError(
            f"{spec.label}: 'endpoint', 'deployment' and 'model' do not name the same deployment: {', '.join(sorted(names))}"
        )
    return names.pop() if names else options.required(spec, "deployment")


def _require_responses(spec: ModelSpec, version: str) -> None:
    if version < FIRST_RESPONSES:
        raise DeclarationError(
            f"{spec.label}: option 'api_version' is {version!r}, without Responses API; valid: {FIRST_RESPONSES!r} and later",
            next_step="leave 'api_version' out to be asked by v1",
        )


def _credential(spec: ModelSpec) -> tuple[str, str]:
    """The secret, and the header that it goes in."""
    key, token = credential(spec, "api_key"), credential(spec, "azure_ad_token")
    if bool(key) == bool(token):
        raise DeclarationError(
            f"{spec.label}: {'both' if key else 'neither'} of 'api_key' and 'azure_ad_token' {'are' if key else 'is'} given; "
            "one of them says who asks",
            next_step="add 'api_key' = '{{ secret.AZURE_OPENAI_API_KEY }}' to WITH (..), and export "
            "LAKEFLOW_SECRET_AZURE_OPENAI_API_KEY",
        )
    return (key, "api-key") if key else (token, "authorization")
