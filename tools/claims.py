"""The claims ledger: read the marks in the chapters, write the tables made of them.

    python tools/claims.py

A claim of chapter 2 consists of three marks, in this order:

1. in a Markdown cell, the line      > **Claim 2.3** (§2.3): what is claimed, in our words
2. the code cell that checks it, tagged ``claim-2-3``
3. in a later Markdown cell, a line  **Verdict 2.3: reproduced.** what we saw

The verdict is one of ``VERDICTS``; all but plain "reproduced" say more in parentheses. Where the
cell settles an error that is met in many places, a line after it says so:

    **Widespread error 2.3** (where it is met): what is said. **Instead:** what is so.

They become the tables of book/claims.md, and the totals by verdict of book/index.md.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import tables

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "book" / "claims.md"
LANDING = ROOT / "book" / "index.md"
VERDICTS = (
    "reproduced at reduced scale",
    "reproduced",
    "recorded run",
    "not reproduced",
)
CLAIM = re.compile(r"^> \*\*Claim (\d+\.\d+)\*\* \((.+?)\): (.+)$", re.MULTILINE)
VERDICT = re.compile(
    rf"^\*\*Verdict (\d+\.\d+): ({'|'.join(VERDICTS)})(?: \((.+)\))?\.\*\*", re.MULTILINE
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
    detail: str  # what the verdict says in parentheses
    error: tuple[str, str, str] | None  # where it is met, what is said, what is so instead

    @property
    def judged(self):
        """The verdict as the ledger prints it."""
        return f"{self.verdict} ({self.detail})" if self.detail else self.verdict


def chapter_claims(path):
    """The claims of one chapter, in order.

    Raises
    ------
    ValueError
        A mark that cannot be read, a claim without its cell or verdict, or an error without one.
    """
    cells = nbformat.read(path, as_version=4).cells
    claims, verdicts, errors, checked = [], {}, {}, []
    for cell in cells:
        if cell.cell_type == "code":
            tags = cell.metadata.get("tags", [])
            checked += [tag[6:].replace("-", ".") for tag in tags if tag.startswith("claim-")]
            continue
        found = [mark.findall(cell.source) for mark in (CLAIM, VERDICT, ERROR)]
        if sum(map(len, found)) != len(MARK.findall(cell.source)):
            raise ValueError(
                f"{path.name}: cannot read a claim, verdict or error in:\n{cell.source}"
            )
        for marks in (found[0], found[2]):
            for number, *texts in marks:
                if "|" in "".join(texts):
                    raise ValueError(f"{path.name}: claim {number} holds a '|', a table cannot")
        claims += found[0]
        for number, *_ in found[1] + found[2]:
            if number not in checked:
                raise ValueError(f"{path.name}: verdict or error {number} stands before its cell")
        for number, verdict, more in found[1]:
            if (verdict == "reproduced") == bool(more):
                raise ValueError(
                    f"{path.name}: verdict {number} lacks its parenthesis or needs none"
                )
            verdicts[number] = verdict, more
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
    if Counter(checked) != Counter(numbers) or sorted(verdicts) != sorted(numbers):
        raise ValueError(
            f"{path.name}: each claim needs one tagged cell and one verdict, but there are claims "
            f"{numbers}, cells tagged for {checked}, verdicts on {list(verdicts)}"
        )
    return [
        Claim(number, words, source, *verdicts[number], errors.get(number))
        for number, source, words in claims
    ]


@cache
def all_claims():
    """``(chapter's path, claim)`` of every chapter, in order."""
    chapters = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    return [(path, claim) for path in chapters for claim in chapter_claims(path)]


def _table(head, rows):
    """A table of the book's folder; links to a chapter's neighbours are mended."""
    # A chapter names its neighbours without a folder; the pages lie in another one.
    return re.sub(r"\]\((\d\d_\w+\.ipynb)", r"](../notebooks/\1", tables.table(head, rows))


def _link(path, number):
    """A link from a page of the book to the cell that checks a claim."""
    return f"[{number}](../notebooks/{path.name}#claim-{number.replace('.', '-')})"


def ledger():
    """The table of all claims."""
    return _table(
        ("claim", "in our words", "source", "verdict"),
        [(_link(p, c.number), c.words, c.source, c.judged) for p, c in all_claims()],
    )


def errors():
    """The table of widespread errors."""
    rows = [(c.error[1], c.error[2], c.error[0], _link(p, c.number))
            for p, c in all_claims() if c.error]  # fmt: skip
    return _table(("what is said", "what is so instead", "where it is met", "settled by"), rows)


def totals():
    """The table of how many claims got which verdict."""
    counts = Counter(claim.verdict for _, claim in all_claims())
    order = ("reproduced", "reproduced at reduced scale", "recorded run", "not reproduced")
    rows = [*((verdict, counts[verdict]) for verdict in order), ("**all**", counts.total())]
    return _table(("verdict", "claims"), rows)


#: The tables of each page, by the name in the comments that enclose them.
PAGES = {LEDGER: {"claims": ledger, "errors": errors}, LANDING: {"totals": totals}}


if __name__ == "__main__":
    for path, found in PAGES.items():
        tables.write(path, found)
