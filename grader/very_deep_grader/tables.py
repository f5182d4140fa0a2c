"""The tables: ``grades.csv``, and ``manual.csv`` in which a person enters points."""

import csv
import hashlib
import io
import os
import re
import statistics
from collections import defaultdict
from pathlib import Path

from .examine import one_line
from .matching import squeezed

RUBRIC = re.compile(r"^(?:# Rubric.*(?:\n#.*)*|\*\*Rubric[\s\S]*?(?=\n\n\*\*|\n###|\Z))", re.M)


def write_atomically(path, text, encoding="utf-8"):
    """Write a file so that it is there whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name[:20]}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding, "replace", newline="")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def guarded(text):
    """Text for a cell that no spreadsheet takes for a formula, whatever separates its columns."""
    return re.sub(r"(^|[,;\t|])([\s\"']*)(?=[=+@＝＋＠－-])", r"\1\2'", one_line(str(text)))


def as_csv(rows, columns):
    """Rows as the text of a CSV file."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def write_table(path, rows, columns):
    """Write rows as a CSV file that spreadsheets open as it is."""
    write_atomically(path, as_csv(rows, columns), "utf-8-sig")


def read_csv(path, needed):
    """A CSV file as a spreadsheet or a learning system stored it.

    Parameters
    ----------
    path : path-like
        In UTF-8 or UTF-16, else taken for Windows' code page 1252; its columns are separated by
        comma, semicolon, tab or bar.
    needed : iterable of str
        Columns.

    Returns
    -------
    columns : list of str
    rows : list of dict

    Raises
    ------
    ValueError
        Columns are missing.
    """
    content = Path(path).read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    text = re.sub(r"\A\"?sep=.\"?\r?\n", "", text)
    separator = max(",;\t|", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="")
    if missing := set(needed) - set(reader.fieldnames or []):
        raise ValueError(
            f"{path}: columns {sorted(missing)} are missing, there are {reader.fieldnames}"
        )
    return list(reader.fieldnames), list(reader)


class Manual:
    """The points that a person gives, kept in ``manual.csv`` from run to run.

    A row is one answer to one task, known by its column ``answer`` alone: a hash of file, task and
    what the student wrote, so that points never pass to an answer that was changed later. It is
    made of letters, for a spreadsheet makes a number of ``1473074726e7`` and a date of ``1-2``.
    A row without it is one that a person has added, for the points of any task.

    Parameters
    ----------
    path : path-like
        A file that need not exist yet, see `read_csv`.

    Raises
    ------
    ValueError
        Columns are missing, or a row belongs to no answer, as its hash was rewritten.
    """

    COLUMNS = ("student", "assignment", "file", "task", "state", "max", "points", "comment")
    COLUMNS = (*COLUMNS, "rubric", "link", "answer")
    LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")
    ORDER = (
        "waiting",
        "not found",
        "of a file that is not graded",
        "not answered",
        "entered",
        "of an answer that is gone",
    )

    def __init__(self, path):
        self.path = Path(path)
        self.rows, self.entered, self.added = [], {}, []
        if not self.path.exists():
            return
        for row in read_csv(self.path, {"student", "task", "points", "comment", "answer"})[1]:
            row = {name: (row.get(name) or "").strip() for name in self.COLUMNS}
            key = row["answer"].lower().lstrip("'")
            if re.fullmatch("[b-t]{12}", key):
                self.entered[key] = row
            elif not key:
                self.added += [row] if row["points"] else []
            else:
                raise ValueError(
                    f"{self.path}: {row['student']}, {row['task']}: the answer {row['answer']!r} "
                    "is not the 12 letters that were written there, so that the row's points "
                    f"{row['points']!r} belong to nothing; delete what stands in the column answer"
                )

    def settle(self, handed, task, entry):
        """Give an entry the points and the comment that a person has entered; returns the key.

        Raises
        ------
        ValueError
            The points are no number from 0 to the task's maximum, or replace those of the tests
            without a reason.
        """
        source = handed.source
        parts = (source.name, handed.file, task, entry["answer"] or "")
        key = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:12]
        key = key.translate(self.LETTERS)
        given = [self.entered.pop(key, {}), *self._added(handed, task)][-1]
        said, comment = given.get("points", ""), given.get("comment", "")
        points = self._number(said, handed, task, entry)
        tested = entry["points"] is not None and not entry["manual"]
        entry |= {"by_hand": points is not None, "comment": comment or entry["comment"]}
        if entry["by_hand"]:
            entry["points"] = points
            if tested and not comment:
                raise ValueError(
                    f"{self.path}: {handed.student}, {task}: points that replace those of the "
                    "tests want a reason in the column comment"
                )
        if entry["manual"] or entry["points"] is None or given:
            waits = "waiting" if entry["points"] is None else "not answered"
            waits = "not found" if entry["answer"] is None else waits
            rubric = RUBRIC.search(source.cells[source.task(task).cell].source)
            row = {
                "student": guarded(handed.student),
                "assignment": source.name,
                "file": guarded(handed.file),
                "task": task,
                "state": "entered" if said or tested else waits,
                "max": f"{entry['max']:g}",
                "points": said,
                "comment": entry["comment"],
                "rubric": guarded(rubric.group().replace("# ", "")) if rubric else "",
                "link": f"reading-{source.name}.html#{key}" if entry["manual"] else "",
                "answer": key,
            }
            self.rows.append(row)
        return key

    def put_off(self, handed):
        """Keep the rows that a person has added about a file that is not graded."""
        self.rows += [{**row, "state": self.ORDER[2]} for row in self._added(handed)]

    def _added(self, handed, task=None):
        """Take the rows that a person has added about a submission, or about a task of it."""

        def means(row):
            named = (row["file"] or row["student"]).lstrip("'").casefold()
            place = (handed.file if row["file"] else handed.student).lstrip("'").casefold()
            known = ("", handed.source.name if handed.source else "")
            return named == place and row["assignment"] in known and task in (None, row["task"])

        taken = list(filter(means, self.added))
        self.added = [row for row in self.added if row not in taken]
        return taken

    def _number(self, said, handed, task, entry):
        try:
            points = float(said.replace(",", ".")) if said else None
        except ValueError:
            points = -1.0
        if points is not None and not 0 <= points <= entry["max"]:
            raise ValueError(
                f"{self.path}: {handed.student}, {task}: points are a number from 0 to "
                f"{entry['max']:g}, not {said!r}"
            )
        return points

    def save(self):
        """Write the file, open rows first.

        Raises
        ------
        ValueError
            A row that a person has added is about nothing that was handed in.
        """
        for row in self.added:
            raise ValueError(
                f"{self.path}: nothing was handed in that the row {row['student']!r}, "
                f"{row['file']!r}, {row['task']!r} could be about; student or file, and task, are "
                "written as in grades.csv"
            )
        gone = [{**row, "state": self.ORDER[-1]} for row in self.entered.values() if row["points"]]
        if rows := sorted(self.rows + gone, key=lambda row: self.ORDER.index(row["state"])):
            write_table(self.path, rows, self.COLUMNS)


def twins(handed, results):
    """What a person should know of files that are alike, as remarks by file."""
    remarks, groups = defaultdict(list), defaultdict(list)
    for item in handed:
        if item.source is not None:
            groups[item.source.name, "student", item.student.casefold()].append(item)
        tasks = results[item.file]["tasks"]
        answers = {
            name: squeezed(entry["answer"])
            for name, entry in tasks.items()
            if entry["answer"] and not entry["empty"]
        }
        if answers:
            groups[item.source.name, "all answers", tuple(answers.items())].append(item)
        for name, answer in answers.items():
            if tasks[name]["manual"]:
                groups[item.source.name, name, answer].append(item)
    for (_, kind, _), items in groups.items():
        for item in items:
            same = kind == "student"
            others = [o for o in items if o is not item and (same or o.student != item.student)]
            names = [other.file for other in others]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            text = f"{kind}: the same as in {', '.join(names[:3])}{more}"
            if same:
                text = f"this student handed in more than one file for this assignment: {names}"
            if others:
                remarks[item.file].append(text)
    return remarks


def write(out, handed, results, manual, pages):
    """Write ``grades.csv``, ``manual.csv``, and a page for each submission.

    Returns
    -------
    list of dict
        The rows of ``grades.csv``, each with its "handed" and its "result".
    """
    sources = {h.source.name: h.source for h in handed if h.source}
    reading = {name: defaultdict(list) for name in sorted(sources)}
    for item in handed:  # all of them before a file is written: one may be refused
        if results[item.file]["problem"]:
            manual.put_off(item)
        for task, entry in results[item.file]["tasks"].items():
            key = manual.settle(item, task, entry)
            answer = {"student": item.student, "key": key, "entry": entry}
            cell = item.source.cells[item.source.task(task).cell]
            entry["markdown"] = cell.kind == "markdown"
            reading[item.source.name][task].append(answer)
    manual.save()
    alike, rows = twins(handed, results), []
    for item in handed:
        result = results[item.file]
        row = {"student": guarded(item.student), "file": guarded(item.file)}
        row |= {"handed": item, "result": result}
        row["assignment"] = item.source.name if item.source else ""
        row["max"] = f"{item.source.points:g}" if item.source else ""
        remarks = [*alike[item.file], *result["remarks"]]
        tasks = result["tasks"]
        for task, entry in tasks.items():
            if entry["points"] is not None:
                row[task] = f"{entry['points']:g}"
            failed = [t for t in entry["tests"] if not (t["passed"] or entry["empty"])]
            remarks += [f"{t['id']}: {t['message']}" for t in failed[:1]]
            if entry["by_hand"] and not entry["manual"]:
                remarks.append(f"{task}: points set by a person: {entry['comment']}")
        if result["problem"]:
            row["status"] = "not graded"
            remarks.insert(0, result["problem"])
        else:
            row["total"] = f"{sum(e['points'] or 0 for e in tasks.values()):g}"
            missing = {task: e["manual"] for task, e in tasks.items() if e["points"] is None}
            unknown = [task for task, by_person in missing.items() if not by_person]
            what = "look at" if unknown else "to be graded by hand:"
            row["status"] = f"{what} {', '.join(unknown or missing)}" if missing else "graded"
        row["remarks"] = guarded("; ".join(map(one_line, remarks)))
        row["feedback"] = pages.write(item, result, row)
        rows.append(row)
    tasks = {name: [task.name for task in source.tasks] for name, source in sources.items()}

    def table(name, rows, tasks):
        columns = ("student", "assignment", "file", *tasks, "total", "max", "status", "remarks")
        write_table(Path(out) / name, rows, (*columns, "feedback"))

    for name, answers in reading.items():
        pages.write_reading(sources[name], answers)
        if len(tasks) > 1:
            table(f"grades-{name}.csv", [r for r in rows if r["assignment"] == name], tasks[name])
    table("grades.csv", rows, next(iter(tasks.values())) if len(tasks) == 1 else ())
    _write_summary(out, rows, sources)
    return rows


def finished(rows, name):
    """The totals of an assignment in which nothing is open, as numbers."""
    done = [r for r in rows if r["assignment"] == name and r["status"] == "graded"]
    return [float(row["total"]) for row in done]


def _write_summary(out, rows, sources):
    lines = []
    for name, source in sorted(sources.items()):
        entries = [r["result"]["tasks"] for r in rows if r["assignment"] == name]
        parts = [
            (t.name, t.points, [e[t.name]["points"] for e in entries if t.name in e])
            for t in source.tasks
        ]
        for task, full, points in [*parts, ("total", source.points, finished(rows, name))]:
            points = [p for p in points if p is not None]
            line = {"assignment": name, "task": task, "max": f"{full:g}", "graded": len(points)}
            if points:
                line |= {"mean": f"{statistics.fmean(points):.2f}", "least": f"{min(points):g}"}
                line |= {"median": f"{statistics.median(points):g}"}
                line |= {"full marks": points.count(full), "none": points.count(0)}
            lines.append(line)
    columns = ("assignment", "task", "max", "graded", "mean", "median", "least")
    write_table(Path(out) / "summary.csv", lines, (*columns, "full marks", "none"))


def distribution(rows):
    """A line for each assignment that says how its totals are distributed."""
    for name in sorted({row["assignment"] for row in rows if row["status"] == "graded"}):
        totals = finished(rows, name)
        most = max(float(row["max"]) for row in rows if row["assignment"] == name)
        fifths = [min(int(5 * total / most), 4) for total in totals]
        parts = [f"{most * n / 5:g}–{most * (n + 1) / 5:g}: {fifths.count(n)}" for n in range(5)]
        yield (
            f"{name}: {len(totals)} finished, mean {statistics.fmean(totals):.1f}, median "
            f"{statistics.median(totals):g} of {most:g}; {', '.join(parts)}"
        )
