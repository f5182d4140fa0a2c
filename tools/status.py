"""The status page: read chapters, recorded runs, pins and tests, write book/status.md's tables.

python tools/status.py
"""

import ast
import re
import statistics
from collections import Counter
from pathlib import Path

import claims
import nbformat
import results
import tables

import vgglib
from vgglib.evidence import VERDICTS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "status.md"
# What every reader's result hangs on; the rest of the pins is in requirements.txt.
LIBRARIES = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "jupyter-book", "nbval")
SUITE = ("make quick", "make test")


def chapters():
    """Time, memory and repeated outputs of each chapter: the median over the recorded rounds."""
    run = vgglib.recorded("chapters")
    found = {}
    for one in run["runs"] if run else ():
        found.setdefault(one["label"], []).append(one)
    rows = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].lstrip("# ")
        link = f"[{title}](../notebooks/{path.name})"
        rounds = found.get(path.stem)
        if not rounds:
            rows.append((link, *["not yet recorded"] * 4))
            continue
        seconds = sorted(one["seconds"] for one in rounds)
        compared = sum(one["compared"] for one in rounds)
        same = compared - sum(one["compared_changed"] for one in rounds)
        varying = max(one["varying"] for one in rounds)
        changed = max(one["varying_changed"] for one in rounds)
        peak = max(one["peak_gib"] for one in rounds)
        rows.append(
            (
                link,
                f"{seconds[len(seconds) // 2]:.0f} s",
                f"{peak:.1f} GiB",
                f"{same} of {compared}",
                f"{varying - changed} of {varying}",
            )
        )
    heads = ("chapter", "time", "peak memory", "compared outputs, same bits", "other outputs")
    return tables.table(heads, rows)


def machine():
    """Where the chapters were timed."""
    run = vgglib.recorded("chapters")
    if run is None:
        return "Not yet recorded."
    return where(run)


def where(run):
    """How, when and on what machine something was recorded."""
    place = run["machine"]
    return (
        f"`{run['command']}` · {run['date']} · {place['gpu'] or place['cpu']}, {place['threads']} "
        f"of {place['cores']} cores, {place['memory_gib']} GiB · Python "
        f"{run['versions']['python']}, torch {run['versions']['torch']}"
    )


def libraries():
    """The pinned versions of the libraries that results hang on most."""
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.M))
    lower = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', (ROOT / "pyproject.toml").read_text()))
    rows = [(f"`{name}`", pins[name], lower.get(name, "–")) for name in LIBRARIES]
    return tables.table(("library", "the book is built with", "vgglib accepts from"), rows)


def runs():
    """Each run that the results page has a place for: when, where, how many."""
    rows = []
    for name in results.RUN.findall(results.PAGE.read_text(encoding="utf-8")):
        run = vgglib.recorded(name)
        if run is None:
            rows.append((f"`{name}`", "not yet recorded", "", ""))
            continue
        place = (
            run["machine"]["gpu"] or f"{run['machine']['cpu']}, {run['machine']['threads']} cores"
        )
        rows.append((f"`{name}`", run["date"], place, len(run["runs"])))
    return tables.table(("run", "date", "machine", "measurements"), rows)


def suite():
    """The slowest twenty files of tests, and the whole of `make quick` and `make test`."""
    run = vgglib.recorded("suite")
    if run is None:
        return "Not yet recorded."
    rounds = {}
    for one in run["runs"]:
        rounds.setdefault(one["label"], []).append(one)
    middle = {
        label: (statistics.median(one["seconds"] for one in found), found[-1]["tests"])
        for label, found in rounds.items()
    }
    whole = [label for label in middle if label.startswith("make ")]
    files = sorted(middle.keys() - set(whole), key=lambda label: -middle[label][0])[:20]
    rows = [
        (f"`{label}`", f"{middle[label][0]:.0f} s", middle[label][1]) for label in whole + files
    ]
    rows += [(f"`{label}`", "not yet recorded", "") for label in SUITE if label not in middle]
    return f"{where(run)} · commit `{run['commit']}`\n\n" + tables.table(
        ("what", "time", "tests"), rows
    )


def tests():
    """Test functions in each file, and what the file is about."""
    rows, whole = [], 0
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        count = sum(
            isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            for node in ast.walk(tree)
        )
        whole += count
        rows.append((f"`{path.stem}`", count, ast.get_docstring(tree).splitlines()[0]))
    return tables.table(
        ("file", "test functions", "what they are about"), [*rows, ("**all**", whole, "")]
    )


def verdicts():
    """Claims of each chapter by verdict."""
    counts = Counter((path, claim.verdict) for path, claim in claims.all_claims())
    paths = sorted({path for path, _ in counts})
    rows = [
        (f"[{int(path.name[:2])}](../notebooks/{path.name})", *(counts[path, v] for v in VERDICTS))
        for path in paths
    ]
    whole = [sum(counts[path, v] for path in paths) for v in VERDICTS]
    return tables.table(("chapter", *VERDICTS), [*rows, ("**all**", *whole)])


TABLES = {
    "chapters": chapters,
    "machine": machine,
    "libraries": libraries,
    "runs": runs,
    "verdicts": verdicts,
    "suite": suite,
    "tests": tests,
}


if __name__ == "__main__":
    tables.write(PAGE, TABLES)
