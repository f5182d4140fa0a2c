"""The claims ledger: marks are read whole or refused, and the book's tables are what they say."""

import re
from collections import Counter

import claims
import nbformat
import pytest
import tables
from bs4 import BeautifulSoup
from refusing import refuses

from conftest import CHAPTERS, notebook_of, tags

CLAIM = "> **Claim 2.1** (§2.3): depth helps."
CELL = ("assert True", ["claim-2-1"])
VERDICT = "**Verdict 2.1: reproduced at reduced scale (CIFAR-10).** It does."
ERROR = "**Widespread error 2.1** (posts): it does not. **Instead:** it does."

LEDGER = claims.LEDGER.read_text(encoding="utf-8")


def written(tmp_path, *cells):
    """The path of a chapter 2 of these cells."""
    path = tmp_path / "02_design.ipynb"
    nbformat.write(notebook_of(*cells), path)
    return path


def section(name):
    """The text of one generated table of the ledger page."""
    return LEDGER.split(f"<!-- {name}: ")[1].split(f"<!-- end of {name} -->")[0]


# The book's tables ------------------------------------------------------------------------


@pytest.mark.parametrize("path", claims.PAGES, ids=lambda path: path.stem)
def test_tables_are_what_the_chapters_say(path):
    page = path.read_text(encoding="utf-8")
    assert tables.filled(path, page, claims.PAGES[path]) == page, "run `make claims`"


def test_the_ledger_links_each_tagged_cell_once_in_order():
    tagged = [t for c in CHAPTERS for cell in c.of("code") for t in tags(cell) if t[:6] == "claim-"]
    linked = re.findall(r"\(\.\./notebooks/\w+\.ipynb#(claim-[\d-]+)\)", section("claims"))
    assert linked == sorted(tagged, key=lambda tag: [int(part) for part in tag[6:].split("-")])


def test_every_chapter_checks_claims(chapter):
    assert claims.chapter_claims(chapter.path)


def test_each_error_of_a_chapter_stands_in_the_table_with_its_cell():
    marked = [n for c in CHAPTERS for n in re.findall(r"Widespread error (\d+\.\d+)\*\*", c.prose)]
    assert re.findall(r"\[(\d+\.\d+)\]\(", section("errors")) == marked
    settled = " ".join(claim.error[1] for _, claim in claims.all_claims() if claim.error)
    for figure in (
        "24M",
        "4096×1×1",
        "three times AlexNet",
        "vgg11-bbd30ac9",
        "alpha=1e-4",
        "detach",
    ):
        assert figure in settled


def test_the_landing_page_of_the_book_shows_the_totals_of_the_ledger_page(book):
    """Counted anew in the built pages, from the verdict column a reader sees."""
    landing, ledger = (
        BeautifulSoup((book / "book" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        for name in ("index", "claims")
    )
    verdicts = Counter()
    for row in ledger.select("table tr"):
        cells = [cell.get_text(strip=True) for cell in row.find_all("td")]
        if cells and re.fullmatch(r"\d+\.\d+", cells[0]):
            verdicts[cells[3].split(" (")[0]] += 1
    rows = [[cell.get_text(strip=True) for cell in row("td")] for row in landing.select("table tr")]
    shown = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    assert shown == {**verdicts, "all": verdicts.total()}


# Marks ------------------------------------------------------------------------------------


def test_a_claim_is_read(tmp_path):
    (claim,) = claims.chapter_claims(written(tmp_path, CLAIM, CELL, VERDICT))
    assert (claim.number, claim.words, claim.source) == ("2.1", "depth helps.", "§2.3")
    assert claim.judged == "reproduced at reduced scale (CIFAR-10)" and claim.error is None


def test_an_error_is_read(tmp_path):
    (claim,) = claims.chapter_claims(written(tmp_path, CLAIM, CELL, f"{VERDICT}\n\n{ERROR}"))
    assert claim.error == ("posts", "it does not.", "it does.")


@pytest.mark.parametrize(
    ("cells", "got"),
    [
        ((CLAIM, CELL), "[]"),
        ((CLAIM, VERDICT, CELL), 2.1),
        ((CLAIM, VERDICT), 2.1),
        ((CELL, VERDICT), "[]"),
        ((CLAIM, CELL, CELL, VERDICT), "['2.1', '2.1']"),
        (
            (CLAIM.replace("2.1", "2.2"), (CELL[0], ["claim-2-2"]), VERDICT.replace("2.1", "2.2")),
            2.2,
        ),
        (
            (CLAIM.replace("2.1", "3.1"), (CELL[0], ["claim-3-1"]), VERDICT.replace("2.1", "3.1")),
            3.1,
        ),
        ((CLAIM.replace("depth", "a|b"), CELL, VERDICT), "|"),
        ((CLAIM, CELL, "**Verdict 2.1: reproduced (why).**"), 2.1),
        ((CLAIM, CELL, "**Verdict 2.1: not reproduced.**"), 2.1),
        ((CLAIM, CELL, "**Verdict 2.1: confirmed.**"), "**Verdict 2.1: confirmed.**"),
        ((CLAIM.replace(" (§2.3)", ""), CELL, VERDICT), CLAIM.replace(" (§2.3)", "")),
        ((CLAIM, ERROR, CELL, VERDICT), 2.1),
        ((CLAIM, CELL, VERDICT, ERROR, ERROR), 2.1),
        ((CLAIM, CELL, VERDICT, ERROR.replace(" (posts)", "")), ERROR.replace(" (posts)", "")),
        (
            (CLAIM, CELL, VERDICT, ERROR.replace(" **Instead:** it does.", "")),
            ERROR.replace(" **Instead:** it does.", ""),
        ),
        ((CLAIM, CELL, VERDICT, ERROR.replace("it does not", "a|b")), "|"),
    ],
)
def test_a_claim_or_error_that_is_not_whole_is_refused(tmp_path, cells, got):
    with refuses(ValueError, got=("02_design.ipynb", got)):
        claims.chapter_claims(written(tmp_path, *cells))


def test_a_page_without_the_place_for_its_table_is_refused():
    with refuses(ValueError, got="index.md", accepts=("<!-- totals:", "<!-- end of totals -->")):
        tables.filled(claims.LANDING, "# A page without it", claims.PAGES[claims.LANDING])
