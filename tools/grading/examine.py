"""Grades one submission: the student's cells in the sandbox, the source's tests here.

The result is plain data (see `examine`), so that it can be kept and shown later.
"""

import contextlib
import io
import re
import signal
import traceback

import matplotlib

from . import matching
from .session import Named, OutOfTime, Remote, Session, StudentError, seed_everything

MESSAGE_LIMIT = 600


class TestTimeUp(BaseException):
    """A test takes too long, by itself or with all of its calls."""


def examine(source, content, limits, sandboxed=True, hidden=(), session=None):
    """Grade a submission.

    Parameters
    ----------
    source : grading.source.Source
    content : bytes
        The file that was handed in.
    limits : grading.sandbox.Limits
    sandboxed : bool
    hidden : sequence of path
        Folders that the submission must not see.
    session : grading.session.Session, optional
        A worker to use again, which saves its start. Only for submissions that are trusted.

    Returns
    -------
    dict
        "problem": why there is no grade, or None; "remarks": list of str; "tasks": by name, with
        "points" (None: not known), "max", "manual", "answer", "empty" (whether the answer is what
        was handed out), "error", "output", "comment" and "tests"; for each test "id", "points",
        "max", "passed", "message", "shown" (the message for the student) and "hidden" (whether it
        failed in the hidden part).
    """
    result = {"problem": None, "remarks": [], "tasks": {}}
    try:
        cells = matching.read(content)
    except matching.UnreadableError as error:
        result["problem"] = str(error)
        return result
    found = matching.match(source, cells)
    if not any(task.cell in found.cells for task in source.tasks):
        result["problem"] = f"no cell of it belongs to {source.name}"
        return result
    result["remarks"] = found.remarks
    if session is not None:
        session.reset()
        _Examination(source, cells, found, session, result).run()
        return result
    with Session(limits, sandboxed, hidden) as session:
        _Examination(source, cells, found, session, result).run()
    return result


class _Examination:
    def __init__(self, source, cells, found, session, result):
        self.source = source
        self.cells = cells
        self.found = found
        self.session = session
        self.result = result
        self.over = None  # why nothing is run any more
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
        numbers = [number, *(self.found.extra.get(task.cell, []) if task.manual else [])]
        return "\n\n".join(self.cells[n].source for n in numbers)

    def run(self):
        """Go through the source's cells in order, the student's own after their neighbours."""
        self._extra(-1)
        for index, cell in enumerate(self.source.cells):
            task, entry = self.of_cell.get(index, (None, None))
            if cell.role == "given" and cell.kind == "code":
                self._run(cell.source)
            elif cell.role in ("solution", "manual"):
                number = self.found.cells.get(index)
                if number is not None and self.cells[number].kind == "code":
                    entry["output"], entry["error"] = self._run(self.cells[number].source)
                if cell.role == "manual" and entry["empty"]:
                    entry["points"] = 0.0
            elif cell.role == "test" and entry["answer"] is not None:
                entry["tests"].append(self._test(cell, self.source.cells[task.cell].names, entry))
            self._extra(index)
        for entry in self.result["tasks"].values():
            if entry["tests"]:
                entry["points"] = sum(test["points"] for test in entry["tests"])
        if empty := [name for name, entry in self.result["tasks"].items() if entry["empty"]]:
            self.result["remarks"].append(f"not answered: {', '.join(empty)}")
        if self.over:
            self.result["remarks"].append(self.over)

    def _extra(self, index):
        for number in self.found.extra.get(index, []):
            if self.cells[number].kind != "code":
                continue
            _, error = self._run(self.cells[number].source)
            if error:
                self.result["remarks"].append(f"cell {number + 1}: {one_line(error)}")

    def _run(self, code):
        if self.over:
            return "", self.over
        try:
            return self.session.run(code)
        except OutOfTime as error:
            self.over = str(error)
            return "", self.over

    def _test(self, cell, names, entry):
        error, line = self.over, 0
        if not error:
            error, line = self._outcome(cell, names)
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

    def _outcome(self, cell, names):
        """Run a test cell; returns ``(exception or None, number of the line)``."""
        space = {"__name__": "test", "__builtins__": __builtins__}
        file = f"<{cell.grade_id}>"
        try:
            with _quiet(), _time_limit(self.session.limits):
                for name in names:
                    with contextlib.suppress(KeyError):
                        value = self.session.get(name)
                        remote = isinstance(value, Remote)
                        space[name] = Named(self.session, name, value) if remote else value
                seed_everything()
                exec(compile(cell.source, file, "exec"), space)
        except OutOfTime as error:
            self.over = str(error)
            return self.over, 0
        except TestTimeUp:
            return "the test took too long with what your code returned", 0
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            lines = [
                frame.lineno
                for frame in traceback.extract_tb(error.__traceback__)
                if frame.filename == file
            ]
            return error, lines[0] if lines else 0
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


@contextlib.contextmanager
def _time_limit(limits):
    """A test may compute for as long as two cells, and all of its calls have to end as well."""

    def stop(*_):
        raise TestTimeUp

    before = [signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, 2 * limits.cell)
    signal.setitimer(signal.ITIMER_REAL, limits.clock(2 * limits.cell))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])
