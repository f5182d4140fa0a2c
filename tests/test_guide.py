"""The instructors' guide: its syllabi, and one assignment from hand-out to gradebook, as it says.

The commands are taken from the page and run by a shell, in a copy of the repository. What a person
does between them (answer, read, click in a learning management system) the tests act out.
"""

import csv
import getpass
import io
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import nbformat
import pytest
import reading
from nbgrader.api import Gradebook

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
NAME = "01_architecture"
SOURCE = nbformat.read(ROOT / "notebooks" / "assignments" / f"{NAME}.ipynb", as_version=4)
TITLE = SOURCE.cells[0].source.splitlines()[0].lstrip("# ")
LEFT_OUT = (".*", "_build", "book", "paper", "tests", "__pycache__")
SANDBOX = "submissions run in a sandbox made of Linux namespaces"


def section(heading):
    """The text below a heading of the page."""
    return re.split(r"^#{2,3} ", PAGE.split(f"# {heading}\n")[1], flags=re.MULTILINE)[0]


def code(heading, language="sh"):
    """The blocks of code below a heading."""
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```$", section(heading), re.M | re.S)
    return [textwrap.dedent(block) for block in blocks]


def numbers(text):
    """The chapters that a text names, in order: "chapters 1 to 3 and 6" are 1, 2, 3, 6."""
    found = []
    text = " ".join(text.split())
    for words in re.findall(r"\b[Cc]hapters? ((?:\d+(?:,? and |, | to )?)+)", text):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", words):
            found += range(int(first), int(last or first) + 1)
    return found


# Syllabi ----------------------------------------------------------------------------------


@pytest.mark.parametrize("syllabus", section("Three syllabi").strip().split("\n\n"))
def test_a_syllabus_has_every_chapter_after_those_that_it_needs(syllabus):
    needs = {c.number: c.needs for c in reading.read_chapters(ROOT / "notebooks")}
    order = list(dict.fromkeys(numbers(syllabus)))
    assert sorted(order) == sorted(needs)
    for place, number in enumerate(order):
        assert set(needs[number]) <= set(order[:place]), f"chapter {number} is too early"


def test_shortest_ways_are_what_chapters_need():
    needs = {c.number: c.needs for c in reading.read_chapters(ROOT / "notebooks")}
    text = section("Which chapter needs which")
    ways, _, spare = text[text.index("shortest way") :].partition("No other chapter")
    for way in re.findall(r"\d+(?:, \d+)+ and \d+", ways):
        way = [int(number) for number in re.findall(r"\d+", way)]
        assert all(set(needs[n]) <= set(way[:place]) for place, n in enumerate(way))
        for n in way[:-1]:
            assert any(n in needs[other] for other in way), f"{way} does not need {n}"
    needed = set().union(*needs.values())
    assert {int(n) for n in re.findall(r"\d+", spare)} == needs.keys() - needed


# From hand-out to gradebook ---------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    """A home with a copy of the repository in ``very-deep``, as if `make setup` had been there."""
    clone = tmp_path / "very-deep"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*LEFT_OUT))
    script(clone / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    (clone / ".venv" / "installed.stamp").touch()
    script(tmp_path / "bin" / "nbgrader", f'exec "{sys.executable}" -m nbgrader "$@"')
    return tmp_path


def script(path, line):
    """An executable that runs a line of shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def run(commands, folder, home):
    """Run commands in a folder; they must succeed."""
    places = (home / "bin", Path(sys.executable).parent)  # nbgrader starts alembic by its name
    environment = {
        **os.environ,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / ".jupyter"),
        "PATH": os.pathsep.join([*map(str, places), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def answered(handed_out, tasks=None, before=""):
    """A notebook that was handed out, answered as the source answers; all tasks or only some.

    Code ``before`` stands at the head of each answer in code.
    """
    notebook = nbformat.read(handed_out, as_version=4)
    right = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in SOURCE.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        assert "BEGIN" not in cell.source, "what is handed out holds an answer or a hidden test"
        if name in right and (tasks is None or name in tasks):
            cell.source = before * (cell.cell_type == "code") + right[name]
    return nbformat.writes(notebook).encode()


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))


def read_and_give(points, table):
    """Enter points for each open question, as a person would."""
    rows = rows_of(table)
    assert rows and all(row["rubric"] for row in rows)
    for row in rows:
        if row["state"] == "waiting":
            row["points"] = points
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.grader
@pytest.mark.slow
@pytest.mark.linux(SANDBOX)
def test_a_folder_of_files(home):
    clone = home / "very-deep"
    hand_out, grade, again = code("A folder of files")
    run(hand_out, clone, home)
    for student, tasks in (("ada", None), ("ben", ("twice",))):
        path = clone / "inbox" / student / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(answered(clone / "_build" / "assignments" / f"{NAME}.ipynb", tasks))
    run(grade, clone, home)
    graded = clone / "graded"
    status = {row["student"]: row["status"] for row in rows_of(graded / "grades.csv")}
    assert status["ben"] == "graded" and "by hand" in status["ada"]
    assert (graded / f"reading-{NAME}.html").exists()
    read_and_give("1.5", graded / "manual.csv")
    run(again, clone, home)
    rows = {row["student"]: row for row in rows_of(graded / "grades.csv")}
    assert {name: (row["total"], row["status"]) for name, row in rows.items()} == {
        "ada": ("19", "graded"),
        "ben": ("2", "graded"),
    }
    assert all((graded / row["feedback"]).exists() for row in rows.values())


@pytest.mark.grader
@pytest.mark.long  # test_gradebook.py looks at what comes into the gradebook
@pytest.mark.linux(SANDBOX)
def test_nbgrader_on_jupyterhub(home):
    course, student, exchange = (home / name for name in ("course", "student", "exchange"))
    for folder in (course, student, exchange, home / ".jupyter"):
        folder.mkdir()
    exchange.chmod(0o777)
    hubs = f"c.CourseDirectory.course_id = 'vgg'\nc.Exchange.root = {str(exchange)!r}"
    (home / ".jupyter" / "nbgrader_config.py").write_text(f"c = get_config()\n{hubs}")
    (lines,) = code("nbgrader on JupyterHub", "python")
    (course / "nbgrader_config.py").write_text(lines)
    hand_out, students, grade, hand_back = code("JupyterHub with nbgrader")
    run(hand_out, course, home)
    fetch, submit = students.splitlines()
    run(fetch, student, home)
    path = student / NAME / f"{NAME}.ipynb"
    # Where nbgrader runs the tests by itself, an answer can write what the teacher can write.
    reach = f"try:\n    open({str(home / 'reached')!r}, 'w')\nexcept OSError:\n    pass\n"
    path.write_bytes(answered(path, before=reach))
    run(submit, student, home)
    run(grade, course, home)
    assert not (home / "reached").exists()
    user, book = getpass.getuser(), f"sqlite:///{course}/gradebook.db"
    with Gradebook(book) as gradebook:
        (notebook,) = gradebook.find_submission(NAME, user).notebooks
        waiting = [grade for grade in notebook.grades if grade.needs_manual_grade]
        assert len(waiting) == 2
        for grade in waiting:
            grade.manual_score, grade.needs_manual_grade = 1.5, False
        gradebook.db.commit()
    run(hand_back, course, home)
    (row,) = (row for row in rows_of(course / "grades.csv") if row["student_id"] == user)
    assert (float(row["score"]), float(row["max_score"])) == (19, 20)
    assert list((exchange / "vgg" / "feedback").glob("*.html"))


def by_canvas(folder, notebook):
    """What Canvas gives: files that begin with a student's name and number, and a gradebook."""
    with zipfile.ZipFile(folder / "submissions.zip", "w") as archive:
        archive.writestr(f"lovelaceada_123_98765_{NAME}.ipynb", notebook)
    (folder / "export.csv").write_text(
        f"Student,ID,SIS User ID,SIS Login ID,Section,{TITLE} (4711),Final Score\n"
        "    Points Possible,,,,,20,(read only)\n"
        '"Lovelace, Ada",123,S1,ada@uni.test,Sec 1,,\n',
        encoding="utf-8-sig",
    )


def by_moodle(folder, notebook):
    """What Moodle gives: folders that name student and number, and a worksheet."""
    with zipfile.ZipFile(folder / "submissions.zip", "w") as archive:
        archive.writestr(f"Ada Lovelace_4711_assignsubmission_file_/{NAME}.ipynb", notebook)
    (folder / "worksheet.csv").write_text(
        "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
        "Last modified (submission),Last modified (grade),Feedback comments\n"
        "Participant 4711,Ada Lovelace,ada@uni.test,Submitted for grading,,20.00,Yes,"
        '"Monday, 2 March",-,\n',
        encoding="utf-8",
    )


@pytest.mark.grader
@pytest.mark.slow
@pytest.mark.linux(SANDBOX)
@pytest.mark.parametrize(
    ("number", "downloads", "table", "column"),
    [
        pytest.param(
            1, by_canvas, "canvas.csv", f"{TITLE} (4711)", marks=pytest.mark.long
        ),  # the same way as with Moodle, to another table
        (2, by_moodle, f"moodle-{NAME}.csv", "Grade"),
    ],
    ids=["canvas", "moodle"],
)
def test_canvas_or_moodle(home, number, downloads, table, column):
    clone = home / "very-deep"
    commands = code("Canvas or Moodle")
    assert len(commands) == 3
    run(commands[0], clone, home)
    downloads(clone, answered(clone / "_build" / "assignments" / f"{NAME}.ipynb"))
    unpack, grade = commands[number].splitlines()
    run(unpack, clone, home)
    run(grade, clone, home)
    assert rows_of(clone / "graded" / table)[-1][column] == "", "open questions: not finished"
    read_and_give("1.5", clone / "graded" / "manual.csv")
    run(grade, clone, home)
    assert float(rows_of(clone / "graded" / table)[-1][column]) == 19
    if number == 2:
        assert (clone / "graded" / f"moodle-{NAME}-feedback.zip").exists()
