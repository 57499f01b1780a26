"""Where a model's files are read from, when they are not on this disk: HTTP and S3."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from lakeflow.errors import LakeflowError, ModelError, StorageUnavailable
from lakeflow.models.providers.onnx_place import RemotePlace, shown

if TYPE_CHECKING:
    import httpx

BLOCK = 1 << 20
CONNECT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""How long a server may send nothing."""
GONE = (404, 410)
TRY_AGAIN = (408, 425, 429)
REDIRECTS = 10
S3_TEXTS = {
    "endpoint_override": ("s3.endpoint",),
    "access_key": ("s3.access-key-id", "client.access-key-id"),
    "secret_key": ("s3.secret-access-key", "client.secret-access-key"),
    "session_token": ("s3.session-token", "client.session-token"),
    "region": ("s3.region", "client.region"),
    "role_arn": ("s3.role-arn", "client.role-arn"),
    "session_name": ("s3.role-session-name", "client.role-session-name"),
    "proxy_options": ("s3.proxy-uri",),
}
"""What PyArrow's S3FileSystem calls the file properties of Iceberg catalogs."""
S3_NUMBERS = {"connect_timeout": "s3.connect-timeout", "request_timeout": "s3.request-timeout"}
S3_TRUTHS = {"force_virtual_addressing": "s3.force-virtual-addressing", "anonymous": "s3.anonymous"}
AWS_SAYS = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")

Take = Callable[[bytes], object]


class Store(Protocol):
    """The files below one place."""

    def copy(self, name: str, take: Take) -> bool:
        """Hands the bytes of a file to `take`, block by block; False where there is no such file.

        Raises StorageUnavailable where asking again may help, ModelError where not, and what `take` raises.
        """
        ...


def open_store(label: str, place: RemotePlace, storage: Mapping[str, str]) -> Store:
    """The store of a place. `storage` holds the file properties of [catalog], which reach S3."""
    return S3Store(label, place, storage) if place.scheme == "s3" else HttpStore(label, place)


class HttpStore:
    """Files by GET. Redirects are followed: what comes is judged by its checksum."""

    def __init__(self, label: str, place: RemotePlace) -> None:
        self._label = label
        self._place = place

    def copy(self, name: str, take: Take) -> bool:
        import httpx

        url = f"{self._place.base}{name}{self._place.query}"
        headers = {"user-agent": f"lakeflow/{version('lakeflow')}", "accept-encoding": "identity"}
        timeout = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
        try:
            with (
                httpx.Client(headers=headers, timeout=timeout, follow_redirects=True, max_redirects=REDIRECTS) as client,
                client.stream("GET", url) as answer,
            ):
                if not self._found(url, answer):
                    return False
                for block in answer.iter_bytes():
                    take(block)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects, UnicodeError) as error:
            raise ModelError(f"{self._label}: {shown(url)} cannot be asked for: {error}") from error
        except httpx.HTTPError as error:
            raise StorageUnavailable(
                f"{self._label}: {shown(url)} could not be fetched: {str(error) or type(error).__name__}"
            ) from error
        return True

    def _found(self, url: str, answer: httpx.Response) -> bool:
        code = answer.status_code
        if code in GONE:
            return False
        if code in TRY_AGAIN or code >= 500:
            raise StorageUnavailable(f"{self._label}: {shown(url)} was answered with {code}")
        if code != 200:
            raise ModelError(
                f"{self._label}: {shown(url)} was answered with {code}; a file is answered with 200",
                next_step="correct 'model_path' in its WITH (..), or put the file where it can be read",
            )
        return True


class S3Store:
    """Objects below a prefix, by PyArrow; without properties, reached as AWS's own environment says."""

    def __init__(self, label: str, place: RemotePlace, storage: Mapping[str, str]) -> None:
        self._label = label
        self._base = place.base.partition("://")[2]
        self._storage = storage

    def copy(self, name: str, take: Take) -> bool:
        from pyarrow.fs import FileType, S3FileSystem

        path = f"{self._base}{name}"
        with self._errors(path):
            files = S3FileSystem(**s3_arguments(self._base.partition("/")[0], self._storage))
            if files.get_file_info(path).type is not FileType.File:
                return False
            with files.open_input_stream(path) as stream:
                while block := stream.read(BLOCK):
                    take(block)
        return True

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except LakeflowError:
            raise
        except OSError as error:
            text = " ".join(str(error).split())
            if isinstance(error, PermissionError) or any(word in text for word in ("ACCESS_DENIED", "INVALID_ACCESS_KEY")):
                raise ModelError(
                    f"{self._label}: s3://{path} may not be read: {text}",
                    next_step="set s3.access-key-id and s3.secret-access-key under [catalog], or AWS's variables",
                ) from error
            raise StorageUnavailable(f"{self._label}: s3://{path} could not be fetched: {text}") from error


def s3_arguments(bucket: str, storage: Mapping[str, str]) -> dict[str, object]:
    """What S3FileSystem is given. Without a region and an endpoint, the region is asked of AWS."""
    from pyarrow.fs import resolve_s3_region

    texts = {key: next((storage[name] for name in names if name in storage), None) for key, names in S3_TEXTS.items()}
    given: dict[str, object] = {key: text for key, text in texts.items() if text is not None}
    given |= {key: float(storage[name]) for key, name in S3_NUMBERS.items() if name in storage}
    given |= {key: storage[name].lower() == "true" for key, name in S3_TRUTHS.items() if name in storage}
    if "region" not in given and "endpoint_override" not in given and not any(name in os.environ for name in AWS_SAYS):
        given["region"] = resolve_s3_region(bucket)
    return given
