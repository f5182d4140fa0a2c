"""The students' edition: everything but the answers, on every page and in every file of it."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from withhold import ROOT, withhold

from conftest import make_alone

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_students_notebooks_lack_the_answers_and_nothing_else(path, tmp_path):
    withhold(tmp_path / "class of 26")
    kept = nbformat.read(tmp_path / "class of 26" / "notebooks" / path.name, 4).cells
    solved = [c for c in nbformat.read(path, 4).cells if "solution" in c.metadata.get("tags", [])]
    assert solved
    everything = nbformat.read(path, 4).cells
    assert kept == [cell for cell in everything if cell not in solved]
    # The assignments' sources, answers and all, are handed out by `make assignments` alone.
    assert not list(tmp_path.rglob("assignments"))


@pytest.mark.long  # a second book is built
def test_students_book_shows_no_answer(book):
    """Neither on its pages nor in the sources that lie beside them; the folded edition does."""
    with make_alone():
        built = subprocess.run(
            ["make", "book", "SOLUTIONS=none"], cwd=ROOT, capture_output=True, text=True
        )
    assert built.returncode == 0, built.stdout + built.stderr
    withheld = ROOT / "_build" / "students" / "_build" / "html"
    for path in CHAPTERS:
        # The longest line of each answer in code that the task does not show, as a reader sees it.
        cells = nbformat.read(path, 4).cells
        solved = [c for c in cells if "solution" in c.metadata.get("tags", [])]
        given = "\n".join(c.source for c in cells if c not in solved)
        lines = [
            max(
                (line for line in map(str.strip, c.source.splitlines()) if line not in given),
                key=len,
            )
            for c in solved
            if c.cell_type == "code"
        ]
        page = Path("notebooks") / f"{path.stem}.html"
        with_answers, without = (
            BeautifulSoup((edition / page).read_text("utf-8"), "html.parser").get_text()
            for edition in (book, withheld)
        )
        assert lines and all(line in with_answers for line in lines)
        assert not [line for line in lines if line in without]
        source = nbformat.read(withheld / "_sources" / "notebooks" / path.name, 4).cells
        assert not [c for c in source if "solution" in c.metadata.get("tags", [])]


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for folder in (tmp_path, ROOT):
        with pytest.raises(SystemExit):
            withhold(folder)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_other_words_for_solutions_are_refused():
    told = subprocess.run(
        ["make", "book", "SOLUTIONS=maybe"], cwd=ROOT, capture_output=True, text=True
    )
    assert told.returncode and '"hidden" or "none"' in told.stderr
