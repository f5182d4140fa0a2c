"""Freed memory that a training process keeps: fewer page faults, counted by the system."""

import subprocess
import sys

import pytest

# 20 blocks of 64 MB, one after the other, each written and freed. Some come before that count: what
# else the process allocates may come to lie in a freed block's place, and the heap grows once more.
FAULTS = """
import resource, torch
from vgglib.train.cpu import keep_freed_memory
kept = {keep} and keep_freed_memory()
def use(): torch.empty(16 * 2**20).fill_(1.0)
for _ in range(10): use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): use()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    """Whether the option was taken, and the page faults of the 20 blocks."""
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_blocks_that_were_freed_are_used_again():
    (_, before), (kept, after) = faults(False), faults(True)
    assert kept and before > 20 * 1000  # 64 MB are 16,384 pages, or fewer where they are huge
    assert after < before / 20
