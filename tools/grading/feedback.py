"""Feedback pages: one HTML file for each submission, safe to open whatever the student wrote."""

import hashlib
import re
from pathlib import Path

import jinja2

from .tables import write_atomically


class Pages:
    """Writes feedback pages into ``OUT/feedback``.

    Parameters
    ----------
    out : Path
    show_hidden : bool
        Whether pages show hidden tests, their messages in full and their code.
    """

    def __init__(self, out, show_hidden=False):
        self.out = Path(out)
        self.show_hidden = show_hidden
        (self.out / "feedback").mkdir(parents=True, exist_ok=True)
        # Everything is escaped, for everything may be a student's.
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.template = environment.get_template("feedback.html")

    def write(self, handed, result, row):
        """Write one page; returns its path within OUT."""
        # No part of a student's name becomes part of a path as it is.
        plain = re.sub(r"[^a-z0-9]+", "-", handed.student.lower()).strip("-")[:40]
        mark = hashlib.sha256(handed.file.encode("utf-8", "replace")).hexdigest()[:10]
        name = f"feedback/{plain or 'student'}-{mark}.html"
        tests = {}
        if handed.source:
            for task in handed.source.tasks:
                for number in task.tests:
                    cell = handed.source.cells[number]
                    tests[cell.grade_id] = cell.source if self.show_hidden else cell.released
        page = self.template.render(
            student=handed.student,
            file=handed.file,
            title=handed.source.title if handed.source else "No assignment",
            result=result,
            row=row,
            tests=tests,
            show_hidden=self.show_hidden,
        )
        write_atomically(self.out / name, page)
        return name
