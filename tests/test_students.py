"""The students' repository: what is in it, that no answer is, and that none gets in unnoticed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import set_address
import withhold
from bs4 import BeautifulSoup
from refusing import lacks, refuses
from withhold import ROOT, students

pytestmark = pytest.mark.slow
CLASS = "ada-l/vgg.class"
HERE = "/".join(set_address.address(ROOT))
SOURCES = sorted((ROOT / "notebooks").glob("**/[0-9]*.ipynb"))
SETUP = re.compile(r"git\+https://github\.com/(\S+?)\"")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository for a class, written once."""
    folder = tmp_path_factory.mktemp("out") / "class of 26"
    students(folder, CLASS, colab_ai=False)
    return folder


def texts(folder):
    """Every text file of a folder → its text; of JSON the strings, as a reader sees them."""
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix in (".ipynb", ".json"):
            inside = []
            json.loads(
                path.read_text("utf-8"),
                object_hook=lambda found, inside=inside: inside.extend(
                    "".join(v) if isinstance(v, list) and all(isinstance(p, str) for p in v) else v
                    for key, v in found.items()
                    if isinstance(v, str | list) and not key.startswith("image/")
                ),
            )
            yield path, "\n".join(map(str, inside))
        elif path.is_file() and b"\0" not in path.read_bytes():
            yield path, path.read_text("utf-8", errors="replace")


def flat(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def withheld():
    """Lines of answers and hidden tests → their notebooks; what the course shows anyway is none."""
    hidden, shown = (
        {},
        [
            line
            for path in (ROOT / "vgglib").rglob("*.py")
            for line in flat(path.read_text("utf-8"))
        ],
    )
    for path in SOURCES:
        for cell in nbformat.read(path, 4).cells:
            role = cell.metadata.get("nbgrader", {})
            whole = "solution" in cell.metadata.get("tags", [])
            whole |= bool(role.get("solution")) and "### BEGIN" not in cell.source
            inside = whole
            for line in flat(cell.source):
                inside |= line.startswith("### BEGIN")
                if inside:
                    hidden[line] = path
                else:
                    shown.append(line)
                inside &= not line.startswith("### END")
    shown = "\n".join(shown)
    return {line: path for line, path in hidden.items() if len(line) > 24 and line not in shown}


def given_away(folder):
    """Files of a folder and the answers in them."""
    hidden = withheld()
    for path in SOURCES:  # of each there is something to look for
        assert sum(source == path for source in hidden.values()) > 10, path
    found = []
    for path, text in texts(folder):
        text = "\n".join(flat(text))
        found += [(path, line) for line in hidden if line in text]
        found += [(path, mark) for mark in ("BEGIN HIDDEN", "BEGIN SOLUTION") if mark in text]
    return found


def test_no_file_holds_an_answer_or_a_hidden_test(copy):
    assert not given_away(copy)


def test_nothing_leads_to_the_answers_or_to_the_instructors_page(copy):
    owner, name = HERE.lower().split("/")
    for path, text in texts(copy):
        for place in (HERE, f"{owner}.github.io/{name}", "instructors.md", "instructors.html"):
            assert place not in text, path
    assert not list(copy.rglob("*instructors*"))


def test_badges_and_install_cells_lead_to_the_class(copy):
    chapters, tasks = (
        sorted((copy / name).glob("*.ipynb")) for name in ("notebooks", "assignments")
    )
    assert [path.name for path in chapters + tasks] == [path.name for path in SOURCES]
    for path in chapters + tasks:
        text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells)
        assert SETUP.findall(text) == [f"{CLASS}@main"], path
    readme = (copy / "README.md").read_text("utf-8")
    for path in chapters:
        first = nbformat.read(path, 4).cells[0].source
        assert f"colab.research.google.com/github/{CLASS}/blob/main/notebooks/{path.name})" in first
    for path in tasks:
        assert f"/github/{CLASS}/blob/main/assignments/{path.name})" in readme
    assert f"https://github.com/{CLASS}\ncd vgg.class\n" in readme


def test_links_within_the_repository_lead_somewhere(copy):
    for path, text in texts(copy):
        if path.suffix == ".ipynb":
            cells = nbformat.read(path, 4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        elif path.suffix != ".md":
            continue
        for link in re.findall(r"\]\(([^)\s#]+)", text):
            inside = re.match(rf"https://\S*github\S*/{CLASS}/(?:blob|tree)/main/(.+)", link)
            if inside or ":" not in link:
                assert (copy / inside[1] if inside else path.parent / link).exists(), (path, link)


def test_chapters_lack_the_solutions_and_nothing_else(copy):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        source, given = (nbformat.read(root / "notebooks" / path.name, 4) for root in (ROOT, copy))
        wanted = [c.id for c in source.cells if "solution" not in c.metadata.get("tags", [])]
        assert [cell.id for cell in given.cells] == wanted


def test_the_assignments_are_the_students_versions(copy):
    for path in (ROOT / "notebooks" / "assignments").glob("*.ipynb"):
        source, given = nbformat.read(path, 4), nbformat.read(copy / "assignments" / path.name, 4)
        assert [cell.cell_type for cell in source.cells] == [cell.cell_type for cell in given.cells]
        assert not any(cell.get("outputs") for cell in given.cells)
        for before, after in zip(source.cells, given.cells, strict=True):
            if before.metadata.get("nbgrader", {}).get("solution"):
                assert after.source != before.source


def test_colab_is_asked_to_offer_no_generated_code_only_where_that_is_chosen(copy, tmp_path):
    for path in copy.rglob("*.ipynb"):
        assert nbformat.read(path, 4).metadata["colab"] == {"generative_ai_disabled": True}
    # A second writing replaces the first: what is no longer written goes, the class's own stays.
    again = tmp_path / "again"
    shutil.copytree(copy, again)
    (again / "syllabus.md").write_text("Monday")
    (again / "README.md").write_text("edited")
    (again / "book" / "gone.md").write_text("of an earlier version")
    with (again / ".course-files").open("a") as file:
        file.write("book/gone.md\n")
    students(again, CLASS)
    for path in again.rglob("*.ipynb"):
        assert "colab" not in nbformat.read(path, 4).metadata
    assert (again / "syllabus.md").read_text() == "Monday"
    assert (again / "README.md").read_text("utf-8") == (copy / "README.md").read_text("utf-8")
    assert not (again / "book" / "gone.md").exists()


def test_an_answer_that_would_be_given_away_ends_it_with_nothing_written(tmp_path, monkeypatch):
    monkeypatch.setattr(withhold, "without_solutions", lambda notebook: notebook)
    with refuses(ValueError, got="notebooks/01_architecture.ipynb"):
        students(tmp_path / "class", CLASS)
    assert not (tmp_path / "class").exists()


def test_an_answer_is_found_wherever_it_lies(tmp_path):
    line = max(withheld(), key=len)
    cell = nbformat.v4.new_code_cell("answer()")
    cell.outputs = [nbformat.v4.new_output("stream", text=f"said\n{line}\n")]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(notebook, tmp_path / "output.ipynb")
    note = {"a": [{"hint": f"try\n   {line}"}]}
    (tmp_path / "record.json").write_text(json.dumps(note))
    hidden = nbformat.v4.new_notebook(metadata={"note": note})
    nbformat.write(hidden, tmp_path / "metadata.ipynb")
    (tmp_path / "page.html").write_text(f"<p>{line}</p>", encoding="utf-8")
    (tmp_path / "code.py").write_text(f"if easy:\n        {line}\n", encoding="utf-8")
    (tmp_path / "page.md").write_text("see [the guide](instructors.md)")
    (tmp_path / "grading.md").write_text("1. `make grade SUBMISSIONS=inbox OUT=graded`")
    (tmp_path / "cite.bib").write_text(f"url = {{https://github.com/{HERE}}}")
    planted = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "innocent.py").write_text("import torch\n")
    assert {find.partition(":")[0] for find in withhold.leaks(tmp_path)} == planted


# Refusals -------------------------------------------------------------------------------------


def git(folder, *words):
    names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", folder, *names, *words], check=True, capture_output=True)


@pytest.fixture
def fork(tmp_path):
    """A course of which git knows a remote."""
    root = tmp_path / "fork"
    root.mkdir()
    (root / "_config.yml").write_text("repository: {url: 'https://github.com/Very/Deep.er'}")
    git(root, "init")
    git(root, "remote", "add", "mine", "git@github.com:ada-l/answers.git")
    return root


@pytest.mark.parametrize(
    "url",
    [
        "Very/Deep.er",
        "very/deep.er",
        "https://github.com/Very/Deep.er.git",
        "ada-l/answers",
        "https://github.com/ADA-L/answers/",
    ],
)
def test_the_address_of_the_answers_is_refused(fork, url):
    with refuses(
        ValueError,
        got=url.removeprefix("https://github.com/").split(".git")[0].strip("/"),
        remedy=("ADDRESS=", "empty"),
    ):
        withhold.address_for_students(url, fork)


def test_other_addresses_are_taken_and_words_that_are_none_are_not(fork):
    for url in (CLASS, f"https://github.com/{CLASS}.git"):
        assert "/".join(withhold.address_for_students(url, fork)) == CLASS
    with refuses(ValueError, got="vgg", accepts="https://github.com/OWNER/NAME"):
        withhold.address_for_students("vgg", fork)


def test_a_published_course_with_answers_is_refused(monkeypatch):
    asked = []

    def urlopen(request, timeout):
        asked.append(request.full_url)
        if "answers" not in request.full_url:
            raise OSError("404, or no network")
        return (ROOT / "README.md").open()

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    withhold.check_published("ada-l", "class")
    with refuses(ValueError, got="ada-l/answers", remedy="ADDRESS="):
        withhold.check_published("ada-l", "answers")
    # What is asked for is here, and not in what students get.
    for url in asked:
        name = url.partition("/HEAD/")[2]
        assert (ROOT / name).exists() and not withhold.TAKEN.match(name)


def test_folders_that_hold_something_else_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for folder in (tmp_path, tmp_path / "thesis.txt", ROOT, ROOT / "book" / "class", ROOT.parent):
        with pytest.raises(ValueError):
            withhold.check_folder(folder)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_history_with_answers_is_refused_and_an_empty_clone_is_not(tmp_path):
    git(tmp_path, "init")
    withhold.check_folder(tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "withhold.py").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "with answers")
    git(tmp_path, "rm", "-r", "tools")
    git(tmp_path, "commit", "-m", "without")
    assert [path.name for path in tmp_path.iterdir()] == [".git"]
    with refuses(ValueError, got=str(tmp_path), remedy="empty"):
        withhold.check_folder(tmp_path)


@pytest.mark.parametrize("given", [[], ["OUT=../class"], ["ADDRESS=me/class"]])
def test_the_command_says_what_it_wants(given):
    # Whatever the environment's age: nothing is to be installed into it.
    command = ["make", "-o", ".venv/installed.stamp", "students", *given]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode and not lacks(told.stderr, ["OUT=../my-course", "ADDRESS=me/my-course"])


# What is done with it ---------------------------------------------------------------------------


def test_the_package_of_the_copy_installs(copy, tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "--directory", tmp_path]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.suffix for path in tmp_path.iterdir()] == [".whl"]


@pytest.mark.long  # a book is built
def test_the_book_of_the_copy_builds_and_gives_nothing_away(copy):
    (copy / ".venv").symlink_to(ROOT / ".venv")
    # The environment is there: nothing is to be installed into it.
    command = ["make", "-o", ".venv/installed.stamp", "book"]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    (copy / ".venv").unlink()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    html = copy / "_build" / "html"
    assert not given_away(html)
    shown = withheld()
    for path in html.rglob("*.html"):
        page = BeautifulSoup(path.read_text("utf-8"), "html.parser")
        text = "\n".join(flat(page.get_text()))
        assert not [line for line in shown if line in text], path
        assert HERE not in str(page) and "instructors.html" not in str(page)
