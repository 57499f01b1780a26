"""Who asks AWS: the options of an account, read into values. Nothing is opened here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lakeflow.errors import DeclarationError
from lakeflow.models.providers.declared import address, header_text
from lakeflow.models.spec import ModelSpec

ACCESS_OPTIONS = ("endpoint", "region", "aws_access_key", "aws_secret_key", "aws_session_token", "profile")
_KEYS = ("aws_access_key", "aws_secret_key", "aws_session_token")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_HOST = re.compile(rf"\.({_REGION.pattern})\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)(?::\d+)?(?:/|$)")


@dataclass(frozen=True, slots=True)
class Access:
    """An account, in a region. Without keys and `api_key` it is found as AWS's own tools find it, in `profile` if given."""

    region: str
    profile: str | None = None
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)


def read_access(spec: ModelSpec) -> Access:
    """Raises DeclarationError where options contradict each other, or one lacks its other half."""
    keys = {name: header_text(spec, name) for name in _KEYS}
    api_key = header_text(spec, "api_key")
    given = [name for name in (*_KEYS, "api_key", "profile") if spec.options.get(name, "").strip()]
    if bool(keys["aws_access_key"]) != bool(keys["aws_secret_key"]) or (
        keys["aws_session_token"] and not keys["aws_access_key"]
    ):
        raise DeclarationError(
            f"{spec.label}: 'aws_access_key' and 'aws_secret_key' go together, given: {', '.join(given)}",
            next_step="add 'aws_access_key' = '{{ secret.AWS_ACCESS_KEY }}', 'aws_secret_key' = '{{ secret.AWS_SECRET_KEY }}'",
        )
    ways = [name for name in ("aws_access_key", "api_key", "profile") if name in given]
    if len(ways) > 1:
        raise DeclarationError(f"{spec.label}: '{ways[0]}' and '{ways[1]}' are two ways to say who asks; give one of them")
    profile = spec.options.get("profile", "").strip() or None
    return Access(_region(spec), profile, keys["aws_access_key"], keys["aws_secret_key"], keys["aws_session_token"], api_key)


def service_address(spec: ModelSpec, host: str, region: str) -> str:
    """The option 'endpoint', or the address of the service `host` in the region."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return address(spec, "endpoint", f"https://{host}.{region}.{domain}")


def _region(spec: ModelSpec) -> str:
    found = _HOST.search(spec.options.get("endpoint", "").strip())
    region = spec.options.get("region", found[1] if found else "").strip()
    if not _REGION.fullmatch(region):
        raise DeclarationError(
            f"{spec.label}: option 'region' is {region!r}; valid: a region of AWS, as 'us-east-1'"
            if region
            else f"{spec.label}: option 'region' is missing, which provider {spec.provider!r} needs",
            next_step="add 'region' = 'us-east-1', or 'region' = '${AWS_REGION}' where the environment says it",
        )
    return region
