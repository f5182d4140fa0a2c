"""The claims ledger: read the marks in the chapters, write the tables made of them.

    python tools/claims.py

A claim of chapter 2 consists of three marks, in this order:

1. in a Markdown cell, the line      > **Claim 2.3** (§2.3): what is claimed
2. the code cell that checks it, tagged ``claim-2-3``
3. in a later Markdown cell, a line  **Verdict 2.3: holds (exact).** what we saw

The verdict is one of ``vgglib.evidence.VERDICTS``; in parentheses follow the kind of evidence, one
of ``EVIDENCE`` that can give it, and after a semicolon what limits it, which only "holds" can do
without.

Where recorded runs decide, the cell calls ``vgglib.compare`` by that name and with literal
arguments; the verdict is what all its comparisons together give (``decided``).

Where the cell settles an error that is met in many places, a line after it says so:

    **Widespread error 2.3** (where it is met): what is said. **Instead:** what is so.

What the paper says in words is quoted, in "…"; only its tables are put into ours.

They become the tables of book/claims.md, and the totals by verdict of book/index.md.
"""

import ast
import re
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import tables
from IPython.core.inputtransformer2 import TransformerManager

import vgglib
from vgglib.evidence import VERDICTS

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
sys.path.append(str(ROOT / "book" / "_ext"))
import record  # noqa: E402
from verdicts import BADGES  # noqa: E402

LEDGER = ROOT / "book" / "claims.md"
LANDING = ROOT / "book" / "index.md"
#: Shown by reasoning or counting; measured in the cell; in recorded runs of ours; by others.
EVIDENCE = ("exact", "live", "recorded", "cited")
#: What a kind of evidence cannot give: a figure of others is not of our scale, and a cell that has
#: been executed has been run. (Of recorded runs the rule decides.)
CANNOT = {
    "exact": ("not run",),
    "live": ("not run",),
    "recorded": (),
    "cited": ("holds at our scale", "contrary at our scale"),
}
#: How a source is written that is the paper itself.
PAPER = re.compile(r"§|Table \d|App\.")
#: How a quotation is written, and how a source that has words to quote.
QUOTED, WORDS = re.compile(r'"[^"]+"'), re.compile(r"§|App\.")
CLAIM = re.compile(r"^> \*\*Claim (\d+\.\d+)\*\* \((.+?)\): (.+)$", re.MULTILINE)
VERDICT = re.compile(
    rf"^\*\*Verdict (\d+\.\d+): ({'|'.join(sorted(VERDICTS, reverse=True))}) "
    rf"\(({'|'.join(EVIDENCE)})(?:; (.+))?\)\.\*\*",
    re.MULTILINE,
)
ERROR = re.compile(
    r"^\*\*Widespread error (\d+\.\d+)\*\* \((.+?)\): (.+?) \*\*Instead:\*\* (.+)$", re.MULTILINE
)
MARK = re.compile(r"\*\*(Claim|Verdict|Widespread error) \d")


@dataclass(frozen=True)
class Claim:
    """One claim of a chapter, with its verdict and the error that its cell settles, if any."""

    number: str
    words: str
    source: str
    verdict: str
    evidence: str  # its kind
    detail: str  # what limits it
    comparisons: tuple[vgglib.evidence.Comparison, ...]  # that decide it
    planned: tuple[int, ...]  # seeds of each that the queue of runs wants
    error: tuple[str, str, str] | None  # where it is met, what is said, what is so instead

    @property
    def of_the_paper(self):
        return bool(PAPER.match(self.source))

    @property
    def shown(self):
        """The evidence as the ledger prints it."""
        return "; ".join(
            [
                self.evidence,
                *map(_figures, self.comparisons, self.planned),
                *filter(None, [self.detail]),
            ]
        )


def decided(comparisons):
    """The verdict on a claim that is several comparisons: all have to hold, one can refuse it."""
    found = {comparison.verdict for comparison in comparisons}
    order = ("contrary at our scale", "not run", "undecided", "holds at our scale")
    return next(verdict for verdict in order if verdict in found)


@cache
def _wanted():
    """The seeds of each setting that the queue wants."""
    jobs = [(plan.name, job) for plan in record.plans() for job in plan.jobs]
    return Counter((name, job.label) for name, job in jobs)


def _planned(name, first, _, second):
    """How many seeds of a comparison the queue wants."""
    return min(_wanted()[name, first], _wanted()[name, second])


def _figures(found, planned):
    """A comparison in a few figures; of one that goes on, how far it is."""
    count = len(found.values)
    if not count:
        return "no run"
    seeds = f"{count} of {planned} seeds" if count < planned else f"{count} seeds"
    if count < 2:
        return seeds.replace("1 seeds", "one seed")
    low, high = found.interval
    text = f"{found.mean:+.1f} points ({low:+.1f} to {high:+.1f}, {seeds}"
    if found.slack:
        text += f"; claimed {found.claim} {found.slack if found.claim == '<' else -found.slack:+g}"
    if found.verdict == "undecided":
        text += f"; {found.seeds_to_decide() or 'over a thousand'} would decide"
    return text.replace("-", "−") + ")"


def compared(cell):
    """The arguments of each call of ``vgglib.compare`` in a cell: all literal.

    Raises
    ------
    ValueError
        If the cell compares in another way, so that its verdict would not be looked after.
    """
    mentioned = re.search(r"\bvgglib\b.*\bcompare\b", cell.source, re.DOTALL)
    if cell.cell_type != "code" or not mentioned:
        return []
    tree = ast.parse(TransformerManager().transform_cell(cell.source))  # without magics
    nodes = list(ast.walk(tree))
    calls = [n for n in nodes if isinstance(n, ast.Call) and _names_compare(n.func)]
    imported = [
        name.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vgglib")
        for name in node.names
    ]
    try:
        if "compare" in imported or len(calls) != sum(map(_names_compare, nodes)):
            raise ValueError("compare has another name there")
        return [
            (
                [ast.literal_eval(value) for value in call.args],
                {str(word.arg): ast.literal_eval(word.value) for word in call.keywords},
            )
            for call in calls
        ]
    except ValueError as error:
        raise ValueError(
            "a cell writes vgglib.compare(…) with its arguments as plain values, so that they can "
            f"be read without executing it ({error}):\n{cell.source}"
        ) from error


def _names_compare(node):
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "vgglib.compare"


def chapters():
    """The paths of all chapters, in order."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def chapter_claims(path):
    """The claims of one chapter, in order.

    Raises
    ------
    ValueError
        A mark that cannot be read or does not fit the others, a claim without its cell or verdict,
        or an error without one.
    """
    cells = nbformat.read(path, as_version=4).cells
    claims, verdicts, errors, checked = [], {}, {}, {}
    claimed, early = set(), []
    for cell in cells:
        if cell.cell_type == "code":
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("claim-"):
                    if tag[6:].replace("-", ".") not in claimed:
                        early.append(tag)
                    checked.setdefault(tag[6:].replace("-", "."), []).append(cell)
            continue
        found = [mark.findall(cell.source) for mark in (CLAIM, VERDICT, ERROR)]
        if sum(map(len, found)) != len(MARK.findall(cell.source)):
            raise ValueError(
                f"{path.name}: cannot read a claim, verdict or error in:\n{cell.source}"
            )
        for marks in found:
            for number, *texts in marks:
                if "|" in "".join(texts):
                    raise ValueError(f"{path.name}: claim {number} holds a '|', a table cannot")
        if re.search(rf"{CLAIM.pattern}\n>[ \t]*\S", cell.source, re.MULTILINE):
            raise ValueError(f"{path.name}: a claim is one line, got two in:\n{cell.source}")
        for number, source, words in found[0]:
            if WORDS.match(source) and not QUOTED.search(words):
                raise ValueError(
                    f'{path.name}: claim {number} ({source}) does not quote it, in "…"'
                )
        claims += found[0]
        claimed |= {number for number, *_ in found[0]}
        for number, *_ in found[1] + found[2]:
            if number not in checked:
                raise ValueError(f"{path.name}: verdict or error {number} stands before its cell")
        for number, verdict, evidence, detail in found[1]:
            if number in verdicts:
                raise ValueError(f"{path.name}: claim {number} has two verdicts")
            if verdict in CANNOT[evidence]:
                raise ValueError(
                    f"{path.name}: verdict {number}: {evidence!r} can't be {verdict!r}"
                )
            try:
                given = compared(checked[number][0])
            except ValueError as error:
                raise ValueError(f"{path.name}: verdict {number}: {error}") from error
            comparisons = tuple(vgglib.compare(*labels, **named) for labels, named in given)
            planned = tuple(_planned(*labels) for labels, _ in given)
            if verdict != "holds" and not (detail or comparisons):
                raise ValueError(f"{path.name}: verdict {number} does not say what limits it")
            if comparisons and verdict != decided(comparisons):
                raise ValueError(
                    f"{path.name}: verdict {number} is {verdict!r}, its comparisons give "
                    f"{decided(comparisons)!r}:\n" + "\n".join(map(str, comparisons))
                )
            if bool(comparisons) != (evidence == "recorded"):
                raise ValueError(
                    f"{path.name}: verdict {number} is {evidence!r}, but its cell has "
                    f"{len(comparisons)} calls of vgglib.compare; recorded evidence has them"
                )
            verdicts[number] = verdict, evidence, detail, comparisons, planned
        for number, *error in found[2]:
            if number in errors:
                raise ValueError(f"{path.name}: claim {number} settles two errors; one cell, one")
            errors[number] = tuple(error)

    numbers = [number for number, *_ in claims]
    chapter = int(path.name[:2])
    if numbers != [f"{chapter}.{i + 1}" for i in range(len(numbers))]:
        raise ValueError(
            f"{path.name}: claims are numbered {numbers}, not {chapter}.1, {chapter}.2 …"
        )
    tagged = [number for number, cells in checked.items() for _ in cells]
    if Counter(tagged) != Counter(numbers) or sorted(verdicts) != sorted(numbers):
        raise ValueError(
            f"{path.name}: each claim needs one tagged cell and one verdict, but there are claims "
            f"{numbers}, cells tagged for {tagged}, verdicts on {list(verdicts)}"
        )
    if early:
        raise ValueError(f"{path.name}: {', '.join(early)}: the cell stands before its claim")
    return [
        Claim(number, words, source, *verdicts[number], errors.get(number))
        for number, source, words in claims
    ]


@cache
def all_claims():
    """``(chapter's path, claim)`` of every chapter, in order."""
    return [(path, claim) for path in chapters() for claim in chapter_claims(path)]


def _table(head, rows):
    """A table of the book's folder; links to a chapter's neighbours are mended."""
    # A chapter names its neighbours without a folder; the pages lie in another one.
    return re.sub(r"\]\((\d\d_\w+\.ipynb)", r"](../notebooks/\1", tables.table(head, rows))


def _link(path, number):
    """A link from a page of the book to the cell that checks a claim."""
    return f"[{number}](../notebooks/{path.name}#claim-{number.replace('.', '-')})"


def _badge(verdict):
    """A verdict as a badge."""
    return f"{{bdg-{BADGES[verdict]}}}`{verdict}`"


def ledger():
    """The table of all claims."""
    rows = [
        (
            _link(p, c.number),
            c.words,
            c.source,
            _badge(c.verdict),
            c.shown,
        )
        for p, c in all_claims()
    ]
    table = _table(("claim", "what is claimed", "source", "verdict", "evidence"), rows)
    return f":::{{table}}\n:class: ledger\n\n{table}\n:::"


def errors():
    """The table of widespread errors."""
    rows = [(c.error[1], c.error[2], c.error[0], _link(p, c.number))
            for p, c in all_claims() if c.error]  # fmt: skip
    return _table(("what is said", "what is so instead", "where it is met", "settled by"), rows)


def totals():
    """The table of how many claims got which verdict, the paper's own apart from others'."""
    claims = [claim for _, claim in all_claims()]
    counts = [
        Counter(claim.verdict for claim in claims if claim.of_the_paper is own)
        for own in (True, False)
    ]
    rows = [(_badge(verdict), *(count[verdict] for count in counts)) for verdict in VERDICTS]
    rows.append(("**all**", *(count.total() for count in counts)))
    table = _table(("verdict", "claims of the paper", "of notes, courses and later work"), rows)
    return f":::{{table}}\n:class: verdicts\n\n{table}\n:::"


#: The tables of each page, by the name in the comments that enclose them.
PAGES = {LEDGER: {"claims": ledger, "errors": errors}, LANDING: {"totals": totals}}


if __name__ == "__main__":
    for path, found in PAGES.items():
        tables.write(path, found)
