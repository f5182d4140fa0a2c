"""Tries an assignment: what do the reference solution, the untouched version and wrong answers get?

Wrong answers are data, ``tests/wrong_answers/NN_name.yaml``: for each solution cell a list of
plausible mistakes with the points that each test must give (see `WrongAnswer`). One submission
carries the k-th wrong answer of every task, since tasks are independent.
"""

from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from .examine import examine
from .session import Session

WRONG_ANSWERS = Path("..", "..", "tests", "wrong_answers")  # from the folder of assignments


@dataclass
class WrongAnswer:
    """A wrong answer to a task, and what it must get."""

    mistake: str  # what is wrong, in words
    points: dict[str, float]  # by the ``grade_id`` of each test of the task
    code: str


def _tests(source, tasks):
    """Points by test."""
    return {source.cells[n].grade_id: source.cells[n].points for t in tasks for n in t.tests}


def wrong_answers(source, folder=None):
    """The wrong answers to an assignment, by task.

    Parameters
    ----------
    source : source.Source
    folder : path-like, optional
        Else that of the repository in which the assignment lies.

    Returns
    -------
    dict of str to list of WrongAnswer

    Raises
    ------
    ValueError
        The file names a task or test that the source lacks, or is not in the form above.
    """
    path = Path(folder or source.path.parent / WRONG_ANSWERS) / f"{source.name}.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    tasks = {task.name: _tests(source, [task]) for task in source.tasks if not task.manual}
    if unknown := data.keys() - tasks:
        raise ValueError(f"{path.name}: the assignment has no task {unknown}, but {list(tasks)}")
    answers = {task: [WrongAnswer(**entry) for entry in data[task]] for task in data}
    for task, listed in answers.items():
        for answer in listed:
            most, points = tasks[task], answer.points
            if points.keys() != most.keys() or any(not 0 <= points[t] <= most[t] for t in most):
                raise ValueError(
                    f"{path.name}, {answer.mistake!r}: {points} should be points for each of the "
                    f"tests, at most {most}"
                )
    return answers


def content(notebook):
    """A notebook as the bytes of its file."""
    return nbformat.writes(notebook).encode("utf-8")


def _differences(result, expected):
    """Tests that gave other points than they should, as lines of text."""
    if result["problem"]:
        return [result["problem"]]
    tests = {test["id"]: test for entry in result["tasks"].values() for test in entry["tests"]}
    lines = []
    for name, points in expected.items():
        test = tests.get(name)
        if test is None:
            lines.append(f"{name}: not graded ({'; '.join(result['remarks'])})")
        elif test["points"] != points:
            lines.append(f"{name}: {test['points']:g} instead of {points:g} ({test['message']})")
    return lines


def results(source, limits, sandboxed=True, folder=None):
    """Grade the reference solution, the untouched version and each k-th of the wrong answers.

    Yields
    ------
    name : str
    result : dict
        What `examine.examine` returns.
    wrong : list of str
        Tests that gave other points than they should.
    answers : dict of str to WrongAnswer
        The wrong answers in it, by task.
    """
    wrong, tests = wrong_answers(source, folder), _tests(source, source.tasks)
    reference = source.reference()
    # A research task's answer may compute for a minute: once is enough.
    tested = {task.name: reference[task.name] for task in source.tasks if not task.manual}
    tried = [("reference", reference, tests, {}), ("untouched", {}, dict.fromkeys(tests, 0.0), {})]
    for k in range(max(map(len, wrong.values()), default=0)):
        answers = {task: listed[k] for task, listed in wrong.items() if k < len(listed)}
        filled = tested | {task: answer.code for task, answer in answers.items()}
        expected = dict(tests)
        for answer in answers.values():
            expected |= answer.points
        tried.append((f"wrong answers {k + 1}", filled, expected, answers))
    # The answers are the course's own, so one worker serves them all.
    with Session(limits, sandboxed) as session:
        for name, filled, expected, answers in tried:
            result = examine(source, content(source.answered(filled)), limits, session=session)
            yield name, result, _differences(result, expected), answers


def report(source, limits, sandboxed=True):
    """Print what `results` are; returns whether all is as it should be."""
    good = True
    for name, result, wrong, answers in results(source, limits, sandboxed):
        good &= not wrong
        total = sum(entry["points"] or 0 for entry in result["tasks"].values())
        word = "NOT AS IT SHOULD BE" if wrong else "as it should be"
        print(f"{word:20} {name}: {total:g} points")
        for task, answer in answers.items():
            for test in result["tasks"].get(task, {"tests": []})["tests"]:
                got = f"{test['points']:g}/{test['max']:g} {test['message'] or ''}"
                print(f"    {answer.mistake}: {test['id']} {got}")
        for line in wrong:
            print(f"  ! {line}")
    return good
