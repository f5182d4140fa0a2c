"""What the course needs of the machine: looked for first, installed where that asks nothing.

    python3 tools/machine.py environment [PYTHON]    a Python and with it .venv, still empty
    python3 tools/machine.py tests                   programs, fonts and a browser for the tests

They come from the system's package manager (as root, or as a user whose sudo wants no password), a
browser that it lacks from Playwright. What can not be had so is named, with the commands that mend
it. `make test` looks for its needs with the system's Python, before there is an environment, and
again with the environment's, which has Playwright. Any Python 3.8 or newer runs this file.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MENDING = (ROOT / "grader/very_deep_grader/mending.txt").read_text(encoding="utf-8").strip()
LINUX = sys.platform == "linux"
CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
# Where Playwright keeps its browsers, and the browser in such a folder, on each system.
DOWNLOADS = {
    "linux": ("~/.cache/ms-playwright", "chromium-*/chrome-linux*/chrome"),
    "darwin": ("~/Library/Caches/ms-playwright", "chromium-*/chrome-mac*/*.app/Contents/MacOS/*"),
    "win32": ("~/AppData/Local/ms-playwright", "chromium-*/chrome-win*/chrome.exe"),
}
APPLICATIONS = {
    "darwin": ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"],
    "win32": [r"C:\Program Files\Google\Chrome\Application\chrome.exe"],
}
BROWSERS = "https://cdn.playwright.dev"


# What installing .venv takes; 7 of them stay, nearly all of it torch.
GIGABYTES = 10
# What the pins are tried with, then what else they allow.
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")
OLDEST = (3, 11)


class Need(NamedTuple):
    """Something that is needed: how to see whether it is there, its package by package manager."""

    there: Callable[[], bool]
    apt: str | None = None
    dnf: str | None = None
    brew: str | None = None


def browsers():
    """Paths at which a Chromium or Chrome could lie, the system's first."""
    found = [shutil.which(name) for name in CHROMES]
    found += APPLICATIONS.get(sys.platform, [])
    folder, pattern = DOWNLOADS.get(sys.platform, DOWNLOADS["linux"])
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or folder).expanduser()
    found += sorted(map(str, folder.glob(pattern)), reverse=True)
    return [path for path in found if path and os.access(path, os.X_OK)]


def find_chrome():
    """Path of an installed Chromium or Chrome.

    Raises
    ------
    FileNotFoundError
        When there is none; the message says how to install one.
    """
    for path in browsers():
        # Ubuntu's chromium-browser is a script that only says where a browser can be had.
        said = subprocess.run([path, "--version"], capture_output=True) if LINUX else None
        if said is None or said.returncode == 0:
            return path
    raise FileNotFoundError(
        f"no browser found (looked for {', '.join(CHROMES)} and Playwright's):\n"
        + commands(["browser"])
    )


def has_browser():
    try:
        return bool(find_chrome())
    except FileNotFoundError:
        return False


def has_fonts():
    folders = [Path(folder).expanduser() for folder in FONTS]
    return not LINUX or any(next(folder.rglob("*.[to]tf"), None) for folder in folders)


def has_program(name):
    return lambda: shutil.which(name) is not None


def is_ubuntu():
    """Ubuntu and what derives from it have no Chromium as a package, only as a snap."""
    try:
        return "ubuntu" in Path("/etc/os-release").read_text(encoding="utf-8").lower()
    except OSError:
        return False


NEEDS = {
    "browser": Need(has_browser, None if is_ubuntu() else "chromium", "chromium", None),
    "bubblewrap": Need(has_program("bwrap"), "bubblewrap", "bubblewrap"),
    "jq": Need(has_program("jq"), "jq", "jq", "jq"),
    "fonts": Need(has_fonts, "fonts-dejavu-core", "dejavu-sans-fonts"),
}
LINUX_ONLY = {"bubblewrap": "the grader's sandbox is made of Linux namespaces"}
INSTALL = {
    "apt": ["apt-get", "install", "-y", "-qq", "--no-install-recommends"],
    "dnf": ["dnf", "install", "-y", "-q"],
    "brew": ["brew", "install", "--quiet"],
}


def missing():
    """Names of the needs that this machine lacks."""
    return [
        name
        for name, need in NEEDS.items()
        if (LINUX or name not in LINUX_ONLY) and not need.there()
    ]


def as_root():
    """What to put before a command that needs root: nothing, sudo, or None if it would ask."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    asks = not sudo or subprocess.run([sudo, "-n", "true"], capture_output=True).returncode
    return None if asks else [sudo, "-n"]


def packages(names, manager):
    """The packages of a manager that hold these needs."""
    return [p for name in names for p in (getattr(NEEDS[name], manager) or "").split()]


def manager():
    """The package manager of this machine, or None."""
    programs = {"apt": "apt-get", "dnf": "dnf", "brew": "brew"}
    return next((name for name, program in programs.items() if shutil.which(program)), None)


def install(names):
    """Install what the package manager has of these needs, if it may without a question."""
    chosen = manager()
    wanted = packages(names, chosen) if chosen else []
    root = [] if chosen == "brew" else as_root()
    if not wanted or root is None:
        return
    print(f"Installing {', '.join(wanted)} with {INSTALL[chosen][0]}.", flush=True)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"] if chosen == "apt" else []
    if chosen == "apt":
        subprocess.run([*root, "apt-get", "update", "-qq"])
    subprocess.run([*root, *environment, *INSTALL[chosen], *wanted], stdout=subprocess.DEVNULL)


def install_browser():
    """Let the environment's Playwright fetch a browser, and what that needs where it may."""
    command = [sys.executable, "-m", "playwright", "install"]
    root = as_root() if LINUX and manager() == "apt" else None
    if root is not None:
        subprocess.run([*root, sys.executable, "-m", "playwright", "install-deps", "chromium"])
    subprocess.run([*command, "chromium"])


def answers(url, seconds=2):
    """Whether a host answers at all, be it that it has no such page."""
    try:
        urllib.request.urlopen(url, timeout=seconds)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def commands(names):
    """One line for each package manager that installs these needs."""
    lines = [
        ("Debian, Ubuntu", "sudo apt-get install", packages(names, "apt")),
        ("Fedora", "sudo dnf install", packages(names, "dnf")),
        ("macOS", "brew install", packages(names, "brew")),
    ]
    lines = [f"  {system}: {command} {' '.join(p)}" for system, command, p in lines if p]
    if "browser" in names:
        lines.append("  everywhere: .venv/bin/python -m playwright install --with-deps chromium")
    return "\n".join(lines)


def namespaces():
    """What bubblewrap says where it can not start, or None."""
    command = ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--unshare-net"]
    if os.geteuid():
        command.append("--unshare-user")
    command += ["--proc", "/proc", "--dev", "/dev", "true"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else None


def version(python):
    """An interpreter's (major, minor), and whether it can make environments; None if it is none."""
    code = "import sys, importlib.util; print(*sys.version_info[:2]); "
    code += "print(importlib.util.find_spec('ensurepip') is not None)"
    try:
        said = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.split()
    except OSError:
        return None
    return ((int(said[0]), int(said[1])), said[2] == "True") if len(said) == 3 else None


def find_python(given=None):
    """The interpreter for the environment: the one given, else the first of `PYTHONS` that fits.

    Returns
    -------
    path : str or None
        None where none is new enough and able to make an environment.
    package : str
        What the system's package manager calls the one that would do.
    """
    package = "python3.11"
    for name in [given] if given else PYTHONS:
        found = version(name)
        if found and found[0] >= OLDEST:
            if found[1]:
                return name, ""
            package = f"python{found[0][0]}.{found[0][1]}"
    return None, package


def environment(given=None):
    """Make .venv, if need be with a Python that is installed for it."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < GIGABYTES:
        raise SystemExit(
            f"The disk that holds {ROOT} has {free:.1f} GB free; to install the environment takes "
            f"about {GIGABYTES} GB, of which 7 stay. Make room, or clone onto another disk."
        )
    python, package = find_python(given)
    if not python and not given:
        NEEDS["python"] = Need(
            lambda: find_python()[0] is not None,
            # Debian keeps what makes environments in a package of its own.
            f"{package} {package}-venv", package, package.replace("python", "python@")
        )  # fmt: skip
        install(["python"])
        python, package = find_python()
    if not python:
        raise SystemExit(
            f"The course needs Python {OLDEST[0]}.{OLDEST[1]} or newer with its module venv; "
            + (f"{given} is not that (PYTHON=... names another)." if given else "install it by\n")
            + ("" if given else commands(["python"]))
        )
    raise SystemExit(subprocess.run([python, "-m", "venv", ".venv"]).returncode)


def tests():
    """Look for what the tests need, install what may be installed, name the rest."""
    lacking = missing()
    if lacking:
        install(lacking)
        lacking = missing()
    if "browser" in lacking:
        if importlib.util.find_spec("playwright"):
            install_browser()
            lacking = missing()
        elif answers(BROWSERS):
            print("A browser will come from Playwright, once there is an environment.")
            lacking.remove("browser")
    if lacking:
        raise SystemExit(
            f"The tests need what this machine lacks: {', '.join(lacking)}.\n{commands(lacking)}"
        )
    if LINUX:
        said = namespaces()
        if said:
            raise SystemExit(f"bubblewrap is installed but can not start: {said}\n{MENDING}")
    else:
        for name, reason in LINUX_ONLY.items():
            print(f"{name} is left out on {platform.system()}: {reason}.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["environment"] and len(sys.argv) <= 3:
        environment(*filter(None, sys.argv[2:]))
    elif sys.argv[1:] == ["tests"]:
        tests()
    else:
        raise SystemExit(__doc__)
