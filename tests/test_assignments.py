"""Each assignment with the real grader: reference, untouched version, plausible wrong answers."""

import pytest
from grading import check, sandbox
from grading.examine import examine
from grading.source import sources

SOURCES = sources()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_points_are_what_they_should_be(source):
    sandbox.check()
    wrong = {}
    for name, data, expected, _ in check.submissions(source, check.wrong_answers(source)):
        found = check.differences(examine(source, data, sandbox.Limits()), expected)
        if found:
            wrong[name] = found
    assert not wrong
