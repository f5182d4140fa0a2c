"""Recorded runs: what is committed, and what happens where nothing is."""

import json
import re

import pytest

import vgglib
from vgglib.recorded import FOLDERS

RUNS = sorted(path.stem for path in FOLDERS[0].glob("*.json"))


def test_a_run_that_nobody_recorded_is_none():
    assert vgglib.recorded("never-recorded") is None


def test_a_name_is_no_path():
    with pytest.raises(ValueError, match="letters"):
        vgglib.recorded("../README")


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(vgglib.recorded.__globals__, "FOLDERS", (tmp_path,))
    (tmp_path / "half.json").write_text('{"name": "half", "runs": [')
    with pytest.raises(ValueError, match=r"half\.json is damaged"):
        vgglib.recorded("half")


@pytest.mark.parametrize("name", RUNS)
def test_each_run_says_how_it_was_made(name):
    run = vgglib.recorded(name)
    assert re.match(r"python benchmarks/\w+\.py", run["command"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])
    assert run["machine"]["cpu"] and run["versions"]["torch"] and run["settings"]
    assert run["runs"], "a recorded run without runs"
    for one in run["runs"]:
        assert 0 <= one["test_accuracy"] <= 1
        lengths = {len(column) for column in one["history"].values()}
        assert len(lengths) == 1, "columns of a history differ in length"
    assert len({(one["label"], one["seed"]) for one in run["runs"]}) == len(run["runs"])
    assert json.dumps(run)
