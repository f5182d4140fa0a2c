"""Finds the cells of an assignment in what a student has handed in.

Cells are known by nbgrader's ``grade_id``. Editors and converters lose it, so what is left over is
known by its text, then by its place below a task's heading, then by the name that it defines.
"""

import json
import re
from dataclasses import dataclass, field

import nbformat

from .source import HEADING, defined

SIZE_LIMIT = 200 * 2**20
PARTS_LIMIT = 2_000_000  # lists and objects in the JSON; each takes half a kilobyte of memory


class UnreadableError(ValueError):
    """A file that is no notebook; the text says what it is."""


@dataclass
class Submitted:
    """A cell of a submission."""

    kind: str
    source: str
    grade_id: str | None


def read(content):
    """The cells of a notebook file of any nbformat version; outputs are dropped unread.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    list of Submitted

    Raises
    ------
    UnreadableError
    """
    if len(content) > SIZE_LIMIT:
        raise UnreadableError(f"larger than {SIZE_LIMIT // 2**20} MiB")
    if content.count(b"[") + content.count(b"{") > PARTS_LIMIT:
        raise UnreadableError(f"a notebook of more than {PARTS_LIMIT:,} parts")
    try:
        tree = json.loads(content)  # in UTF-8, 16 or 32
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not a notebook but {_looks_like(content)}") from error
    if not isinstance(tree, dict) or not ({"cells", "worksheets"} & tree.keys()):
        raise UnreadableError("not a notebook but other JSON")
    try:
        sheets = tree.get("worksheets") or []
        for sheet in [tree, *sheets]:
            for cell in sheet.get("cells", []):
                if "outputs" in cell:
                    cell["outputs"] = []
        version = tree.get("nbformat", 4)
        notebook = nbformat.from_dict(tree)
        if version != 4:
            notebook = nbformat.convert(notebook, 4)
        return [_cell(cell) for cell in notebook.cells]
    # nbformat's converters raise whatever their lookups raise.
    except Exception as error:
        raise UnreadableError("a damaged notebook: its cells can not be read") from error


def _cell(cell):
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(source)
    kind = cell["cell_type"]
    if not isinstance(source, str) or not isinstance(kind, str):
        raise TypeError("a cell without text")
    meta = cell.get("metadata")
    meta = meta.get("nbgrader") if isinstance(meta, dict) else None
    grade_id = meta.get("grade_id") if isinstance(meta, dict) else None
    return Submitted(kind, source, grade_id if isinstance(grade_id, str) else None)


def _looks_like(content):
    start = content[:512].lstrip().lower()
    if not content.strip():
        return "an empty file"
    if all(re.search(mark, content, re.MULTILINE) for mark in (b"^<{7} ", b"^={7}\r?$", b"^>{7} ")):
        return "one with git's conflict marks (<<<<<<<): settle the conflict and hand it in again"
    for mark, name in (
        (b"%pdf", "a PDF"),
        (b"pk\x03\x04", "a ZIP archive"),
        (b"<!doctype html", "a web page"),
        (b"<html", "a web page"),
        (b"\x1f\x8b", "a compressed file"),
    ):
        if start.startswith(mark):
            return name
    if not start.startswith(b"{"):
        return "something else"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "one in an old encoding: save it as UTF-8 and hand it in again"
    return "damaged JSON"


@dataclass
class Match:
    """Which submitted cell stands for which cell of the source.

    Parameters
    ----------
    cells : dict
        Number in the submission by number in the source.
    extra : dict
        Numbers of the student's own cells, by the number of the source's cell that they follow
        (-1: at the top).
    remarks : list of str
        What a person should know.
    """

    cells: dict
    extra: dict = field(default_factory=dict)
    remarks: list = field(default_factory=list)


def match(source, cells):
    """Find the cells of a source in a submission.

    Parameters
    ----------
    source : grading.source.Source
    cells : list of Submitted

    Returns
    -------
    Match
        A task whose cell is not found has no entry, and a remark.
    """
    found, remarks = {}, []
    _by_id(source, cells, found, remarks)
    with_id = len(found)
    _by_text(source, cells, found)
    for task in source.tasks:
        if task.cell not in found:
            number = _by_place(source, task, cells, found)
            if number is None:
                number = _by_name(source, task, cells, found)
            if number is not None:
                found[task.cell] = number
            else:
                remarks.append(f"could not match task {task.name}: its answer cell is missing")
    if not with_id and found:
        remarks.append("metadata was lost; cells were found by their text and place")
    result = Match(found, remarks=remarks)
    own, anchor = {number: index for index, number in found.items()}, -1
    for number, cell in enumerate(cells):
        if number in own:
            anchor = own[number]
        elif cell.source.strip() and not (cell.kind == "markdown" and HEADING.search(cell.source)):
            result.extra.setdefault(anchor, []).append(number)
    return result


def unchanged(source, cells):
    """How many of a source's cells a submission holds as they were handed out."""
    found = {}
    _by_text(source, cells, found)
    return len(found)


def _by_id(source, cells, found, remarks):
    numbers = {}
    for number, cell in enumerate(cells):
        if cell.grade_id:
            numbers.setdefault(cell.grade_id, []).append(number)
    for index, own in enumerate(source.cells):
        same = [n for n in numbers.get(own.grade_id, []) if _fits(own, cells[n])]
        if not same:
            continue
        # A cell copied with its metadata: the last one that was worked on counts, as when all run.
        edited = [n for n in same if cells[n].source.strip() != own.released.strip()]
        found[index] = (edited or same)[-1]
        if len(same) > 1 and own.role in ("solution", "manual"):
            remarks.append(f"{own.grade_id} occurs {len(same)} times; the last edited one counts")


def _fits(own, cell):
    return own.kind == cell.kind or own.role == "manual"


def _by_text(source, cells, found):
    """Unchanged cells, each the next one of its text."""
    taken = set(found.values())
    places = {}
    for number, cell in enumerate(cells):
        if number not in taken:
            places.setdefault((cell.kind, _squeezed(cell.source)), []).append(number)
    for index, own in enumerate(source.cells):
        # A stub is the same in several tasks, its text tells nothing.
        if index in found or own.role in ("solution", "manual"):
            continue
        same = places.get((own.kind, _squeezed(own.released)))
        if same:
            found[index] = same.pop(0)


def _squeezed(text):
    return re.sub(r"\s+", " ", text).strip()


def _by_place(source, task, cells, found):
    """The one cell between a task's heading and what follows it in the source."""
    heading = next(
        (
            found[index]
            for index in range(task.cell - 1, -1, -1)
            if index in found and source.cells[index].kind == "markdown"
        ),
        None,
    )
    if heading is None:
        words = HEADING.search("## " + task.title)
        heading = words and next(
            (
                number
                for number, cell in enumerate(cells)
                if cell.kind == "markdown"
                and (other := HEADING.search(cell.source))
                and other.group(1) == words.group(1)
            ),
            None,
        )
    if heading is None:
        return None
    taken = set(found.values())
    following = []
    for number in range(heading + 1, len(cells)):
        if number in taken or (
            cells[number].kind == "markdown" and HEADING.search(cells[number].source)
        ):
            break
        following.append(number)
    return _choose(source.cells[task.cell], cells, following)


def _by_name(source, task, cells, found):
    """A cell anywhere that defines what the task asks for."""
    own, taken = source.cells[task.cell], set(found.values())
    names = set(own.names) if own.role == "solution" else set()
    fitting = [
        number
        for number, cell in enumerate(cells)
        if number not in taken and cell.kind == "code" and names & set(defined(cell.source))
    ]
    return fitting[-1] if fitting else None


def _choose(own, cells, numbers):
    fitting = [n for n in numbers if _fits(own, cells[n]) and cells[n].source.strip()]
    if own.role == "solution":
        naming = [n for n in fitting if set(own.names) & set(defined(cells[n].source))]
        fitting = naming or (fitting if len(fitting) == 1 else [])
    elif len(fitting) > 1:
        return max(fitting, key=lambda n: len(cells[n].source))
    return fitting[-1] if fitting else None
