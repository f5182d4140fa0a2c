"""The status page: its tables are what chapters, runs, pins and tests say."""

import json
import re
import statistics

import pytest
import status
import tables

import vgglib
from conftest import CHAPTERS, ROOT

RUN = {
    "name": "chapters",
    "command": "python benchmarks/chapters.py",
    "date": "2026-11-25",
    "machine": {"cpu": "a CPU", "cores": 2, "threads": 1, "memory_gib": 4.0, "gpu": None},
    "versions": {"python": "3.11", "torch": "2.15"},
}
ROUND = {"peak_gib": 1.0, "compared": 40, "compared_changed": 0, "varying": 3, "varying_changed": 3}


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A function that makes these the recorded rounds of the chapters; without any, no record."""
    monkeypatch.setitem(vgglib.recorded.__globals__, "FOLDERS", (tmp_path,))

    def recorded(*rounds):
        (tmp_path / "chapters.json").write_text(json.dumps({**RUN, "runs": rounds}))

    return recorded


def test_the_page_is_what_it_is_made_of():
    page = status.PAGE.read_text(encoding="utf-8")
    assert tables.filled(status.PAGE, page, status.TABLES) == page, "run `make claims`"


def test_every_test_is_counted(request):
    """Against pytest's own count of this file."""
    mine = {item.originalname for item in request.session.items if item.path.stem == "test_status"}
    assert f"| `test_status` | {len(mine)} |" in status.tests()


def test_what_nobody_recorded_is_called_so(recorded):
    assert status.machine() == "Not yet recorded."
    assert all("not yet recorded" in line for line in status.chapters().splitlines()[2:])


def test_the_middle_time_the_highest_memory_and_all_changes_are_shown(recorded):
    first = {"label": "01_architecture", "seed": 0, "seconds": 20.0, **ROUND}
    recorded(
        first,
        {**first, "seed": 1, "seconds": 31.0, "peak_gib": 1.5, "compared_changed": 2},
        {**first, "seed": 2, "seconds": 90.0},
    )
    row = status.chapters().splitlines()[2]
    assert row.endswith("| 31 s | 1.5 GiB | 118 of 120 | 0 of 3 |")
    assert "1 of 2 cores" in status.machine()


MINUTES = {
    "half a minute": 0.5,
    "a minute": 1,
    "a minute and a half": 1.5,
    "two minutes": 2,
    "two and a half minutes": 2.5,
    "three minutes": 3,
}


def test_the_minutes_that_chapters_and_pages_promise_are_the_recorded_ones():
    rounds = {}
    for one in vgglib.recorded("chapters")["runs"]:
        rounds.setdefault(one["label"], []).append(one["seconds"])
    cards = (ROOT / "book" / "index.md").read_text(encoding="utf-8").split(":::{card-footer}\n")
    rows = (ROOT / "book" / "how_to_use.md").read_text(encoding="utf-8")
    for number, chapter in enumerate(CHAPTERS, start=1):
        intro = chapter.of("markdown")[0].source
        promised = re.search(r"(?:CPU:|running) about (.+?)(?:[;,]| at | on a CPU)", intro)[1]
        taken = statistics.median(rounds[chapter.path.stem]) / 60
        assert MINUTES[promised] == pytest.approx(taken, abs=0.4), chapter.path.stem
        assert f"\nabout {promised} on a CPU\n" in cards[number], chapter.path.stem
        assert re.search(rf"\(../notebooks/{chapter.path.name}\) \| about {promised}\b", rows)
    # The landing page and the instructors' guide say: at most three minutes each.
    assert max(map(statistics.median, rounds.values())) <= 180
