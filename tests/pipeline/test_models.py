"""Models by name: resolved, fetched from a real server, verified; whatever goes wrong leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline import Detect, Embed
from pipeline.errors import FramechainError, UsageError
from pipeline.models import KnownModel, bundled, cache_folder, named, public, resolve, sha256

CONTENT = bytes(range(256)) * 4000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/whole, /unsized (its length is not said), /cut (breaks off half-way), /moved; everything else is not there."""

    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
            return
        if self.path.split("?")[0] not in ("/whole", "/cut", "/unsized"):
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut" else CONTENT)

    def log_message(self, *_: object) -> None:
        """Not on the screen."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=partial(httpd.serve_forever, 0.05), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAMECHAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "models"


@pytest.fixture
def model(cache: Path) -> KnownModel:
    """YOLOX nano as far as its name goes, with a checksum that the server can fulfil."""
    return replace(named("yolox-nano"), sha256=SUM)


def refused(model: KnownModel, source: str) -> str:
    """The one line with which fetching fails; nothing is left of it."""
    before = {path: path.read_bytes() for path in model.folder.glob("*")} if model.folder.is_dir() else {}
    with pytest.raises(FramechainError) as error:
        model.get(source)
    assert "\n" not in str(error.value)
    after = {path: path.read_bytes() for path in model.folder.glob("*")} if model.folder.is_dir() else {}
    assert after == before
    return str(error.value)


@pytest.mark.parametrize("path", ["/whole", "/moved", "/unsized"])
def test_fetched_whole_and_verified(path: str, server: str, model: KnownModel) -> None:
    seen: list[tuple[int, int | None]] = []
    assert model.get(server + path, lambda done, total: seen.append((done, total))) == SUM
    assert model.path.read_bytes() == CONTENT
    assert [file.name for file in model.folder.iterdir()] == [model.file]
    assert seen[-1] == (len(CONTENT), None if path == "/unsized" else len(CONTENT))
    model.check()


def test_a_file_is_a_source_too(model: KnownModel, tmp_path: Path) -> None:
    (tmp_path / "given.onnx").write_bytes(CONTENT)
    model.get(str(tmp_path / "given.onnx"))
    assert model.path.read_bytes() == CONTENT
    assert "cannot read" in refused(model, str(tmp_path / "absent.onnx"))


def test_what_can_go_wrong_on_the_way(server: str, model: KnownModel) -> None:
    assert "the server says 404 Not Found" in refused(model, f"{server}/absent")
    assert f"broke off after {len(CONTENT) // 2} of {len(CONTENT)} bytes" in refused(model, f"{server}/cut")
    offline = refused(model, "http://127.0.0.1:9/yolox_nano.onnx")
    assert "127.0.0.1:9" in offline
    assert "--from" in offline
    assert "http:// or https://" in refused(model, "ftp://127.0.0.1/yolox_nano.onnx")
    secret = refused(model, f"{server.replace('//', '//me:hunter2@')}/absent?token=s3cret")
    assert "hunter2" not in secret
    assert "s3cret" not in secret


def test_a_wrong_checksum_keeps_what_was_there(server: str, model: KnownModel) -> None:
    model.get(f"{server}/whole")
    other = replace(model, sha256="0" * 64)
    assert f"has the sha256 {SUM}, not {'0' * 64}" in refused(other, f"{server}/whole")
    assert model.path.read_bytes() == CONTENT


def test_a_model_without_a_known_checksum_is_held_to_the_one_it_came_with(server: str, model: KnownModel) -> None:
    unknown = replace(model, sha256=None)
    assert unknown.get(f"{server}/whole") == SUM
    assert unknown.expected == SUM
    unknown.check()
    unknown.path.write_bytes(CONTENT[:-1])
    with pytest.raises(FramechainError, match=r"is damaged.*framechain models get yolox-nano"):
        unknown.check()


def test_a_cache_that_cannot_be_written(server: str, model: KnownModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refused(replace(model, folder=tmp_path / "file" / "models"), f"{server}/whole")
    assert "set FRAMECHAIN_CACHE" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk(server: str, model: KnownModel) -> None:
    """The partial file is a link to a device that is always full."""
    model.folder.mkdir(parents=True)
    (model.folder / f".{model.file}.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(FramechainError, match="No space left on device; nothing was kept; make room"):
        model.get(f"{server}/whole")
    assert list(model.folder.iterdir()) == []


def test_a_bundled_model_is_not_fetched() -> None:
    with pytest.raises(UsageError, match="ships with framechain"):
        named("nanodet-g").get()


def test_names_and_paths(cache: Path, tmp_path: Path) -> None:
    nanodet, yolox = named("nanodet-g"), named("yolox-nano")
    assert resolve("nanodet-g") == resolve(Path("nanodet-g")) == resolve("nanodet_g.onnx") == nanodet.path
    assert resolve("clips/yolox_nano.onnx") == Path("clips/yolox_nano.onnx")
    with pytest.raises(UsageError, match=r"framechain models get yolox-nano"):
        resolve("yolox_nano.onnx")
    (tmp_path / "yolox_nano.onnx").write_bytes(b"the user's own")
    assert resolve("yolox_nano.onnx") == Path("yolox_nano.onnx")
    (tmp_path / "nanodet-g").mkdir()
    assert resolve("nanodet-g") == nanodet.path, "a folder that happens to have that name changes nothing"
    (tmp_path / "yolox_nano.onnx").unlink()
    yolox.folder.mkdir(parents=True)
    yolox.path.write_bytes(b"damaged")
    with pytest.raises(FramechainError, match="is damaged"):
        resolve("yolox-nano")


@pytest.mark.parametrize(("stage", "task"), [(Detect, "detect"), (Embed, "embed")])
def test_unknown_names_get_a_suggestion(stage: type[Detect] | type[Embed], task: str, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"no weights at nanodet-h.*did you mean 'nanodet-g'\?"):
        stage(weights=Path("nanodet-h")).open()
    with pytest.raises(UsageError, match=r"no weights at clips/best.onnx.*check the path"):
        stage(weights=Path("clips/best.onnx")).open()
    with pytest.raises(UsageError, match=r"did you mean 'yolo11n'\?"):
        named("yolo1n")


def test_the_tables_are_in_order() -> None:
    known = (*bundled(), *public())
    assert len({model.name for model in known}) == len({model.file for model in known}) == len(known)
    for model in known:
        assert model.task in ("detect", "embed")
        assert model.sha256 is None or (len(model.sha256) == 64 and set(model.sha256) <= set("0123456789abcdef"))
        assert model.licence
        assert model.bundled or model.source.startswith("https://")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRAMECHAIN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "models"
    monkeypatch.delenv("FRAMECHAIN_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "framechain" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "framechain" / "models"


def test_sha256_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == hashlib.sha256(b"").hexdigest()
