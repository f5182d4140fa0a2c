"""How long does each chapter take, how much memory, and does it give the same outputs again?

Executes every chapter from top to bottom in a process of its own and compares what each cell gave
with what is committed, bit for bit, figures too. Nothing is written but the record. A chapter's
earlier rounds stay in the file: take them out after the chapter has changed.

    python benchmarks/chapters.py
"""

import importlib
import sys
import time
from pathlib import Path

import nbformat
from record import arguments, record

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
execute = importlib.import_module("execute")

FOLDER = Path(__file__).parent.parent / "notebooks"
IGNORED = "nbval-ignore-output"  # cells whose outputs differ from run to run, by intent
# Executed in the kernel at the end; its peak and that of the processes that it started, in KiB.
PEAK = """
import resource
print(max(resource.getrusage(who).ru_maxrss
          for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=1)
    jobs = [
        (path.stem, turn, lambda path=path: measure(path))
        for turn in range(chosen.seeds)
        for path in sorted(FOLDER.glob("[0-9]*.ipynb"))
    ]
    record("chapters", jobs, {"cells": "executed in order, one process"}, only=chosen.only)


def measure(path):
    """Seconds and peak memory of one execution; how many outputs are compared, how many differ."""
    committed = nbformat.read(path, as_version=4)
    again = nbformat.read(path, as_version=4)
    begin = time.perf_counter()
    again.cells.append(nbformat.v4.new_code_cell(PEAK))
    execute.client(again, path.parent).execute()
    seconds = time.perf_counter() - begin
    peak = int(again.cells.pop().outputs[0].text)
    execute.normalise(again)
    pairs = [
        (IGNORED in one.metadata.get("tags", []), outputs(one) == outputs(other))
        for one, other in zip(committed.cells, again.cells, strict=True)
        if one.cell_type == "code" and (one.outputs or other.outputs)
    ]
    return {
        "seconds": seconds,
        "peak_gib": peak / 2**20,
        "compared": sum(not ignored for ignored, _ in pairs),
        "compared_changed": sum(not ignored and not same for ignored, same in pairs),
        "varying": sum(ignored for ignored, _ in pairs),
        "varying_changed": sum(ignored and not same for ignored, same in pairs),
    }


def outputs(cell):
    """What a cell gave, without the counters and the metadata that say nothing."""
    return [
        {key: value for key, value in output.items() if key not in ("execution_count", "metadata")}
        for output in cell.outputs
    ]


if __name__ == "__main__":
    main()
