"""`make pdf`: the whole book in one file, with an outline and with links that lead somewhere."""

import re
import subprocess
import unicodedata

import pytest
from pypdf import PdfReader

from conftest import CHAPTERS, ROOT, make_alone

pytestmark = pytest.mark.long  # the book is built once more, as one page, and printed twice


@pytest.fixture(scope="module")
def pdf(book):
    """The book's PDF, made anew unless nothing has changed."""
    with make_alone():
        done = subprocess.run(["make", "pdf"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"make pdf failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return PdfReader(ROOT / "_build" / "very-deep.pdf")


def titles(outline):
    """Every entry of an outline, nested ones after the one they belong to."""
    for entry in outline:
        yield from titles(entry) if isinstance(entry, list) else [entry.title]


def links(pdf):
    """What the links of all pages lead to: a URL, or the name of a place in the file."""
    for page in pdf.pages:
        for annotation in page.get("/Annots", []):
            annotation = annotation.get_object()
            if annotation["/Subtype"] == "/Link":
                action = annotation.get("/A", {})
                yield action.get("/URI"), annotation.get("/Dest", action.get("/D"))


def test_the_outline_has_every_chapter(pdf):
    # Chromium doubles a heading that breaks over a page, and joins the lines of a long one.
    listed = "".join(map(squeezed, titles(pdf.outline)))
    for chapter in CHAPTERS:
        title = chapter.of("markdown")[0].source.splitlines()[0].removeprefix("# ")
        assert squeezed(title) in listed


def squeezed(text):
    """A text without its spaces and ligatures, its apostrophes as in the source."""
    return "".join(unicodedata.normalize("NFKC", text).replace("’", "'").split())


def test_the_table_of_contents_gives_the_pages(pdf):
    """Each line's number is the page on which its heading stands."""
    texts = [squeezed(page.extract_text()) for page in pdf.pages]
    first = next(n for n, text in enumerate(texts) if text.startswith("Contents"))
    contents = "".join(texts[first : first + 4])
    for chapter in CHAPTERS:
        title = squeezed(chapter.of("markdown")[0].source.splitlines()[0].removeprefix("# "))
        number = re.search(re.escape(title) + r"(\d+)", contents).group(1)
        assert texts[int(number) - 1].startswith(title)


def test_no_page_is_blank(pdf):
    # More than its number, or a picture.
    blank = [
        number
        for number, page in enumerate(pdf.pages, 1)
        if len(page.extract_text().strip()) < 10 and not page.images
    ]
    assert blank == []


def test_links_lead_somewhere(pdf):
    inside = [place for url, place in links(pdf) if url is None]
    assert len(inside) > 100
    assert {str(place) for place in inside} <= set(pdf.named_destinations)
    outside = [url for url, _ in links(pdf) if url is not None]
    assert [url for url in outside if not url.startswith(("https://", "http://"))] == []
