"""The claims ledger: read the marks in the chapters, write the table of book/claims.md.

    python tools/claims.py

A claim of chapter 2 consists of three marks, in this order:

1. in a Markdown cell, the line      > **Claim 2.3** (§2.3): what is claimed, in our words
2. the code cell that checks it, tagged ``claim-2-3``
3. in a later Markdown cell, a line  **Verdict 2.3: reproduced.** what we saw

The verdict is one of ``VERDICTS``; all but plain "reproduced" say more in parentheses.
"""

import re
from collections import Counter
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "book" / "claims.md"
BEGIN, END = "<!-- claims: written by `make claims` -->", "<!-- end of claims -->"
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
MARK = re.compile(r"\*\*(Claim|Verdict) \d")


def chapter_claims(path):
    """Rows ``(number, claim, source, verdict)`` of one chapter, in order.

    Raises
    ------
    ValueError
        A mark that cannot be read, or a claim without its cell or verdict.
    """
    cells = nbformat.read(path, as_version=4).cells
    claims, verdicts, checked = [], {}, []
    for cell in cells:
        if cell.cell_type == "code":
            tags = cell.metadata.get("tags", [])
            checked += [tag[6:].replace("-", ".") for tag in tags if tag.startswith("claim-")]
            continue
        found = CLAIM.findall(cell.source), VERDICT.findall(cell.source)
        if len(found[0]) + len(found[1]) != len(MARK.findall(cell.source)):
            raise ValueError(f"{path.name}: cannot read a claim or verdict in:\n{cell.source}")
        for number, source, words in found[0]:
            if "|" in words:
                raise ValueError(f"{path.name}: claim {number} holds a '|', a table cannot")
            claims.append((number, words, source))
        for number, verdict, more in found[1]:
            if number not in checked:
                raise ValueError(f"{path.name}: verdict {number} stands before its cell")
            if (verdict == "reproduced") == bool(more):
                raise ValueError(
                    f"{path.name}: verdict {number} lacks its parenthesis or needs none"
                )
            verdicts[number] = f"{verdict} ({more})" if more else verdict

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
    return [(*claim, verdicts[claim[0]]) for claim in claims]


def table(chapters):
    """The ledger's Markdown table, a row a claim."""
    lines = ["| claim | in our words | source | verdict |", "|---|---|---|---|"]
    for path in chapters:
        for number, words, source, verdict in chapter_claims(path):
            link = f"../notebooks/{path.name}#claim-{number.replace('.', '-')}"
            row = f"| [{number}]({link}) | {words} | {source} | {verdict} |"
            # A chapter names its neighbours without a folder; the ledger lies in another one.
            lines.append(re.sub(r"\]\((\d\d_\w+\.ipynb)", r"](../notebooks/\1", row))
    return "\n".join(lines)


def with_table(page):
    """The ledger page with its table written anew."""
    try:
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
    except (ValueError, IndexError):
        raise ValueError(f"book/claims.md needs the lines {BEGIN} and {END}, once each") from None
    rows = table(sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")))
    return f"{before}{BEGIN}\n\n{rows}\n\n{END}{after}"


if __name__ == "__main__":
    LEDGER.write_text(with_table(LEDGER.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {LEDGER.relative_to(ROOT)}")
