"""What PyIceberg, SQLAlchemy and the operating system raise, as errors of the tree."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.exceptions import RESTError, ServerError, ServiceUnavailableError
from requests.exceptions import RequestException
from sqlalchemy.exc import DBAPIError

from lakeflow.errors import CatalogUnavailable, LakeflowError, StorageFull, StorageUnavailable

_NOT_WRITABLE = ("readonly", "read-only", "unable to open", "permission denied", "disk is full")
_FULL = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    # A file stands where a folder is to be made.
    *(errno.ENOTDIR, errno.EEXIST),
}


@contextmanager
def lake_errors(what: str) -> Iterator[None]:
    """Run a call on the catalog or the warehouse about `what`; its failures come out as errors of the tree."""
    try:
        yield
    except LakeflowError:
        raise
    except (ServerError, ServiceUnavailableError, RESTError, RequestException, ConnectionError, TimeoutError) as error:
        raise CatalogUnavailable(f"the catalog did not answer about {what}: {error}", next_step="lakeflow doctor") from error
    except DBAPIError as error:
        if any(word in str(error.orig).lower() for word in _NOT_WRITABLE):
            raise storage_full(what, str(error.orig)) from error
        raise CatalogUnavailable(
            f"the catalog did not answer about {what}: {error.orig}", next_step="lakeflow doctor"
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise storage_full(what, str(error)) from error
        raise StorageUnavailable(f"the warehouse did not answer about {what}: {error}", next_step="lakeflow doctor") from error


def storage_full(what: str, reason: str) -> StorageFull:
    """A write that was refused for want of room or of rights."""
    return StorageFull(
        f"no room or no right to write for {what}: {reason}",
        left_behind="every table as of its last commit; files of the batch in hand belong to no snapshot",
        next_step="free space or grant the right to write, then run the same command again",
    )
