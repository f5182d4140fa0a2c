"""Grade a folder of submissions in a sandbox, or try an assignment.

    python -m very_deep_grader SUBMISSIONS OUT
    python -m very_deep_grader --check notebooks/assignments/01_architecture.ipynb
    python -m very_deep_grader --autograder notebooks/assignments/01_architecture.ipynb ARCHIVE.zip

OUT gets grades.csv, summary.csv, a page for each submission in feedback/, manual.csv (enter points
for what a person grades, or a reason and points that replace a test's, then run again), and
reading-NAME.html with the answers to read. A second run grades only what has changed.
"""

import argparse
import sys

from . import batch, cgroup, check, exports, sandbox, tables
from .sandbox import Limits
from .source import FOLDER, Source, sources

TIMES = {"cell": "--cell-time", "call": "--call-time", "submission": "--time"}
TIMES["patience"] = "--patience"


def parser():
    """The command line."""
    made = argparse.ArgumentParser(
        "very-deep-grade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("submissions", nargs="?", help="folder of submissions")
    made.add_argument("out", nargs="?", help="folder for the results")
    made.add_argument("--check", metavar="SOURCE", help="try an assignment's source notebook")
    made.add_argument("--autograder", metavar="SOURCE", help="write an archive for Gradescope")
    made.add_argument("--canvas", metavar="CSV", help="Canvas's gradebook, to fill in")
    made.add_argument("--column", metavar="HEADING", help="the assignment's column in it")
    made.add_argument("--moodle", metavar="CSV", help="Moodle's grading worksheet, to fill in")
    made.add_argument("--gradescope", metavar="JSON", help="write Gradescope's results.json")
    made.add_argument("--assignments", default=FOLDER, metavar="FOLDER", help="source notebooks")
    made.add_argument("--jobs", type=int, default=2, help="submissions graded at once (2)")
    for name, option in TIMES.items():
        made.add_argument(option, dest=name, type=float, default=getattr(Limits, name), metavar="N")
    made.add_argument("--memory", type=float, default=Limits.memory / 2**30, metavar="GIB")
    made.add_argument("--show-hidden", action="store_true", help="hidden tests in the feedback")
    made.add_argument("--no-sandbox", action="store_true", help="limits only, no isolation")
    return made


def main(arguments=None):
    """Returns the exit status."""
    options = parser().parse_args(arguments)
    times = {name: getattr(options, name) for name in TIMES}
    settings = Limits(**times, memory=int(options.memory * 2**30)), not options.no_sandbox
    try:
        if options.autograder:
            exports.autograder(Source(options.autograder), options.submissions or "autograder.zip")
            return 0
        if options.no_sandbox:
            print("No sandbox: submissions can read and change whatever you can.", file=sys.stderr)
        else:
            sandbox.check()
        print(cgroup.said(), file=sys.stderr)
        if options.check:
            return not check.report(Source(options.check), *settings)
        if not options.out:
            raise ValueError("name a folder of submissions and one for the results")
        known = sources(options.assignments)
        asked = (options.submissions, options.out, known, *settings, options.jobs)
        rows, fresh = batch.grade(*asked, options.show_hidden)
        for line in _export(options, rows, known):
            print(line)
    except KeyboardInterrupt:
        print(f"Ended. {options.out}/grades.csv says what was graded before.", file=sys.stderr)
        return 130
    except (sandbox.SandboxError, ValueError, OSError) as error:
        print(f"grade: {error}", file=sys.stderr)
        return 2
    open_rows = [row for row in rows if row["status"] != "graded"]
    print(f"{len(rows)} files, {fresh} graded now, {len(open_rows)} not finished:")
    for row in open_rows:
        print(f"  {row['file']}: {row['status']}; {row['remarks']}"[:200])
    for line in tables.distribution(rows):
        print(line)
    print(f"The table: {options.out}/grades.csv")
    return 0


def _export(options, rows, known):
    """Write what learning systems import; yields what a person should know."""
    graded = [s for s in known if any(row["assignment"] == s.name for row in rows)]
    if options.canvas:
        lost = exports.canvas(options.canvas, options.out, rows, graded, options.column)
        yield f"For Canvas: {options.out}/canvas.csv; without a row there: {lost or 'nobody'}"
    if options.moodle:
        if len(graded) != 1:
            raise ValueError(f"a worksheet is of one assignment, not of {len(graded)}")
        lost = exports.moodle(options.moodle, options.out, rows, graded[0])
        yield f"For Moodle: {options.out}/moodle-*; without a row there: {lost or 'nobody'}"
    if options.gradescope:
        if len(rows) != 1:
            raise ValueError(f"Gradescope's results are of one submission, not of {len(rows)}")
        exports.gradescope(options.gradescope, rows[0])


def run():
    """The program: in a control group, if one can be had."""
    cgroup.enter()
    sys.exit(main())


if __name__ == "__main__":
    run()
