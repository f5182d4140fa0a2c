"""Each assignment with the real grader: reference, untouched version, plausible wrong answers."""

import json
import re
import subprocess
import sys

import assignments
import nbformat
import pytest
from very_deep_grader import check, sandbox
from very_deep_grader.source import FOLDER, STUB, sources

import vgglib
from conftest import ROOT

pytestmark = pytest.mark.grader
SANDBOX = "submissions run in a sandbox made of Linux namespaces"
SOURCES = sources(ROOT / FOLDER)
LIMITS = sandbox.Limits(patience=60)  # the machine may be a busy one
WITHHELD = re.compile(r"### BEGIN [A-Z ]+\n(.*?)### END ", re.DOTALL)


# Runs notebooks as Colab does, where nbgrader is not, and all of their cells whatever some raise.
STUDENT = """
import json, sys, types
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell

sys.modules["nbgrader"] = None  # importing it fails
sys.modules["google.colab"] = types.ModuleType("google.colab")
said, shell = {}, InteractiveShell.instance()
for path in Path(sys.argv[1]).glob("*.ipynb"):
    shell.reset()
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            result = shell.run_cell("".join(cell["source"]), silent=True)
            error = result.error_before_exec or result.error_in_exec
            name = cell["metadata"].get("nbgrader", {}).get("grade_id", "given")
            said[f"{path.stem} {name}"] = error and [type(error).__name__, str(error)]
Path(sys.argv[2]).write_text(json.dumps(said))
"""


@pytest.fixture(params=SOURCES, ids=lambda source: source.name)
def source(request):
    """Each assignment in turn."""
    return request.param


def differences(source, folder=None):
    """The submissions of `check` that get other points than they should, and which."""
    sandbox.check()
    graded = check.results(source, LIMITS, folder=folder)
    return {name: lines for name, _, lines, _ in graded if lines}


@pytest.mark.linux(SANDBOX)
def test_the_reference_gets_all_points_and_the_untouched_version_none(source, tmp_path):
    assert not differences(source, folder=tmp_path)  # a folder without wrong answers


@pytest.mark.linux(SANDBOX)
@pytest.mark.long  # test_answers.py asks the same without a sandbox
def test_wrong_answers_in_the_sandbox(source):
    assert not differences(source)


def test_eight_wrong_answers_to_each_practice_task_and_one_partly_right(source):
    wrong = check.wrong_answers(source)
    for task in source.tasks:
        if "(practice" in task.title:
            points = [sum(answer.points.values()) for answer in wrong[task.name]]
            assert len(points) >= 8 and max(points) < task.points, task.name
            assert any(points), f"{task.name}: no answer that is partly right"


def test_size_and_grades_of_tasks(source):
    assert 10 <= source.points <= 20
    kinds = {
        kind
        for kind in ("warm-up", "practice", "research")
        for t in source.tasks
        if kind in t.title
    }
    assert kinds == {"warm-up", "practice", "research"}


def test_student_versions_hold_no_answer_and_no_hidden_test(tmp_path):
    written = assignments.main(tmp_path)
    assert [path.name for path in written] == [source.path.name for source in SOURCES]
    for source, path in zip(SOURCES, written, strict=True):
        text, notebook = path.read_text("utf-8"), nbformat.read(path, 4)
        nbformat.validate(notebook)
        assert len(notebook.cells) == len(source.cells)
        for mark in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "MARK SCHEME"):
            assert mark not in text
        shown = "\n".join(cell.source for cell in notebook.cells)
        marked = "\n".join(cell.source for cell in source.cells)
        withheld = WITHHELD.findall(marked)
        assert len(withheld) == marked.count("### BEGIN ") >= len(source.tasks)
        assert not [region for region in withheld if region.strip() in shown]
        assert all(cell.get("outputs", []) == [] for cell in notebook.cells)


def test_the_curves_to_diagnose_are_the_recorded_ones():
    notebook = next(source for source in SOURCES if source.name == "05_training").released
    (cell,) = (cell.source for cell in notebook.cells if "train_loss = {" in cell.source)
    tables = {}
    exec(cell, tables)
    runs = {run["label"]: run["history"] for run in vgglib.recorded("diagnosis")["runs"]}
    for key in ("train_loss", "test_loss"):
        assert {f"run {n}": text.split() for n, text in tables[key].items()} == {
            label: [f"{loss:.3f}" for loss in history[key]] for label, history in runs.items()
        }


def test_checks_of_an_empty_answer_say_how_to_go_on(tmp_path):
    assignments.main(tmp_path)
    told = tmp_path / "told.json"
    command = [sys.executable, "-c", STUDENT, tmp_path, told]
    subprocess.run(command, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    said = json.loads(told.read_text())
    tests = [f"{s.name} {s.cells[n].grade_id}" for s in SOURCES for t in s.tasks for n in t.tests]
    assert len(tests) > 60 and said.keys() > set(tests)
    for test in tests:
        kind, message = said.pop(test)
        empty = (kind, message) == ("NotImplementedError", re.search('"(.+)"', STUB)[1])
        asks = kind == "AssertionError" and re.search("replace|give|True or False", message, re.I)
        assert empty or asks, f"{test}: {kind}: {message}"
    given = {name: error for name, error in said.items() if name.endswith(" given") and error}
    assert not given
