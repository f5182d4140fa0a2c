"""Steps for ``nbgrader autograde``, so that grades, late penalties and release are nbgrader's.

In ``nbgrader_config.py`` of a course, on a JupyterHub or not::

    from very_deep_grader.gradebook import configure
    configure(get_config())

nbgrader then collects, keeps its gradebook, shows it in formgrader and releases feedback as usual.
Only the student's cells run elsewhere: in the sandbox, their tests outside of it. They get into the
notebook as what each test said, from which nbgrader reads the points.
"""

from pathlib import Path

import nbformat
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearHiddenTests,
    GetGrades,
    NbGraderPreprocessor,
    SaveAutoGrades,
)
from traitlets import Bool, Dict

from . import batch, sandbox
from .examine import one_line
from .source import STUB, Source

v4 = nbformat.v4


def configure(config):
    """Set what nbgrader needs, in its configuration."""
    config.ClearSolutions.code_stub = {"python": STUB}
    config.Autograde.sanitize_preprocessors = [Examine]
    config.Autograde.autograde_preprocessors = [Save, AssignLatePenalties, CheckCellMetadata]
    # What students get shows hidden tests' messages, and not the tests.
    config.GenerateFeedback.preprocessors = [GetGrades, ClearHiddenTests, CSSHTMLHeaderPreprocessor]
    config.HTMLExporter.sanitize_html = True


class Examine(NbGraderPreprocessor):
    """Makes of a submission the assignment with its answers, graded."""

    limits = Dict(help="Fields of sandbox.Limits, such as memory=2**32").tag(config=True)
    sandboxed = Bool(True, help="Whether to run submissions in a sandbox").tag(config=True)

    def preprocess(self, nb, resources):
        """Grade a notebook; a sandbox that does not start is an error."""
        if self.sandboxed:
            sandbox.check()
        about, course = resources["nbgrader"], self.parent.parent.coursedir
        folder = course.format_path(course.source_directory, ".", about["assignment"])
        source = Source(Path(folder, about["notebook"] + ".ipynb"))
        content, limits = nbformat.writes(nb).encode(), sandbox.Limits(**self.limits)
        hidden = [Path(course.root)]
        result, _ = batch.in_process(source, content, limits, self.sandboxed, hidden)
        if result["problem"]:
            raise RuntimeError(result["problem"])
        return graded(source, result), resources


class Save(SaveAutoGrades):
    """Saves what the tests said; a task whose answer was not found waits for a person."""

    def _add_score(self, cell, resources):
        super()._add_score(cell, resources)
        if cell.metadata.get("answer_not_found"):
            about = cell.metadata["nbgrader"]["grade_id"], self.notebook_id, self.assignment_id
            grade = self.gradebook.find_grade(*about, self.student_id)
            grade.auto_score, grade.needs_manual_grade = None, True
            self.gradebook.db.commit()


def graded(source: Source, result: dict) -> nbformat.NotebookNode:
    """The assignment's notebook with a submission's answers, and with what the tests said.

    The result is that of `examine.examine`.
    """
    tests = {t["id"]: t for entry in result["tasks"].values() for t in entry["tests"]}
    answers = {n: e["answer"] for n, e in result["tasks"].items() if e["answer"] is not None}
    notebook = source.answered(answers)
    for task in source.tasks:
        cell, entry = notebook.cells[task.cell], result["tasks"][task.name]
        if cell.cell_type == "code":
            cell.outputs = _outputs(entry)
        if task.manual and entry["answer"] is None:
            cell.metadata["answer_not_found"] = True
        for number in task.tests:
            cell = notebook.cells[number]
            cell.source = source.cells[number].source  # with its hidden part
            test = tests.get(cell.metadata["nbgrader"]["grade_id"])
            if test is None:
                cell.metadata["answer_not_found"] = True
            elif not test["passed"]:
                cell.outputs = [_error(test["shown"])]
    if result["remarks"]:
        text = "\n".join(f"- {one_line(remark)}" for remark in result["remarks"])
        notebook.cells.insert(0, v4.new_raw_cell("From the grader:\n\n" + text))
    return notebook


def _outputs(entry):
    found = [v4.new_output("stream", text=entry["output"])] if entry["output"] else []
    for figure in entry.get("figures", []):
        found.append(v4.new_output("display_data", {"image/png": figure}))
    return found + ([_error(entry["error"])] if entry["error"] else [])


def _error(text):
    return v4.new_output("error", ename="Failed", evalue=text, traceback=[text])
