"""The slides: whole, free of answers, each fits its screen; seen in a browser, offline."""

import re
import subprocess
from base64 import b64decode

import claims
import pytest
from browsing import open_visit, serve
from bs4 import BeautifulSoup
from slides.outline import first_sentence, outline

from conftest import CHAPTERS, ROOT, tags

# Walks through a deck with every fragment shown; gives what sticks out of its slide.
WALK = """() => {
  const out = [];
  for (;;) {
    const slide = Reveal.getCurrentSlide(), { h, v } = Reveal.getIndices();
    Reveal.slide(h, v, 99);
    if (slide.scrollHeight > 700 || slide.scrollWidth > 1120)
      out.push(`${h}.${v} ${slide.className} ${slide.scrollWidth}x${slide.scrollHeight}`);
    for (const image of slide.querySelectorAll("img"))
      if (!image.naturalWidth || image.clientHeight < 200) out.push(`${h}.${v} image`);
    if (Reveal.isLastSlide()) return out;
    Reveal.availableRoutes().down ? Reveal.down() : Reveal.slide(h + 1, 0);
  }
}"""


@pytest.fixture(scope="module")
def decks():
    """The folder that `make slides` writes."""
    done = subprocess.run(["make", "slides"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ROOT / "_build" / "slides"


@pytest.fixture(scope="module")
def served_slides(decks):
    with serve(decks) as url:
        yield url


def test_a_deck_has_the_chapters_claims_figures_and_ends(decks, chapter):
    soup = BeautifulSoup((decks / f"{chapter.path.stem}.html").read_text("utf-8"), "html.parser")
    numbers = [claim.number for claim in claims.chapter_claims(chapter.path)]
    # A verdict may wait for a later section's run.
    given = re.findall(
        r"\*\*Verdict ([\d.]+):", "\n".join(c.source for c in chapter.of("markdown"))
    )
    assert sorted(given) == sorted(numbers)
    for kind, wanted in (("claim", numbers), ("verdict", given)):
        titles = [s.h3.get_text().split(" (")[0] for s in soup.select(f"section.{kind}")]
        assert [t.split()[1].rstrip(":") for t in titles] == wanted
    shown = [b64decode(i["src"].partition(",")[2]) for i in soup.select("section.figure img")]
    cells = chapter.of("code")
    first_answer = next(n for n, c in enumerate(cells) if "solution" in tags(c))
    stored = [
        b64decode(output.data["image/png"])
        for cell in cells[:first_answer]
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert shown == stored and all(i["alt"] for i in soup.find_all("img"))
    exercises = soup.select_one("section.exercises")
    assert len(exercises.find_all("p")) >= 4 and soup.select_one("section.summary").find("li")


def test_a_deck_holds_no_answer(decks, chapter):
    text = BeautifulSoup((decks / f"{chapter.path.stem}.html").read_text("utf-8"), "html.parser")
    for cell in chapter.cells:
        if "solution" in tags(cell):
            longest = max(cell.source.splitlines(), key=len)
            assert longest not in text.get_text()


def test_every_slide_fits_and_nothing_comes_from_elsewhere(browser, served_slides, chapter):
    visit = open_visit(browser, served_slides, f"{chapter.path.stem}.html", 1280, 800)
    visit.page.wait_for_function("globalThis.Reveal?.isReady?.()")
    assert visit.page.evaluate(WALK) == []
    assert visit.errors == [] and visit.foreign == []
    visit.page.context.close()


def test_prose_becomes_notes(decks):
    """Each paragraph that is no slide is at hand on the slide before it."""
    slides = [slide for section in outline(CHAPTERS[1].path) for slide in section]
    notes = "\n".join(note for slide in slides for note in slide.notes)
    assert "A value behind one 3×3 convolution depends on 3×3 pixels." in notes
    assert all(
        "**Claim" not in note and "**Predict" not in note for s in slides for note in s.notes
    )


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("One. Two.", "One."),
        ("In §3.1 there is one. And two.", "In §3.1 there is one."),
        ("Is it? Yes.", "Is it?"),
        ("No end", "No end"),
        ("A (b.) c. D", "A (b.) c."),
        ("Over\ntwo lines. Then", "Over two lines."),
    ],
)
def test_first_sentence(paragraph, expected):
    assert first_sentence(paragraph) == expected
