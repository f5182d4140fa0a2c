"""Grade a folder of submissions in a sandbox, or try an assignment.

    python tools/grade.py SUBMISSIONS OUT
    python tools/grade.py --check notebooks/assignments/01_architecture.ipynb

OUT gets grades.csv, manual.csv (enter points for what a person grades, then run again) and a page
for each submission in feedback/. A second run grades only what has changed.
"""

import argparse
import sys

from grading import batch, check, sandbox
from grading.sandbox import Limits
from grading.source import FOLDER, Source, sources


def parser():
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("submissions", nargs="?", help="folder of submissions")
    made.add_argument("out", nargs="?", help="folder for the results")
    made.add_argument("--check", metavar="SOURCE", help="try an assignment's source notebook")
    made.add_argument("--assignments", default=FOLDER, metavar="FOLDER", help="source notebooks")
    made.add_argument("--jobs", type=int, default=2, help="submissions graded at once (2)")
    made.add_argument("--cell-time", type=float, default=Limits.cell, metavar="S")
    made.add_argument("--call-time", type=float, default=Limits.call, metavar="S")
    made.add_argument("--time", type=float, default=Limits.submission, metavar="S")
    made.add_argument("--patience", type=float, default=Limits.patience, metavar="FACTOR")
    made.add_argument("--memory", type=float, default=Limits.memory / 2**30, metavar="GIB")
    made.add_argument("--show-hidden", action="store_true", help="hidden tests in the feedback")
    made.add_argument("--no-sandbox", action="store_true", help="limits only, no isolation")
    return made


def main(arguments=None):
    """Returns the exit status."""
    options = parser().parse_args(arguments)
    limits = Limits(
        cell=options.cell_time,
        call=options.call_time,
        submission=options.time,
        patience=options.patience,
        memory=int(options.memory * 2**30),
    )
    try:
        if options.no_sandbox:
            print("No sandbox: submissions can read and change whatever you can.", file=sys.stderr)
        else:
            sandbox.check()
        if options.check:
            return not check.report(Source(options.check), limits, not options.no_sandbox)
        if not options.out:
            raise ValueError("name a folder of submissions and one for the results")
        rows, fresh = batch.grade(
            options.submissions,
            options.out,
            sources(options.assignments),
            limits,
            not options.no_sandbox,
            options.jobs,
            options.show_hidden,
        )
    except (sandbox.SandboxError, ValueError, OSError) as error:
        print(f"grade: {error}", file=sys.stderr)
        return 2
    open_rows = [row for row in rows if row["status"] != "graded"]
    print(f"{len(rows)} files, {fresh} graded now, {len(open_rows)} not finished:")
    for row in open_rows:
        print(f"  {row['file']}: {row['status']}; {row['remarks']}"[:200])
    print(f"The table: {options.out}/grades.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
