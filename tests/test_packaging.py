"""What an install brings: what is asked for, what runs without the extras, names, types, files."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from refusing import lacks
from set_address import address

import vgglib
from conftest import ROOT, project

PACKAGE = ROOT / "vgglib"
GRADER = ROOT / "grader"
METADATA = project()["project"]
EXTRAS = METADATA["optional-dependencies"]
BROUGHT = {
    "inside": ["captum", "skimage", "sklearn"],
    "plots": ["matplotlib"],
    "widgets": ["anywidget", "ipywidgets", "traitlets", "IPython"],
}
# What extras bring, and what else is slow to import and seldom needed.
NOT_AT_ONCE = [*chain(*BROUGHT.values()), "tensorboard", "scipy", "torch.onnx", "torch._inductor"]


def distributions(requirements):
    return {canonicalize_name(Requirement(one).name) for one in requirements}


@cache
def brought(name):
    """A distribution and those that it always brings, one step down."""
    asked = map(Requirement, importlib.metadata.requires(name) or ())
    always = (one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""}))
    return {canonicalize_name(name), *(canonicalize_name(one.name) for one in always)}


def imported(path):
    """Modules from outside that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def used(package):
    """Distributions from outside that a package's files import."""
    of_module = importlib.metadata.packages_distributions()
    modules = {name for path in package.rglob("*.py") for name in imported(path)}
    modules -= {*sys.stdlib_module_names, package.name}
    return {canonicalize_name(name) for module in modules for name in of_module[module]}


def test_what_is_imported_is_asked_for_and_what_is_asked_for_is_imported():
    asked = distributions([*METADATA["dependencies"], *chain(*EXTRAS.values())])
    asked -= {"vgglib"}
    wanted = used(PACKAGE)
    assert wanted <= set().union(*map(brought, asked))
    # TensorBoard is imported by torch.
    assert asked - wanted <= {"ipywidgets", "tensorboard"}
    course = {"vgglib[inside,plots,widgets]"}
    assert set(EXTRAS["course"]) == course and "tensorboard" in EXTRAS


def alone(program, *blocked):
    """A Python of its own in which modules can not be imported."""
    program = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n{program}"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_package_comes_up_with_nothing_that_is_not_needed_at_once():
    # What torch and torchvision load by themselves is not ours to save.
    program = f"""import torch, torchvision
before = set(sys.modules)
import vgglib
print(*[name for name in {NOT_AT_ONCE!r} if name in set(sys.modules) - before])"""
    done = alone(program)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


@pytest.mark.slow
def test_training_needs_no_extra(tmp_path):
    words = ["--net", "A", "--width", "0.0625", "--data", "fashion-mnist-mini", "--epochs", "1"]
    words += ["--quiet", "--out", str(tmp_path)]
    program = f"from vgglib.train.__main__ import main; sys.exit(main({words!r}))"
    done = alone(program, *chain(*BROUGHT.values()))
    assert done.returncode == 0, done.stderr
    assert vgglib.load_run(tmp_path) and (tmp_path / "history.csv").exists()


# Extra, a module of it, and what needs that.
USES = [
    ("plots", "matplotlib", "from vgglib.plots import curves"),
    ("widgets", "matplotlib", "vgglib.widgets.LiveVGG"),
    ("widgets", "anywidget", "vgglib.widgets.LiveVGG"),
    ("widgets", "IPython", "vgglib.plots.show(None, '')"),
    ("inside", "captum", "vgglib.features.saliency(net, image)"),
    ("inside", "captum", "vgglib.features.occlusion(net, image)"),
    ("inside", "captum", "vgglib.features.grad_cam(net, image)"),
    ("inside", "skimage", "vgglib.data.photos()"),
    ("inside", "sklearn", "vgglib.transfer.linear_classifier(image, image)"),
]


@pytest.mark.slow
def test_what_needs_an_extra_says_which():
    program = f"""
import torch, vgglib
net, image = vgglib.vgg("A", width=1 / 64, image_size=32), torch.zeros(3, 32, 32)
for extra, module, use in {USES!r}:
    here = dict(sys.modules)
    sys.modules.update({{name: None for name in (module, *here) if name.split(".")[0] == module}})
    try:
        exec(use)
    except ModuleNotFoundError as error:
        print(error)
    for name in [name for name in sys.modules if sys.modules[name] is None]:
        del sys.modules[name]
    sys.modules.update(here)
"""
    done = alone(program)
    said = done.stdout.splitlines()
    assert done.returncode == 0 and len(said) == len(USES), done.stderr
    for (extra, module, _), message in zip(USES, said, strict=True):
        assert not lacks(message, [module, f"vgglib[{extra}]"]), message


# Names ------------------------------------------------------------------------------------


def documented():
    """Names that the page of the package's documentation has, members with their class."""
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    for name, options in re.findall(
        r"^\.\. auto\w+:: ([\w.]+)\n((?:   :.*\n)*)", page, re.MULTILINE
    ):
        yield name
        for members in re.findall(r":members: (.+)", options):
            yield from (f"{name}.{member}" for member in members.split(", "))


@pytest.mark.slow
def test_every_documented_name_is_there_after_import_vgglib():
    names = list(documented())
    assert len(names) > 100 and "vgglib.plots.Live" in names
    # In a process of its own: here other tests have imported what the page's reader has not.
    program = f"import vgglib\nfor name in {names!r}: eval(name)"
    done = alone(program)
    assert done.returncode == 0, done.stderr


def test_names_in_docstrings_and_messages_are_there():
    """``vgglib.train`` is a function, so that vgglib.train.processes, say, is nothing."""
    named, told = re.compile(r"(?<![\w./-])vgglib((?:\.[A-Za-z_]\w*)+)"), set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = re.sub(
                    r"(from|python -m|:mod:`)\s*vgglib[\w.]*|vgglib-[\w.-]*", "", node.value
                )
                told |= {"vgglib" + match for match in named.findall(text)}
    program = f"import vgglib\nfor name in {sorted(told - {'vgglib.pixels'})!r}: eval(name)"
    done = alone(program)  # "vgglib.pixels" is a key in files
    assert done.returncode == 0 and len(told) > 30, done.stderr


@pytest.mark.parametrize("name", vgglib.__all__)
def test_every_exported_name_is_there(name):
    assert getattr(vgglib, name) is not None


# Files ------------------------------------------------------------------------------------


def build(project, folder):
    """The paths of a project's wheel and sdist."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", folder]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Names of the files of wheel and sdist, and the wheel's metadata."""
    wheel, sdist = build(ROOT, tmp_path_factory.mktemp("dist"))
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        metadata = file.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    with tarfile.open(sdist) as file:
        members = [name.partition("/")[2] for name in file.getnames()]
    return set(names), set(members), metadata


def test_the_wheel_is_what_runs(built):
    wheel, _, metadata = built
    files = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    recorded = {
        f"vgglib/assets/recorded/{p.name}" for p in (ROOT / "benchmarks/recorded").iterdir()
    }
    info = f"vgglib-{vgglib.__version__}.dist-info"
    assert {name for name in wheel if not name.startswith(info)} == files | recorded
    assert "vgglib/py.typed" in wheel and not any("/make_" in name for name in wheel)
    assert f"{info}/licenses/LICENSE" in wheel
    lines = metadata.splitlines()
    assert "License-Expression: MIT" in lines and f"Version: {vgglib.__version__}" in lines
    urls = [line for line in lines if line.startswith("Project-URL")]
    owner, name = address(ROOT)
    assert all(f"{owner}/{name}" in line or f"{owner}.github.io/{name}/" in line for line in urls)


def test_the_sdist_is_what_a_build_needs(built):
    _, sdist, _ = built
    assert {"pyproject.toml", "README.md", "LICENSE", "vgglib/py.typed"} <= sdist
    tops = {name.partition("/")[0] for name in sdist}
    assert not tops & {"notebooks", "tests", "tools", "book", "paper", "grader"}, tops


@pytest.mark.grader
@pytest.mark.linux("submissions run in a sandbox made of Linux namespaces")
def test_the_grader_is_a_wheel_of_its_own_that_runs(tmp_path):
    """Away from the repository; with it come its pages, its worker and what it asks for."""
    wheel, _ = build(GRADER, tmp_path)
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(installed)
    package = GRADER / "very_deep_grader"
    files = {path.relative_to(GRADER) for path in package.rglob("*.*")}
    files = {path for path in files if "__pycache__" not in path.parts}
    assert files == {p.relative_to(installed) for p in installed.glob("very_deep_grader/**/*.*")}
    asked = distributions(project(GRADER)["project"]["dependencies"])
    # IPython takes matplotlib-inline by name; an answer may be pandas's and need not.
    assert asked ^ used(package) == {"matplotlib-inline", "pandas"}
    assert (GRADER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    source = ROOT / "notebooks/assignments/01_architecture.ipynb"
    (tmp_path / "in").mkdir()
    shutil.copy(source, tmp_path / "in" / "ada_01_architecture.ipynb")
    command = [sys.executable, "-m", "very_deep_grader", "in", "out", "--assignments"]
    done = subprocess.run(
        [*command, source.parent],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "1 files, 1 graded now" in done.stdout, done.stderr
