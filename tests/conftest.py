"""What several test modules share: the chapters, and the built book."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import nbformat
import pytest

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


def tags(cell):
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


CHAPTERS = [Chapter(path) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


@pytest.fixture(params=CHAPTERS, ids=lambda chapter: chapter.path.stem)
def chapter(request):
    """Each chapter in turn."""
    return request.param


@pytest.fixture(scope="session")
def book():
    """The folder of the built book; `make book` builds it unless nothing has changed."""
    done = subprocess.run(["make", "book"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"make book failed:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return ROOT / "_build" / "html"
