"""Other people's machines: odd folders, locales and homes; another torch; the book's lock."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from refusing import refuses

import vgglib
from conftest import CHAPTERS, ROOT, project
from vgglib.train import checkpoint
from vgglib.train.__main__ import main

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
    build = project()["tool"]["hatch"]["build"]
    shutil.copytree(ROOT / "vgglib", folder / "vgglib", ignore=shutil.ignore_patterns("*.pyc"))
    included = build["targets"]["wheel"]["force-include"]
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


@pytest.mark.long  # the first chapter once more
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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_help_is_printed_whatever_the_terminal_can_show(encoding, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    terminal.flush()
    assert ended.value.code == 0 and "weight_decay" in terminal.buffer.getvalue().decode(encoding)


def folder_of_photos(folder):
    """Two classes of two small photos, for training and validation, as ImageNet's folders lie."""
    for part in ("train", "val"):
        for number, name in enumerate(("n01", "n02")):
            (folder / part / name).mkdir(parents=True)
            for photo in range(2):
                picture = Image.new("RGB", (40, 40), (90 * number, 60 * photo, 30))
                picture.save(folder / part / name / f"{photo}.jpeg")
    return folder


# The command line, with processes started as Windows, macOS and Python 3.14 do, and, where the
# first word says so, without the modules that Windows lacks.
ELSEWHERE = """
import multiprocessing, sys
if sys.argv[1] == "windows":
    sys.modules["fcntl"] = sys.modules["resource"] = None  # importing them fails
from vgglib.train.__main__ import main
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "start"),
    [pytest.param("windows", "spawn", marks=pytest.mark.long), ("linux", "forkserver")],
)
def test_photos_are_trained_on_however_processes_start(tmp_path, system, start):
    photos = folder_of_photos(tmp_path / "photos")
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE)
    options = ["--net", "A", "--width", "0.0625", "--data", "imagenet", "--root", photos]
    options += ["--image-size", "32", "--epochs", "1", "--batch-size", "2", "--workers", "1"]
    options += ["--out", tmp_path / "run", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, system, start, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert vgglib.load_run(tmp_path / "run")


def test_without_fcntl_a_second_run_in_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "fcntl", None)
    alone = checkpoint.only_run_in
    with alone(tmp_path), refuses(OSError, got=tmp_path.name, remedy="out="), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_an_install_leaves_torch_torchvision_and_numpy():
    """The package asks for no newer ones than the oldest supported."""
    asked = project()["project"]["dependencies"]
    wanted = {r.name: r.specifier for r in map(Requirement, asked)}
    for name, versions in (
        ("torch", ["2.4.0", "2.6.0+cu124", "2.11.0", "2.15.0+cpu"]),
        ("torchvision", ["0.19.0", "0.26.0", "0.29.2"]),
        ("numpy", ["1.26.4", "2.0.2", "2.4.6"]),
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
