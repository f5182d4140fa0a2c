"""The grader as a step of nbgrader, which keeps grades, late penalties and feedback."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import assignment_fixture
import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from very_deep_grader import check, gradebook, sandbox
from very_deep_grader.source import Source

pytestmark = pytest.mark.grader
NAME = "00_trial"
FORGED = """\
print("10.0")
class Any(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
def conv_macs(channels, filters, side, kernel=3):
    return Any(1)
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory, request):
    """A course folder with an assignment that was handed out, and nbgrader's interface to it."""
    sandbox.check()
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    # nbgrader starts alembic by its name.
    patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    root = tmp_path_factory.mktemp("course")
    place = root / "source" / NAME
    place.mkdir(parents=True)
    nbformat.write(assignment_fixture.assignment(), place / f"{NAME}.ipynb")
    config = Config()
    config.CourseDirectory.root = str(root)
    config.Exchange.root = str(root / "exchange")
    gradebook.configure(config)
    config.Examine.limits = {"cell": 20, "call": 4, "memory": 3 * 2**29}
    api = NbGraderAPI(CourseDirectory(config=config), config=config)
    assert api.generate_assignment(NAME)["success"]
    source = Source(place / f"{NAME}.ipynb")
    stripped = source.answered({**source.reference(), "argue": "**So.**"})
    for cell in stripped.cells:
        cell.metadata.clear()
    figure = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
    answers = source.reference()
    missing = source.answered(answers)
    del missing.cells[3]
    handed_in = {
        "ada": source.answered({**answers, "macs": figure + answers["macs"], "argue": "So."}),
        "ben": source.answered({"macs": FORGED}),
        "eve": stripped,
        "max": missing,
    }
    for student, notebook in handed_in.items():
        place = root / "submitted" / student / NAME
        place.mkdir(parents=True)
        (place / f"{NAME}.ipynb").write_bytes(check.content(notebook))
        (place / "timestamp.txt").write_text("2026-03-02 12:00:00 UTC")
        done = api.autograde(NAME, student)
        assert done["success"], done["log"]
    return root, api, source


def found(root, student):
    """Points by cell, None where a person has to look, and the submission, of nbgrader's book."""
    with Gradebook(f"sqlite:///{root}/gradebook.db") as book:
        grades = book.find_submission(NAME, student).notebooks[0].grades
        return {g.name: None if g.needs_manual_grade else g.score for g in grades}


FULL = {"macs-three": 1, "macs-kernel": 2, "normalise-mean": 2, "normalise-values": 2}
NONE = dict.fromkeys(FULL, 0)


@pytest.mark.parametrize(
    ("student", "points"),
    [
        ("ada", {**FULL, "argue": None}),
        ("ben", {**NONE, "argue": 0}),
        ("eve", {**FULL, "argue": None}),
        ("max", {**FULL, "macs-three": None, "macs-kernel": None, "argue": None}),
    ],
)
def test_points_are_in_the_gradebook(course, student, points):
    assert found(course[0], student) == points


def test_formgrader_shows_what_the_grader_saw(course):
    root, _, _ = course
    read = {}
    for student in ("ada", "ben", "eve"):
        path = root / "autograded" / student / NAME / f"{NAME}.ipynb"
        read[student] = nbformat.read(path, as_version=4)
        nbformat.validate(read[student])
    cells = {
        student: {c.metadata.nbgrader.grade_id: c for c in nb.cells if "nbgrader" in c.metadata}
        for student, nb in read.items()
    }
    (picture,) = cells["ada"]["macs"].outputs
    assert picture.output_type == "display_data" and "image/png" in picture.data
    assert cells["ben"]["macs"].outputs[0].text == "10.0\n"
    (error,) = cells["ben"]["macs-three"].outputs
    assert error.output_type == "error" and "not the count" in error.evalue
    assert cells["eve"]["argue"].source == "**So.**"


def test_a_late_penalty_and_points_by_hand_are_nbgraders(course):
    root = course[0]
    with Gradebook(f"sqlite:///{root}/gradebook.db") as book:
        submission = book.find_submission(NAME, "eve")
        submission.assignment.duedate = submission.timestamp - timedelta(hours=2)
        book.db.commit()
        assert book.find_submission(NAME, "eve").total_seconds_late == 7200
        grade = book.find_grade("argue", NAME, NAME, "eve")
        grade.manual_score, grade.needs_manual_grade = 2.5, False
        book.db.commit()
        assert book.find_submission(NAME, "eve").score == 9.5


def test_feedback_holds_no_hidden_test(course):
    root, api, _ = course
    done = api.generate_feedback(NAME, "ben")
    assert done["success"], done["log"]
    (page,) = (root / "feedback" / "ben").rglob("*.html")
    text = page.read_text("utf-8")
    assert "not the count" in text
    assert "HIDDEN" not in text and "12250" not in text
