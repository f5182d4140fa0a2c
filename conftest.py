"""How the suite runs: its tiers, which tests share a process, what a cut or failed run says.

Here, and not in ``tests/``, so that it holds for the cells of chapters, too. Tiers are markers:
`make quick` leaves out all of `SLOWER`, `make test` only ``long``, `make test-all` none. A test
that opens a page or needs the built book is marked by the fixture that it uses.
"""

import json
import os
import re
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parent
RUNNING = ROOT / "_build" / "running.txt"
RECORD = ROOT / "benchmarks" / "recorded" / "suite.json"
SLOWER = {
    "browser": "opens pages in a browser",
    "book": "needs the built book",
    "grader": "runs submissions in the grader's sandbox",
    "slow": "takes more than a few seconds",
    "long": "slow, and seldom the first to notice a fault; `make test-all` runs it",
}
LINUX = sys.platform == "linux"
# Files that are not even read elsewhere, and why.
NEED_LINUX = {
    "test_grading.py": "the grader's sandbox is made of Linux namespaces",
    "test_anywhere.py": "hostile machines are made with bubblewrap",
    "test_project.py": "the workflows' scripts are for Linux",
    "test_heap.py": "the settings are those of Linux's allocator",
}
PAGE = re.compile(r"\[(.+?)(?:-light|-dark)?\]$")
BY_FIXTURE = {
    "browser": "browser",
    "lab": "browser",
    "book": "book",
    "small_page": "book",
    "decks": "slow",
}


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="only what is in no slower tier")


def pytest_configure(config):
    if config.getoption("quick"):
        config.option.markexpr = f"not ({' or '.join(SLOWER)})"
    for name, meaning in SLOWER.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.addinivalue_line("markers", "linux(reason): needs Linux; elsewhere it is skipped")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Watch(), "watch")
        if config.getoption("nbval", default=False):
            ask_figures()


def ask_figures():
    """Let each kernel hold the chapters' figures to show all of their data."""
    startup = ROOT / "_build" / "ipython" / "profile_default" / "startup" / "figures.py"
    startup.parent.mkdir(parents=True, exist_ok=True)
    startup.write_text(
        f"""import sys; sys.path.append({str(ROOT / "tests")!r})
import drawn, vgglib.plots; drawn.ask_each(vgglib.plots); del sys, drawn, vgglib""",
        encoding="utf-8",
    )
    os.environ["IPYTHONDIR"] = str(ROOT / "_build" / "ipython")


def pytest_report_header(config):
    """What is left out on this system, a line each."""
    return [] if LINUX else [f"left out: {name}: {why}" for name, why in NEED_LINUX.items()]


def pytest_ignore_collect(collection_path, config):
    return True if not LINUX and collection_path.name in NEED_LINUX else None


class Groups(LoadFileScheduling):
    """Tests of a file run in one process, in order; of the book's pages, each page is a group."""

    # pytest-xdist's own mark for groups, xdist_group, does nothing from pytest 9.2 on.
    def _split_scope(self, nodeid):
        return group(nodeid)


def group(nodeid):
    """The file of a test; for tests of the built book's pages, file and page."""
    file, _, test = nodeid.partition("::")
    page = PAGE.search(test) if file.endswith("test_browser.py") else None
    return f"{file} {page[1]}" if page else file


def pytest_xdist_make_scheduler(config, log):
    return Groups(config, log)


def pytest_collection_modifyitems(config, items):
    """Mark tiers and groups; the groups that took longest when recorded begin."""
    for item in items:
        for fixture in BY_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(BY_FIXTURE[fixture])
        for needed in item.iter_markers("linux"):
            if not LINUX:
                item.add_marker(pytest.mark.skip(reason=f"needs Linux: {needed.args[0]}"))
    if hasattr(config, "workerinput"):
        seconds = recorded_seconds()
        items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], 0))


def recorded_seconds():
    """Seconds of each file of tests as ``benchmarks/suite.py`` recorded them."""
    if not RECORD.exists():
        return {}
    runs = json.loads(RECORD.read_text(encoding="utf-8"))["runs"]
    return {run["label"]: run["seconds"] for run in runs}


class Watch:
    """In the process that reports: keeps what is running now, and says it when the run is cut."""

    def __init__(self):
        self.running = []
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, self.cut)

    def cut(self, *_):
        """End as with Ctrl-C, so that fixtures are torn down and the summary is written."""
        raise KeyboardInterrupt

    def note(self):
        with suppress(OSError):  # a checkout that none may write
            RUNNING.parent.mkdir(exist_ok=True)
            RUNNING.write_text("".join(f"{name}\n" for name in self.running), encoding="utf-8")

    def pytest_runtest_logstart(self, nodeid):
        self.running.append(nodeid)
        self.note()

    def pytest_runtest_logfinish(self, nodeid):
        if nodeid in self.running:
            self.running.remove(nodeid)
        self.note()

    def pytest_sessionfinish(self):
        with suppress(OSError):
            RUNNING.unlink(missing_ok=True)

    def pytest_terminal_summary(self, terminalreporter):
        """What was running, and how each failed test is run again."""
        if self.running:
            terminalreporter.section("The run was cut off while these were running")
            for name in self.running:
                terminalreporter.line(name)
        failed = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
        names = dict.fromkeys(report.nodeid for report in failed)
        if names:
            terminalreporter.section("Run one of them again")
        for name in names:
            terminalreporter.line(again(name))


def again(nodeid):
    """The command that runs one test, or the chapter whose cell failed."""
    python = os.path.relpath(sys.executable, ROOT) if ROOT in Path(sys.executable).parents else ""
    command = [python or sys.executable, "-m", "pytest"]
    file, _, _ = nodeid.partition("::")
    if file.endswith(".ipynb"):  # a cell needs those before it
        return shlex.join([*command, "--nbval", "--nbval-current-env", file])
    return shlex.join([*command, nodeid])
