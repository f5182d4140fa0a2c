"""The results page: read the recorded runs, write the tables of book/results.md.

    python tools/results.py

Its first table says what of the queue of ``benchmarks/record.py`` is done.
Each line ``<!-- run: NAME -->`` of the page is followed by the table of
``benchmarks/recorded/NAME.json``, or by "Not yet recorded" where there is no such file.
"""

import re
import statistics
import sys
from pathlib import Path

import tables

import vgglib

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
import record  # noqa: E402

PAGE = ROOT / "book" / "results.md"
# Fractions, shown as per cent.
MEASURES = ("test_accuracy", "held_out_accuracy", "localisation_error")
RUN = re.compile(r"<!-- run: ([\w-]+) -->\n.*?<!-- end of run -->", re.DOTALL)


def table(name):
    """Where and when a run was made, and the accuracy or the error of each of its labels."""
    run = vgglib.recorded(name)
    if run is None:
        return "*Not yet recorded.*"
    machine = run["machine"]
    place = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    lines = [
        f"`{run['command']}` · {run['date']} · {place} · torch {run['versions']['torch']} · "
        + ", ".join(f"{k} {v}" for k, v in run["settings"].items() if not isinstance(v, dict)),
        "",
    ]
    measure = next((key for key in MEASURES if key in run["runs"][0]), None)
    if measure is None:
        return "\n".join(lines + rates(run["runs"]))
    # Runs of the queue name their machines each: made beside other work, they are not timed.
    timed = "seconds" in run["runs"][0] and "machine" not in run["runs"][0]
    heads = ["what", measure.replace("_", " "), *(["seconds"] if timed else []), "seeds"]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for label in dict.fromkeys(one["label"] for one in run["runs"]):
        found = [one for one in run["runs"] if one["label"] == label]
        cells = [label, mean([100 * one[measure] for one in found]) + " %"]
        if timed:
            cells.append(mean([one["seconds"] for one in found]))
        lines.append(f"| {' | '.join(cells)} | {len(found)} |")
    return "\n".join(lines)


def mean(values):
    """Mean and, of several values, standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def rates(runs):
    """The lines of speed tables: the median over the rounds of everything that was measured."""
    kinds = {}  # what was measured → label → rounds
    for one in runs:
        names = tuple(key for key in one if key not in ("label", "seed"))
        kinds.setdefault(names, {}).setdefault(one["label"], []).append(one)
    lines = []
    for names, labels in kinds.items():
        heads = [name.replace("_", " ") for name in names]
        lines += ["", f"| what | {' | '.join(heads)} | rounds |", "|---" * (len(names) + 2) + "|"]
        for label, found in labels.items():
            middle = [statistics.median(one[name] for one in found) for name in names]
            cells = " | ".join(f"{value:.3g}" for value in middle)
            lines.append(f"| {label} | {cells} | {len(found)} |")
    return lines[1:]


def queue():
    """What is done of what is planned."""
    rows = [
        (f"`{name}`", done, planned, f"{hours:.1f}")
        for name, done, planned, hours in record.outlook()
    ]
    return tables.table(("record", "runs done", "planned", "core-hours left"), rows)


def with_tables(page):
    """The results page with its tables written anew."""
    if "<!-- queue" in page:
        page = tables.filled(PAGE, page, {"queue": queue})
    return RUN.sub(lambda m: f"<!-- run: {m[1]} -->\n{table(m[1])}\n<!-- end of run -->", page)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print("wrote book/results.md")
