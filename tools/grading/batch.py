"""Grades a folder of submissions: finds them, runs them, keeps results, writes the tables.

Each submission is graded by a process of its own, forked from one that has loaded torch already.
What has been graded before is taken from ``OUT/.graded`` as long as the submission, the assignment
and the grader are the same.
"""

import hashlib
import json
import multiprocessing
import os
import re
import resource
import traceback
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import psutil
from tqdm import tqdm

from . import feedback, matching, tables
from .examine import examine, one_line
from .sandbox import settings, vgglib_folder
from .source import Source

IGNORED = re.compile(  # what editors, file managers and nbgrader leave beside a submission
    r"(^|/)(\.ipynb_checkpoints/|\.git/|__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|timestamp\.txt$)"
)
MOODLE = re.compile(r"_(assignsubmission|onlinetext)_.*$")
CANVAS = re.compile(r"^(.+?)(_LATE)?_(\d+)_\d+$")
START = 600  # seconds by the clock beyond the submission's own after which the grader gives up
EXAMINER = 2 * 2**30  # bytes of memory for the tests beyond what a submission may use


@dataclass
class Handed:
    """A file that was handed in.

    Parameters
    ----------
    path : Path
    file : str
        The path within the folder of submissions.
    student : str
    source : grading.source.Source or None
    digest : bytes
        A hash of its content, which is read again when it is graded: a class may hand in more than
        memory holds.
    problem : str or None
        Why it can not be graded.
    """

    path: Path
    file: str
    student: str
    source: Source | None
    digest: bytes = b""
    problem: str | None = None

    def read(self):
        """The content; brings `digest` up to date."""
        content = self.path.read_bytes()
        self.digest = hashlib.sha256(content).digest()
        return content

    def key(self, limits, sandboxed):
        """What the result depends on, as a hash."""
        parts = (
            self.digest,
            self.source.path.read_bytes(),
            json.dumps([settings(limits), sandboxed]).encode(),
            version().encode(),
        )
        digest = hashlib.sha256()
        for part in parts:
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()


def version():
    """A hash of the grader and of vgglib."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, vgglib_folder()):
        for path in sorted(folder.rglob("*.py")):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# Finding ----------------------------------------------------------------------------------


def find(folder, sources):
    """The submissions in a folder.

    Accepted are ``STUDENT/…/NN_name.ipynb``, ``STUDENT_NN_name.ipynb`` and the downloads of Moodle
    (a folder a student) and Canvas (a file a student). Which assignment a notebook belongs to is
    seen from its cells, else from its name.

    Parameters
    ----------
    folder : path-like
    sources : list of grading.source.Source

    Returns
    -------
    list of Handed
        Also what can not be graded, with the reason.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}")
    paths, closed = [], []
    for place, folders, names in os.walk(folder, onerror=closed.append):
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        paths += [Path(place) / name for name in names + linked]
    closed = {Path(error.filename): error for error in closed}
    if folder in closed:
        raise closed[folder]

    def counts_as_handed_in(path, mark=""):
        return not IGNORED.search(path.relative_to(folder).as_posix() + mark)

    paths = sorted(filter(counts_as_handed_in, paths))
    notebooks = [p for p in paths if p.suffix.lower() == ".ipynb"]
    with_notebook = {p.parent for p in notebooks if p.parent != folder}
    # A picture beside a notebook is no submission; alone it is reported.
    paths = [p for p in paths if p in notebooks or p.parent not in with_notebook]
    found = [_handed(path, folder, sources) for path in paths]
    found += [_closed(p, folder, closed[p]) for p in sorted(closed) if counts_as_handed_in(p, "/")]
    counts = Counter()
    for handed in found:
        counts[handed.file] += 1
        if (number := counts[handed.file]) > 1:  # the same name, its accents coded in another way
            handed.file += f" [{number}]"
    return found


def _named(path, folder):
    file = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
    return file.encode("utf-8", "replace").decode()


def _closed(path, folder, error):
    """A folder that can not be read: what it holds is not known, so that it is reported."""
    file = _named(path, folder)
    problem = f"a folder that can not be read: {error.strerror}"
    return Handed(path, file, _student(f"{file}/", []), None, problem=problem)


def _handed(path, folder, sources):
    file = _named(path, folder)
    handed = Handed(path, file, "", None)
    named = [s for s in sources if s.name.lower() in file.lower()]
    handed.student = _student(file, named)
    try:
        if path.is_symlink() or not path.is_file():
            handed.problem = "a link or special file, which is not followed"
            return handed
        if path.stat().st_size > matching.SIZE_LIMIT:
            handed.problem = f"larger than {matching.SIZE_LIMIT // 2**20} MiB"
            return handed
        cells = matching.read(handed.read())
    except matching.UnreadableError as error:
        handed.problem = str(error)
        handed.source = named[-1] if named else None
        return handed
    except OSError as error:
        handed.problem = f"can not be read: {error.strerror}"
        return handed
    handed.source = _belongs(cells, sources, named)
    if handed.source is None:
        handed.problem = "belongs to none of the assignments, by its cells and its name"
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
    sources : list of grading.source.Source
    limits : grading.sandbox.Limits
    sandboxed : bool
    jobs : int
        Submissions graded at once.
    show_hidden : bool
        Whether the feedback pages show the hidden tests.

    Returns
    -------
    rows : list of dict
        What ``grades.csv`` says.
    fresh : int
        How many submissions were run now.
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
            results[item.file] = {"problem": item.problem, "remarks": [], "tasks": {}}
            continue
        result = _kept(kept / f"{item.key(limits, sandboxed)}.json")
        if result is None:
            waiting.append(item)
        else:
            results[item.file] = result
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["grading.examine", "torch", "vgglib", "nbgrader"])
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = {
            pool.submit(_in_process, context, item, limits, sandboxed, hidden): item
            for item in waiting
        }
        bar = tqdm(
            as_completed(futures), total=len(futures), unit="submission", disable=not futures
        )
        for future in bar:
            item, (result, certain) = futures[future], future.result()
            bar.set_postfix_str(one_line(item.student)[:30])
            results[item.file] = result
            if certain:
                path = kept / f"{item.key(limits, sandboxed)}.json"
                tables.write_atomically(path, json.dumps(result))
    return tables.write(out, handed, results, manual, feedback.Pages(out, show_hidden)), len(
        waiting
    )


def _kept(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _in_process(context, item, limits, sandboxed, hidden):
    """Grade in a process of its own; returns ``(result, whether to keep it)``."""
    try:
        content = item.read()
    except OSError as error:
        problem = f"can not be read: {error.strerror}"
        return {"problem": problem, "remarks": [], "tasks": {}}, False
    ours, theirs = context.Pipe(duplex=False)
    arguments = (theirs, item.source.path, content, limits, sandboxed, hidden)
    process = context.Process(target=_examine, args=arguments, daemon=True)
    process.start()
    theirs.close()
    problem = "the grader's own process ended; see its output, then grade again"
    try:
        if ours.poll(limits.clock(limits.submission) + START):
            answer = json.loads(ours.recv_bytes())
            if "failure" not in answer:
                return answer, True
            problem = f"the grader failed: {answer['failure']}"
        else:
            problem = "the grader got no end; grade again"
    except (EOFError, OSError, ValueError):
        pass
    finally:
        _end(process)
        ours.close()
    return {"problem": problem, "remarks": [], "tasks": {}}, False


def _end(process):
    process.join(5)
    if process.is_alive():
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in family:
            try:
                child.kill()
            except psutil.Error:
                continue
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
