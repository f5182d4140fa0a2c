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

WRONG_ANSWERS = Path(__file__).resolve().parents[2] / "tests" / "wrong_answers"


@dataclass
class WrongAnswer:
    """A wrong answer to a task, and what it must get.

    Parameters
    ----------
    task : str
        The ``grade_id`` of the solution cell.
    mistake : str
        What is wrong, in words.
    points : dict
        Points by the ``grade_id`` of each test of the task.
    code : str
    """

    task: str
    mistake: str
    points: dict
    code: str


def wrong_answers(source, folder=WRONG_ANSWERS):
    """The wrong answers to an assignment, by task.

    Parameters
    ----------
    source : grading.source.Source
    folder : path-like

    Returns
    -------
    dict of str to list of WrongAnswer

    Raises
    ------
    ValueError
        The file names a task or test that the source lacks, or is not in the form above.
    """
    path = Path(folder) / f"{source.name}.yaml"
    if not path.exists():
        return {}
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    tests = {
        task.name: {source.cells[n].grade_id: source.cells[n].points for n in task.tests}
        for task in source.tasks
        if not task.manual
    }
    answers = {}
    for task, listed in data.items():
        if task not in tests:
            raise ValueError(f"{path.name}: the assignment has no task {task!r}, but {list(tests)}")
        for entry in listed:
            answer = WrongAnswer(task, **entry)
            for test, points in answer.points.items():
                if not 0 <= points <= tests[task].get(test, -1):
                    raise ValueError(
                        f"{path.name}, {answer.mistake!r}: {test} can not give {points}"
                    )
            if answer.points.keys() != tests[task].keys():
                raise ValueError(
                    f"{path.name}, {answer.mistake!r}: name each of {list(tests[task])}"
                )
            answers.setdefault(task, []).append(answer)
    return answers


def submissions(source, wrong):
    """Submissions that try an assignment.

    Parameters
    ----------
    source : grading.source.Source
    wrong : dict
        What `wrong_answers` returns.

    Yields
    ------
    name : str
    content : bytes
        The notebook.
    expected : dict
        Points by test.
    answers : dict of str to WrongAnswer
        The wrong answers in it, by task.
    """
    tests = {
        source.cells[n].grade_id: source.cells[n].points for t in source.tasks for n in t.tests
    }
    reference = source.reference()
    yield "reference", content(source.answered(reference)), tests, {}
    yield "untouched", content(source.released), dict.fromkeys(tests, 0.0), {}
    for k in range(max(map(len, wrong.values()), default=0)):
        answers = {task: listed[k] for task, listed in wrong.items() if k < len(listed)}
        filled = {**reference, **{task: answer.code for task, answer in answers.items()}}
        expected = dict(tests)
        for answer in answers.values():
            expected |= answer.points
        yield f"wrong answers {k + 1}", content(source.answered(filled)), expected, answers


def content(notebook):
    """A notebook as the bytes of its file."""
    return nbformat.writes(notebook).encode("utf-8")


def differences(result, expected):
    """Tests that gave other points than they should, as lines of text.

    Parameters
    ----------
    result : dict
        What `grading.examine.examine` returns.
    expected : dict
        Points by test.
    """
    if result["problem"]:
        return [result["problem"]]
    got = {test["id"]: test for entry in result["tasks"].values() for test in entry["tests"]}
    lines = []
    for name, points in expected.items():
        test = got.get(name)
        if test is None:
            lines.append(f"{name}: not graded ({'; '.join(result['remarks'])})")
        elif test["points"] != points:
            lines.append(f"{name}: {test['points']:g} instead of {points:g} ({test['message']})")
    return lines


def results(source, limits, sandboxed=True, folder=WRONG_ANSWERS):
    """Grade all of `submissions`.

    Yields
    ------
    name : str
    result : dict
        What `grading.examine.examine` returns.
    wrong : list of str
        See `differences`.
    answers : dict of str to WrongAnswer
    """
    # The answers are the course's own, so one worker serves them all.
    with Session(limits, sandboxed) as session:
        for name, data, expected, answers in submissions(source, wrong_answers(source, folder)):
            result = examine(source, data, limits, session=session)
            yield name, result, differences(result, expected), answers


def report(source, limits, sandboxed=True, folder=WRONG_ANSWERS, tell=print):
    """Grade all of `submissions` and tell what each got.

    Returns
    -------
    bool
        Whether all is as it should be.
    """
    good = True
    for name, result, wrong, answers in results(source, limits, sandboxed, folder):
        good &= not wrong
        total = sum(entry["points"] or 0 for entry in result["tasks"].values())
        tell(f"{'NOT AS IT SHOULD BE' if wrong else 'as it should be':20} {name}: {total:g} points")
        for task, answer in answers.items():
            for test in result["tasks"].get(task, {"tests": []})["tests"]:
                tell(
                    f"    {answer.mistake}: {test['id']} {test['points']:g}/{test['max']:g}"
                    f" {test['message'] or ''}"
                )
        for line in wrong:
            tell(f"  ! {line}")
    return good
