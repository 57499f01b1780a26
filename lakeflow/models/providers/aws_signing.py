"""Requests to AWS that prove who asks: signed by Signature Version 4, with botocore's own signer, or with an API key.

Source: "AWS Signature Version 4 for API requests" in AWS's documentation. botocore is imported when an account is first
looked for, and is an extra of the package.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

from lakeflow.errors import ModelError, UnknownName
from lakeflow.models.providers.aws_access import Access
from lakeflow.models.remote.dialect import Blame, ErrorKind

INSTALL = 'pip install "lakeflow[aws]"'
API_KEY_VARIABLE = "AWS_BEARER_TOKEN_{}"
"""Where AWS's own tools look for an API key, by the name of the service."""


class Signer:
    """Signs for one service, in one region. `find` is called before the first `sign`; `secrets` are those now in use."""

    def __init__(self, access: Access, service: str, takes_api_keys: bool) -> None:
        self._access = access
        self._service = service
        self._takes_api_keys = takes_api_keys
        self._api_key = access.api_key
        self._credentials: Any = None
        self.secrets: tuple[str, ...] = _texts(access.access_key, access.secret_key, access.session_token, access.api_key)

    def find(self, label: str) -> None:
        """Look for the account. Raises ModelError where there is none, UnknownName for a profile that is not there."""
        if self._api_key or self._credentials is not None:
            return
        access = self._access
        if self._takes_api_keys and not access.access_key and access.profile is None:
            self._api_key = os.environ.get(API_KEY_VARIABLE.format(self._service.upper()), "").strip()
        if self._api_key:
            self.secrets = (self._api_key,)
            return
        self._credentials = _credentials(access, label)
        self._remember()

    async def sign(self, url: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str] | Blame:
        """`headers`, which are signed, and those that prove who asks; or why the account cannot be used."""
        if self._api_key:
            return {**headers, "authorization": f"Bearer {self._api_key}"}
        if (refused := await self._renewed()) is not None:
            return refused
        return self._signed(url, body, headers)

    def _signed(self, url: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest("POST", url, dict(headers), body)
        SigV4Auth(self._credentials.get_frozen_credentials(), self._service, self._access.region).add_auth(request)
        return {name.lower(): value for name, value in request.headers.items()}

    async def _renewed(self) -> Blame | None:
        """Credentials that run out are renewed on a thread, since botocore waits for the network there."""
        from botocore.credentials import RefreshableCredentials
        from botocore.exceptions import BotoCoreError, ClientError, SSOError, TokenRetrievalError

        credentials = self._credentials
        if not isinstance(credentials, RefreshableCredentials) or not credentials.refresh_needed():
            return None
        try:
            await asyncio.to_thread(credentials.get_frozen_credentials)
        except (SSOError, TokenRetrievalError) as error:
            return Blame(ErrorKind.UNAUTHORIZED, f"the account's credentials have run out: {error}")
        except (BotoCoreError, ClientError, OSError) as error:
            return Blame(ErrorKind.UNAVAILABLE, f"the account's credentials could not be renewed: {error}")
        self._remember()
        return None

    def _remember(self) -> None:
        frozen = self._credentials.get_frozen_credentials()
        self.secrets = _texts(frozen.access_key, frozen.secret_key, frozen.token)


def _credentials(access: Access, label: str) -> Any:
    try:
        from botocore.credentials import Credentials
        from botocore.exceptions import BotoCoreError, ProfileNotFound
        from botocore.session import Session
    except ImportError as error:
        raise ModelError(f"{label} needs a package that is not installed: {error}", next_step=INSTALL) from error
    logging.getLogger("botocore.auth").setLevel(logging.INFO)  # below, it logs what it signs, session tokens among it
    if access.access_key:
        return Credentials(access.access_key, access.secret_key, access.session_token or None)
    session = Session(profile=access.profile)
    try:
        found = session.get_credentials()
        if found is not None:
            found.get_frozen_credentials()
    except ProfileNotFound as error:
        raise UnknownName(f"profile of {label}", str(access.profile), session.available_profiles) from error
    except BotoCoreError as error:
        raise ModelError(f"{label}: the account cannot be used: {error}", next_step="aws sts get-caller-identity") from error
    if found is None:
        raise ModelError(
            f"{label}: no account of AWS is found: no keys in its options, none in the environment, no profile",
            next_step="add 'aws_access_key' = '{{ secret.AWS_ACCESS_KEY }}', 'aws_secret_key' = '{{ secret.AWS_SECRET_KEY }}',"
            " or run aws configure",
        )
    return found


def _texts(*texts: str | None) -> tuple[str, ...]:
    return tuple(text for text in texts if text)
