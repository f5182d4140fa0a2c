"""How long do the tests take, `make quick` and `make test`, and each file of them?

Runs both as a contributor does, installation apart. The seconds of a file are those of its tests
added up, whichever processes ran them, so files together take more than the whole. A test that
fails ends the recording.

    python benchmarks/suite.py
"""

import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from record import arguments, record

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("quick", "test")


def measure(target):
    """Run `make TARGET`; its seconds, and the seconds and the number of tests of each file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        begin = time.perf_counter()
        options = f"-q --junitxml={report} -o junit_family=xunit1"
        done = subprocess.run(["make", target, f"PYTEST_ADDOPTS={options}"], cwd=ROOT)
        whole = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"make {target} failed, see above")
        cases = list(ElementTree.parse(report).iter("testcase"))
    seconds, tests = Counter(), Counter()
    for case in cases:
        seconds[case.get("file")] += float(case.get("time"))
        tests[case.get("file")] += 1
    return whole, seconds, tests


def rows(rounds):
    """The jobs for `record`: the whole, and for `make test` every file."""
    for turn in range(rounds):
        # Both before anything is written: a test holds the status page to the record.
        for target, (whole, seconds, tests) in [(t, measure(t)) for t in TARGETS]:
            found = [(f"make {target}", whole, sum(tests.values()))]
            if target == TARGETS[-1]:
                found += [(file, took, tests[file]) for file, took in seconds.most_common()]
            for label, took, count in found:
                outcome = {"seconds": round(took, 2), "tests": count}
                yield label, turn, lambda outcome=outcome: outcome


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=1)
    record("suite", rows(chosen.seeds), {"processes": "one a core"}, only=chosen.only)


if __name__ == "__main__":
    main()
