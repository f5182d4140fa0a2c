"""The students' edition: everything but the answers, on every page and in every file of it."""

import subprocess

import nbformat
import pytest
from withhold import ROOT, withhold

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def answers():
    """The first line of every cell that holds an answer, by chapter."""
    for path in CHAPTERS:
        for cell in nbformat.read(path, 4).cells:
            if "solution" in cell.metadata.get("tags", []):
                yield path.name, cell.source


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_students_notebooks_lack_the_answers_and_nothing_else(path, tmp_path):
    withhold(tmp_path / "class of 26")
    kept = nbformat.read(tmp_path / "class of 26" / "notebooks" / path.name, 4).cells
    solved = [c for c in nbformat.read(path, 4).cells if "solution" in c.metadata.get("tags", [])]
    assert solved
    everything = nbformat.read(path, 4).cells
    assert kept == [cell for cell in everything if cell not in solved]


def test_students_book_shows_no_answer():
    """Neither on its pages nor in the sources that lie beside them, nor in the search index."""
    built = subprocess.run(
        ["make", "book", "SOLUTIONS=none"], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    html = ROOT / "_build" / "students" / "_build" / "html"
    pages = [p for p in html.rglob("*") if p.suffix in (".html", ".ipynb", ".js", ".txt")]
    assert len([p for p in pages if p.suffix == ".html"]) > len(CHAPTERS)
    written = "\n".join(p.read_text(encoding="utf-8") for p in pages)
    assert "Exercise 1.1" in written
    assert "Show the solution" not in written
    for name, source in answers():
        # A title such as "# @title Solution 1.1"; Markdown answers are told by their last words.
        line = source.splitlines()[0 if source.startswith("# @title") else -1]
        assert line.lstrip("# ") not in written, (name, line)


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
