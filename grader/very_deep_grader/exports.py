"""Grades in the form that a learning management system imports.

Canvas
    Its exported gradebook with the assignment's column filled in. Instructure, *How do I import
    grades in the Gradebook?*
Moodle
    The assignment's offline grading worksheet with grades and comments filled in, and a ZIP archive
    of feedback files; both know a participant by number. Moodle Docs, *Assignment grading*.
Gradescope
    ``results.json``, and the archive of an autograder that writes it. *Autograder Specifications*.
"""

import html
import json
import re
import zipfile
from collections import defaultdict
from pathlib import Path

from .sandbox import INSIDE, lent, vgglib_folder
from .source import Source
from .tables import as_csv, read_csv, write_atomically, write_table

# How Canvas names an assignment's column; the number is its own.
CANVAS_COLUMN = re.compile(r"(.+) \((\d+)\)")
CANVAS = ("Student", "ID", "SIS Login ID", "Section")
MOODLE = ("Identifier", "Full name", "Grade")
ZIPPED = zipfile.ZIP_DEFLATED


def plain(text):
    """Text as its letters and digits, to compare names."""
    return "".join(c for c in text.casefold() if c.isalnum())


def _lines(rows, name, lines, about):
    """Find the lines of the students whose rows of an assignment are finished.

    ``about(line)`` gives the number, logins and names by which a line's student may be known. A
    grade that could be that of two students, or of two files, goes to nobody.

    Returns
    -------
    found : list of tuple
        Lines, each with its row.
    lost : set of str
        Students without a line of their own.
    """
    claims, known = defaultdict(list), [about(line) for line in lines]
    for row in rows:
        if row["assignment"] == name and row["status"] == "graded":
            student = row["handed"].student
            # Canvas and Moodle put a number behind a name.
            number = re.search(r"_(\d+)$", student)
            keys = enumerate((number and number[1], student.casefold(), plain(student)))
            found = ([n for n, names in enumerate(known) if key in names[i]] for i, key in keys)
            claims[next((of[0] for of in found if len(of) == 1), None)].append(row)
    own = {place: of[0] for place, of in claims.items() if place is not None and len(of) == 1}
    lost = {row["handed"].student for place in claims.keys() - own for row in claims[place]}
    return [(lines[place], row) for place, row in own.items()], lost


def canvas(path, out, rows, sources, column=None):
    """Fill in Canvas's exported gradebook.

    Parameters
    ----------
    path : path-like
        What *Grades → Export* gave.
    out : path-like
        Gets ``canvas.csv``: the columns that Canvas knows students by, and those filled in.
    rows : list of dict
        See `tables.write`.
    sources : list of source.Source
    column : str, optional
        The column's heading, if it is not called like the assignment.

    Returns
    -------
    list of str
        Students whose grades found no row.

    Raises
    ------
    ValueError
        No column, or more than one, can be the assignment's, or its points differ.
    """
    columns, lines = read_csv(path, CANVAS)
    possible = [line for line in lines if "Points Possible" in line["Student"]]
    students = [line for line in lines if line not in possible]
    filled, lost = [], set()
    for source in sources:
        own = [c for c in columns if CANVAS_COLUMN.fullmatch(c)]
        named = [c for c in own if c == column or (column is None and _alike(c, source))]
        if len(named) != 1:
            found = f"{len(named)} columns are called like {source.title!r}"
            raise ValueError(f"{path}: {found}; name one of {own} with --column")
        for line in possible:
            if line[named[0]].strip() and float(line[named[0]]) != source.points:
                raise ValueError(
                    f"{path}: {named[0]!r} is out of {line[named[0]]} points, the assignment out "
                    f"of {source.points:g}; set the points of the assignment in Canvas"
                )
        filled += named
        found, without = _lines(rows, source.name, students, _about_canvas)
        lost |= without
        for line, row in found:
            line[named[0]] = row["total"]
    first = next(i for i, c in enumerate(columns) if CANVAS_COLUMN.fullmatch(c))
    write_table(Path(out) / "canvas.csv", lines, columns[:first] + filled)
    return sorted(lost)


def _about_canvas(line):
    family, _, given = line["Student"].partition(",")
    logins = {line[name].casefold() for name in ("SIS Login ID", "SIS User ID") if line.get(name)}
    # Canvas's downloads are named by the sortable name without spaces, and the ID.
    return {line["ID"]}, logins, {plain(line["Student"]), plain(given + family)}


def _alike(column, source):
    title = plain(CANVAS_COLUMN.fullmatch(column)[1])
    return any(title in name or name in title for name in (plain(source.name), plain(source.title)))


def moodle(path, out, rows, source):
    """Fill in Moodle's grading worksheet of an assignment, and pack the feedback pages.

    Parameters
    ----------
    path : path-like
        What *Download grading worksheet* gave, in English.
    out : path-like
        Gets ``moodle-NAME.csv`` and ``moodle-NAME-feedback.zip``.
    rows : list of dict
        See `tables.write`.
    source : source.Source

    Returns
    -------
    list of str
        Students whose grades found no row.
    """
    columns, lines = read_csv(path, MOODLE)
    pages, out = {}, Path(out)

    def number(line):  # of "Participant 4711"
        return re.sub(r".*?(\d+)$", r"\1", line["Identifier"])

    def about(line):
        mail = line.get("Email address", "").casefold()
        return {number(line)}, {mail}, {plain(line["Full name"])}

    found, lost = _lines(rows, source.name, lines, about)
    for line, row in found:
        line["Grade"] = row["total"]
        if "Feedback comments" in columns:
            told = [t for t in row["result"]["tasks"].values() if t["comment"]]
            text = " ".join(f"{task['title']}: {task['comment']}" for task in told)
            line["Feedback comments"] = html.escape(text)
        # Moodle reads the number between the first two underscores.
        name = re.sub(r"[/\\_]+", " ", line["Full name"])
        pages[f"{name}_{number(line)}_assignfeedback_file_/feedback.html"] = row["feedback"]
    write_atomically(out / f"moodle-{source.name}.csv", as_csv(lines, columns))
    with zipfile.ZipFile(out / f"moodle-{source.name}-feedback.zip", "w", ZIPPED) as archive:
        for place, page in pages.items():
            archive.write(out / page, place)
    return sorted(lost)


def gradescope(path: str | Path, row: dict):
    """Write ``results.json`` for a submission, a row of `tables.write`.

    What a person grades is left to Gradescope's form.
    """
    tasks = row["result"]["tasks"].values()
    remarks = [row["result"]["problem"], *row["result"]["remarks"]]
    remarks += [f"{task['title']}: graded by a person" for task in tasks if task["manual"]]
    tests = [
        {
            "name": test["id"],
            "score": test["points"],
            "max_score": test["max"],
            "status": "passed" if test["passed"] else "failed",
            "output": test["shown"] or "",
            "visibility": "visible",
        }
        for task in tasks
        for test in task["tests"]
    ]
    found = {"output": "\n".join(filter(None, remarks)), "tests": tests}
    found |= {"score": sum(test["score"] for test in tests), "visibility": "visible"}
    write_atomically(path, json.dumps(found, indent=1))


def autograder(source: Source, path: str | Path):
    """Write the ZIP archive of a Gradescope autograder for one assignment.

    Raises
    ------
    ValueError
        One of the packages is installed, and not used from where a clone of the course has it.
    """
    package, grader = vgglib_folder().parent, INSIDE.parent
    projects = {"package": package, "grader": grader.parent}
    files = {
        f"{place}/{name}": folder / name
        for place, folder in projects.items()
        for name in ("pyproject.toml", "README.md", "LICENSE")
    }
    if lacking := [str(file) for file in files.values() if not file.is_file()]:
        raise ValueError(f"an archive is made in a clone of the course; there is no {lacking[0]}")
    files["notebooks/" + source.path.name] = source.path
    folders = {f"package/{name}": folder for name, folder in lent().items() if name != "inside"}
    folders[f"grader/{grader.name}"] = grader
    for place, folder in folders.items():
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                files[f"{place}/{file.relative_to(folder).as_posix()}"] = file
    with zipfile.ZipFile(path, "w", ZIPPED) as archive:
        for name in ("setup.sh", "run_autograder"):
            about = zipfile.ZipInfo(name)
            about.external_attr = 0o100755 << 16
            archive.writestr(about, (grader / "autograder" / name).with_suffix(".sh").read_bytes())
        for name, file in files.items():
            archive.write(file, name)
