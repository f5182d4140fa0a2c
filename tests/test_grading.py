"""The grader against what submissions are like: noisy, broken, hostile.

The hostile ones are bounded stand-ins, so that a sandbox that fails harms nothing. Where one seeks
something that it must not have, its answers are right only if it got it: points mean a leak.
"""

import contextlib
import copy
import csv
import dataclasses
import errno
import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import assignment_fixture
import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refuses
from very_deep_grader import __main__ as grade
from very_deep_grader import batch, check, sandbox
from very_deep_grader import session as session_of
from very_deep_grader.examine import examine
from very_deep_grader.inside import channel
from very_deep_grader.inside.codec import Decoder, Encoder, TooLargeError
from very_deep_grader.sandbox import Limits
from very_deep_grader.session import OutOfTime, Session
from very_deep_grader.source import Source

pytestmark = pytest.mark.grader
# 1.5 GiB: the worker with torch takes half of it. Patient: the machine may be a busy one.
LIMITS = Limits(cell=12, call=4, submission=90, patience=40, memory=3 * 2**29, processes=64)
BATCH = dataclasses.replace(LIMITS, cell=8, call=2, memory=LIMITS.memory + os.getpid())
MACS = "def conv_macs(channels, filters, side, kernel=3):\n    "
MACS_RIGHT = MACS + "return channels * filters * kernel**2 * side**2"
NORMALISE_RIGHT = (
    "def normalise(batch):\n    return batch - batch.mean(dim=(0, 2, 3), keepdim=True)"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The small assignment."""
    path = tmp_path_factory.mktemp("sources") / "00_trial.ipynb"
    nbformat.write(assignment_fixture.assignment(), path)
    return Source(path)


@pytest.fixture(scope="module")
def session():
    """One worker for submissions that mean no harm."""
    sandbox.check()
    with Session(LIMITS) as session:
        yield session


@pytest.fixture
def solved(source):
    """A right submission as a notebook."""
    return source.answered({**source.reference(), "argue": "Each layer adds a nonlinearity."})


def points(result):
    """Points by task, None where a person has to look."""
    assert result["problem"] is None
    return {name: entry["points"] for name, entry in result["tasks"].items()}


RIGHT = {"macs": 3, "normalise": 4, "argue": None}


# Noise ------------------------------------------------------------------------------------


def strip(notebook):
    for cell in notebook.cells:
        cell.metadata.clear()


def by_colab(notebook):
    notebook.metadata = nbformat.from_dict(
        {
            "colab": {"provenance": [], "toc_visible": True},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "accelerator": "GPU",
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.metadata.update({"id": f"x{number}Yz", "colab": {"base_uri": "https://localhost/"}})


def by_vs_code(notebook):
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    notebook.metadata["vscode"] = {"interpreter": {"hash": "0"}}
    for cell in notebook.cells:
        cell.metadata["vscode"] = {"languageId": "python"}


def other_kernel(notebook):
    notebook.metadata["kernelspec"] = {"name": "dl-2026", "display_name": "Deep", "language": ""}


def added(notebook):
    cells = notebook.cells
    cells.insert(0, nbformat.v4.new_code_cell("from math import prod"))
    cells.insert(3, nbformat.v4.new_code_cell("!echo hello\n%matplotlib inline\nprod([1, 2])"))
    cells.append(
        nbformat.v4.new_code_cell("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()")
    )
    cells.append(nbformat.v4.new_code_cell("1 / 0"))


def reordered(notebook):
    notebook.cells = notebook.cells[6:] + notebook.cells[:6][::-1]


def deleted(notebook):
    """All but the answers."""
    notebook.cells = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution")]


def renamed(notebook):
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"]["grade_id"] = "cell-" + cell.metadata["nbgrader"]["grade_id"]
        if cell.cell_type == "markdown" and cell.source.startswith("## Task"):
            cell.source = cell.source.splitlines()[0] + "\n\nMy notes."


def checks_edited(notebook):
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("locked"):
            cell.source = "assert True"


def copied(notebook):
    first = copy.deepcopy(notebook.cells[3])
    first.source, first.id = "def conv_macs(*_):\n    return 0", "copy"
    notebook.cells.insert(3, first)


def large_outputs(notebook):
    block = nbformat.v4.new_output("stream", text="0123456789" * 3_000_000)
    notebook.cells[3].outputs = [block]


NOISE = [
    strip,
    by_colab,
    by_vs_code,
    other_kernel,
    added,
    reordered,
    deleted,
    renamed,
    checks_edited,
    copied,
    large_outputs,
]


@pytest.mark.parametrize("change", NOISE, ids=lambda change: change.__name__)
def test_noise_costs_no_points(source, session, solved, change):
    change(solved)
    assert points(examine(source, check.content(solved), LIMITS, session=session)) == RIGHT


DISPLAYS = [
    "%matplotlib",
    "%matplotlib widget",
    "%matplotlib qt",
    "%pylab notebook",
    "%config InlineBackend.figure_format = 'retina'",
    "import matplotlib\nmatplotlib.use('TkAgg')\nfrom matplotlib import pyplot\npyplot.plot([1])",
]


@pytest.mark.parametrize("display", DISPLAYS)
def test_a_display_that_is_not_there_costs_no_points(source, session, solved, display):
    for cell in solved.cells:
        if cell.cell_type == "code" and cell.source.startswith("def "):
            cell.source = f"{display}\n{cell.source}"
    result = examine(source, check.content(solved), LIMITS, session=session)
    assert points(result) == RIGHT and result["tasks"]["macs"]["error"] is None


def test_renamed_and_stripped_and_reordered_at_once(source, session, solved):
    for change in (added, strip, renamed):
        change(solved)
    assert points(examine(source, check.content(solved), LIMITS, session=session)) == RIGHT


@pytest.mark.parametrize("minor", [0, 2, 4, 5])
def test_older_forms_of_notebooks(source, session, solved, minor):
    tree = json.loads(nbformat.writes(solved))
    tree["nbformat_minor"] = minor
    if minor < 5:
        for cell in tree["cells"]:
            del cell["id"]
    content = b"\xef\xbb\xbf" + json.dumps(tree).encode()
    assert points(examine(source, content, LIMITS, session=session)) == RIGHT


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_notebook_in_a_wider_encoding(source, session, solved, encoding):
    content = check.content(solved).decode().encode(encoding)
    assert points(examine(source, content, LIMITS, session=session)) == RIGHT


def test_a_notebook_of_version_3(source, session, solved):
    content = nbformat.writes(solved, version=3).encode()
    assert json.loads(content)["nbformat"] == 3
    assert points(examine(source, content, LIMITS, session=session)) == RIGHT


def test_a_missing_answer_is_reported_and_the_others_count(source, session, solved):
    del solved.cells[3]
    result = examine(source, check.content(solved), LIMITS, session=session)
    assert points(result) == {**RIGHT, "macs": None}
    assert "could not match task macs" in result["remarks"][0]


def test_an_answer_in_another_cell_is_found(source, session, solved):
    del solved.cells[3]
    solved.cells.append(nbformat.v4.new_code_cell(MACS_RIGHT))
    assert points(examine(source, check.content(solved), LIMITS, session=session)) == RIGHT


def test_an_untouched_answer_for_a_person_gets_nothing(source, session):
    result = examine(source, check.content(source.released), LIMITS, session=session)
    assert points(result) == {"macs": 0, "normalise": 0, "argue": 0}
    assert result["remarks"] == ["not answered: macs, normalise, argue"]


def test_an_answer_for_a_person_in_a_cell_of_its_own_is_shown_to_the_person(
    source, session, solved
):
    answer = nbformat.v4.new_markdown_cell("More nonlinearities.")
    solved.cells[-1:] = [source.released.cells[-1], answer]
    result = examine(source, check.content(solved), LIMITS, session=session)
    assert points(result) == RIGHT
    assert result["tasks"]["argue"]["answer"].endswith("\n\nMore nonlinearities.")


UNREADABLE = {
    "pdf": (b"%PDF-1.7 ...", "a PDF"),
    "empty": (b"  ", "an empty file"),
    "html": (b"<!DOCTYPE html><html>", "a web page"),
    "zip": (b"PK\x03\x04....", "a ZIP archive"),
    "json": (b'{"a": 1}', "other JSON"),
    "list": (b"[1, 2]", "other JSON"),
    "cut": (b'{"cells": [', "damaged JSON"),
    "deep": (b"[" * 100_000, "something else"),
    "binary": (bytes(range(256)), "something else"),
    "cells": (b'{"cells": [{"cell_type": 3}], "nbformat": 4}', "damaged"),
    "other": (b'{"cells": "x", "nbformat": 4}', "damaged"),
    "parts": (b'{"cells": [' + b"{}," * 2_000_000 + b"{}]}", "more than 2,000,000 parts"),
    "conflict": (
        b'{\n "cells": [\n<<<<<<< HEAD\n  {}\n=======\r\n  []\n>>>>>>> theirs\n ]\n}',
        "conflict marks (<<<<<<<)",
    ),
    "latin": ('{"cells": [{"source": "größer"}]}'.encode("cp1252"), "save it as UTF-8"),
    "version": (b'{"worksheets": 7, "nbformat": "three"}', "damaged"),
}


@pytest.mark.parametrize(("content", "named"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_notebook_is_named(source, content, named):
    result = examine(source, content, LIMITS)
    assert named in result["problem"] and result["tasks"] == {}


# Hostile ----------------------------------------------------------------------------------

FORGE = """\
import json, os, socket, struct, stat
def forge(payload):
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, payload)
        except OSError:
            pass
"""
FRAME = """\
    text = json.dumps({{"id": {number}, "value": {value}, "sizes": []}}).encode()
    forge(struct.pack(">I", len(text)) + text)
"""


def hostile(marker, port):
    """Answers by student: ``{grade_id: code}`` where it is not the right one."""
    outside = str(marker)
    return {
        "loops in a call": {
            "normalise": "def normalise(batch):\n    while True:\n        pass",
        },
        "loops and can not be stopped": {
            "macs": "while True:\n    try:\n        sum(range(10**6))\n"
            "    except BaseException:\n        pass",
        },
        "forks": {
            "macs": "import os, time\nfor _ in range(300):\n    if os.fork() == 0:\n"
            "        time.sleep(1.5)\n        os._exit(0)\n" + MACS_RIGHT,
        },
        "allocates": {
            "macs": MACS + "held = [torch.ones(2**18) for _ in range(2048)]\n    return 576",
        },
        "allocates in children": {
            "macs": "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n"
            "        held = bytearray(5 * 10**8)\n        held[::4096] = b'1' * len(held[::4096])\n"
            "        time.sleep(10)\n        os._exit(0)\n"
            "for _ in range(4):\n    os.wait()\n" + MACS_RIGHT,
        },
        "snoops": {
            "macs": f"import os\nfound = os.path.exists({outside!r})\n"
            "for folder, _, files in os.walk('/'):\n"
            "    found |= any(f.endswith('.ipynb') and '/site-packages/' not in folder"
            " and 'share/jupyter' not in folder for f in files)\n"
            "    found |= any(f in ('examine.py', 'test_grading.py') and 'grad' in folder + f"
            " for f in files)\n" + MACS + "return channels * filters * kernel**2 * side**2 * found",
            "normalise": "import os, glob, pathlib\n"
            "seen = ''.join(pathlib.Path(p).read_text(errors='replace')"
            " for p in glob.glob('/proc/[0-9]*/cmdline'))\n"
            "leak = 'pytest' in seen or 'VGGLIB_TEST_SECRET' in os.environ or os.getuid() == 0\n"
            "def normalise(batch):\n    right = batch - batch.mean(dim=(0, 2, 3), keepdim=True)\n"
            "    return right if leak else right * torch.nan",
        },
        "writes and deletes": {
            "macs": "import os, pathlib, shutil, vgglib, sys\nharmed = 0\n"
            f"places = [{outside!r}, vgglib.__file__, sys.executable, '/usr/x', '/x', '/dev/x']\n"
            "for place in places:\n    try:\n        with open(place, 'a') as file:\n"
            "            file.write('#')\n        harmed += 1\n    except OSError:\n        pass\n"
            f"!rm -f {outside}\n"
            f"shutil.rmtree({os.path.dirname(outside)!r}, ignore_errors=True)\n"
            + MACS
            + "return channels * filters * kernel**2 * side**2 * bool(harmed)",
            "normalise": "import os\nwritten = 0\ntry:\n    for n in range(5):\n"
            "        with open(f'/tmp/{n}', 'wb') as file:\n"
            "            for _ in range(80):\n                written += file.write(bytes(2**20))\n"
            "except OSError:\n    pass\n"
            "def normalise(batch):\n    assert written < 300 * 2**20\n"
            "    return batch - batch.mean(dim=(0, 2, 3), keepdim=True)",
        },
        "calls home": {
            "macs": "import socket, glob\nreached = False\n"
            f"for kind, address in ((socket.AF_INET, ('127.0.0.1', {port})),"
            f" (socket.AF_UNIX, '\\0vgglib-test-{port}')):\n"
            "    try:\n        socket.socket(kind).connect(address)\n        reached = True\n"
            "    except OSError:\n        pass\n"
            + MACS
            + "return channels * filters * kernel**2 * side**2 * reached",
        },
        "exits in a cell": {"macs": "import os\nos._exit(0)"},
        "exits in a call": {"macs": "import os, signal\n" + MACS + "os.kill(os.getpid(), 9)"},
        "patches": {
            "macs": "import builtins, vgglib, numpy\nprint('score: 10/10')\n"
            "class Yes(int):\n    def __eq__(self, other):\n        return True\n"
            "    __hash__ = int.__hash__\n"
            "builtins.isinstance = builtins.isinstance\n"
            "torch.allclose = torch.equal = lambda *_, **__: True\n"
            "torch.Tensor.__eq__ = lambda *_: True\nvgglib.anatomy = None\n"
            "AssertionError = Exception\n" + MACS + "return Yes(1)",
            "normalise": "class Right(torch.Tensor):\n"
            "    @classmethod\n    def __torch_function__(cls, *_, **__):\n        return True\n"
            "def normalise(batch):\n    return batch.as_subclass(Right)",
        },
        "pretends": {
            "macs": "class Any:\n    shape = (4, 3, 8, 8)\n    def __eq__(self, other):\n"
            "        return True\n" + MACS + "return Any()",
            "normalise": "class Any:\n    def __getattr__(self, name):\n        return Any()\n"
            "    def __call__(self, *_, **__):\n        return Any()\n"
            "def normalise(batch):\n    return Any()",
        },
        "forges an answer": {
            "macs": FORGE
            + MACS
            + "\n"
            + FRAME.format(number=999, value='["i", "0x240"]')
            + "    return 1",
            "normalise": FORGE
            + "def normalise(batch):\n    forge(struct.pack('>I', 2**31) + b'x' * 99)\n"
            "    return batch",
        },
        "tampers with the worker": {
            "macs": "import sys\nfor name, module in list(sys.modules.items()):\n"
            "    if name.endswith('codec'):\n"
            "        module.Encoder.encode = lambda *_, **__: ['T', 'bool', [2**60], 0]\n",
        },
        "defines nothing": {"macs": "pass", "normalise": "normalise = 'yes'"},
        "returns too much": {
            "macs": MACS + "value = []\n    value.append(value)\n    return value",
            "normalise": "def normalise(batch):\n    return torch.zeros(1).expand(10**9)",
        },
    }


EXPECTED = {
    "loops in a call": (3, 0, "normalise-mean: your code took more than 2 s of processor time"),
    "loops and can not be stopped": (0, 4, "took more than 8 s of processor time and was ended"),
    "forks": (0, 4, ""),
    "allocates": (0, 4, ""),
    "allocates in children": (0, 4, "more than 1.5 GiB of memory"),
    "snoops": (0, 0, ""),
    "writes and deletes": (0, 4, ""),
    "calls home": (0, 4, ""),
    "exits in a cell": (0, 4, "ended its own process"),
    "exits in a call": (0, 4, "ended its own process"),
    "patches": (0, 0, "1 is not the count"),
    "pretends": (0, 0, "give a whole number"),
    "forges an answer": (0, 0, "sent what is no answer"),
    "tampers with the worker": (0, 4, ""),
    "defines nothing": (0, 0, "conv_macs is not defined"),
    "returns too much": (0, 0, "nested too deep"),
}


@pytest.fixture(scope="module")
def graded(source, tmp_path_factory):
    """All hostile submissions graded in one batch, and what was left of the marker file."""
    sandbox.check()
    os.environ["VGGLIB_TEST_SECRET"] = "not for submissions"
    folder = tmp_path_factory.mktemp("class")
    marker = folder.parent / "kept" / "marker"
    marker.parent.mkdir(exist_ok=True)
    marker.write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        server.setblocking(False)
        port = server.getsockname()[1]
        local.bind(f"\0vgglib-test-{port}")
        local.listen()
        local.setblocking(False)
        for student, answers in hostile(marker, port).items():
            path = folder / student / "00_trial.ipynb"
            path.parent.mkdir()
            path.write_bytes(check.content(source.answered({**source.reference(), **answers})))
        rows, fresh = batch.grade(folder, folder.parent / "results", [source], BATCH)
        for listening in (server, local):
            with pytest.raises(BlockingIOError):
                listening.accept()
    return {row["student"]: row for row in rows}, fresh, marker, folder


def test_every_hostile_submission_is_run(graded):
    rows, fresh, _, _ = graded
    assert rows.keys() == EXPECTED.keys() and fresh == len(EXPECTED)


@pytest.mark.parametrize("student", EXPECTED)
def test_hostile(graded, student):
    row = graded[0][student]
    macs, normalise, remark = EXPECTED[student]
    assert (row["macs"], row["normalise"]) == (f"{macs}", f"{normalise}"), row["remarks"]
    assert remark in row["remarks"]


def test_nothing_outside_was_touched_and_nothing_runs_on(graded):
    _, _, marker, _ = graded
    assert marker.read_text() == "kept"
    mark = str(BATCH.memory)  # in the arguments of each worker and of what it forked
    assert not [p for p in psutil.process_iter(["cmdline"]) if mark in str(p.info["cmdline"])]


def test_a_second_run_grades_only_what_changed(graded, source):
    _, _, _, folder = graded
    out = folder.parent / "results"
    before = (out / "grades.csv").read_bytes()
    _, fresh = batch.grade(folder, out, [source], BATCH)
    assert fresh == 0 and (out / "grades.csv").read_bytes() == before


# Time -------------------------------------------------------------------------------------


def normalise_after(first):
    """A right `normalise` that does something else before."""
    return NORMALISE_RIGHT.replace("    return", f"    import time\n    {first}\n    return")


def messages(result):
    """What the tests of `normalise` said, and its points."""
    entry = result["tasks"]["normalise"]
    return entry["points"], {test["message"] for test in entry["tests"]}


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("time.sleep(60)", "your code took more than 3 s by the clock"),
        ("while True: pass", "your code took more than 1 s of processor time"),
    ],
    ids=["sleeps", "computes"],
)
def test_what_sleeps_and_what_computes_is_ended(source, session, monkeypatch, first, said):
    limits = dataclasses.replace(LIMITS, call=1, patience=3 if "sleep" in first else 60)
    monkeypatch.setattr(session, "limits", limits)
    answers = {**source.reference(), "normalise": normalise_after(first)}
    content = check.content(source.answered(answers))
    assert messages(examine(source, content, limits, session=session)) == (0, {said})


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n"
         "        pass", "took more than 0.6 s by the clock and was ended"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'while True: pass'])",
         "took more than 0.2 s of processor time and was ended"),
    ],
    ids=["sleeps on", "computes in another process"],
)  # fmt: skip
def test_what_does_not_end_by_itself_is_ended(session, monkeypatch, code, said):
    monkeypatch.setattr(session_of, "GRACE", 0.5)
    limits = dataclasses.replace(LIMITS, cell=0.2, patience=3 if "sleep" in code else 60)
    session.reset()
    monkeypatch.setattr(session, "limits", limits)
    assert session.run(code) == ("", said)


def test_the_time_of_a_submission_is_that_of_all_its_workers(session, monkeypatch):
    limits = dataclasses.replace(LIMITS, submission=1.5, patience=60)
    monkeypatch.setattr(session, "limits", limits)
    session.reset()
    burn = "import os, time\nwhile time.process_time() < {}: pass"
    text, error = session.run("import time; print(time.process_time())")
    assert error is None
    assert session.run(burn.format(float(text) + 1) + "\nos._exit(0)")[1] == "ended its own process"
    assert session.used() > 0.7
    text, _ = session.run("import time; print(time.process_time())")
    assert "of processor time" in session.run(burn.format(float(text) + 1))[1]
    with refuses(OutOfTime, got="submission", accepts="1.5 s"):
        for _ in range(10):
            time.sleep(0.3)  # until the watchdog has looked again
            session.run("while True: pass")  # gets what is left, if anything


@pytest.fixture
def busy():
    """One core for this test and whatever it starts; four processes compute on it as well."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    # Linux may share a core among sessions first: one for each process, as the worker has its own.
    burn = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, cores)
        yield lambda: [
            stack.callback(subprocess.Popen(burn, start_new_session=True).kill) for _ in range(4)
        ]


def test_a_right_answer_passes_on_a_busy_machine(source, busy):
    answers = source.reference()
    answers["normalise"] = normalise_after(
        "end = time.process_time() + 0.5\n    while time.process_time() < end: pass"
    )
    limits = dataclasses.replace(LIMITS, call=1, patience=20)
    with Session(limits) as session:
        session.start()
        busy()
        began = time.monotonic()
        result = examine(source, check.content(source.answered(answers)), limits, session=session)
        waited = time.monotonic() - began
    assert messages(result) == (4, {None})
    assert waited > 3 * limits.call, "the machine was not busy"  # for two calls


# Folders of submissions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "student"),
    [
        ("Zoë Ünal/00_trial.ipynb", "Zoë Ünal"),
        ("a b/second try/00_trial.ipynb", "a b"),
        ("ada_00_trial.ipynb", "ada"),
        ("ada-lovelace_00_trial (1).ipynb", "ada-lovelace"),
        ("Ada Lovelace_4711_assignsubmission_file_/00_trial.ipynb", "Ada Lovelace_4711"),
        ("lovelaceada_LATE_123_45678_00_trial-1.ipynb", "lovelaceada_123"),
        ("lovelaceada_123_45678_00_trial.ipynb", "lovelaceada_123"),
        ("..%2F..%2Fx/00_trial.ipynb", "..%2F..%2Fx"),
        ("someone/homework.ipynb", "someone"),
        ("ada_00_trial.IPYNB", "ada"),
        ("someone.ipynb", "someone"),
    ],
)
def test_layouts(source, solved, tmp_path, file, student):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(check.content(solved))
    (found,) = batch.find(tmp_path, [source])
    assert (found.student, found.source, found.problem) == (student, source, None)


def test_a_stripped_notebook_with_another_name_is_found_by_its_text(source, solved, tmp_path):
    strip(solved)
    (tmp_path / "final FINAL.ipynb").write_bytes(check.content(solved))
    (tmp_path / "other.ipynb").write_bytes(nbformat.writes(nbformat.v4.new_notebook()).encode())
    by_text, other = batch.find(tmp_path, [source])
    assert by_text.source is source and by_text.problem is None
    assert "none of the assignments" in other.problem


@pytest.fixture
def without_running(monkeypatch):
    """Results that need no worker, for tests of what is made of them."""

    monkeypatch.setattr(batch, "_grade", lambda *_: (assignment_fixture.result(), True))


def grades(out):
    """The rows of grades.csv."""
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_has_a_row_and_none_stops_the_rest(source, solved, tmp_path, without_running):
    folder, out, secret = tmp_path / "in", tmp_path / "out", tmp_path / "secret.ipynb"
    secret.write_bytes(check.content(solved))
    for name in ("=cmd()/00_trial.ipynb", "..\\..\\x/00_trial.ipynb", "é/00_trial.ipynb"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(check.content(solved))
    (folder / "é" / "00_trial (1).ipynb").write_bytes(check.content(solved))
    (folder / "é" / "figure.png").write_bytes(b"\x89PNG")
    (folder / "pdf").mkdir()
    (folder / "pdf" / "homework.pdf").write_bytes(b"%PDF-1.7")
    (folder / "linked").mkdir()
    (folder / "linked" / "00_trial.ipynb").symlink_to(secret)
    batch.grade(folder, out, [source], LIMITS)
    rows = {row["file"]: row for row in grades(out)}
    assert len(rows) == 6
    assert rows["linked/00_trial.ipynb"]["status"] == "not graded"
    assert (
        rows["pdf/homework.pdf"]["total"] == "" and "a PDF" in rows["pdf/homework.pdf"]["remarks"]
    )
    twice = [row for row in rows.values() if row["student"] == "é"]
    assert len(twice) == 2 and all("more than one file" in row["remarks"] for row in twice)
    assert rows["'=cmd()/00_trial.ipynb"]["student"] == "'=cmd()"
    pages = list((out / "feedback").rglob("*.html"))
    assert len(pages) == 6 and all(page.parent == out / "feedback" for page in pages)
    for page in pages:
        text = page.read_text("utf-8")
        assert "<script" not in text and "<img" not in text and "<b>" not in text
        assert "batch - batch.mean" not in text, "a hidden test is shown"
    assert not [path for path in tmp_path.iterdir() if path not in (folder, out, secret)]


def test_folders_that_can_not_be_read_are_named(
    source, solved, tmp_path, without_running, monkeypatch
):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("ada", "ben", "cleo/inner", "Dora_7_assignsubmission_file_", ".git"):
        (folder / name).mkdir(parents=True)
    for name in ("ada/00_trial.ipynb", "cleo/00_trial.ipynb", "ben/00_trial.ipynb"):
        (folder / name).write_bytes(check.content(solved))
    (folder / "eve").symlink_to("eve")
    (folder / "fay").mkdir()
    (folder / "fay" / "00_trial.ipynb").symlink_to("nowhere")
    closed = ("cleo/inner", "Dora_7_assignsubmission_file_", ".git")
    closed = {str(folder / name) for name in closed}
    scandir, stat = os.scandir, Path.stat

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(
        os, "scandir", lambda path: (refuse if str(path) in closed else scandir)(path)
    )
    # A folder that can be listed, but not entered.
    monkeypatch.setattr(
        Path,
        "stat",
        lambda path, **options: (
            refuse(path) if path.parent.name == "ben" else stat(path, **options)
        ),
    )
    _, fresh = batch.grade(folder, out, [source], LIMITS)
    rows = grades(out)
    told = {row["file"]: (row["student"], row["remarks"]) for row in rows if not row["total"]}
    assert fresh == 2 and len(rows) == 7
    no_folder = "a folder that can not be read: Permission denied"
    link = "a link or special file, which is not followed"
    assert told == {
        "ben/00_trial.ipynb": ("ben", "can not be read: Permission denied"),
        "cleo/inner": ("cleo", no_folder),
        "Dora_7_assignsubmission_file_": ("Dora_7", no_folder),
        "eve": ("eve", link),
        "fay/00_trial.ipynb": ("fay", link),
    }
    closed.add(str(folder))
    with pytest.raises(PermissionError):
        batch.find(folder, [source])


def test_submissions_are_not_kept_in_memory(source, solved, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    solved.metadata["padding"] = "0" * 10**7
    for number in range(8):
        solved.metadata["number"] = number
        (folder / f"student{number}_00_trial.ipynb").write_bytes(check.content(solved))
    tracemalloc.start()
    try:
        found = batch.find(folder, [source])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len({handed.key(LIMITS, True) for handed in found}) == 8 and kept < 10**7


def test_a_file_that_goes_away_while_others_are_graded_is_named(source, solved, tmp_path):
    path = tmp_path / "ada_00_trial.ipynb"
    path.write_bytes(check.content(solved))
    (handed,) = batch.find(tmp_path, [source])
    path.unlink()
    result, keep = batch._grade(handed, LIMITS, True, ())
    assert not keep and result["problem"] == "can not be read: No such file or directory"


def test_names_that_differ_in_how_accents_are_coded_are_two_files(
    source, solved, tmp_path, without_running
):
    for name in ("Jos\u00e9", "Jose\u0301"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "00_trial.ipynb").write_bytes(check.content(solved))
    rows, fresh = batch.grade(tmp_path / "in", tmp_path / "out", [source], LIMITS)
    assert fresh == 2 and len({row["file"] for row in rows}) == 2
    assert all("more than one file" in row["remarks"] for row in rows)


def test_a_name_does_nothing_to_the_terminal(source, solved, tmp_path, without_running, capfd):
    (tmp_path / "in" / "\x1b[2Jada").mkdir(parents=True)
    (tmp_path / "in" / "\x1b[2Jada" / "00_trial.ipynb").write_bytes(check.content(solved))
    batch.grade(tmp_path / "in", tmp_path / "out", [source], LIMITS)
    told = capfd.readouterr().err
    assert "[2Jada" in told and "\x1b[2J" not in told


def test_a_test_can_not_be_led_to_take_all_memory(source, monkeypatch):
    size = LIMITS.memory + batch.EXAMINER
    monkeypatch.setattr(batch, "examine", lambda *_: {"got": len(bytearray(size))})
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=batch._examine, args=(theirs, source.path, b"", LIMITS, True, ())
    )
    process.start()
    assert ours.poll(60) and json.loads(ours.recv_bytes()) == {"failure": "MemoryError: "}
    process.join()


def test_results_do_not_mix_with_submissions(source, tmp_path):
    with refuses(ValueError, got=tmp_path / "a", remedy="OUT"):
        batch.grade(tmp_path / "a", tmp_path, [source], LIMITS)
    with pytest.raises(NotADirectoryError):
        batch.grade(tmp_path / "a", tmp_path / "b", [source], LIMITS)


# Sandbox ----------------------------------------------------------------------------------


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """An empty folder, the only one in which programs are sought."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    sandbox.check.cache_clear()
    yield folder
    sandbox.check.cache_clear()


def test_without_bubblewrap_nothing_is_run(programs, tmp_path, capsys):
    assert grade.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "apt install bubblewrap" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bubblewrap_that_can_not_start_is_explained(programs, tmp_path, capsys):
    broken = programs / "bwrap"
    broken.write_text("#!/bin/sh\necho setting up uid map: Permission denied >&2\nexit 1\n")
    broken.chmod(0o755)
    assert grade.main([str(tmp_path), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "Permission denied" in told and "apparmor_restrict_unprivileged_userns" in told


def test_an_environment_below_tmp_is_seen_in_the_sandbox(tmp_path, monkeypatch):
    environment = tmp_path / "an environment"
    environment.mkdir()
    (environment / "python").touch()
    monkeypatch.setattr(sandbox.sys, "prefix", str(environment))
    command = [*sandbox.bubblewrap(LIMITS), "/bin/sh", "-c", 'ls "$1"; touch "$1"/x', "-"]
    done = subprocess.run([*command, environment], capture_output=True, text=True)
    assert done.stdout == "python\n" and "Read-only" in done.stderr


def test_recorded_runs_can_be_read_in_the_sandbox():
    code = "import vgglib\nprint(vgglib.recorded('recipe')['name'])"
    # On a busy machine the import alone can take longer than a cell of the other tests may.
    with Session(dataclasses.replace(LIMITS, cell=60)) as session:
        assert session.run(code) == ("recipe\n", None)


def test_without_sandbox_there_are_limits(source):
    answers = {**source.reference(), "macs": "import os\nos._exit(0)"}
    content = check.content(source.answered(answers))
    assert points(examine(source, content, LIMITS, sandboxed=False)) == {
        "macs": 0,
        "normalise": 4,
        "argue": None,
    }


# Values -----------------------------------------------------------------------------------


class Level(int):
    """An int that equals everything."""

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def through(value):
    """A value encoded and decoded; handles become their numbers."""
    encoder = Encoder(lambda kept: 7)
    tree = json.loads(json.dumps(encoder.encode(value)))
    buffers = [bytearray(data) for data in encoder.buffers]
    return Decoder(buffers, lambda number, kind: ("handle", number, kind)).decode(tree)


@pytest.mark.parametrize(
    "value",
    [None, True, 5, -(2**70), 0.1, float("inf"), 1 + 2j, "é\ud800", b"\0x", [1, [2]], (1,), {3},
     frozenset({4}), {"a": {1: None}}, torch.Size([1, 2]), Level(5)],
    ids=repr,
)  # fmt: skip
def test_plain_values_arrive_as_they_are(value):
    got = through(value)
    assert value == got
    kinds = type(value).__mro__
    assert type(got) is next(kind for kind in kinds if kind.__module__ == "builtins")


@pytest.mark.parametrize("dtype", ["bool", "int64", "float16", "bfloat16", "complex64", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_arrive_as_they_are(dtype, shape):
    value = torch.testing.make_tensor(shape, dtype=getattr(torch, dtype), device="cpu")
    for form in (value, value.mT if value.ndim == 2 else value, torch.nn.Parameter(value, False)):
        got = through(form)
        assert type(got) is torch.Tensor and got.dtype == value.dtype
        torch.testing.assert_close(got, form.data, rtol=0, atol=0)


def test_arrays_and_frames_arrive_as_they_are():
    for value in (np.arange(6.0).reshape(2, 3).T, np.array(True), np.zeros((0, 2), np.int8)):
        got = through(value)
        assert got.dtype == value.dtype and np.array_equal(got, value) and got.shape == value.shape
    assert type(through(np.float32(1.5))) is np.float32
    frame = pd.DataFrame({"layer": ["a", "b"], "n": [1, 2], "x": [0.5, None]}, index=[3, 5])
    pd.testing.assert_frame_equal(through(frame), frame)
    pd.testing.assert_series_equal(through(frame["n"]), frame["n"])


def test_other_objects_arrive_as_handles():
    assert through(torch.nn.ReLU()) == ("handle", 7, "torch.nn.modules.activation.ReLU")
    assert through([len])[0][0] == "handle"


def test_what_is_too_large_does_not_leave():
    loop = []
    loop.append(loop)
    for value in (loop, [0] * 2**21, torch.zeros(1).expand(2**28)):
        with pytest.raises(TooLargeError):
            Encoder(len).encode(value)


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(2**62)
TREES = st.recursive(
    LEAVES | st.sampled_from("nbifcsyltezdagTDPh"),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(st.sampled_from("nbifcsyltezdagTDPh"), inner, inner, inner).map(list)
        | st.tuples(
            st.sampled_from("agT"),
            st.sampled_from(["<f4", "|O", "bool", "float32", "<U9", "V8"]),
            st.lists(st.integers(-1, 3), max_size=3),
            st.integers(-2, 2),
        ).map(list)
    ),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(TREES)
def test_no_answer_does_more_than_fail_to_decode(tree):
    with contextlib.suppress(channel.MalformedError):
        got = Decoder([bytearray(4), bytearray(8)], lambda *_: None).decode(tree)
        assert type(got).__module__ in {"builtins", "numpy", "torch", "pandas"}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 2**31),
        struct.pack(">I", 3) + b"{x}",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 14) + b'{"sizes":[-1]}',
        struct.pack(">I", 24) + b'{"sizes":[999999999999]}',
        struct.pack(">I", 100_000) + b"[" * 100_000,
    ],
)
def test_frames_that_are_none(data):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=theirs.sendall, args=(data,))
        sender.start()
        with pytest.raises(channel.MalformedError):
            channel.receive(ours, time.monotonic() + 5)
        sender.join()


def test_a_frame_that_does_not_end_is_waited_for_no_longer_than_the_deadline():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack(">I", 10) + b"{")
        with pytest.raises(TimeoutError):
            channel.receive(ours, time.monotonic() + 0.2)
