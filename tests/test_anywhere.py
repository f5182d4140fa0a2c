"""Other people's machines: odd folders, locales and homes; another torch; the book's lock."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import tomllib
from conftest import CHAPTERS, ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vgglib

ODD = "Möbel und Ящик"

# What chapters use of the package, in little; prints where it came from.
PROGRAM = """
import json, locale, os, sys, types
if "colab" in sys.argv:
    for name in ("google", "google.colab"):
        sys.modules[name] = types.ModuleType(name)
import vgglib
print(json.dumps({
    "file": os.fsencode(vgglib.__file__).hex(),
    "encoding": locale.getpreferredencoding(False),
    "images": len(vgglib.data.load("fashion-mnist-mini").train),
    "parameters": int(vgglib.anatomy("D").params.sum()),
    "standin": vgglib.standin().training_data["classes"][0],
    "recorded": vgglib.recorded("throughput") is not None,
    "photos": len(vgglib.data.photos()),
    "widget": "vgg-widget" in vgglib.widgets.NetworkExplorer().html(),
}))
"""


def installed(folder):
    """The package as a wheel lays it out, without the repository, in files that none may write."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shutil.copytree(ROOT / "vgglib", folder / "vgglib", ignore=shutil.ignore_patterns("*.pyc"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, target in included.items():
        shutil.copytree(ROOT / source, folder / target)
    return folder


def hostile(site, source, work, *arguments, **environment):
    """Python with the package from the folder ``site``, which is ``source`` and none may write.

    No home to write to, so no cache, and no data in it; no network; a locale that is not UTF-8.
    """
    environment |= {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(site),
        "HOME": "/proc/none",  # no folder can be made there, not even by root
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = ["bwrap", "--unshare-user", "--unshare-net", "--bind", "/", "/", "--dev", "/dev"]
    command += ["--ro-bind", source, site, "--chdir", work, sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.mark.slow
def test_a_hostile_machine(tmp_path):
    """No repository, a path with spaces and letters of two scripts, Colab's module in memory."""
    site = installed(tmp_path / ODD)
    work = tmp_path / "elsewhere"
    work.mkdir()
    done = hostile(site, site, work, "-c", PROGRAM, "colab")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # Under such a locale the path's letters are no text; its bytes are what counts.
    assert bytes.fromhex(told.pop("file")) == os.fsencode(site / "vgglib" / "__init__.py")
    assert told.pop("encoding").lower() not in ("utf-8", "utf8")
    assert told == {
        "images": 2000,
        "parameters": 138_357_544,
        "standin": "airplane",
        "recorded": True,
        "photos": 6,
        "widget": True,
    }
    assert list(work.iterdir()) == []


@pytest.mark.slow
def test_a_chapter_on_a_hostile_machine(tmp_path):
    """The first chapter whole, out of a read-only checkout in such a path: the same outputs."""
    checkout, folder = tmp_path / ODD, str(tmp_path / "jupyter")
    checkout.mkdir()
    done = hostile(
        checkout,
        ROOT,
        checkout / "notebooks",
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"),
        "01_architecture.ipynb",
        JUPYTER_RUNTIME_DIR=folder,  # no kernel starts without a folder to write to
        MPLCONFIGDIR=folder,  # matplotlib makes one and says so, which would be one more output
    )
    cells = [c for c in CHAPTERS[0].of("code") if c.source]
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(cells)} passed" in done.stdout
    assert list(checkout.iterdir()) == []


def test_an_install_leaves_torch_torchvision_and_numpy():
    """The package asks for no newer torch than the oldest supported, and for no numpy at all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    assert "numpy" not in wanted
    for name, versions in (
        ("torch", ["2.4.0", "2.6.0+cu124", "2.11.0", "2.15.0+cpu"]),
        ("torchvision", ["0.19.0", "0.26.0", "0.29.2"]),
    ):
        assert all(wanted[name].contains(version) for version in versions)
        assert {spec.operator for spec in wanted[name]} == {">="}


def test_the_lock_is_that_of_the_requirements():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.M))
    assert len(locked) == len(re.findall(r"^\w", lock, re.M)), "each with a hash"
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.split("#")[0]) for line in lines if line and line[0] != "#"]
    for pin in pins:
        version = locked.get(canonicalize_name(pin.name))
        assert version and pin.specifier.contains(version), f"{pin}: run `make lock`"
    assert vgglib.__name__ not in locked
