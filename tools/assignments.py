"""Write the student versions of the assignments: no solutions, no hidden tests, no outputs.

    python tools/assignments.py [FOLDER]     (default: _build/assignments)

They are plain notebooks; nothing of nbgrader is needed to work on them.
"""

import sys
from pathlib import Path

import nbformat
from very_deep_grader.source import FOLDER, sources

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "_build" / "assignments"


def main(folder=BUILT):
    """Write one notebook for each assignment; returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sources(ROOT / FOLDER):
        written.append(folder / source.path.name)
        nbformat.write(source.released, written[-1])
        print(f"{source.name}: {len(source.tasks)} tasks, {source.points:g} points")
    return written


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
    print(f"The student versions: {Path(*sys.argv[1:] or [BUILT])}")
