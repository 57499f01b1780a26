"""python -m tests.rig [fetch [PART..]|record|serve]: fetch what the servers are made of; start them and stay until Ctrl-C.

Without names, `fetch` gets what tests use; `connect` is for its benchmark only. Fetching needs no package of Python's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.rig import cache, parts
from tests.rig.cache import Missing, cache_folder

if TYPE_CHECKING:
    from tests.rig.rig import Rig


def main(arguments: list[str]) -> int:
    match arguments:
        case [] | ["serve"]:
            return serve()
        case ["fetch", *names] if set(names) <= parts.PARTS.keys():
            return fetch(names or parts.FOR_TESTS)
        case ["record"]:
            parts.record()
            return 0
        case _:
            print(f"{__doc__}\nparts: {', '.join(parts.PARTS)}", file=sys.stderr)
            return 2


def fetch(names: Sequence[str]) -> int:
    """1 where a part could not be had."""
    if cache.is_off():
        print(f"{cache.OFF}=off: nothing is fetched, and tests with real servers are skipped")
        return 0
    done = parts.fetch(names)
    for one in done:
        print(f"{one.name}: {one.missing or 'fetched'}, {one.seconds:.1f} s", file=sys.stderr)
    print(f"real servers: {', '.join(one.name for one in done if one.missing is None) or 'none'}, in {cache_folder()}")
    return 1 if any(one.missing for one in done) else 0


def serve() -> int:
    import signal
    import threading

    from tests.rig.registry import SchemaRegistry
    from tests.rig.rig import SERVERS, Rig

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    fetch(SERVERS)
    with Rig() as servers, SchemaRegistry() as registry:
        shown = {"LAKEFLOW_REGISTRY": registry.url}
        for name in SERVERS:
            begin = time.monotonic()
            try:
                shown |= variables(servers, name)
            except Missing as error:
                print(f"# {name} is missing: {error}", file=sys.stderr)
            else:
                print(f"# {name} answers after {time.monotonic() - begin:.1f} s", file=sys.stderr)
        print("\n".join(f"export {name}={value}" for name, value in shown.items()), flush=True)
        print(f"# logs: {servers.folder}; Ctrl-C stops the servers", file=sys.stderr)
        ended.wait()
    return 0


def variables(servers: Rig, name: str) -> dict[str, str]:
    """Starts a server. The environment variables of it for [target.servers] and [target.postgres] of lakeflow.toml."""
    from tests.rig import postgres, storage

    match name:
        case "kafka":
            return {"LAKEFLOW_KAFKA": servers.kafka.bootstrap}
        case "storage":
            keys = {"LAKEFLOW_SECRET_S3_ACCESS_KEY": storage.ACCESS_KEY, "LAKEFLOW_SECRET_S3_SECRET_KEY": storage.SECRET_KEY}
            return {"LAKEFLOW_S3": servers.storage.endpoint, **keys}
        case "catalog":
            return {"LAKEFLOW_CATALOG": servers.catalog.uri}
        case "postgres":
            place = servers.postgres.uri.rpartition("@")[2]
            return {"LAKEFLOW_POSTGRES": place, "LAKEFLOW_SECRET_POSTGRES_PASSWORD": postgres.PASSWORD}
        case _:
            raise KeyError(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
