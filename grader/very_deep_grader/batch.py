"""Grades a folder of submissions: finds them, runs them, keeps results, writes the tables.

Each submission is graded by a process of its own, forked from one that has loaded torch already.
What has been graded before is taken from ``OUT/.graded`` as long as the submission, the assignment
and the grader are the same.
"""

import errno
import functools
import hashlib
import json
import multiprocessing
import os
import re
import resource
import signal
import stat
import statistics
import time
import traceback
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import forkserver
from pathlib import Path

from tqdm import tqdm

from . import feedback, matching, tables
from .examine import examine, one_line, ungraded
from .sandbox import kill, vgglib_folder
from .source import Source

IGNORED = re.compile(  # what editors, file managers and nbgrader leave beside a submission
    r"(^|/)(\.ipynb_checkpoints/|\.git/|__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|timestamp\.txt$)"
)
MOODLE = re.compile(r"_(assignsubmission|onlinetext)_.*$")
CANVAS = re.compile(r"^(.+?)(_LATE)?_(\d+)_\d+$")
START = 600  # seconds by the clock beyond the submission's own after which the grader gives up
USUAL = 20  # seconds for a submission, where none was graded yet
LINK = "a link or special file, which is not followed"
EXAMINER = 2 * 2**30  # bytes of memory for the tests beyond what a submission may use


@dataclass
class Handed:
    """A file that was handed in."""

    path: Path
    file: str  # the path within the folder of submissions
    student: str
    within: Path  # the folder of submissions
    source: Source | None = None
    # Of the content, which is read again to be graded: a class may hand in more than memory holds.
    digest: bytes = b""
    problem: str | None = None  # why it can not be graded

    def read(self):
        """The content; brings `digest` up to date. A link that was put in meanwhile is refused."""
        number = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(number, "rb") as file:
            place = Path(os.readlink(f"/proc/self/fd/{number}"))  # where the file lies indeed
            regular = stat.S_ISREG(os.fstat(number).st_mode)
            if not (regular and place.is_relative_to(self.within.resolve())):
                raise OSError(errno.ELOOP, LINK)
            content = file.read(matching.SIZE_LIMIT + 1)
        self.digest = hashlib.sha256(content).digest()
        return content

    def key(self, limits, sandboxed):
        """What the result depends on, as a hash."""
        parts = (self.digest, self.source.path.read_bytes(), asdict(limits), sandboxed, version())
        return hashlib.sha256(repr(parts).encode()).hexdigest()


@functools.cache
def version():
    """A hash of the grader and of vgglib."""
    folders = (Path(__file__).parent, vgglib_folder())
    code = [path.read_bytes() for folder in folders for path in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(repr(code).encode()).hexdigest()


# Finding ----------------------------------------------------------------------------------


def find(folder: str | Path, sources: list[Source]) -> list[Handed]:
    """The submissions in a folder.

    Accepted are ``STUDENT/…/NN_name.ipynb``, ``STUDENT_NN_name.ipynb`` and the downloads of Moodle
    (a folder a student) and Canvas (a file a student). Which assignment a notebook belongs to is
    seen from its cells, else from its name. What can not be graded is there, too, with the reason.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}")
    paths, closed = [], {}
    walk = os.walk(folder, onerror=lambda error: closed.update({Path(error.filename): error}))
    for place, folders, names in walk:
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        paths += [Path(place) / name for name in names + linked]
    if folder in closed:
        raise closed[folder]

    def handed_in(path, mark=""):
        return not IGNORED.search(path.relative_to(folder).as_posix() + mark)

    paths = sorted(filter(handed_in, paths))
    notebooks = {path for path in paths if path.suffix.lower() == ".ipynb"}
    # A picture beside a notebook is no submission; alone it is reported.
    with_notebook = {path.parent for path in notebooks} - {folder}
    paths = [path for path in paths if path in notebooks or path.parent not in with_notebook]
    found = [_handed(path, folder, sources) for path in paths]
    problems = {p: f"a folder that can not be read: {e.strerror}" for p, e in closed.items()}
    for place in folder.iterdir():
        if place.is_dir() and not any(path.is_relative_to(place) for path in (*paths, *closed)):
            problems[place] = "an empty folder"
    found += [
        _handed(place, folder, sources, why)
        for place, why in sorted(problems.items())
        if handed_in(place, "/")
    ]
    counts = Counter()
    for handed in found:
        counts[handed.file] += 1
        if (number := counts[handed.file]) > 1:  # the same name, its accents coded in another way
            handed.file += f" [{number}]"
    return found


def _handed(path, folder, sources, problem=None):
    """A file, or a folder with a problem, and the assignment to which it belongs."""
    file = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
    file = file.encode("utf-8", "replace").decode()
    named = [source for source in sources if source.name.lower() in file.lower()]
    handed = Handed(path, file, _student(f"{file}/" if problem else file, named), folder)
    handed.problem = problem
    if problem:
        return handed
    try:
        if path.is_symlink() or not path.is_file():
            handed.problem = LINK
            return handed
        handed.source = _belongs(matching.read(handed.read()), sources, named)
        if handed.source is None:
            handed.problem = "belongs to none of the assignments, by its cells and its name"
    except matching.UnreadableError as error:
        handed.problem = str(error)
        handed.source = named[-1] if named else None
    except OSError as error:
        handed.problem = f"can not be read: {error.strerror}"
    return handed


def _student(file, named):
    first, within, _ = file.partition("/")
    if within:
        return MOODLE.sub("", first).strip() or first
    student = re.sub(r"\.ipynb$", "", first, flags=re.IGNORECASE)
    if named:
        place = first.lower().rindex(named[-1].name.lower())
        student = first[:place].strip("_- ") or student
    canvas = CANVAS.match(student)
    return f"{canvas[1]}_{canvas[3]}" if canvas else student


def _belongs(cells, sources, named):
    ids = {cell.grade_id for cell in cells if cell.grade_id}

    def known(source):
        return len(ids & {c.grade_id for c in source.cells if c.role != "given"})

    def alike(source):
        return matching.unchanged(source, cells) / len(source.cells)

    if ids and (best := max(sources, key=known)) and known(best):
        # Two assignments may share names of tasks; the file's name decides then.
        equal = [s for s in named if known(s) == known(best)]
        return equal[-1] if equal else best
    if named:
        return named[-1]
    best = max(sources, key=alike)
    return best if alike(best) > 0.25 else None


# Running ----------------------------------------------------------------------------------


def grade(folder, out, sources, limits, sandboxed=True, jobs=2, show_hidden=False):
    """Grade a folder of submissions.

    Parameters
    ----------
    folder : path-like
        Submissions, see `find`.
    out : path-like
        Gets ``grades.csv``, ``manual.csv`` and ``feedback/``.
    sources : list of source.Source
    limits : sandbox.Limits
    sandboxed : bool
    jobs : int
        Submissions graded at once.
    show_hidden : bool
        Whether the feedback pages show the hidden tests.

    Returns
    -------
    rows : list of dict
        What ``grades.csv`` says, see `tables.write`.
    fresh : int
        How many submissions were run now.

    Raises
    ------
    KeyboardInterrupt
        It was ended, after the tables were written with what there is.
    """
    folder, out = Path(folder), Path(out)
    if out.resolve() == folder.resolve() or folder.resolve().is_relative_to(out.resolve()):
        raise ValueError(
            f"the results would mix with the submissions in {folder}; name another OUT"
        )
    manual = tables.Manual(out / "manual.csv")
    handed = [h for h in find(folder, sources) if not h.path.is_relative_to(out)]
    kept = out / ".graded"
    kept.mkdir(parents=True, exist_ok=True)
    hidden = [source.path.parent for source in sources] + [folder, out]
    results, waiting = {}, []
    for item in handed:
        if item.problem:
            results[item.file] = ungraded(item.problem)
            continue
        try:
            text = (kept / f"{item.key(limits, sandboxed)}.json").read_text(encoding="utf-8")
            results[item.file] = json.loads(text)
        except (OSError, ValueError):
            waiting.append(item)
    each = statistics.median([r["seconds"] for r in results.values() if "seconds" in r] or [USUAL])
    minutes = each * len(waiting) / max(1, jobs) / 60
    if waiting:
        _start_server()
    ended, futures = None, {}

    def take(future):
        item, (result, certain) = futures[future], future.result()
        results[item.file] = result
        if certain:
            path = kept / f"{item.key(limits, sandboxed)}.json"
            tables.write_atomically(path, json.dumps(result))
        return item

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            for item in waiting:
                futures[pool.submit(_grade, item, limits, sandboxed, hidden)] = item
            about, done = f"about {max(1, round(minutes))} min", as_completed(futures)
            bar = tqdm(done, about, len(futures), unit="submission", disable=not futures)
            for future in bar:
                bar.set_postfix_str(one_line(take(future).student)[:30])
        except KeyboardInterrupt as error:
            ended = error
            pool.shutdown(wait=False, cancel_futures=True)
            for future in futures:  # what was ready, and not taken yet
                if future.done() and not future.cancelled() and not future.exception():
                    take(future)
            for process in multiprocessing.active_children():
                _end(process, 0)
    for item in waiting:
        results.setdefault(item.file, ungraded("the grader was ended before; grade again"))
    rows = tables.write(out, handed, results, manual, feedback.Pages(out, show_hidden))
    if ended:
        raise ended
    return rows, len(waiting)


def _start_server():
    """Start the process of which the others are forked; Ctrl-C is only this one's to answer."""
    forkserver.set_forkserver_preload([f"{__package__}.examine", "torch", "vgglib", "nbgrader"])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, before)


def _grade(item, *settings):
    try:
        return in_process(item.source, item.read(), *settings)
    except OSError as error:
        return ungraded(f"can not be read: {error.strerror}"), False


def in_process(source, content, limits, sandboxed, hidden):
    """Grade in a process of its own.

    Returns
    -------
    result : dict
        See `examine.examine`; "seconds" says how long it took.
    certain : bool
        Whether the result is the submission's, and not the grader's failure.
    """
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    arguments = (theirs, source.path, content, limits, sandboxed, hidden)
    process = context.Process(target=_examine, args=arguments, daemon=True)
    began = time.monotonic()
    process.start()
    theirs.close()
    problem = "the grader's own process ended; see its output, then grade again"
    try:
        if ours.poll(limits.clock(limits.submission) + START):
            answer = json.loads(ours.recv_bytes())
            if "failure" not in answer:
                return {**answer, "seconds": time.monotonic() - began}, True
            problem = f"the grader failed: {answer['failure']}"
        else:
            problem = "the grader got no end; grade again"
    except (EOFError, OSError, ValueError):
        pass
    finally:
        _end(process, 5)
        ours.close()
    return ungraded(problem), False


def _end(process, seconds):
    process.join(seconds)
    kill(process)
    process.join()


def _examine(connection, path, content, limits, sandboxed, hidden):
    import torch

    torch.set_num_threads(1)
    # A test that a student's numbers lead to allocate without end fails, and harms no other.
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory + EXAMINER,) * 2)
    try:
        answer = examine(Source(path), content, limits, sandboxed, hidden)
    except Exception as error:
        traceback.print_exc()
        answer = {"failure": f"{type(error).__name__}: {error}"}
    connection.send_bytes(json.dumps(answer).encode("ascii"))
