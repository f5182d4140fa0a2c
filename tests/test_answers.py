"""Do an assignment's tests tell right from wrong answers?

Wrong ones are those that a person has thought of, in ``wrong_answers``, and small changes of the
reference solution, as `tools/mutants.py` makes them: 95 of 100 have to lose points. Those that
compute the same stand in ``answer_mutants_same.txt``, each with its reason, and count as none.
Right ones are in ``right_answers``: each task in three styles.
"""

import contextlib
from collections import Counter
from pathlib import Path

import mutants
import nbformat
import pytest
import yaml
from in_process import InProcess
from very_deep_grader import check
from very_deep_grader.examine import TestTimeUp, _time_limit, examine, outcome, ungraded
from very_deep_grader.sandbox import Limits
from very_deep_grader.source import FOLDER, sources

from conftest import ROOT

pytestmark = pytest.mark.grader
HERE = Path(__file__).parent
SOURCES = sources(ROOT / FOLDER)
LIMITS = Limits(cell=30)
SHORT = Limits(cell=4, patience=12)  # some changes make loops that do not end
KINDS = (mutants.variants, mutants.steps_left_out)
STYLES = ("loops", "numpy", "torch")
SAME = HERE / "answer_mutants_same.txt"


@pytest.fixture(params=SOURCES, ids=lambda source: source.name)
def source(request):
    """Each assignment in turn."""
    return request.param


def mutated(source):
    """Each task of an assignment that tests grade, with a mutant of its reference solution."""
    for task in source.tasks:
        if not task.manual:
            for mutant in mutants.mutants_of(source.cells[task.cell].source, task.name, KINDS):
                yield task, mutant


def name(source, task, mutant):
    return f"{source.name} {task.name}: {mutant.change}"


def points(source, task, code):
    """What each test of a task gives an answer, by ``grade_id``."""
    session, tests = InProcess(SHORT), [source.cells[number] for number in task.tests]
    session.run("import vgglib")
    try:
        with _time_limit(SHORT):
            session.run(code)
    except TestTimeUp:
        return dict.fromkeys((test.grade_id for test in tests), 0)
    names = source.cells[task.cell].names
    return {t.grade_id: 0 if outcome(session, t, names)[0] else t.points for t in tests}


@pytest.mark.filterwarnings("ignore")  # what mutants do to numbers
@pytest.mark.long  # three minutes of processor time for all assignments
def test_small_changes_of_the_reference_lose_points(source):
    same = {line.partition("  #")[0] for line in SAME.read_text("utf-8").splitlines()}
    counts, survivors = Counter(), []
    for task, mutant in mutated(source):
        if name(source, task, mutant) in same:
            continue
        lost = sum(points(source, task, mutant.code).values()) < task.points
        counts[lost] += 1
        if not lost:
            survivors.append(name(source, task, mutant))
    score = counts[True] / counts.total()
    print(f"{source.name}: {counts.total()} mutants, {score:.1%} lose points")
    assert score >= 0.95, "\n".join(survivors)


def test_what_computes_the_same_is_still_there_and_says_why():
    known = {name(source, *pair) for source in SOURCES for pair in mutated(source)}
    for line in SAME.read_text("utf-8").splitlines():
        change, _, reason = line.partition("  #")
        assert change in known, f"no longer a mutant: {line}"
        assert reason.strip(), f"why? {line}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize(
    "some",
    [slice(2), pytest.param(slice(2, None), marks=pytest.mark.long)],  # the rest: a minute
    ids=["two of each task", "the others"],
)
def test_wrong_answers_lose_the_points_that_they_should(source, some):
    listed = [
        (source.task(name), answer)
        for name, answers in check.wrong_answers(source).items()
        for answer in answers[some]
    ]
    other = {
        (task.name, answer.mistake): found
        for task, answer in listed
        if (found := points(source, task, answer.code)) != answer.points
    }
    assert listed and other == {}


def test_what_a_person_grades_is_run_with_the_reference_alone(monkeypatch):
    handed = []
    monkeypatch.setattr(check, "Session", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(
        check,
        "examine",
        lambda _, content, *__, **___: handed.append(content) or ungraded("not run"),
    )
    assert len(list(check.results(SOURCES[0], LIMITS))) == len(handed) > 10
    answers = [SOURCES[0].reference()[task.name] for task in SOURCES[0].tasks if task.manual]
    with_them = [
        all(answer in [cell.source for cell in nbformat.reads(one, 4).cells] for answer in answers)
        for one in map(bytes.decode, handed)
    ]
    assert answers and with_them == [True] + [False] * (len(handed) - 1)


# Right ones -------------------------------------------------------------------------------


def right_answers(source):
    """The styles of an assignment, each with an answer to every task that tests grade."""
    path = HERE / "right_answers" / f"{source.name}.yaml"
    by_task = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert by_task.keys() == {task.name for task in source.tasks if not task.manual}
    return {style: {task: answers[style] for task, answers in by_task.items()} for style in STYLES}


@pytest.mark.parametrize("style", STYLES)
def test_right_answers_in_any_style_get_full_marks(source, style):
    content = check.content(source.answered(right_answers(source)[style]))
    result = examine(source, content, LIMITS, session=InProcess(LIMITS))
    lost = {
        test["id"]: test["message"]
        for entry in result["tasks"].values()
        for test in entry["tests"]
        if test["points"] != test["max"]
    }
    assert lost == {}
