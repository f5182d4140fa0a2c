"""Control groups (version 2): the kernel bounds and counts what all processes of a submission use.

Whatever call took the memory: pages that were unmapped, files in /tmp, buffers of sockets and
queues, names of files. Groups can be made by root, in a container that may write its own, and
wherever systemd lends a group (`enter`); elsewhere `Group` is None and the watchdog does what it
can (`sandbox`).
"""

import contextlib
import functools
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
NEEDED = {"memory", "pids"}
MARK = "GRADING_IN_SCOPE"
NUMBERS = itertools.count()


@functools.cache
def parent():
    """The folder, one's own or the one above, in which groups can be made; None without one."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        own = TOP / next(line[4:] for line in groups if line.startswith("0::/"))
    except (OSError, StopIteration):
        return None
    for folder in (own, own.parent):
        if not folder.is_relative_to(TOP) or folder.suffix == ".slice":  # a slice is systemd's
            continue
        with contextlib.suppress(OSError):
            if not _words(folder, "controllers") >= NEEDED:
                continue
            if not _words(folder, "subtree_control") >= NEEDED:
                # A group with members gives no controllers on: this process, if it is alone.
                if _words(folder, "procs") == {str(os.getpid())}:
                    (folder / "grader").mkdir(exist_ok=True)
                    (folder / "grader" / "cgroup.procs").write_text("0")
                (folder / "cgroup.subtree_control").write_text("+memory +pids")
            trial = folder / f"trial-{os.getpid()}"
            trial.mkdir()
            trial.rmdir()
            return folder
    return None


def _words(folder, name):
    return set((folder / f"cgroup.{name}").read_text().split())


def enter():
    """Start this program anew in a control group that systemd lends, if it has none and can."""
    if parent() or MARK in os.environ:
        return
    for kind in (["--user"], []):
        scope = ["systemd-run", *kind, "--scope", "--quiet", "--collect", "-p", "Delegate=yes"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if not subprocess.run([*scope, "true"], capture_output=True, timeout=20).returncode:
                os.environ[MARK] = "yes"
                os.execvp(scope[0], [*scope, sys.executable, *sys.orig_argv[1:]])


def said():
    """What holds here, in a sentence."""
    if parent():
        return (
            "A control group bounds memory and processes and counts processor time, in the kernel."
        )
    return (
        "No control group can be had here: no systemd lends one, no cgroup v2 may be written. A "
        "watchdog looks five times a second; memory that no process maps (buffers of sockets, "
        "names of files) is not bounded, and the time of processes that nobody waits for is not "
        "counted."
    )


class Group:
    """A control group for one submission.

    Parameters
    ----------
    memory : int
        Bytes, with files in memory and what the kernel keeps for the processes.
    processes : int
    """

    def __init__(self, memory, processes):
        self.folder = parent() / f"submission-{os.getpid()}-{next(NUMBERS)}"
        self.folder.mkdir()
        for name, value in (("memory.max", memory), ("pids.max", processes)):
            (self.folder / name).write_text(str(value))
        for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
            with contextlib.suppress(OSError):  # a kernel without swap has no limit of it
                (self.folder / name).write_text(str(value))

    def command(self):
        """The start of a command line that runs the rest of it in the group."""
        entry = self.folder / "cgroup.procs"
        return ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(entry)]

    def value(self, file, name):
        """A number of a file of lines ``name number``; 0 once the group is gone."""
        with contextlib.suppress(OSError):
            for line in (self.folder / file).read_text().splitlines():
                if line.split()[0] == name:
                    return int(line.split()[1])
        return 0

    def seconds(self):
        """Processor time of all processes that have ever been in the group."""
        return self.value("cpu.stat", "usage_usec") / 1e6

    def out_of_memory(self):
        """Whether the kernel has ended the group for its memory."""
        return self.value("memory.events", "oom_kill") > 0

    def close(self):
        """End what is left in the group, and remove it."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")
        for _ in range(50):
            with contextlib.suppress(FileNotFoundError):
                try:
                    self.folder.rmdir()
                except OSError:  # a process is still about to end
                    time.sleep(0.02)
                    continue
            return
