"""Models that lie elsewhere, fetched from a server of files on this machine."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from lakeflow.errors import Interrupted, LakeflowError, ModelError, StorageFull, StorageUnavailable
from lakeflow.models.providers.onnx import FETCHED, OnnxProvider
from lakeflow.models.providers.onnx_fetch import Fetcher, checksum_of
from lakeflow.models.providers.onnx_place import RemotePlace
from lakeflow.models.providers.onnx_stores import HttpStore, Take
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec
from lakeflow.retry import Backoff
from tests.services.http import Asked, Reply, Server
from tests.unit.models import graphs

ONE = {"a": pa.float64()}
PROBABILITY = {"p": pa.float64()}
TEXT = {"t": pa.string()}
VECTOR = {"v": pa.list_(pa.float32())}
AT_ONCE = Backoff(attempts=3, base=0.0, cap=0.0)


class Files:
    """A server of the files below a folder. `replies` are given first, one a request, in place of the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replies: list[Reply] = []
        self.seconds = 0.0

    async def __call__(self, asked: Asked) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        path = self.folder / urlsplit(asked.path).path.lstrip("/")
        return Reply(200, path.read_bytes(), seconds=self.seconds) if path.is_file() else Reply(404)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "away").mkdir()
    return Files(tmp_path / "away")


@pytest.fixture
def server(files: Files) -> Iterator[Server]:
    with Server(files) as server:
        yield server


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tabular(root: Path, url: str, checksum: str, **options: str) -> ModelSpec:
    return graphs.spec(root, Path("x"), ONE, PROBABILITY, **{"model_path": url, "checksum": f"sha256:{checksum}", **options})


def text(root: Path, url: str, checksum: str) -> ModelSpec:
    return graphs.spec(root, Path("x"), TEXT, VECTOR, "embedding", model_path=url, checksum=f"sha256:{checksum}")


def answers(spec: ModelSpec, rows: Mapping[str, object] | None = None) -> list[object]:
    provider = OnnxProvider(spec)
    provider.check()
    batch = pa.RecordBatch.from_pydict(dict(rows or {"a": [1.0, None]}), schema=spec.input)
    found: list[object] = provider.predict(batch).column(0).to_pylist()
    provider.close()
    return found


def fetcher(root: Path, url: str, checksum: str, **more: object) -> Fetcher:
    base, _, graph = url.rpartition("/")
    place = RemotePlace(f"{base}/", graph, "", checksum, int(str(more.pop("most_bytes", 1 << 20))), 60.0)
    return Fetcher("model 'm'", place, False, root / FETCHED, AT_ONCE, **more)  # type: ignore[arg-type]


def store(fetcher: Fetcher) -> Callable[[], HttpStore]:
    return lambda: HttpStore(fetcher.label, fetcher.place)


def left(root: Path) -> list[str]:
    """What lies in the folder of fetched models, but for locks."""
    return sorted(path.name for path in (root / FETCHED).iterdir() if path.suffix != ".lock")


def test_a_graph_is_fetched_once_and_found_again_without_its_server(tmp_path: Path, files: Files) -> None:
    graph = graphs.classifier(files.folder / "delay.onnx", [0.5])
    with Server(files) as server:
        spec = tabular(tmp_path, f"{server.url}/delay.onnx?signature=1", sum_of(graph))
        first = answers(spec)
        assert [asked.path for asked in server.asked] == ["/delay.onnx?signature=1"]
    assert answers(spec) == first
    assert first[0] is not None
    assert first[1] is None
    assert left(tmp_path) == [f"sha256-{sum_of(graph)}"]


def test_redirects_are_followed(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    files.replies = [Reply(302, b"", {"location": "/m.onnx"})]
    assert answers(tabular(tmp_path, f"{server.url}/latest.onnx", sum_of(graph)))[0] is not None


@pytest.mark.parametrize("place", ["https://ex..ample/m.onnx", "http://[h/m.onnx", "file:///etc/passwd"])
def test_redirects_to_nowhere_are_an_error(tmp_path: Path, files: Files, server: Server, place: str) -> None:
    files.replies = [Reply(302, b"", {"location": place})] * AT_ONCE.attempts
    fetching = fetcher(tmp_path, f"{server.url}/latest.onnx", "0" * 64)
    with pytest.raises(LakeflowError, match=r"latest\.onnx (cannot be asked for|could not be fetched)"):
        fetching.fetched(store(fetching))


def test_a_text_model_is_fetched_with_its_tokenizer_and_configuration(tmp_path: Path, files: Files, server: Server) -> None:
    folder = graphs.text_model(files.folder / "model", normalize=True)
    (folder / "pytorch_model.bin").write_bytes(b"many gigabytes")
    rows = {"t": ["late flight", None]}
    local = answers(graphs.spec(tmp_path, folder, TEXT, VECTOR, "embedding"), rows)
    names = ("1_Pooling/config.json", "modules.json", "onnx/model.onnx", "sentence_bert_config.json", "tokenizer.json")
    checksum = checksum_of({name: folder / name for name in names})
    assert answers(text(tmp_path, f"{server.url}/model", checksum), rows) == local
    assert answers(text(tmp_path, f"{server.url}/model/onnx/model.onnx", checksum), rows) == local
    assert "/model/pytorch_model.bin" not in [asked.path for asked in server.asked]
    assert answers(text(tmp_path, str(folder), checksum), rows) == local


def test_the_checksum_of_several_files_is_what_sha256sum_gives(tmp_path: Path) -> None:
    folder = graphs.text_model(tmp_path / "model")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    lines = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    assert checksum_of({name: folder / name for name in names}) == hashlib.sha256(lines).hexdigest()


def test_a_graph_with_its_weights_beside_it_is_fetched_as_a_folder(tmp_path: Path, files: Files, server: Server) -> None:
    import onnx

    graph = graphs.regressor(files.folder / "away.onnx", [3.0])
    model = onnx.load(graph)
    onnx.save(
        model,
        files.folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    both = {name: files.folder / name for name in ("model.onnx", "model.onnx.data")}
    options = {"model_path": server.url, "checksum": f"sha256:{checksum_of(both)}"}
    spec = graphs.spec(tmp_path, Path("x"), ONE, {"variable": pa.float64()}, "regression", **options)
    assert answers(spec) == [3.0, None]
    near = graphs.spec(tmp_path, files.folder, ONE, {"variable": pa.float64()}, "regression", checksum=options["checksum"])
    assert answers(near) == [3.0, None]


def test_another_checksum_is_refused_naming_both(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    declared = "0" * 64
    for path in (f"{server.url}/m.onnx", str(graph)):
        with pytest.raises(ModelError) as caught:
            answers(tabular(tmp_path, path, declared))
        for word in (path, f"sha256:{sum_of(graph)}", f"sha256:{declared}"):
            assert word in str(caught.value)
    assert left(tmp_path) == []


def test_a_fetched_file_that_was_changed_is_fetched_anew(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    spec = tabular(tmp_path, f"{server.url}/m.onnx", sum_of(graph))
    first = answers(spec)
    (kept,) = (tmp_path / FETCHED).glob("sha256-*/model.onnx")
    kept.write_bytes(b"broken")
    assert answers(spec) == first
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Reply(404), ModelError, "is not there"),
        (Reply(403), ModelError, "was answered with 403"),
        (Reply(206), ModelError, "was answered with 206"),
        (Reply(302, b"", {"location": "ftp://host/m.onnx"}), ModelError, "cannot be asked for"),
        (Reply(503), StorageUnavailable, "was answered with 503"),
        (Reply(429), StorageUnavailable, "was answered with 429"),
        (Reply(None), StorageUnavailable, "could not be fetched"),
    ],
)
def test_only_what_may_pass_is_asked_again(
    tmp_path: Path, files: Files, server: Server, reply: Reply, error: type[Exception], words: str
) -> None:
    files.replies = [reply] * AT_ONCE.attempts
    one = fetcher(tmp_path, f"{server.url}/m.onnx", "0" * 64)
    with pytest.raises(error, match=words):
        one.fetched(store(one))
    assert len(server.asked) == (AT_ONCE.attempts if error is StorageUnavailable else 1)
    assert left(tmp_path) == []


class HalfAFile(StreamRequestHandler):
    """Promises eight bytes, sends four and hangs up."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")


def test_a_connection_that_is_cut_in_the_middle_may_pass(tmp_path: Path) -> None:
    with ThreadingTCPServer(("127.0.0.1", 0), HalfAFile) as cutting:
        thread = threading.Thread(target=cutting.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        one = fetcher(tmp_path, f"http://127.0.0.1:{cutting.server_address[1]}/m.onnx", "0" * 64)
        with pytest.raises(StorageUnavailable, match=r"could not be fetched: .*received 4 bytes, expected 8"):
            one.fetched(store(one))
        cutting.shutdown()
        thread.join()


def test_a_server_that_fails_for_a_while_is_asked_again(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    files.replies = [Reply(503), Reply(None)]
    one = fetcher(tmp_path, f"{server.url}/m.onnx", sum_of(graph))
    assert sum_of(one.fetched(store(one))) == sum_of(graph)
    assert len(server.asked) == 3


def test_no_server_is_an_error_that_may_pass(tmp_path: Path) -> None:
    one = fetcher(tmp_path, "http://127.0.0.1:9/m.onnx", "0" * 64)
    with pytest.raises(StorageUnavailable, match=r"model 'm': http://127.0.0.1:9/m.onnx could not be fetched"):
        one.fetched(store(one))


def test_more_bytes_than_are_allowed_are_not_kept(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    one = fetcher(tmp_path, f"{server.url}/m.onnx", sum_of(graph), most_bytes=100)
    with pytest.raises(ModelError, match="larger than 'fetch_mib'"):
        one.fetched(store(one))
    assert left(tmp_path) == []


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    ticks = iter(range(0, 10_000, 61))
    one = fetcher(tmp_path, f"{server.url}/m.onnx", sum_of(graph), clock=lambda: float(next(ticks)))
    with pytest.raises(StorageUnavailable, match="within 60 s, the 'fetch_timeout'"):
        one.fetched(store(one))


def test_a_signal_stops_it_and_nothing_is_left(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    models = ModelSet([tabular(tmp_path, f"{server.url}/m.onnx", sum_of(graph))])
    models.stop_when(lambda: True)
    with models, pytest.raises(Interrupted, match="stopped by a signal while it was fetched from http"):
        models.get("m")
    assert left(tmp_path) == []


def test_a_folder_whose_modules_lie_outside_is_refused(tmp_path: Path, files: Files, server: Server) -> None:
    folder = graphs.text_model(files.folder / "model")
    for bad in ("../../evil", "/etc"):
        (folder / "modules.json").write_text(f'[{{"type": "a.Pooling", "path": "{bad}"}}]')
        with pytest.raises(ModelError, match="outside of its folder"):
            answers(text(tmp_path, f"{server.url}/model", "0" * 64), {"t": ["x"]})
    assert not (tmp_path / "evil").exists()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, files: Files, server: Server) -> None:
    (tmp_path / ".lakeflow").write_text("a file where the folder would be")
    with pytest.raises(StorageFull, match="cannot be written"):
        answers(tabular(tmp_path, f"{server.url}/m.onnx", "0" * 64))


def test_several_at_once_fetch_once(tmp_path: Path, files: Files, server: Server) -> None:
    graph = graphs.classifier(files.folder / "m.onnx", [0.5])
    files.seconds = 0.2
    one = fetcher(tmp_path, f"{server.url}/m.onnx", sum_of(graph))
    with ThreadPoolExecutor(4) as pool:
        found = {*pool.map(lambda _: one.fetched(store(one)), range(4))}
    assert len(found) == 1
    assert len(server.asked) == 1


SCRIPT = """
import sys
from pathlib import Path
from tests.unit.models.test_onnx_fetch import fetcher, store
one = fetcher(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
print("asking", flush=True)
print(one.fetched(store(one)), flush=True)
"""


def started(root: Path, url: str, checksum: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(root), url, checksum]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def test_a_killed_process_leaves_nothing_in_the_way_and_two_at_once_fetch_once(
    tmp_path: Path, files: Files, server: Server
) -> None:
    graph = files.folder / "m.onnx"
    graph.write_bytes(bytes(300_000))
    files.replies = [Reply(200, graph.read_bytes(), stall=60.0)]
    url = f"{server.url}/m.onnx"
    with started(tmp_path, url, sum_of(graph)) as first:
        part = tmp_path / FETCHED / f"sha256-{sum_of(graph)}.part" / "model.onnx"
        until = time.monotonic() + 60
        while not part.exists() or not part.stat().st_size:
            assert time.monotonic() < until, "the file was never begun"
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGKILL)
    assert left(tmp_path) == [f"sha256-{sum_of(graph)}.part"]
    with started(tmp_path, url, sum_of(graph)) as one, started(tmp_path, url, sum_of(graph)) as other:
        told = [process.communicate(timeout=60)[0].splitlines()[-1] for process in (one, other)]
    assert told[0] == told[1]
    assert sum_of(Path(told[0])) == sum_of(graph)
    assert len(server.asked) == 2
    assert left(tmp_path) == [f"sha256-{sum_of(graph)}"]


def test_the_catalogs_storage_reaches_the_store_through_the_set_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pretended:
        """The store, as far as it is seen which properties it was given."""

        def __init__(self, label: str, place: RemotePlace, storage: Mapping[str, str]) -> None:
            given.update(storage)

        def copy(self, name: str, take: Take) -> bool:
            return False

    given: dict[str, str] = {}
    monkeypatch.setattr("lakeflow.models.providers.onnx_stores.S3Store", Pretended)
    spec = tabular(tmp_path, "s3://bucket/m.onnx", "0" * 64)
    models = ModelSet([spec], surroundings=Surroundings(storage={"s3.region": "x"}))
    with models, pytest.raises(ModelError, match=r"s3://bucket/m\.onnx is not there"):
        models.get("m")
    assert given == {"s3.region": "x"}
