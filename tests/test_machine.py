"""A bare machine: what is missing is installed where that asks nothing, else named at once."""

import os
import subprocess
import sys
from types import SimpleNamespace

import machine
import pytest

FAKE = {
    "bwrap": "#!/bin/sh\nexit 0\n",
    "jq": "#!/bin/sh\nexit 0\n",
    "chromium": "#!/bin/sh\necho Chromium 156\n",
    # What Ubuntu has in place of a browser.
    "chromium-browser": "#!/bin/sh\necho 'requires the chromium snap' >&2\nexit 1\n",
}
# A package manager that writes down what it is asked for, and "installs" bwrap and chromium.
MANAGER = """#!/bin/sh
echo "$0" "$@" >> {told}
case "$*" in *install*)
  for name in bwrap jq chromium; do
    printf '#!/bin/sh\\nexit 0\\n' > {folder}/$name
    /bin/chmod +x {folder}/$name
  done;;
esac
"""


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A Linux machine with no program at all, and a function that adds one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(machine, "LINUX", True)
    monkeypatch.setattr(machine, "has_fonts", lambda: True)
    monkeypatch.setattr(machine, "answers", lambda url: False)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(machine, "NEEDS", {**machine.NEEDS, **needs("chromium")})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e12))

    def add(name, script=None):
        path = folder / name
        path.write_text(script or FAKE[name])
        path.chmod(0o755)

    add.folder = folder
    return add


def needs(chromium):
    """The browser as a need where the package manager has it under this name, or has it not."""
    return {"browser": machine.NEEDS["browser"]._replace(apt=chromium)}


def manager(bare, name="apt-get"):
    """A fake package manager; the file with what it was asked for."""
    told = bare.folder.parent / "told"
    told.touch()
    bare(name, MANAGER.format(told=told, folder=bare.folder))
    return told


def test_with_everything_there_nothing_is_done(bare, capsys):
    for name in ("bwrap", "jq", "chromium"):
        bare(name)
    machine.tests()
    assert capsys.readouterr().out == ""


def test_what_is_missing_is_installed_as_root(bare, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    told = manager(bare)
    bare("env", '#!/bin/sh\nshift\nexec "$@"\n')
    bare("jq")
    machine.tests()
    update, install = told.read_text().splitlines()
    assert "update" in update
    assert {"chromium", "bubblewrap"} < set(install.split()) and "jq" not in install.split()


def test_sudo_is_used_where_it_asks_nothing(bare):
    told = manager(bare)
    bare("env", '#!/bin/sh\nshift\nexec "$@"\n')
    bare("sudo", f'#!/bin/sh\necho sudo "$@" >> {told}\nshift\n[ "$1" = true ] || exec "$@"\n')
    machine.tests()
    lines = told.read_text().splitlines()
    asked = [n for n, line in enumerate(lines) if line.startswith(str(bare.folder))]
    assert len(asked) == 2 and all(lines[n - 1].startswith("sudo -n ") for n in asked)


def test_without_rights_the_commands_are_named_and_nothing_is_run(bare):
    told = manager(bare)
    bare("sudo", "#!/bin/sh\nexit 1\n")  # it would ask for a password
    with pytest.raises(SystemExit) as stopped:
        machine.tests()
    said = str(stopped.value).splitlines()
    assert told.read_text() == ""
    for name in ("browser", "bubblewrap", "jq"):
        assert name in said[0]
    for command, package in (("apt-get", "bubblewrap"), ("dnf", "bubblewrap"), ("brew", "jq")):
        (line,) = (line for line in said if command in line)
        assert package in line.split()


def test_ubuntus_script_is_no_browser_and_playwright_brings_one(bare, monkeypatch, capsys):
    for name in ("bwrap", "jq", "chromium-browser"):
        bare(name)
    monkeypatch.setattr(machine, "NEEDS", {**machine.NEEDS, **needs(None)})
    with pytest.raises(SystemExit) as stopped:
        machine.tests()
    assert "playwright install" in str(stopped.value)
    # Where its host answers, the environment's Playwright will see to it.
    monkeypatch.setattr(machine, "answers", lambda url: True)
    machine.tests()
    # With the environment there, it does.
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: object())
    python = bare.folder / "python"
    bare("python", MANAGER.format(told=bare.folder.parent / "told", folder=bare.folder))
    monkeypatch.setattr(sys, "executable", str(python))
    machine.tests()
    assert "playwright install chromium" in (bare.folder.parent / "told").read_text()


def test_namespaces_that_are_switched_off_are_named_with_the_setting(bare):
    for name in ("jq", "chromium"):
        bare(name)
    bare("bwrap", "#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    with pytest.raises(SystemExit) as stopped:
        machine.tests()
    said = str(stopped.value)
    assert "uid map" in said and "apparmor_restrict_unprivileged_userns=0" in said


def test_elsewhere_what_needs_linux_is_left_out_by_name(bare, monkeypatch, capsys):
    for name in ("jq", "chromium"):
        bare(name)
    monkeypatch.setattr(machine, "LINUX", False)
    machine.tests()
    (line,) = capsys.readouterr().out.splitlines()
    assert "bubblewrap" in line and "Linux" in line


PYTHON = "#!/bin/sh\necho {}\n"


@pytest.mark.parametrize(
    ("there", "found", "package"),
    [
        ({"python3": "3 11 True"}, "python3", ""),
        ({"python3": "3 13 True", "python3.12": "3 12 True"}, "python3.12", ""),
        ({"python3": "3 10 True"}, None, "python3.11"),  # Ubuntu 22.04
        ({"python3": "3 13 False"}, None, "python3.13"),  # Debian without python3-venv
        ({}, None, "python3.11"),
    ],
)
def test_the_python_of_the_environment(bare, there, found, package):
    for name, said in there.items():
        bare(name, PYTHON.format(said))
    assert machine.find_python() == (found, package)


def test_a_python_that_can_make_no_environment_gets_the_package_that_can(bare, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    told = manager(bare)
    bare("env", '#!/bin/sh\nshift\nexec "$@"\n')
    bare("python3", PYTHON.format("3 13 False"))
    with pytest.raises(SystemExit) as stopped:
        machine.environment()
    assert "python3.13-venv" in told.read_text().split()
    assert "python3.13-venv" in str(stopped.value).split()  # this manager had it not
    bare("python3.12", PYTHON.format("3 9 True"))
    with pytest.raises(SystemExit) as stopped:
        machine.environment("python3.12")
    assert "3.11" in str(stopped.value) and "python3.12" in str(stopped.value)


@pytest.mark.parametrize(("free", "made"), [(1.5e9, False), (20e9, True)])
def test_a_full_disk_is_told_before_anything_is_installed(bare, monkeypatch, free, made):
    bare("python3", PYTHON.format("3 11 True"))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(SystemExit) as stopped:
        machine.environment()
    said = str(stopped.value)
    assert said == "0" if made else {"1.5", "GB", str(machine.GIGABYTES)} < set(said.split())


def test_the_interpreter_here_is_understood():
    assert machine.version(sys.executable) == (sys.version_info[:2], True)
    assert machine.version("no such python") is None


def test_an_old_python_can_read_the_file():
    """It has to say what is missing where Python itself is too old: no syntax beyond 3.8."""
    source = f"compile(open({machine.__file__!r}).read(), 'machine.py', 'exec')"
    check = f"import ast; ast.parse(open({machine.__file__!r}).read(), feature_version=(3, 8))"
    subprocess.run([sys.executable, "-c", f"{source}\n{check}"], check=True)
