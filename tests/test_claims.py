"""The claims ledger: marks are read whole or refused, and the book's tables are what they say."""

import json
import math
import re
from collections import Counter

import claims
import nbformat
import pytest
import record
import tables
from bs4 import BeautifulSoup
from refusing import refuses
from scipy import stats

import vgglib
from conftest import CHAPTERS, notebook_of, tags
from vgglib.recorded import FOLDERS

CLAIM = '> **Claim 2.1** (§2.3): "depth helps".'
CELL = ("assert True", ["claim-2-1"])
VERDICT = "**Verdict 2.1: holds at our scale (live; CIFAR-10).** It does."
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
    """Counted anew in the built pages, from the columns that a reader sees."""
    landing, ledger = (
        BeautifulSoup((book / "book" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        for name in ("index", "claims")
    )
    verdicts = {True: Counter(), False: Counter()}
    for row in ledger.select("table tr"):
        cells = [cell.get_text(strip=True) for cell in row.find_all("td")]
        if cells and re.fullmatch(r"\d+\.\d+", cells[0]):
            verdicts[bool(claims.PAPER.match(cells[2]))][cells[3]] += 1
    rows = [[cell.get_text(strip=True) for cell in row("td")] for row in landing.select("table tr")]
    for column, own in ((1, True), (2, False)):
        shown = {row[0]: int(row[column]) for row in rows if len(row) == 3}
        assert +Counter(shown) == verdicts[own] + Counter(all=verdicts[own].total())


# Marks ------------------------------------------------------------------------------------


def test_a_claim_is_read(tmp_path):
    (claim,) = claims.chapter_claims(written(tmp_path, CLAIM, CELL, VERDICT))
    assert (claim.number, claim.words, claim.source) == ("2.1", '"depth helps".', "§2.3")
    assert (claim.verdict, claim.shown) == ("holds at our scale", "live; CIFAR-10")
    assert claim.error is None and claim.of_the_paper


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
        ((CLAIM.replace('"', ""), CELL, VERDICT), "§2.3"),
        ((CLAIM, CELL, "**Verdict 2.1: refuted (exact).**"), 2.1),
        ((CLAIM, CELL, "**Verdict 2.1: holds.**"), "**Verdict 2.1: holds.**"),
        ((CLAIM, CELL, "**Verdict 2.1: holds (by eye).**"), "**Verdict 2.1: holds (by eye).**"),
        (
            (CLAIM, CELL, "**Verdict 2.1: confirmed (exact).**"),
            "**Verdict 2.1: confirmed (exact).**",
        ),
        ((CLAIM, CELL, "**Verdict 2.1: undecided (recorded; three seeds).**"), "0 calls"),
        ((CLAIM.replace(" (§2.3)", ""), CELL, VERDICT), CLAIM.replace(" (§2.3)", "")),
        ((CELL, CLAIM, VERDICT), "claim-2-1"),
        ((CELL, VERDICT, CLAIM), "claim-2-1"),
        ((CLAIM, CELL, VERDICT, VERDICT), 2.1),
        ((CLAIM, CELL, "**Verdict 2.1: holds (live; a | b).**"), "|"),
        ((CLAIM, CELL, "**Verdict 2.1: not run (live; no GPU).**"), "'not run'"),
        ((CLAIM, CELL, "**Verdict 2.1: contrary at our scale (cited; theirs).**"), "'cited'"),
        ((f"{CLAIM}\n> And more.", CELL, VERDICT), "> And more."),
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


# Verdicts of recorded runs ----------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A recorded run of two nets, three seeds: the deep one is ahead by 1, 2 and 3 points."""
    monkeypatch.setitem(vgglib.recorded.__globals__, "FOLDERS", (tmp_path,))

    def write(**accuracies):
        made = [
            {"label": label, "seed": seed, "test_accuracy": value / 100}
            for label, values in accuracies.items()
            for seed, value in enumerate(values)
        ]
        (tmp_path / "made.json").write_text(json.dumps({"name": "made", "runs": made}))

    write(deep=(81, 82, 83), shallow=(80, 80, 80), wide=(81, 82))
    return write


def test_the_interval_is_that_of_a_paired_t_test(runs):
    """Against scipy's own."""
    found = vgglib.compare("made", "deep", ">", "shallow")
    expected = stats.ttest_rel([81, 82, 83], [80, 80, 80]).confidence_interval(0.95)
    assert found.mean == pytest.approx(2) and found.interval == pytest.approx(tuple(expected))
    assert found.verdict == "undecided"  # 2 ± 2.5


@pytest.mark.parametrize(
    ("first", "claim", "second", "slack", "verdict"),
    [
        ("deep", ">", "shallow", 0.0, "undecided"),
        ("deep", ">", "shallow", 1.0, "holds at our scale"),
        ("deep", "<", "shallow", 5.0, "holds at our scale"),
        ("shallow", "<", "deep", 0.0, "undecided"),
        ("wide", ">", "deep", 0.0, "undecided"),
        ("never made", ">", "deep", 0.0, "not run"),
    ],
)
def test_a_verdict_follows_from_the_interval(runs, first, claim, second, slack, verdict):
    assert vgglib.compare("made", first, claim, second, slack=slack).verdict == verdict


def test_the_other_side_is_contrary_and_one_seed_decides_nothing(runs):
    runs(deep=(81, 82, 83), shallow=(80, 81, 82.1), lone=(90,))
    assert vgglib.compare("made", "deep", ">", "shallow").verdict == "holds at our scale"
    assert vgglib.compare("made", "deep", "<", "shallow").verdict == "contrary at our scale"
    assert vgglib.compare("made", "lone", ">", "deep").verdict == "undecided"


def test_how_many_seeds_would_decide(runs):
    """With as many, of the same mean and spread, the verdict is there, and with one less not."""
    found = vgglib.compare("made", "deep", ">", "shallow")
    enough = found.seeds_to_decide()
    decided = [
        stats.t.ppf(0.975, count - 1) * 1.0 / count**0.5 < 2 for count in (enough - 1, enough)
    ]
    assert decided == [False, True]
    runs(deep=(81, 79), shallow=(80, 80))
    assert vgglib.compare("made", "deep", ">", "shallow").seeds_to_decide() is None


def test_two_seeds_decide_nothing(runs):
    """Of 200 test images two differences are often equal, and would have no spread at all."""
    runs(deep=(50.5, 62.5), shallow=(50, 62))
    found = vgglib.compare("made", "deep", ">", "shallow")
    assert (found.verdict, found.seeds_to_decide()) == ("undecided", 3)


@pytest.mark.parametrize(
    ("measured", "labels", "got"),
    [
        ({"a": math.nan}, "ab", ("'a'", "seed 0", "nan")),
        ({"b": [0.1, 0.2]}, "ab", ("'b'", "[0.1, 0.2]")),
        ({}, "aa", "'a'"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, runs, measured, labels, got):
    made = [{"label": x, "seed": 0, "test_accuracy": measured.get(x, 0.5)} for x in "ab"]
    (tmp_path / "made.json").write_text(json.dumps({"name": "made", "runs": made}))
    with refuses(ValueError, got=got):
        vgglib.compare("made", labels[0], ">", labels[1])


def test_a_run_that_is_recorded_twice_is_refused(tmp_path, runs):
    made = [{"label": x, "seed": 0, "test_accuracy": 0.5} for x in "aab"]
    (tmp_path / "made.json").write_text(json.dumps({"name": "made", "runs": made}))
    with refuses(ValueError, got=("'a'", "seed 0")):
        vgglib.compare("made", "a", ">", "b")


def test_several_comparisons_hold_together_or_not(runs):
    runs(best=(83, 83.1, 83), middle=(82, 82.2, 82.1), worst=(80, 80.1, 80), noisy=(70, 95, 81))
    compare = vgglib.compare
    holds = compare("made", "best", ">", "middle"), compare("made", "middle", ">", "worst")
    contrary, undecided = (
        compare("made", "worst", ">", "best"),
        compare("made", "noisy", ">", "best"),
    )
    assert claims.decided(holds) == "holds at our scale"
    assert claims.decided([*holds, undecided]) == "undecided"
    missing = compare("made", "best", ">", "never made")
    assert claims.decided([*holds, missing]) == "not run"
    assert claims.decided([*holds, missing, contrary]) == "contrary at our scale"
    assert claims.decided([*holds, undecided, contrary]) == "contrary at our scale"


def test_a_verdict_that_its_record_does_not_give_is_refused(tmp_path, runs):
    cell = 'print(vgglib.compare("made", "deep", ">", "shallow"))', ["claim-2-1"]
    right = "**Verdict 2.1: undecided (recorded).**"
    (claim,) = claims.chapter_claims(written(tmp_path, CLAIM, cell, right))
    assert claim.shown == "recorded; +2.0 points (−0.5 to +4.5, 3 seeds; 4 would decide)"
    wrong = right.replace("undecided", "holds at our scale")
    with refuses(ValueError, got=("2.1", "'holds at our scale'"), accepts="'undecided'"):
        claims.chapter_claims(written(tmp_path, CLAIM, cell, wrong))


@pytest.mark.parametrize(
    "cell",
    [
        'from vgglib import compare\ncompare("made", "deep", ">", "shallow")',
        'better = vgglib.compare\nbetter("made", "deep", ">", "shallow")',
        'for net in nets:\n    vgglib.compare("made", net, ">", "shallow")',
    ],
)
def test_a_comparison_that_nobody_would_look_after_is_refused(tmp_path, runs, cell):
    with refuses(ValueError, got=2.1, accepts="vgglib.compare"):
        claims.chapter_claims(written(tmp_path, CLAIM, (cell, ["claim-2-1"]), VERDICT))


def test_a_comparison_is_read_in_a_cell_with_a_magic(tmp_path, runs):
    cell = '%matplotlib inline\nprint(vgglib.compare("made", "deep", ">", "wide", slack=2))'
    verdict = "**Verdict 2.1: undecided (recorded).**"
    runs(deep=(81, 82, 83), wide=(80, 83, 83))
    (claim,) = claims.chapter_claims(written(tmp_path, CLAIM, (cell, ["claim-2-1"]), verdict))
    assert "claimed > −2" in claim.shown


def test_what_is_compared_has_been_run_or_is_wanted():
    """A misspelt label would be "not run" for ever."""
    wanted = {(plan.name, job.label) for plan in record.plans() for job in plan.jobs}
    for path in FOLDERS[0].glob("*.json"):
        runs = vgglib.recorded(path.stem)["runs"]
        wanted |= {(path.stem, one["label"]) for one in runs}
    for path in claims.chapters():
        for cell in nbformat.read(path, as_version=4).cells:
            for (name, first, _, second), _ in claims.compared(cell):
                assert {(name, first), (name, second)} <= wanted
