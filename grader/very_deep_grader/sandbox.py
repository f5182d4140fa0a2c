"""Starts the worker in a sandbox made by bubblewrap, and bounds what it uses.

A control group does that in the kernel (`cgroup`); where none can be had a watchdog does.

Inside, a submission sees the system's programs and libraries, the Python environment, ``vgglib``
with its recorded runs and `inside`, all read-only, and an empty writable /tmp of limited
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
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from . import cgroup, seccomp
from .source import FOLDER

INSIDE = Path(__file__).resolve().parent / "inside"
MENDING = (INSIDE.parent / "mending.txt").read_text(encoding="utf-8").strip()
COURSE = "/course"  # where vgglib, `inside` and the recorded runs lie in the sandbox
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = ["alternatives", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"]  # of /etc
SETTINGS += ["localtime", "mime.types"]


class SandboxError(Exception):
    """The sandbox can not be had; the text says how to mend it."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Times are seconds of the processor, user and system, of all its processes: what else the machine
    does can not fail a right answer. Beside each stands a limit by the clock, for what sleeps.
    """

    cell: float = 60
    call: float = 30  # of a student's function by a test
    submission: float = 600  # all in all
    patience: float = 4  # by the clock, each may take so many times as long
    memory: int = 4 * 2**30  # bytes, of all processes together
    scratch: int = 256 * 2**20  # bytes of files
    processes: int = 128  # and threads

    def clock(self, seconds):
        """Seconds by the clock for what may use so many seconds of processor time."""
        return self.patience * seconds

    def rlimits(self, sandboxed):
        """Limits of one process, for `resource.setrlimit`."""
        limits = {
            # Address space is no measure, torch maps gigabytes of it; data is what a process
            # writes to. The sum over all processes is the control group's or the watchdog's.
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
    found = importlib.util.find_spec("vgglib")
    if found is None:
        raise SandboxError("vgglib, which submissions use, is not installed: pip install it, too")
    return Path(found.origin).resolve().parent


def repositories():
    """Checkouts of the course, full of answers: the grader's, and that of vgglib."""
    folders = {*INSIDE.parents, *vgglib_folder().parents}
    return [folder for folder in folders if (folder / FOLDER).is_dir()]


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
        Where to read the filter of system calls, see `seccomp`.
    """
    as_root = os.geteuid() == 0
    options = [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts", "cgroup-try")]
    options += ["--die-with-parent", "--new-session", "--clearenv"]
    if as_root:
        # The worker becomes an unprivileged user itself. In a user namespace it would stay root
        # outside, and limits of the number of processes do not hold for root.
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        options += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    for name, value in environment("/tmp", COURSE).items():
        options += ["--setenv", name, value]
    read = [*SYSTEM, *(f"/etc/{name}" for name in SETTINGS)]
    read += [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    read += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    mounts = dict.fromkeys(map(Path, read), True)  # whether they can be seen
    mounts |= {Path(path).resolve(): False for path in (*repositories(), *hidden)}
    # Before what may lie below it, such as an environment made there.
    options += ["--perms", "1777", "--size", limits.scratch, "--tmpfs", "/tmp"]
    made = {Path("/tmp"): False}
    for path, seen in sorted(mounts.items(), key=lambda item: len(item[0].parts)):
        within = next((made[parent] for parent in path.parents if parent in made), False)
        # What a mounted folder holds needs no mount, and what is not there need not be hidden.
        if within == seen or not path.exists():
            continue
        made[path] = seen
        if path.is_symlink() and path.parent == Path("/"):  # /lib -> usr/lib
            options += ["--symlink", path.readlink(), path]
            continue
        for parent in reversed(path.parents[:-1]):
            if not any(made.get(folder) for folder in (parent, *parent.parents)):
                options += ["--perms", "0755", "--dir", parent]
        options += ["--ro-bind", path, path] if seen else ["--tmpfs", path]
    for folder in (COURSE, f"{COURSE}/benchmarks"):  # made by a mount, it would be root's alone
        options += ["--perms", "0755", "--dir", folder]
    for name, folder in lent().items():
        options += ["--ro-bind", folder, f"{COURSE}/{name}"]
    # Mapped, /dev/zero gives memory that no process has once it is unmapped; /dev/full does not.
    options += ["--proc", "/proc", "--dev", "/dev", "--dev-bind", "/dev/full", "/dev/zero"]
    options += ["--perms", "1777", "--size", limits.scratch, "--tmpfs", "/dev/shm"]
    if filter_fd is not None:
        options += ["--seccomp", filter_fd]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    return [shutil.which("bwrap") or "bwrap", *map(str, options), "--"]


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
    with seccomp.descriptors() as filters:
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


def _open(path):
    """Whether any user can come to a folder."""
    return all(os.stat(place).st_mode & 1 for place in (path, *Path(path).resolve().parents))


def _sum(processes, measure):
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error, AttributeError):
            total += measure(process)
    return total


def kill(process):
    """Kill a process, and those that it has started."""
    family = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in family:
        with contextlib.suppress(psutil.Error):
            child.kill()


class Process:
    """The worker's process and its descendants, watched.

    Attributes
    ----------
    seconds : float
        Processor time of all processes so far, as it was seen last.
    allowed : tuple of float and str, or None
        Processor time from now on, and what to say once it is used up.
    """

    def __init__(self, connection, limits, sandboxed=True, hidden=()):
        """Start it. Its end of the connection is closed here, once it has that."""
        self.limits = limits
        self.ended = None
        self.seconds = 0.0
        self.allowed = None
        self.scratch = None
        # As root a user number of its own, so that the limit of processes counts no others.
        needed = (sys.prefix, sys.base_prefix, *lent().values())
        user = 61184 + os.getpid() % 4000 if sandboxed or all(map(_open, needed)) else None
        options = {"limits": limits.rlimits(sandboxed), "uid": user, "threads": 1}
        if sandboxed:
            setting, folder = {}, None
        else:
            self.scratch = TemporaryDirectory(prefix="submission-", ignore_cleanup_errors=True)
            folder = self.scratch.name
            if os.geteuid() == 0 and user is not None:
                os.chown(folder, user, user)
            course = Path(folder) / "course"
            for name, place in lent().items():
                (course / name).parent.mkdir(parents=True, exist_ok=True)
                (course / name).symlink_to(place)
            setting = environment(folder, str(course))
        # Bubblewrap itself needs up to three processes.
        self.group = cgroup.parent() and cgroup.Group(limits.memory, limits.processes + 3)
        number = connection.fileno()
        command = [sys.executable, "-m", "inside.worker", str(number), json.dumps(options)]
        with seccomp.descriptors() if sandboxed else contextlib.nullcontext([]) as filters:
            start = [] if self.group is None else self.group.command()
            start += bubblewrap(limits, hidden, *filters) if sandboxed else []
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
        counted, since = None, 0.0
        while self.popen.poll() is None:
            # Read first: time that an earlier request has used must not count for this one.
            allowed = self.allowed
            memory, count = self.usage()
            if allowed is not counted:
                counted, since = allowed, self.seconds
            if allowed is not None and self.seconds - since > allowed[0]:
                self.stop(allowed[1])
            elif memory > self.limits.memory:
                self.stop(self._too_much())
            elif count > self.limits.processes + 3:  # bubblewrap itself needs up to three
                self.stop(f"started more than {self.limits.processes} processes")
            time.sleep(0.2)

    def _too_much(self):
        return f"used more than {self.limits.memory / 2**30:.3g} GiB of memory"

    @property
    def cause(self):
        """Why the process was killed, or None."""
        if self.ended is None and self.group is not None and self.group.out_of_memory():
            self.ended = self._too_much()
        return self.ended

    def usage(self):
        """Bytes of memory and number of processes in use, as far as the kernel does not bound them.

        Brings `seconds` up to date.
        """
        if self.group is not None:
            self.seconds = max(self.seconds, self.group.seconds())
            return 0, 0
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
        self.ended = self.cause or cause
        # With bubblewrap, the first kill ends the process namespace and all that is in it.
        kill(self.popen)
        self.popen.wait()
        if self.group is not None:
            self.group.close()
        if self.scratch is not None:
            self.scratch.cleanup()
