"""Grade a folder of submissions in a sandbox, or try an assignment.

python tools/grade.py --check notebooks/assignments/01_architecture.ipynb
"""

import argparse
import sys

from grading import check, sandbox
from grading.source import Source


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="SOURCE", help="try an assignment's source notebook")
    parser.add_argument("--no-sandbox", action="store_true", help="limits only, no isolation")
    options = parser.parse_args(arguments)
    if not options.no_sandbox:
        sandbox.check()
    good = check.report(Source(options.check), sandbox.Limits(), not options.no_sandbox)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
