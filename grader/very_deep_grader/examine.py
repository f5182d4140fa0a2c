"""Grades one submission: the student's cells in the sandbox, the source's tests here.

The result is plain data (see `examine`), so that it can be kept and shown later.
"""

import contextlib
import io
import re
import traceback

import matplotlib

from . import matching
from .inside.time_limit import time_limit
from .sandbox import Limits
from .session import OutOfTime, Session, StudentError, seed_everything
from .source import Cell, Source

MESSAGE_LIMIT = 600


class TestTimeUp(BaseException):
    """A test takes too long, by itself or with all of its calls."""

    __test__ = False  # pytest takes the name for that of a test


def examine(
    source: Source, content: bytes, limits: Limits, sandboxed=True, hidden=(), session=None
) -> dict:
    """Grade a submission, the content of a file.

    Parameters
    ----------
    hidden : sequence of path
        Folders that the submission must not see.
    session : session.Session, optional
        A worker to use again, which saves its start. Only for submissions that are trusted.

    Returns
    -------
    dict
        "problem": why there is no grade, or None; "remarks": list of str; "tasks": by name, with
        "points" (None: not known), "max", "manual", "answer", "empty" (whether the answer is what
        was handed out), "error", "output", "figures" (PNG in base64), "comment" and "tests"; for
        each test "id", "points", "max", "passed", "message", "shown" (the message for the student)
        and "hidden" (whether it failed in the hidden part).
    """
    try:
        cells = matching.read(content)
    except matching.UnreadableError as error:
        return ungraded(str(error))
    found = matching.match(source, cells)
    if not any(task.cell in found.cells for task in source.tasks):
        return ungraded(f"no cell of it belongs to {source.name}")
    result = {"problem": None, "remarks": found.remarks, "tasks": {}}
    if session is not None:
        session.reset()
    own = Session(limits, sandboxed, hidden) if session is None else contextlib.nullcontext(session)
    with own as session:
        _Examination(source, cells, found, session, result).run()
    return result


def ungraded(problem):
    """The result of what has no grade."""
    return {"problem": problem, "remarks": [], "tasks": {}}


class _Examination:
    def __init__(self, source, cells, found, session, result):
        self.source = source
        self.cells = cells
        self.found = found
        self.session = session
        self.result = result
        self.over = None  # why nothing is run any more
        self.ran = {}  # output and error by the number of the cell: each runs once
        self.of_cell = {}
        for task in source.tasks:
            answer = self._answer(task)
            entry = {
                "title": task.title,
                "manual": task.manual,
                "max": task.points,
                "points": None,
                "answer": answer,
                "empty": answer is not None
                and answer.strip() in ("", source.cells[task.cell].released.strip()),
                "error": None,
                "output": "",
                "figures": [],
                "comment": "",
                "tests": [],
            }
            result["tasks"][task.name] = entry
            for index in (task.cell, *task.tests):
                self.of_cell[index] = (task, entry)

    def _answer(self, task):
        """What a person reads; an answer for a person may go on in cells that were added."""
        number = self.found.cells.get(task.cell)
        if number is None:
            return None
        after = self.found.extra.get(task.cell, []) if task.manual else []
        numbers = [*self.found.ahead.get(task.cell, []), number, *after]
        return "\n\n".join(self.cells[n].source for n in numbers)

    def run(self):
        """Go through the source's cells in order, the student's own after their neighbours."""
        self._own(self.found.extra.get(-1, []))
        for index, cell in enumerate(self.source.cells):
            task, entry = self.of_cell.get(index, (None, None))
            if cell.role == "given" and cell.kind == "code":
                self._run(cell.source)
            elif cell.role in ("solution", "manual"):
                number = self.found.cells.get(index)
                self._own(self.found.ahead.get(index, []))
                if number is not None and self.cells[number].kind == "code":
                    entry["output"], entry["error"] = self._once(number)
                if cell.role == "manual" and entry["empty"]:
                    entry["points"] = 0.0
            elif cell.role == "test" and entry["answer"] is not None:
                entry["tests"].append(self._test(cell, self.source.cells[task.cell].names, entry))
            self._own(self.found.extra.get(index, []))
            if cell.role in ("solution", "manual"):
                entry["figures"] = self.session.figures()
        for entry in self.result["tasks"].values():
            if entry["tests"]:
                entry["points"] = sum(test["points"] for test in entry["tests"])
        if empty := [name for name, entry in self.result["tasks"].items() if entry["empty"]]:
            self.result["remarks"].append(f"not answered: {', '.join(empty)}")
        if self.over:
            self.result["remarks"].append(self.over)

    def _own(self, numbers):
        """Run cells that the student has added."""
        for number in numbers:
            if self.cells[number].kind != "code" or number in self.ran:
                continue
            _, error = self._once(number)
            if error:
                self.result["remarks"].append(f"cell {number + 1}: {one_line(error)}")

    def _once(self, number):
        """Run a cell unless it has been, since one cell may answer several tasks."""
        if number not in self.ran:
            self.ran[number] = self._run(self.cells[number].source)
        return self.ran[number]

    def _run(self, code):
        return self._in_time(self.session.run, code) or ("", self.over)

    def _in_time(self, do, *arguments):
        """What a function returns; None once the time of the submission is over."""
        if not self.over:
            try:
                return do(*arguments)
            except OutOfTime as error:
                self.over = str(error)
        return None

    def _test(self, cell, names, entry):
        error, line = self._in_time(outcome, self.session, cell, names) or (self.over, 0)
        hidden = line in cell.hidden_lines
        message = None
        if error is not None:
            message = error if isinstance(error, str) else said(error)
            if entry["error"] and isinstance(error, NameError):
                message = f"{message} (its cell: {one_line(entry['error'])})"
        shown = message
        if hidden and isinstance(error, StudentError):
            # A student's message could carry the hidden test's input.
            shown = f"your code {error.brief}"
        return {
            "id": cell.grade_id,
            "points": 0.0 if message else cell.points,
            "max": cell.points,
            "passed": message is None,
            "message": message,
            "shown": shown,
            "hidden": hidden,
        }


def outcome(session: Session, cell: Cell, names: list[str]):
    """Run a test cell, which needs some of the student's names.

    Returns
    -------
    error : Exception, str or None
        Why the test fails.
    line : int
        The line of the cell at which it fails.

    Raises
    ------
    OutOfTime
    """
    space = {"__name__": "test", "__builtins__": __builtins__}
    file = f"<{cell.grade_id}>"
    try:
        with _quiet(), _time_limit(session.limits):
            for name in names:
                with contextlib.suppress(KeyError):
                    space[name] = session.get(name)
            seed_everything()
            exec(compile(cell.source, file, "exec"), space)
    except TestTimeUp:
        return "the test took too long with what your code returned", 0
    except (KeyboardInterrupt, GeneratorExit, OutOfTime):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        return error, next((frame.lineno for frame in frames if frame.filename == file), 0)
    return None, 0


def said(error):
    """An exception as a line for a person."""
    text = str(error.args[0]) if error.args else ""
    if isinstance(error, StudentError):
        text = "your code " + text
    elif isinstance(error, NameError) and (name := re.match(r"name '(\w+)' is not", text)):
        text = f"{name.group(1)} is not defined"
    elif not isinstance(error, AssertionError):
        text = f"{type(error).__name__}: {text}"
    return one_line(text) or "the test fails"


def one_line(text):
    """Text without line breaks and control characters, shortened."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:5000]).split())
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


@contextlib.contextmanager
def _quiet():
    """What a test prints or draws is nobody's."""
    matplotlib.use("agg")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _time_limit(limits):
    """A test may compute for as long as two cells, and all of its calls have to end as well."""
    most = 2 * limits.cell
    return time_limit(TestTimeUp, processor=most, clock=limits.clock(most))
