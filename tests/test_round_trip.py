"""Points that a person enters, and grades on their way into learning systems."""

import csv
import io
import json
import signal
import subprocess
import sys
import threading
import time
import zipfile

import assignment_fixture
import nbformat
import pytest
from refusing import refuses
from very_deep_grader import __main__ as grade
from very_deep_grader import batch, check, exports, tables
from very_deep_grader.sandbox import Limits
from very_deep_grader.source import Source

pytestmark = pytest.mark.grader
LIMITS = Limits()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The small assignment."""
    path = tmp_path_factory.mktemp("sources") / "00_trial.ipynb"
    nbformat.write(assignment_fixture.assignment(), path)
    return Source(path)


@pytest.fixture
def handed_in(source, tmp_path, monkeypatch):
    """A function that hands files in and grades them without running; gives the rows."""
    monkeypatch.setattr(batch, "_grade", lambda *_: (assignment_fixture.result(), True))

    def handed_in(*files, manual=None, sources=(source,)):
        for number, file in enumerate(files):
            path = tmp_path / "in" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            answers = {**source.reference(), "argue": f"So {number}."}
            path.write_bytes(check.content(source.answered(answers)))
        if manual is not None:
            (tmp_path / "out" / "manual.csv").write_bytes(manual)
        return batch.grade(tmp_path / "in", tmp_path / "out", list(sources), LIMITS)[0]

    return handed_in


@pytest.fixture
def entered(handed_in, tmp_path):
    """A function that stores ``manual.csv`` anew, grades again, and gives the row of the grades.

    It is called with the bytes of the file, or with what to put into the columns of the row of a
    task, which may be a new one.
    """
    handed_in("Zoë/00_trial.ipynb")
    out = tmp_path / "out"

    def text():
        return (out / "manual.csv").read_text("utf-8-sig")

    def entered(manual=None, task="argue", **columns):
        rows = list(csv.DictReader(io.StringIO(text())))
        for row in rows if columns else []:
            row.update(columns if row["task"] == task else {})
        if columns and not any(row["task"] == task for row in rows):
            rows.append({"student": "Zoë", "task": task, **columns})
        filled = tables.as_csv(rows, tables.Manual.COLUMNS)
        (row,) = handed_in(manual=manual(filled) if manual else filled.encode())
        return row | {"page": (out / row["feedback"]).read_text("utf-8"), "text": text()}

    return entered


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


# By hand ----------------------------------------------------------------------------------


def test_points_entered_by_hand_are_merged_and_kept(entered):
    row = entered()
    assert "argue" not in row and row["status"] == "to be graded by hand: argue"
    row = entered(points="2,5", comment="well argued")
    assert (row["argue"], row["total"], row["status"]) == ("2.5", "2.5", "graded")
    assert "well argued" in row["page"] and entered()["argue"] == "2.5"
    with refuses(ValueError, got=("manual.csv", "Zoë", "argue", "'4'"), accepts=(0, 3)):
        entered(points="4")


SAVED = {
    "tabs, UTF-16": lambda text: text.replace(",", "\t").encode("utf-16"),
    "semicolons, cp1252": lambda text: ("sep=;\n" + text.replace(",", ";")).encode("cp1252"),
    # What a spreadsheet does to other columns: formulas, dates, letters it lacks.
    "rewritten": lambda text: text.replace("Zoë", "#NAME?").replace(",3,", ",03. Mai,").encode(),
}


@pytest.mark.parametrize("saved", SAVED.values(), ids=SAVED)
def test_points_survive_a_spreadsheet(entered, saved):
    filled = entered(points="2.5", comment="für alle")["text"]
    row = entered(saved)
    assert (row["argue"], row["status"]) == ("2.5", "graded")
    assert "für alle" in row["page"] and row["text"] == filled


def test_an_answer_is_known_by_what_no_spreadsheet_takes_for_a_number_or_a_date(entered):
    (row,) = rows_of(entered()["text"])
    assert row["answer"].isalpha() and not set(row["answer"]) & set("aeiou")
    with refuses(ValueError, got=("manual.csv", "Zoë", "argue", "'1.47307E+18'"), remedy="delete"):
        entered(points="2", answer="1.47307E+18")


def test_a_row_says_what_it_waits_for_and_where_to_read(entered, source, tmp_path):
    (row,) = rows_of(entered()["text"])
    assert (row["state"], row["max"]) == ("waiting", "3")
    file, place = row["link"].split("#")
    page = (tmp_path / "out" / file).read_text("utf-8")
    assert f'id="{place}"' in page and "Because." in page and place == row["answer"]
    (row,) = rows_of(entered(points="1")["text"])
    assert row["state"] == "entered"


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("x = 1\n# Rubric: 1 point for a;\n# 1 for b.\ny = 2", "Rubric: 1 point for a; 1 for b."),
        ("**Rubric** (2)\n\n- *A, 1:* b.\n\n**A good answer.** c", "**Rubric** (2) - *A, 1:* b."),
    ],
)
def test_the_rubric_is_in_the_row(handed_in, source, tmp_path, monkeypatch, cell, found):
    monkeypatch.setattr(source.cells[-1], "source", cell)
    handed_in("ada/00_trial.ipynb")
    (row,) = rows_of((tmp_path / "out" / "manual.csv").read_text("utf-8-sig"))
    assert row["rubric"] == found


def test_points_of_the_tests_are_replaced_with_a_reason(entered):
    row = entered(task="macs", points="3", comment="right, but for its name")
    assert (row["macs"], row["total"]) == ("3", "3") and "but for its name" in row["remarks"]
    assert "but for its name" in row["page"]
    added = next(r for r in rows_of(row["text"]) if r["task"] == "macs")
    assert len(added["answer"]) == 12 and entered()["macs"] == "3"
    with refuses(ValueError, got=("macs", "Zoë"), remedy="comment"):
        entered(task="macs", comment="")


def test_a_row_about_a_file_without_grade_is_kept(entered, tmp_path):
    (tmp_path / "in" / "Zoë" / "00_trial.ipynb").write_bytes(b"%PDF")
    for _ in range(2):
        row = entered(task="macs", points="3", comment="by mail")
        added = next(r for r in rows_of(row["text"]) if r["task"] == "macs")
        assert row["status"] == "not graded" and "not graded" in added["state"]
        assert (added["points"], added["answer"]) == ("3", "")


def test_a_row_about_nothing_is_told(entered):
    with refuses(ValueError, got=("manual.csv", "'Zoë'", "'max'"), remedy="grades.csv"):
        entered(task="max", points="3", comment="so")


def test_points_do_not_pass_to_a_later_answer(entered, handed_in, source, tmp_path):
    entered(points="2", comment="so")
    answers = assignment_fixture.result()
    answers["tasks"]["argue"]["answer"] = "something else"
    batch._grade = lambda *_: (answers, True)
    (tmp_path / "in" / "Zoë" / "00_trial.ipynb").write_bytes(check.content(source.released))
    row = entered()
    assert row["status"] == "to be graded by hand: argue"
    states = [r["state"] for r in rows_of(row["text"])]
    assert states == ["waiting", "of an answer that is gone"]


# What the tables say ----------------------------------------------------------------------


FORMULAS = ["=1+1", "x;=cmd()", 'x\t"@y', "a, +b", "a|-b", "＝x", "a,=1;-2", "'=1", 'a;" =x']


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula_whatever_separates_columns(text):
    told = tables.guarded(text)
    for separator in ",;|":
        for cell in told.split(separator):
            assert cell.lstrip(' "')[:1] not in {*"=+@-＝"}
    assert tables.guarded("a-b = c+d") == "a-b = c+d"


def test_files_that_are_alike_are_told(handed_in, source, tmp_path):
    rows = handed_in("ada/00_trial.ipynb", "Ada/00_trial.ipynb", "ben/00_trial.ipynb")
    told = {row["file"]: row["remarks"] for row in rows}
    for file, other in (("ada", "Ada"), ("Ada", "ada")):
        assert (
            f"more than one file for this assignment: ['{other}/" in told[f"{file}/00_trial.ipynb"]
        )
    assert (
        "the same" in told["ben/00_trial.ipynb"] and "more than" not in told["ben/00_trial.ipynb"]
    )


def test_an_empty_folder_has_a_row(handed_in, tmp_path):
    (tmp_path / "in" / "max" / "later").mkdir(parents=True)
    rows = {row["student"]: row for row in handed_in("ada/00_trial.ipynb")}
    assert rows["max"]["status"] == "not graded" and "empty folder" in rows["max"]["remarks"]


def test_each_of_several_assignments_has_a_table(handed_in, source, tmp_path):
    other = Source(source.path)
    other.name = "00_other"
    handed_in("ada/00_trial.ipynb", sources=[source, other])
    (tmp_path / "in" / "ben").mkdir()
    (tmp_path / "in" / "ben" / "00_other.ipynb").write_bytes(b"%PDF")
    rows = handed_in(sources=[source, other])
    assert [row["assignment"] for row in rows] == ["00_trial", "00_other"]
    out = tmp_path / "out"
    assert "macs" not in (out / "grades.csv").read_text("utf-8").splitlines()[0]
    (row,) = rows_of((out / "grades-00_trial.csv").read_text("utf-8-sig"))
    assert row["student"] == "ada" and row["macs"] == "0"


def test_the_class_in_summary(entered, tmp_path):
    row = entered(points="3", comment="good")
    summary = rows_of((tmp_path / "out" / "summary.csv").read_text("utf-8-sig"))
    lines = {line["task"]: line for line in summary}
    assert lines["argue"]["full marks"] == "1" and lines["macs"]["none"] == "1"
    assert (lines["total"]["max"], lines["total"]["mean"]) == ("10", "3.00")
    (line,) = tables.distribution([row])
    assert "1 finished" in line and "2–4: 1" in line


def test_a_run_that_is_ended_leaves_a_table(source, tmp_path, monkeypatch, request):
    folder, out = tmp_path / "in", tmp_path / "out"
    begun = threading.Event()

    def slow(item, *_):
        if item.student == "ada":
            return assignment_fixture.result(), True
        begun.set()
        time.sleep(1)
        return assignment_fixture.result(), False

    monkeypatch.setattr(batch, "_grade", slow)
    for number, student in enumerate(("ada", "ben", "eve", "max")):
        (folder / student).mkdir(parents=True)
        answers = {"argue": f"{number}"}
        (folder / student / "00_trial.ipynb").write_bytes(check.content(source.answered(answers)))
    # A shell lets what it starts in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    threading.Thread(
        target=lambda: begun.wait() and signal.raise_signal(signal.SIGINT), daemon=True
    ).start()
    with pytest.raises(KeyboardInterrupt):
        batch.grade(folder, out, [source], LIMITS, jobs=1)
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        rows = {row["student"]: row["status"] for row in csv.DictReader(file)}
    assert rows.keys() == {"ada", "ben", "eve", "max"}
    assert rows["ada"] != "not graded" and rows["max"] == "not graded"


# Learning systems -------------------------------------------------------------------------

CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,Assignment 0. A trial (4711),Quiz (12),Final Score
    Points Possible,,,,,10,5,(read only)
"Lovelace, Ada",123,S1,ada@uni.test,Sec 1,,4,80
"Ünal, Zoë",124,S2,zoe@uni.test,Sec 1,7,,
"Test Student, ",125,,,Sec 1,,,
"""


@pytest.fixture
def finished(handed_in, tmp_path):
    """A function that hands files in and gives each two points by hand; returns the rows."""

    def finished(*files):
        handed_in(*files)
        rows = rows_of((tmp_path / "out" / "manual.csv").read_text("utf-8-sig"))
        for row in rows:
            row |= {"points": "2", "comment": "<i>so</i>"}
        return handed_in(manual=tables.as_csv(rows, tables.Manual.COLUMNS).encode())

    return finished


def test_canvas(finished, source, tmp_path):
    """The columns that Canvas's importer asks for, and its row of points."""
    rows = finished(
        "lovelaceada_LATE_123_45678_00_trial-1.ipynb",
        "Zoë Ünal/00_trial.ipynb",
        "eve_00_trial.ipynb",
    )
    exported = tmp_path / "export.csv"
    exported.write_text(CANVAS, encoding="utf-8-sig")
    assert exports.canvas(exported, tmp_path, rows, [source]) == ["eve"]
    text = (tmp_path / "canvas.csv").read_text("utf-8-sig")
    header, possible, ada, zoe, test = csv.reader(io.StringIO(text))
    assert header == CANVAS.splitlines()[0].split(",")[:6] and possible[5] == "10"
    assert ada == ["Lovelace, Ada", "123", "S1", "ada@uni.test", "Sec 1", "2"]
    assert (zoe[5], test[5]) == ("2", "")
    exported.write_text(CANVAS.replace("A trial", "B"))
    with refuses(ValueError, got="0", accepts="'Quiz (12)'", remedy="--column"):
        exports.canvas(exported, tmp_path, rows, [source])
    with refuses(ValueError, got=5, accepts=10):
        exports.canvas(exported, tmp_path, rows, [source], column="Quiz (12)")


def test_a_grade_that_could_be_of_two_students_goes_to_nobody(finished, source, tmp_path):
    files = ("Eve Ash/", "bo_S1_", "ada_124_", "Zoë Ünal/", "ada@uni.test_")
    rows = finished(*(f"{student}00_trial.ipynb" for student in files))
    exported = tmp_path / "export.csv"
    twins = '"Ash, Eve",130,S130,e1@uni.test,Sec 1,,,\n"Ash, Eve",131,124,e2@uni.test,Sec 1,,,\n'
    exported.write_text(CANVAS + twins, encoding="utf-8")
    lost = exports.canvas(exported, tmp_path, rows, [source])
    table = {line["ID"]: line for line in rows_of((tmp_path / "canvas.csv").read_text("utf-8-sig"))}
    filled = [n for n, line in table.items() if line["Assignment 0. A trial (4711)"] == "2"]
    assert filled == ["123"] and lost == ["Eve Ash", "Zoë Ünal", "ada_124", "bo_S1"]


MOODLE = """\
Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,\
Last modified (submission),Last modified (grade),Feedback comments
Participant 4711,Ada Lovelace,ada@uni.test,Submitted for grading,,10.00,Yes,"Monday, 2 March",-,
Participant 4712,Zoë_Ünal,zoe@uni.test,No submission,,10.00,Yes,-,-,
"""


def participant(path):
    """The number and the file that Moodle's feedback/file/importziplib.php reads from a path."""
    parts = path.split("/")
    while parts:
        about = parts.pop(0).split("_", 4)
        if len(about) >= 4 and about[1].isdigit():
            assert about[2:4] == ["assignfeedback", "file"]
            rest = [part for part in (about[4] if len(about) > 4 else "", *parts) if part]
            return int(about[1]), "/".join(rest)
    return None


def test_moodle(finished, source, tmp_path):
    rows = finished(
        "Ada Lovelace_4711_assignsubmission_file_/00_trial.ipynb", "zoe@uni.test_00_trial.ipynb"
    )
    worksheet = tmp_path / "worksheet.csv"
    worksheet.write_text(MOODLE, encoding="utf-8")
    assert exports.moodle(worksheet, tmp_path / "out", rows, source) == []
    text = (tmp_path / "out" / "moodle-00_trial.csv").read_text("utf-8")
    assert text.splitlines()[0] == MOODLE.splitlines()[0]
    ada, zoe = csv.DictReader(io.StringIO(text))
    assert (ada["Identifier"], ada["Grade"], zoe["Grade"]) == ("Participant 4711", "2", "2")
    assert "&lt;i&gt;so" in ada["Feedback comments"]
    with zipfile.ZipFile(tmp_path / "out" / "moodle-00_trial-feedback.zip") as archive:
        found = {participant(name): archive.read(name) for name in archive.namelist()}
    assert found.keys() == {(4711, "feedback.html"), (4712, "feedback.html")}
    assert b"Ada Lovelace" in found[4711, "feedback.html"]
    with refuses(ValueError, got="'Identifier'"):
        worksheet.write_text("ID,Name\n1,Ada\n")
        exports.moodle(worksheet, tmp_path / "out", rows, source)


def test_gradescope_results(handed_in, tmp_path):
    """As the Autograder Specifications have it: a score or tests with score, and visibilities."""
    (row,) = handed_in("ada_00_trial.ipynb")
    exports.gradescope(tmp_path / "results.json", row)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results.keys() <= {"score", "output", "tests", "visibility"}
    assert results["score"] == 0 and "graded by a person" in results["output"]
    (test,) = results["tests"]
    assert (test["name"], test["max_score"], test["status"]) == ("macs-three", 1, "failed")
    assert "64" not in json.dumps(results), "a hidden test's message"


def test_a_gradescope_autograder_holds_what_it_runs(source, tmp_path):
    """`setup.sh` and an executable `run_autograder` at the top; the command in it runs there."""
    assert grade.main(["--autograder", str(source.path), str(tmp_path / "autograder.zip")]) == 0
    place = tmp_path / "autograder"
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        archive.extractall(place)
        assert archive.getinfo("run_autograder").external_attr >> 16 & 0o111
    assert (place / "setup.sh").is_file()
    (notebook,) = place.rglob("*.ipynb")
    assert notebook.name == "00_trial.ipynb"
    code = (
        "import sys\nsys.path[:0] = ['package', 'grader']\n"
        "from very_deep_grader import sandbox\nprint(*sandbox.lent().values())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for folder in (
        "package/vgglib",
        "grader/very_deep_grader/inside",
        "package/benchmarks/recorded",
    ):
        assert str(place / folder) in done.stdout
