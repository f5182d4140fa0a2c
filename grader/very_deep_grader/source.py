"""An assignment's source notebook: its tasks, tests and points, and the version for students.

The source is in nbgrader's form, and nbgrader's preprocessors make the student version.
"""

import ast
import copy
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbgrader import utils
from nbgrader.nbgraderformat import MetadataValidator, ValidationError
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

FOLDER = Path("notebooks", "assignments")  # in the course's repository
HEADING = re.compile(r"^#{2,3} +(Task +\d+)\b", re.MULTILINE)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# In place of a solution. The check of an empty answer ends with this text.
STUB = """\
# YOUR CODE HERE
raise NotImplementedError("No answer yet: replace these two lines, run this cell, check again.")"""


@dataclass
class Cell:
    """A cell of the source."""

    kind: str  # "code" or "markdown"
    # "solution" (graded by the tests that follow), "manual" (graded by a person), "test", or
    # "given" (text, set-up and whatever else the student is handed).
    role: str
    source: str
    released: str  # its source in the student version
    grade_id: str | None
    points: float

    @property
    def hidden_lines(self):
        """Numbers of the lines between the marks of hidden tests."""
        found, inside = set(), False
        for number, line in enumerate(self.source.splitlines(), 1):
            inside |= "BEGIN HIDDEN TESTS" in line
            if inside:
                found.add(number)
            inside &= "END HIDDEN TESTS" not in line
        return found

    @property
    def names(self):
        """What the cell's code defines at top level: functions, classes and values."""
        return defined(self.source)


@dataclass
class Task:
    """A solution cell and the tests of it, or a cell that a person grades."""

    name: str
    cell: int
    manual: bool
    title: str
    tests: list = field(default_factory=list)
    points: float = 0


def defined(code):
    """Names that code defines at top level, in order; empty if it does not parse."""
    try:
        body = ast.parse(TransformerManager().transform_cell(code)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [part for target in targets for part in ast.walk(target)]
            stored = [part for part in parts if isinstance(getattr(part, "ctx", None), ast.Store)]
            names += [part.id for part in stored if isinstance(part, ast.Name)]
    return list(dict.fromkeys(names))


def student_version(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy without solutions, hidden tests and outputs, by nbgrader's preprocessors.

    It has the same number of cells.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python", "file_extension": ".py"}}
    )
    for preprocessor in (
        ClearSolutions(code_stub={"python": STUB}),
        LockCells(),
        ClearHiddenTests(),
        ClearMarkScheme(),
        ClearOutput(),
        ComputeChecksums(),
    ):
        notebook, _ = preprocessor.preprocess(notebook, {})
    return notebook


class Source:
    """An assignment, read from its source notebook.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    name : str
        The file's stem, for example "01_architecture".
    title : str
    cells : list of Cell
    tasks : list of Task

    Raises
    ------
    ValueError
        The notebook is no assignment that could be graded; the text says what to change.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.stem
        self.notebook = nbformat.read(self.path, as_version=4)
        try:
            MetadataValidator().validate_nb(self.notebook)
        except ValidationError as error:
            raise self._error(f"nbgrader does not accept its metadata: {error}") from error
        try:
            self.released = student_version(self.notebook)
        except RuntimeError as error:  # marks that are not closed, or in the wrong kind of cell
            raise self._error(str(error)) from error
        self.cells = [
            _read(cell, given)
            for cell, given in zip(self.notebook.cells, self.released.cells, strict=True)
        ]
        head = re.search(r"^# +(.+)", self.cells[0].source if self.cells else "", re.MULTILINE)
        self.title = head.group(1).strip() if head else self.name
        self.tasks = self._find_tasks()

    def _error(self, text):
        return ValueError(f"{self.path.name}: {text}")

    def _find_tasks(self):
        tasks, heading = [], ""
        for number, cell in enumerate(self.cells):
            if cell.kind == "markdown" and (found := HEADING.search(cell.source)):
                heading = cell.source[found.start() :].splitlines()[0].lstrip("# ")
            if cell.role == "solution" and not cell.names:
                raise self._error(f"the solution {cell.grade_id!r} defines no name to test")
            if cell.role in ("solution", "manual"):
                manual, title = cell.role == "manual", heading or cell.grade_id
                tasks.append(Task(cell.grade_id, number, manual, title, points=cell.points))
            elif cell.role == "test":
                name = tasks[-1].name if tasks else "?"
                if not cell.grade_id.startswith(name + "-") or tasks[-1].manual:
                    raise self._error(
                        f"the test {cell.grade_id!r} follows the solution {name!r}; a test stands "
                        "after the solution cell of its task and is named TASK-ASPECT"
                    )
                tasks[-1].tests.append(number)
                tasks[-1].points += cell.points
        untested = [task.name for task in tasks if not task.manual and not task.tests]
        if not tasks or untested:
            raise self._error(f"solution cells without a test: {', '.join(untested) or 'no task'}")
        return tasks

    def task(self, name):
        """The task of a name."""
        return next(task for task in self.tasks if task.name == name)

    @property
    def points(self):
        """The full marks."""
        return sum(task.points for task in self.tasks)

    def answered(self, answers: dict[str, str]) -> nbformat.NotebookNode:
        """The student version with cells for answers filled in, whose sources are by grade_id."""
        notebook = copy.deepcopy(self.released)
        for cell, own in zip(notebook.cells, self.cells, strict=True):
            if own.role in ("solution", "manual") and own.grade_id in answers:
                cell.source = answers[own.grade_id]
        return notebook

    def reference(self):
        """The reference answers by grade_id."""
        return {c.grade_id: c.source for c in self.cells if c.role in ("solution", "manual")}


def _read(cell, released):
    if utils.is_solution(cell):
        role = "manual" if utils.is_grade(cell) else "solution"
    else:
        role = "test" if utils.is_grade(cell) else "given"
    meta = cell.metadata.get("nbgrader", {})
    return Cell(
        "code" if cell.cell_type == "code" else "markdown",
        role,
        cell.source,
        released.source,
        meta.get("grade_id"),
        float(meta.get("points", 0)) if utils.is_grade(cell) else 0.0,
    )


def sources(folder=FOLDER):
    """The assignments of a folder, in order.

    Raises
    ------
    ValueError
        There is none.
    """
    found = [Source(path) for path in sorted(Path(folder).glob("*.ipynb"))]
    if not found:
        raise ValueError(f"{folder} holds no notebook of an assignment; name --assignments FOLDER")
    return found
