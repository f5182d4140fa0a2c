"""The tables: ``grades.csv``, and ``manual.csv`` in which a person enters points."""

import csv
import hashlib
import io
import os
import re
import tempfile
from collections import Counter
from pathlib import Path

from .examine import one_line


def write_atomically(path, text, encoding="utf-8"):
    """Write a file so that it is there whole or not at all."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}.")
    try:
        with os.fdopen(handle, "w", encoding=encoding, newline="", errors="replace") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def guarded(text):
    """Text for a cell: a spreadsheet would take one that begins with = + - @ for a formula."""
    text = one_line(str(text))
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def as_csv(rows, columns):
    """Rows as the text of a CSV file."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


class Manual:
    """The points that a person gives, kept in ``manual.csv`` from run to run.

    A row is one answer to one task, known by its column ``answer`` alone: a hash of file, task and
    what the student wrote, so that points never pass to an answer that was changed later. It is
    made of letters, for a spreadsheet makes a number of ``1473074726e7`` and a date of ``1-2``.

    Parameters
    ----------
    path : path-like
        A file that need not exist yet. Comma, semicolon or tab separate its columns; what is not
        in UTF-8 or UTF-16 is taken for Windows' code page 1252.

    Raises
    ------
    ValueError
        Columns are missing, or a row belongs to no answer, as its hash was rewritten.
    """

    COLUMNS = ("student", "assignment", "file", "task", "answer", "max", "points", "comment")
    LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")

    def __init__(self, path):
        self.path = Path(path)
        self.rows = {}
        if not self.path.exists():
            return
        text = _decoded(self.path.read_bytes())
        separator = next((sign for sign in ";\t" if sign in text.partition("\n")[0]), ",")
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
        missing = set(self.COLUMNS) - set(reader.fieldnames or [])
        if missing:
            raise ValueError(f"{self.path}: columns {sorted(missing)} are missing")
        for row in reader:
            if not re.fullmatch("[b-t]{12}", row["answer"] or ""):
                raise ValueError(
                    f"{self.path}: {row['student']}, {row['task']}: the answer {row['answer']!r} "
                    "is not the 12 letters that were written there, so that the row's points "
                    f"{row['points']!r} belong to nothing; delete the row, grade again, and enter "
                    "them in the row that appears"
                )
            self.rows[row["answer"]] = row

    def look_up(self, handed, task, entry):
        """Points and comment of an answer; (None, "") until a person has entered them.

        Raises
        ------
        ValueError
            The points are no number from 0 to the task's maximum.
        """
        parts = (handed.source.name, handed.file, task, entry["answer"] or "")
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:12]
        row = {
            "student": guarded(handed.student),
            "assignment": handed.source.name,
            "file": guarded(handed.file),
            "task": task,
            "answer": digest.translate(self.LETTERS),
            "max": f"{entry['max']:g}",
        }
        entered = self.rows.get(row["answer"], {})
        # The other columns are for people: they are written anew, whatever became of them.
        row |= {name: entered.get(name) or "" for name in ("points", "comment")}
        self.rows[row["answer"]] = row
        said = row["points"].strip().replace(",", ".")
        try:
            points = float(said) if said else None
        except ValueError:
            points = -1.0
        if points is not None and not 0 <= points <= entry["max"]:
            raise ValueError(
                f"{self.path}: {row['student']}, {task}: points are a number from 0 to "
                f"{row['max']}, not {row['points']!r}"
            )
        return points, row["comment"]

    def save(self):
        """Write the file, open rows first."""
        if self.rows:
            rows = sorted(self.rows.values(), key=lambda row: bool((row["points"] or "").strip()))
            write_atomically(self.path, as_csv(rows, self.COLUMNS), "utf-8-sig")


def _decoded(content):
    """The text of a CSV file, however a spreadsheet stored it."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def write(out, handed, results, manual, pages):
    """Write ``grades.csv``, ``manual.csv`` and a page for each submission.

    Returns
    -------
    list of dict
        The rows of ``grades.csv``.
    """
    several = Counter((h.student, h.source and h.source.name) for h in handed)
    sources = {h.source.name: h.source for h in handed if h.source}
    tasks = [task.name for name in sorted(sources) for task in sources[name].tasks]
    by_hand = (
        (item, task, entry)
        for item in handed
        for task, entry in results[item.file]["tasks"].items()
        if entry["manual"]
    )
    for item, task, entry in by_hand:  # all of them before a file is written: one may be refused
        points, entry["comment"] = manual.look_up(item, task, entry)
        entry["points"] = entry["points"] if points is None else points
    rows = []
    for item in handed:
        result = results[item.file]
        row = {"student": guarded(item.student), "file": guarded(item.file)}
        row["assignment"] = item.source.name if item.source else ""
        row["max"] = f"{item.source.points:g}" if item.source else ""
        remarks = list(result["remarks"])
        if several[item.student, item.source and item.source.name] > 1:
            remarks.insert(0, "this student handed in more than one file for this assignment")
        open_tasks = []
        for task, entry in result["tasks"].items():
            if entry["manual"] and entry["points"] is None:
                open_tasks.append(task)
            if entry["points"] is not None:
                row[task] = f"{entry['points']:g}"
            failed = [t for t in entry["tests"] if not (t["passed"] or entry["empty"])]
            remarks += [f"{t['id']}: {t['message']}" for t in failed[:1]]
        unknown = [
            task
            for task, entry in result["tasks"].items()
            if entry["points"] is None and task not in open_tasks
        ]
        if result["problem"]:
            row["status"] = "not graded"
            remarks.insert(0, result["problem"])
        else:
            row["total"] = f"{sum(e['points'] or 0 for e in result['tasks'].values()):g}"
            row["status"] = (
                f"look at {', '.join(unknown)}"
                if unknown
                else f"to be graded by hand: {', '.join(open_tasks)}"
                if open_tasks
                else "graded"
            )
        row["remarks"] = guarded("; ".join(map(one_line, remarks)))
        row["feedback"] = pages.write(item, result, row)
        rows.append(row)
    columns = ("student", "assignment", "file", *dict.fromkeys(tasks), "total", "max", "status")
    columns = (*columns, "remarks", "feedback")
    write_atomically(Path(out) / "grades.csv", as_csv(rows, columns), "utf-8-sig")
    manual.save()
    return rows
