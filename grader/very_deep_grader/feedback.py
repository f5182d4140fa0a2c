"""The pages: feedback for each submission, and for each assignment the answers that a person reads.

They are safe to open whatever the student wrote: text is escaped, Markdown is rendered by nbconvert
and sanitised, figures are pictures within the page, and no page may ask another host for anything.
"""

import hashlib
import re
from pathlib import Path

import jinja2
from bleach import ALLOWED_TAGS
from markupsafe import Markup
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors.sanitize import SanitizeHTML

from .source import Source
from .tables import write_atomically

TAGS = ["br", "dd", "del", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "p", "pre"]
TAGS += ["s", "span", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", *ALLOWED_TAGS]


def markdown(text):
    """Markdown as HTML without anything that acts; HTML in it is shown as it was typed."""
    renderer = IPythonRenderer(escape=True, exclude_anchor_links=True)
    html = MarkdownWithMath(renderer=renderer).render(text)
    return Markup(SanitizeHTML(tags=TAGS).sanitize_html_tags(html))


class Pages:
    """Writes pages into OUT, with hidden tests' code and their messages in full if so asked."""

    def __init__(self, out: str | Path, show_hidden=False):
        self.out = Path(out)
        self.show_hidden = show_hidden
        (self.out / "feedback").mkdir(parents=True, exist_ok=True)
        # Everything is escaped, for everything may be a student's.
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters["markdown"] = markdown

    def _write(self, name, template, **values):
        write_atomically(self.out / name, self.templates.get_template(template).render(**values))
        return name

    def write(self, handed, result, row):
        """Write a submission's page; returns its path within OUT."""
        # No part of a student's name becomes part of a path as it is.
        plain = re.sub(r"[^a-z0-9]+", "-", handed.student.lower()).strip("-")[:40]
        mark = hashlib.sha256(handed.file.encode("utf-8", "replace")).hexdigest()[:10]
        cells = handed.source.cells if handed.source else []
        return self._write(
            f"feedback/{plain or 'student'}-{mark}.html",
            "feedback.html",
            student=handed.student,
            file=handed.file,
            title=handed.source.title if handed.source else "No assignment",
            result=result,
            row=row,
            tests={c.grade_id: c.source if self.show_hidden else c.released for c in cells},
            show_hidden=self.show_hidden,
        )

    def write_reading(self, source: Source, answers: dict[str, list[dict]]):
        """Write the page of an assignment's open questions.

        The answers are by task, each a dict with "student", "key" and "entry".
        """
        tasks = []
        for task in source.tasks:
            if task.manual:
                cell = source.cells[task.cell]
                text = re.sub(r"^ *### (BEGIN|END) SOLUTION\n?", "", cell.source, flags=re.M)
                reference = {"answer": text, "markdown": cell.kind == "markdown"}
                reference |= {"error": None, "output": "", "figures": []}
                listed = {"reference": reference, "answers": answers.get(task.name, [])}
                tasks.append({"name": task.name, "title": task.title, **listed})
        self._write(f"reading-{source.name}.html", "reading.html", title=source.title, tasks=tasks)
