"""Each assignment with the real grader: reference, untouched version, plausible wrong answers."""

import re

import assignments
import nbformat
import pytest
from grading import check, sandbox
from grading.source import sources

SOURCES = sources()
WITHHELD = re.compile(r"### BEGIN [A-Z ]+\n(.*?)### END ", re.DOTALL)


@pytest.fixture(params=SOURCES, ids=lambda source: source.name)
def source(request):
    """Each assignment in turn."""
    return request.param


def test_points_are_what_they_should_be(source):
    sandbox.check()
    wrong = {
        name: differences
        for name, _, differences, _ in check.results(source, sandbox.Limits())
        if differences
    }
    assert not wrong


def test_eight_wrong_answers_to_each_practice_task_and_one_partly_right(source):
    wrong = check.wrong_answers(source)
    for task in source.tasks:
        if "(practice" in task.title:
            points = [sum(answer.points.values()) for answer in wrong[task.name]]
            assert len(points) >= 8 and max(points) < task.points, task.name
            assert any(points), f"{task.name}: no answer that is partly right"


def test_size_and_grades_of_tasks(source):
    assert 10 <= source.points <= 20
    kinds = {
        kind
        for kind in ("warm-up", "practice", "research")
        for t in source.tasks
        if kind in t.title
    }
    assert kinds == {"warm-up", "practice", "research"}


def test_student_versions_hold_no_answer_and_no_hidden_test(tmp_path):
    written = assignments.main(tmp_path)
    assert [path.name for path in written] == [source.path.name for source in SOURCES]
    for source, path in zip(SOURCES, written, strict=True):
        text, notebook = path.read_text("utf-8"), nbformat.read(path, 4)
        nbformat.validate(notebook)
        assert len(notebook.cells) == len(source.cells)
        for mark in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "MARK SCHEME"):
            assert mark not in text
        shown = "\n".join(cell.source for cell in notebook.cells)
        marked = "\n".join(cell.source for cell in source.cells)
        withheld = WITHHELD.findall(marked)
        assert len(withheld) == marked.count("### BEGIN ") >= len(source.tasks)
        assert not [region for region in withheld if region.strip() in shown]
        assert all(cell.get("outputs", []) == [] for cell in notebook.cells)
