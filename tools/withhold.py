"""The course without its answers: what `make book SOLUTIONS=none` builds and hands to students.

    python tools/withhold.py FOLDER

Copies what the book is made of into FOLDER; cells tagged `solution` stay behind. FOLDER/notebooks
are the students' notebooks.
"""

import shutil
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent


def without_solutions(notebook):
    """A notebook's cells but for those tagged ``solution``."""
    notebook.cells = [c for c in notebook.cells if "solution" not in c.metadata.get("tags", [])]
    return notebook


def withhold(folder, root=ROOT):
    """Write the book's sources into a folder, which is emptied first."""
    folder = Path(folder)
    # Only a folder that an earlier call made is emptied.
    if folder.exists() and any(folder.iterdir()) and not (folder / "_toc.yml").exists():
        raise SystemExit(f"{folder} holds something else; name an empty or a new folder")
    if folder.resolve() == root.resolve():
        raise SystemExit("that is the course itself; name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "notebooks").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(root / name, folder)
    shutil.copytree(root / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = without_solutions(nbformat.read(path, 4))
        nbformat.write(notebook, folder / "notebooks" / path.name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    withhold(sys.argv[1])
    print(f"The notebooks for students: {sys.argv[1]}/notebooks")
