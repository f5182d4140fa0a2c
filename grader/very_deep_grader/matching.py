"""Finds the cells of an assignment in what a student has handed in.

Cells are known by nbgrader's ``grade_id``. Editors and converters lose it, so what is left over is
known by its text, then by its place below a task's heading, then by the names that it defines:
all answers may stand in one cell, and an answer may stand elsewhere than the stub that it leaves.
"""

import itertools
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property

import nbformat

from .source import HEADING, Source, defined

SIZE_LIMIT = 200 * 2**20
PARTS_LIMIT = 2_000_000  # lists and objects in the JSON; each takes half a kilobyte of memory
VALUES_LIMIT = 20_000_000  # what commas part, in text or not; each takes up to 60 bytes


class UnreadableError(ValueError):
    """A file that is no notebook; the text says what it is."""


@dataclass
class Submitted:
    """A cell of a submission."""

    kind: str
    source: str
    grade_id: str | None

    @property
    def heading(self):
        """The match of a task's heading, if the cell has one."""
        return HEADING.search(self.source) if self.kind == "markdown" else None

    @cached_property
    def names(self):
        """What the cell defines."""
        return set(defined(self.source)) if self.kind == "code" else set()


def read(content: bytes) -> list[Submitted]:
    """The cells of a notebook file of any nbformat version; outputs are dropped unread.

    Raises
    ------
    UnreadableError
    """
    if len(content) > SIZE_LIMIT:
        raise UnreadableError(f"larger than {SIZE_LIMIT // 2**20} MiB")
    if content.count(b"[") + content.count(b"{") > PARTS_LIMIT:
        raise UnreadableError(f"a notebook of more than {PARTS_LIMIT:,} parts")
    if content.count(b",") > VALUES_LIMIT:
        raise UnreadableError(f"a notebook of more than {VALUES_LIMIT:,} values")
    try:
        tree = json.loads(content)  # in UTF-8, 16 or 32
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not a notebook but {_looks_like(content)}") from error
    if not isinstance(tree, dict) or not ({"cells", "worksheets"} & tree.keys()):
        raise UnreadableError("not a notebook but other JSON")
    try:
        for sheet in [tree, *(tree.get("worksheets") or [])]:
            for cell in sheet.get("cells", []):
                if "outputs" in cell:
                    cell["outputs"] = []
        tree.setdefault("nbformat", 4)
        return [_cell(cell) for cell in nbformat.convert(nbformat.from_dict(tree), 4).cells]
    # nbformat's converters raise whatever their lookups raise.
    except Exception as error:
        raise UnreadableError("a damaged notebook: its cells can not be read") from error


def _cell(cell):
    source, kind = cell.get("source", ""), cell["cell_type"]
    source = "".join(source) if isinstance(source, list) else source
    if not isinstance(source, str) or not isinstance(kind, str):
        raise TypeError("a cell without text")
    grade_id = cell
    for key in ("metadata", "nbgrader", "grade_id"):
        grade_id = grade_id.get(key) if isinstance(grade_id, dict) else None
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
    """Which submitted cell stands for which cell of the source, by their numbers."""

    cells: dict[int, int]  # the submission's by the source's
    # The student's own cells, by the source's that they follow (-1: at the top).
    extra: dict[int, list[int]] = field(default_factory=dict)
    # For an answer that was found by its names, by its task's cell in the source: cells that have
    # to run before it, most often helpers above it.
    ahead: dict[int, list[int]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)  # what a person should know


def match(source: Source, cells: list[Submitted]) -> Match:
    """Find the cells of a source in a submission.

    A task whose cell is not found has no entry, and a remark.
    """
    found, remarks = {}, []
    _by_id(source, cells, found, remarks)
    with_id = len(found)
    _by_text(source, cells, found)
    for task in source.tasks:
        if task.cell not in found and (number := _by_place(source, task, cells, found)) is not None:
            found[task.cell] = number
    result = Match(found, remarks=remarks)
    for task in source.tasks:
        if not _answered(source, task, cells, found):
            numbers = _by_names(source, task, cells, found)
            if numbers:
                found[task.cell] = numbers[-1]
                result.ahead[task.cell] = numbers[:-1]
            elif task.cell not in found:
                remarks.append(f"could not match task {task.name}: its answer cell is missing")
    if not with_id and found:
        remarks.append("metadata was lost; cells were found by their text and place")
    stubs = {own.released.strip() for own in source.cells if own.role == "solution"}
    own = {number: index for index, number in sorted(found.items(), reverse=True)}
    anchor, above = -1, []
    for number, cell in enumerate(cells):
        if number in own:
            for index in [index for index in result.ahead if found[index] == number]:
                result.ahead[index] = sorted({*above, *result.ahead[index]})
            anchor, above = own[number], []
        elif cell.source.strip() in stubs:
            continue  # its answer stands elsewhere, or it is a copy
        elif cell.source.strip() and not cell.heading:
            result.extra.setdefault(anchor, []).append(number)
            above.append(number)
    return result


def unchanged(source, cells):
    """How many of a source's cells a submission holds as they were handed out."""
    found = {}
    _by_text(source, cells, found)
    return len(found)


def _by_id(source, cells, found, remarks):
    numbers = defaultdict(list)
    for number, cell in enumerate(cells):
        numbers[cell.grade_id].append(number)
    for index, own in enumerate(source.cells):
        same = [n for n in numbers[own.grade_id] if own.grade_id and _fits(own, cells[n])]
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
    places = defaultdict(list)
    for number, cell in enumerate(cells):
        if number not in taken:
            places[cell.kind, squeezed(cell.source)].append(number)
    for index, own in enumerate(source.cells):
        same = places[own.kind, squeezed(own.released)]
        # A stub is the same in several tasks, its text tells nothing.
        if same and index not in found and own.role not in ("solution", "manual"):
            found[index] = same.pop(0)


def squeezed(text):
    """Text in which all space is alike."""
    return re.sub(r"\s+", " ", text).strip()


def _by_place(source, task, cells, found):
    """The one cell between a task's heading and what follows it in the source."""
    texts = [i for i, cell in enumerate(source.cells[: task.cell]) if cell.kind == "markdown"]
    words = HEADING.search("## " + task.title)
    named = [n for n, c in enumerate(cells) if words and c.heading and c.heading[1] == words[1]]
    headings = [found[i] for i in reversed(texts) if i in found] or named
    if not headings:
        return None
    taken = set(found.values())
    rest = range(headings[0] + 1, len(cells))
    following = itertools.takewhile(lambda n: n not in taken and not cells[n].heading, rest)
    return _choose(source.cells[task.cell], cells, list(following))


def _answered(source, task, cells, found):
    """Whether a task's cell is there, and is not the stub that was handed out."""
    own = source.cells[task.cell]
    if task.cell not in found:
        return False
    return own.role == "manual" or cells[found[task.cell]].source.strip() != own.released.strip()


def _by_names(source, task, cells, found):
    """Cells anywhere that define what the task asks for, those of other tasks among them."""
    own = source.cells[task.cell]
    if own.role != "solution":
        return []
    asked = set(defined(own.released)) or set(own.names)
    taken = set(found.values())
    every = [n for n, c in enumerate(cells) if asked & c.names and n != found.get(task.cell)]
    free = [n for n in every if n not in taken]
    for numbers in (free, every):
        if asked <= set().union(*(cells[n].names for n in numbers)):
            return numbers
    # A part of the answer. A value's name alone says little where the task's own cell is there.
    functions = set(re.findall(r"^def +(\w+)", own.released, re.MULTILINE))
    return [n for n in free if functions & cells[n].names] if task.cell in found else free


def _choose(own, cells, numbers):
    fitting = [n for n in numbers if _fits(own, cells[n]) and cells[n].source.strip()]
    if own.role == "solution":
        naming = [n for n in fitting if cells[n].names & set(own.names)]
        fitting = naming or (fitting if len(fitting) == 1 else [])
    elif len(fitting) > 1:
        return max(fitting, key=lambda n: len(cells[n].source))
    return fitting[-1] if fitting else None
