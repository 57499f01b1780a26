"""What the dialects of AWS's services share: an address, an account, and requests that it signs."""

from __future__ import annotations

from collections.abc import Mapping

from lakeflow.models.providers.aws_access import Access
from lakeflow.models.providers.aws_signing import Signer
from lakeflow.models.remote.dialect import Blame

JSON = {"content-type": "application/json", "accept": "application/json"}


class AwsDialect:
    """Half of a `Dialect`, and `Signing`. `headers` go with every request and are signed; `service` is its signing name."""

    def __init__(self, url: str, access: Access, service: str, headers: Mapping[str, str], *, takes_api_keys: bool) -> None:
        self.url = url
        self._signer = Signer(access, service, takes_api_keys)
        self._headers = dict(headers)
        self.secrets = self._signer.secrets

    def find_account(self, label: str) -> None:
        """Called once, before the first request. Raises ModelError and UnknownName."""
        self._signer.find(label)
        self.secrets = self._signer.secrets

    def headers(self) -> Mapping[str, str]:
        """None beside the signed ones."""
        return {}

    async def sign(self, url: str, body: bytes) -> Mapping[str, str] | Blame:
        signed = await self._signer.sign(url, body, self._headers)
        self.secrets = self._signer.secrets
        return signed
