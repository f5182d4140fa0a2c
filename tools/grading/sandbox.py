"""Starts the worker in a sandbox made by bubblewrap, and watches what it uses.

Inside, a submission sees the system's programs and libraries, the Python environment, ``vgglib``
with its recorded runs and `grading.inside`, all read-only, and an empty writable /tmp of limited
size. It has no network, no home, no other process, no environment variable of the grader's; neither
the course's sources and hidden tests nor other submissions are in its file system at all.
"""

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from . import seccomp
from .mending import MENDING

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).parent / "inside"
COURSE = "/course"  # where vgglib, `inside` and the recorded runs lie in the sandbox
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = [
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
]


class SandboxError(Exception):
    """The sandbox can not be had; the text says how to mend it."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Times are those of the processor, user and system, of all its processes: what else the machine
    does can not fail a right answer. Beside each stands a limit by the clock, for what sleeps.

    Parameters
    ----------
    cell, call : float
        Seconds of processor time for one cell, and for one call of a student's function by a test.
    submission : float
        Seconds of processor time for everything.
    patience : float
        By the clock, each may take so many times as long.
    memory : int
        Bytes of memory of all processes together.
    scratch : int
        Bytes of files.
    processes : int
        Processes and threads.
    """

    cell: float = 60
    call: float = 30
    submission: float = 600
    patience: float = 4
    memory: int = 4 * 2**30
    scratch: int = 256 * 2**20
    processes: int = 128

    def clock(self, seconds):
        """Seconds by the clock for what may use so many seconds of processor time."""
        return self.patience * seconds

    def rlimits(self, sandboxed):
        """Limits of one process, for `resource.setrlimit`."""
        limits = {
            # Address space is no measure, torch maps gigabytes of it; data is what a process
            # writes to. The watchdog sees to the sum over all processes.
            "RLIMIT_DATA": self.memory,
            "RLIMIT_FSIZE": self.scratch,
            "RLIMIT_CPU": int(2 * self.submission) + 60,
            "RLIMIT_NOFILE": 256,
            "RLIMIT_CORE": 0,
        }
        if sandboxed:  # elsewhere it would count all processes of the user
            limits["RLIMIT_NPROC"] = self.processes
        return limits


def vgglib_folder():
    """Where the package lies that students use."""
    return Path(importlib.util.find_spec("vgglib").origin).resolve().parent


def lent():
    """Folders for a submission to read, by their place among the course's."""
    package = vgglib_folder()
    folders = {"vgglib": package, "inside": INSIDE}
    recorded = package.parent / "benchmarks" / "recorded"  # where a checkout keeps them
    return folders | ({"benchmarks/recorded": recorded} if recorded.is_dir() else {})


def environment(scratch, course):
    """The only variables that a submission sees."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": scratch,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "PYTHONPATH": course,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MPLCONFIGDIR": f"{scratch}/matplotlib",
        "IPYTHONDIR": f"{scratch}/ipython",
    }


def bubblewrap(limits, hidden=(), filter_fd=None):
    """The command line that starts a program in the sandbox.

    Parameters
    ----------
    limits : Limits
    hidden : sequence of path
        Folders that must not be seen, should one lie inside a folder that is mounted.
    filter_fd : int, optional
        Where to read the filter of system calls, see `grading.seccomp`.
    """
    as_root = os.geteuid() == 0
    options = [
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]
    if as_root:
        # The worker becomes an unprivileged user itself. In a user namespace it would stay root
        # outside, and limits of the number of processes do not hold for root.
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        options += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    for name, value in environment("/tmp", COURSE).items():
        options += ["--setenv", name, value]
    python = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    python |= {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    mounts = {Path(path): ["--ro-bind"] for path in (*SYSTEM, *SETTINGS, *python)}
    mounts |= {Path(path).resolve(): ["--tmpfs"] for path in (ROOT, *hidden)}
    # Before what may lie below it, such as an environment made there.
    size = str(limits.scratch)
    options += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]
    made = {Path("/tmp"): False}  # what is mounted so far: whether it can be seen
    for path in sorted(mounts, key=lambda path: len(path.parts)):
        how = mounts[path]
        within = next((made[parent] for parent in path.parents if parent in made), False)
        seen = how != ["--tmpfs"]
        # What a mounted folder holds needs no mount, and what is not there need not be hidden.
        if within == seen or not path.exists():
            continue
        made[path] = seen
        if path.is_symlink() and path.parent == Path("/"):  # /lib -> usr/lib
            options += ["--symlink", os.readlink(path), str(path)]
            continue
        for parent in reversed(path.parents[:-1]):
            if not any(made.get(folder) for folder in (parent, *parent.parents)):
                options += ["--perms", "0755", "--dir", str(parent)]
        options += [*how, str(path)]
        if seen:
            options.append(str(path))
    for folder in (COURSE, f"{COURSE}/benchmarks"):  # made by a mount, it would be root's alone
        options += ["--perms", "0755", "--dir", folder]
    for name, folder in lent().items():
        options += ["--ro-bind", str(folder), f"{COURSE}/{name}"]
    options += ["--proc", "/proc", "--dev", "/dev"]
    options += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"]
    if filter_fd is not None:
        options += ["--seccomp", str(filter_fd)]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    return [shutil.which("bwrap") or "bwrap", *options, "--"]


@contextlib.contextmanager
def _filter():
    """The descriptor of the filter of system calls in a list, empty if there is none."""
    number = seccomp.descriptor()
    try:
        yield [] if number is None else [number]
    finally:
        if number is not None:
            os.close(number)


@functools.cache
def check():
    """Make sure that a sandbox starts.

    Raises
    ------
    SandboxError
        It does not; the text says why and how to mend it.
    """
    if not shutil.which("bwrap"):
        raise SandboxError("bubblewrap (the program bwrap) is not installed.\n" + MENDING)
    with _filter() as filters:
        done = subprocess.run(
            [*bubblewrap(Limits(), (), *filters), sys.executable, "-c", "print(6 * 7)"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            pass_fds=filters,
        )
    if done.stdout != "42\n":
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise SandboxError(f"bubblewrap is installed but can not start: {said}\n{MENDING}")


class Allowance:
    """Processor time for one request.

    Parameters
    ----------
    seconds : float
    cause : str
        What to say once it is used up.
    """

    def __init__(self, seconds, cause):
        self.seconds = seconds
        self.cause = cause
        self.start = None

    def over(self, now):
        """Whether it is used up, with the processes' time now; the first call starts it."""
        if self.start is None:
            self.start = now
        return now - self.start > self.seconds


def _sum(processes, measure):
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error, AttributeError):
            total += measure(process)
    return total


class Process:
    """The worker's process and its descendants, watched.

    Parameters
    ----------
    connection : socket.socket
        The worker's end of the channel; closed here once the worker has it.
    limits : Limits
    sandboxed : bool
        Whether to use bubblewrap.
    hidden : sequence of path
        Folders that must not be seen.

    Attributes
    ----------
    cause : str or None
        Why the watchdog has killed the process.
    seconds : float
        Processor time of all processes so far, as the watchdog saw it last.
    """

    def __init__(self, connection, limits, sandboxed=True, hidden=()):
        self.limits = limits
        self.cause = None
        self.seconds = 0.0
        self.allowed = None
        self.scratch = None
        options = {"limits": limits.rlimits(sandboxed), "uid": None, "threads": 1}
        if sandboxed:
            # A user number of its own, so that the limit of processes counts no others.
            options["uid"] = 61184 + os.getpid() % 4000
            setting, folder = {}, None
        else:
            self.scratch = tempfile.TemporaryDirectory(
                prefix="submission-", ignore_cleanup_errors=True
            )
            folder = self.scratch.name
            course = Path(folder) / "course"
            for name, place in lent().items():
                (course / name).parent.mkdir(parents=True, exist_ok=True)
                (course / name).symlink_to(place)
            setting = environment(folder, str(course))
        number = connection.fileno()
        command = [sys.executable, "-m", "inside.worker", str(number), json.dumps(options)]
        with _filter() if sandboxed else contextlib.nullcontext([]) as filters:
            start = bubblewrap(limits, hidden, *filters) if sandboxed else []
            self.popen = subprocess.Popen(
                [*start, *command],
                cwd=folder,
                env=setting,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[number, *filters],
                start_new_session=True,
            )
        connection.close()
        self.errors = b""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _listen(self):
        for line in iter(lambda: self.popen.stderr.read1(4096), b""):
            self.errors = (self.errors + line)[-4096:]

    def _watch(self):
        while self.popen.poll() is None:
            # Read first: time that an earlier request has used must not count for this one.
            allowed = self.allowed
            memory, count = self.usage()
            if allowed is not None and allowed.over(self.seconds):
                self.stop(allowed.cause)
            elif memory > self.limits.memory:
                self.stop(f"used more than {self.limits.memory / 2**30:.3g} GiB of memory")
            elif count > self.limits.processes + 3:  # bubblewrap itself needs up to three
                self.stop(f"started more than {self.limits.processes} processes")
            time.sleep(0.2)

    def usage(self):
        """Bytes of memory and number of processes in use; brings `seconds` up to date."""
        try:
            process = psutil.Process(self.popen.pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0, 0
        # A process that has ended counts among the times of the one that waited for it, and that is
        # the sandbox's first process for orphans. What nobody waits for is lost: hence the maximum.
        self.seconds = max(self.seconds, _sum(family, lambda process: sum(process.cpu_times()[:4])))
        memory = _sum(family, lambda process: process.memory_info().rss)
        if memory > self.limits.memory:
            # Forked processes share pages; the proportional share counts each once.
            memory = _sum(family, lambda process: process.memory_full_info().pss)
        return memory, len(family)

    def stop(self, cause=None):
        """Kill everything that runs in the sandbox."""
        self.cause = self.cause or cause
        try:
            family = psutil.Process(self.popen.pid).children(recursive=True)
        except psutil.Error:
            family = []
        # With bubblewrap, this first kill ends the process namespace and all that is in it.
        self.popen.kill()
        for process in family:
            try:
                process.kill()
            except psutil.Error:
                continue
        self.popen.wait()
        if self.scratch is not None:
            self.scratch.cleanup()


def settings(limits):
    """The limits as plain data, for the key under which results are kept."""
    return asdict(limits)
