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
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pooch
from tqdm import tqdm

TIMEOUT = (8, 30)  # seconds to connect, and between two pieces of an answer
PATIENCE, SLOWEST = 30, 100_000  # after so many seconds, give up below so many bytes a second
BAR_DELAY = 0.5  # seconds before a bar appears
PREFIX = ".fetch-"

#: A label, and a function of (folder to write to, progress) that leaves the files there or raises
#: whatever it likes.
Source = tuple[str, Callable[[Path, bool], None]]


class DataUnavailableError(OSError):
    """A set is neither in the cache nor to be had from any of its sources."""


def files(
    name: str, folder: Path, md5: Mapping[str, str], sources: Iterable[Source], progress: bool
) -> dict[str, bytes]:
    """Contents of a set's files in ``folder``, by name, every one with the md5 sum that is given.

    What is missing or damaged there is fetched; DataUnavailableError as of :func:`from_sources`.
    """
    contents, wrong = _verified(folder, md5)
    if not wrong:
        return contents

    def accept(fetched: Path) -> dict[str, bytes]:
        new, still_wrong = _verified(fetched, {file: md5[file] for file in wrong})
        if still_wrong:
            raise ValueError("; ".join(still_wrong.values()))
        folder.mkdir(exist_ok=True)
        for file in new:
            os.replace(fetched / file, folder / file)
        return new

    state = f"{folder}: {', '.join(wrong.values())}"
    return contents | from_sources(name, folder.parent, sources, accept, state, progress)


def _verified(folder: Path, md5: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Contents of the intact files and, for the others, what is wrong with them."""
    intact, wrong = {}, {}
    for file, wanted in md5.items():
        try:
            content = (folder / file).read_bytes()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            wrong[file] = f"{file} " + ("is missing" if missing else f"cannot be read ({error})")
            continue
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found == wanted:
            intact[file] = content
        else:
            wrong[file] = f"{file} is damaged (md5 {found}, not {wanted})"
    return intact, wrong


def from_sources(
    name: str, root: Path, sources: Iterable[Source], accept: Callable, state: str, progress: bool
):
    """What ``accept`` returns for the first source that works.

    Each source gets a new folder in the cache ``root``, which is gone afterwards; ``accept``
    verifies what the source left there and renames it into place. ``state`` says what is missing.
    Where no source works, the DataUnavailableError says why each failed.
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
    """Fetch ``url`` to ``path``, and compare its md5 sum.

    No answer, or one that there is no such file, is a requests.RequestException; a server too slow
    to wait for a TimeoutError; other bytes than were asked for a ValueError.
    """
    with _Bar(path.name, progress) as bar:
        pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)(url, path, None)
    found = pooch.file_hash(path, "md5")
    if found != md5:
        raise ValueError(
            f"got {path.stat().st_size:,} bytes with md5 {found}, not {md5}: cut short, or an "
            "error page in place of the file"
        )


class _Bar(tqdm):
    """A progress bar, shown or not, that gives up on a server too slow to wait for.

    A time-out between two bytes would not: with a few now and then a file takes days.
    """

    def __init__(self, label: str, shown: bool):
        super().__init__(
            desc=label, unit="B", unit_scale=True, disable=not shown, leave=False, delay=BAR_DELAY
        )
        self.start, self.received = time.monotonic(), 0

    def __bool__(self) -> bool:  # tqdm's is False without a length, and pooch would not tell it
        return True

    def update(self, n=1):
        self.received += n
        seconds = time.monotonic() - self.start
        if seconds > PATIENCE and self.received < SLOWEST * seconds:
            raise TimeoutError(
                f"{self.received:,} bytes in {seconds:.1f} s: too slow to wait for "
                f"(less than {SLOWEST:,} bytes a second)"
            )
        return super().update(n)
