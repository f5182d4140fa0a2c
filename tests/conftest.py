"""What several test modules share: the chapters, the built book, and the book in a browser."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import nbformat
import pytest
from browsing import FLAGS, evaluate, open_visit, serve
from filelock import FileLock
from machine import find_chrome
from playwright.sync_api import sync_playwright

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings its like
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

# Tests draw into memory. The notebooks' kernels choose their own back end.
matplotlib.use("Agg")


@dataclass
class Chapter:
    """A chapter's notebook, read from its file."""

    path: Path
    cells: list = field(init=False)

    def __post_init__(self):
        self.notebook = nbformat.read(self.path, as_version=4)
        self.cells = self.notebook.cells

    def of(self, kind):
        """Cells of kind "code" or "markdown", in order."""
        return [cell for cell in self.cells if cell.cell_type == kind]

    @property
    def outputs(self):
        """Every stored output with the number of its cell."""
        return [
            (number, output)
            for number, cell in enumerate(self.cells)
            for output in cell.get("outputs", [])
        ]

    @property
    def prose(self):
        """Text of the Markdown cells outside solutions."""
        return "\n\n".join(c.source for c in self.of("markdown") if "solution" not in tags(c))


def project(folder=ROOT):
    """What a folder's ``pyproject.toml`` says."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def tags(cell):
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def notebook_of(*cells):
    """A notebook in memory: Markdown strings, and code cells as ``(source, tags)``."""
    v4 = nbformat.v4
    return v4.new_notebook(
        cells=[
            v4.new_markdown_cell(cell)
            if isinstance(cell, str)
            else v4.new_code_cell(cell[0], metadata={"tags": list(cell[1])})
            for cell in cells
        ]
    )


CHAPTERS = [Chapter(path) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


@pytest.fixture(params=CHAPTERS, ids=lambda chapter: chapter.path.stem)
def chapter(request):
    """Each chapter in turn."""
    return request.param


def make_alone():
    """A lock for the time of a `make`: of several test processes, one builds, the others wait."""
    (ROOT / "_build").mkdir(exist_ok=True)
    return FileLock(ROOT / "_build" / "make.lock")


@pytest.fixture(scope="session")
def book():
    """The folder of the built book; `make book` builds it unless nothing has changed."""
    with make_alone():
        done = subprocess.run(["make", "book"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"make book failed:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def served(book):
    """Address of the built book's top on a server of its own, without a slash at the end."""
    # Below a folder, as the published book lies: a link to the host's root would break there.
    with serve(book, below="/very-deep/") as url:
        yield url


# A module's, not the session's: while Playwright runs, its event loop holds the thread, and
# the notebooks' kernels want one of their own.
@pytest.fixture(scope="module")
def browser():
    """A headless Chromium or Chrome; a machine without one fails."""
    try:
        chrome = find_chrome()
    except FileNotFoundError as error:
        pytest.fail(str(error))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chrome, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, served):
    """A function that opens a page of the book and gives its `Visit`.

    ``open_page("notebooks/01_architecture.html", width=360, theme="dark")``; the arguments are
    those of `browsing.open_visit`. The pages are closed after the test.
    """
    visits = []

    def open_page(path, **options):
        visits.append(open_visit(browser, served, path, **options))
        return visits[-1]

    yield open_page
    for visit in visits:
        visit.page.context.close()


@pytest.fixture(scope="module")
def module(browser, tmp_path_factory):
    """A function that calls a function of a front-end module with JSON arguments."""
    from vgglib import widgets  # here: a browser's test without one need not wait for torch

    folder = tmp_path_factory.mktemp("front")
    widgets.write_front(folder)
    (folder / "index.html").write_text("<!doctype html><title>empty</title>")
    with serve(folder) as url:
        page = browser.new_page()
        page.goto(f"{url}/index.html")

        def call(name, function, *arguments):
            return evaluate(
                page,
                "async ([url, name, args]) => (await import(url))[name](...args)",
                [f"{url}/{name}", function, arguments],
            )

        call.page = page
        yield call
        page.close()


@pytest.fixture
def mounted(browser, tmp_path):
    """A function that opens a page with nothing but a widget, come to life; gives its `Visit`.

    ``mounted(widget, width=360)``; the other arguments are those of `browsing.open_visit`.
    """
    from vgglib import widgets

    widgets.write_front(tmp_path / "_static" / "widgets")
    shutil.copy(ROOT / "book" / "_static" / "widgets.js", tmp_path / "_static")
    visits = []
    with serve(tmp_path) as url:

        def mounted(widget, **options):
            (tmp_path / "index.html").write_text(
                '<!doctype html><html lang="en"><meta charset="utf-8"><title>A widget</title>'
                '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
                f'<link rel="stylesheet" href="_static/widgets/widgets.css"><h1>A widget</h1>'
                f'<main>{widget.html()}</main><script type="module" src="_static/widgets.js">'
                "</script>",
                encoding="utf-8",
            )
            visits.append(open_visit(browser, url, "index.html", **options))
            visits[-1].page.wait_for_selector("[data-ready]")
            return visits[-1]

        yield mounted
        for visit in visits:
            visit.page.context.close()
