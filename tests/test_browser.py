"""The built book as a reader's browser sees it."""

import gzip
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import open_visit
from test_book import toc_files

# Of a page without its pictures and typefaces, before a widget is touched; of the same, gzipped;
# and of the typefaces, the formulas' among them.
BUDGET, GZIPPED_BUDGET, TYPEFACES = 870_000, 260_000, 125_000

# Pages that no table of contents lists.
UNLISTED = ["404", "genindex", "py-modindex", "search"]

TERMS = "notebooks/10_after.html"  # a chapter that builds on the terms of others

# Elements that reach beyond the window, unless an ancestor scrolls or clips them.
REACHING_OUT = """() => [...document.querySelectorAll("main *")].filter((element) => {
  const { right, width } = element.getBoundingClientRect();
  if (!width || right <= innerWidth + 1) return false;
  for (let above = element.parentElement; above.tagName !== "MAIN"; above = above.parentElement)
    if (getComputedStyle(above).overflowX !== "visible") return false;
  return true;
}).map((element) => `${element.tagName} ${element.textContent.trim().slice(0, 40)}`)"""

# Boxes of a page that scroll and cannot be reached by keyboard, or do not say what they are.
UNREACHABLE = """() => [...document.querySelectorAll(".bd-article *")].filter(
  (box) => ["auto", "scroll"].includes(getComputedStyle(box).overflowX)
    && box.scrollWidth > box.clientWidth + 1
    && !(box.tabIndex === 0 && box.ariaLabel)
).map((box) => box.outerHTML.slice(0, 200))"""

# Axe takes most of its time for the contrast of each word: of the words that style sheets can not
# tell apart (same element and classes, within the same), one will do.
ONE_WORD_OF_EACH_COLOUR = """() => {
  const seen = new Set();
  const chain = (element) => element.matches("main") ? ""
    : `${chain(element.parentElement)} ${element.tagName}.${element.className}`;
  const words = ":is(.highlight span, em, strong, span.pre, .sig span, code)";
  const found = [...document.querySelectorAll(`main ${words}`)].map((word) => [word, chain(word)]);
  for (const [word, which] of found) {
    if (seen.has(which) && !word.querySelector("a, img, [id]") && !word.id)
      word.replaceWith(...word.childNodes);
    seen.add(which);
  }
}"""


@pytest.fixture(scope="module", params=[*toc_files(), *UNLISTED])
def visit(request, browser, served):
    """Each page in turn, opened once for all tests of it; they put back what they change."""
    visit = open_visit(browser, served, f"{request.param}.html")
    yield visit
    visit.page.context.close()


def test_a_page_opens_without_an_error_or_a_foreign_request(visit):
    assert visit.errors == []
    assert visit.foreign == []


def test_a_page_keeps_to_the_budget(visit):
    loaded = {"font": [], "other": []}
    for answer in visit.responses:
        kind = answer.request.resource_type
        if kind != "image":
            loaded["font" if kind == "font" else "other"].append(answer.body())
    assert sum(map(len, loaded["font"])) <= TYPEFACES
    bodies = loaded["other"]
    assert sum(map(len, bodies)) <= BUDGET
    assert sum(len(gzip.compress(body)) for body in bodies) <= GZIPPED_BUDGET


def test_nothing_scrolls_sideways_but_inside_itself(visit):
    for width in (360, 768, 1440):
        visit.page.set_viewport_size({"width": width, "height": 900})
        scrolled = visit.page.evaluate("document.documentElement.scrollWidth")
        assert scrolled <= width, visit.page.evaluate(REACHING_OUT)


def test_what_scrolls_is_reached_by_keyboard_and_labelled(visit):
    visit.resize(360)
    assert visit.page.evaluate(UNREACHABLE) == []
    visit.resize(1440)
    assert visit.page.evaluate(UNREACHABLE) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, theme):
    visit.theme(theme)
    visit.page.evaluate(ONE_WORD_OF_EACH_COLOUR)  # of the tests below, none asks for words
    options = {"resultTypes": ["violations"]}
    if theme == "dark":  # the same elements in other colours
        options["runOnly"] = ["color-contrast", "link-in-text-block"]
    found = Axe().run(visit.page, options=options).response["violations"]
    serious = [
        (problem["id"], [node["html"][:300] for node in problem["nodes"]])
        for problem in found
        if problem["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_headings_go_down_one_level_at_a_time(visit):
    levels = visit.page.eval_on_selector_all(
        ":is(h1, h2, h3, h4, h5, h6)", "all => all.map((heading) => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels)), levels


def test_formulas_are_drawn_in_the_books_font(open_page):
    page = open_page("notebooks/04_pre_initialisation.html").page
    assert page.evaluate("document.fonts.check('16px \"Book Math\"')")
    # A square root grows over what stands below it: the browser draws the MathML.
    root = page.locator("msqrt:visible").first  # some wait for an answer
    inside = root.locator("> *").first
    assert root.bounding_box()["height"] > inside.bounding_box()["height"]


def test_a_wrong_address_gives_the_books_page_at_any_depth(open_page, served):
    visit = open_page("notebooks/deep/down/nowhere.html")
    assert [e for e in visit.errors if "nowhere" not in e] == []
    assert "no such page" in visit.page.locator("h1").inner_text().lower()
    visit.page.get_by_role("link", name="first page").click()
    visit.page.wait_for_url(f"{served}/book/index.html")


def test_the_search_finds_a_word(open_page):
    page = open_page("search.html?q=momentum").page
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results").inner_text()
    assert "training recipe" in found


@pytest.mark.parametrize(
    "query, found",
    [
        ("color", "03_recipe.html#what-is-a-random-colour-shift-and-in-which-units"),
        ("localization", "09_localisation.html"),
        ("normalize", "diagnose.html#images-that-are-not-normalised"),
        ("finetuning", "03_recipe.html"),
        ("receptive field", "glossary.html#term-receptive-field"),
        ("dropout ensemble", "03_recipe.html#is-dropout-an-ensemble"),
        ("train", "05_training.html"),
    ],
)
def test_the_search_finds_what_is_typed(open_page, query, found):
    """American spellings too; sections before pages, members of the package last."""
    visit = open_page(f"search.html?q={query.replace(' ', '+')}")
    page = visit.page
    page.wait_for_function("/found/.test(document.querySelector('.search-summary')?.innerText)")
    links = page.eval_on_selector_all("#search-results li > a", "all => all.map((a) => a.href)")
    places = [link.partition("?")[0].rpartition("/")[2] for link in links]
    assert any(place.startswith(found) for place in places[:4]), places[:8]
    assert len(set(links)) == len(links) and visit.errors == []
    members = ["/api.html" in link for link in links]
    assert members == sorted(members), "members of the package come last"


# Terms of the glossary ----------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_a_term_means_can_be_dismissed_hovered_and_stays(open_page, theme):
    """As WCAG 1.4.13 wants it, for the pointer and for the keyboard."""
    visit = open_page(TERMS, theme=theme)
    page = visit.page
    term, note = page.locator("a.term").first, page.get_by_role("tooltip")
    term.hover()
    assert note.inner_text() == term.get_attribute("data-definition")
    note.hover()
    page.wait_for_timeout(400)  # longer than the note waits for the pointer
    assert note.is_visible()
    page.keyboard.press("Escape")
    assert not note.is_visible()
    term.hover(position={"x": 3, "y": 3})
    page.mouse.move(0, 0)
    note.wait_for(state="hidden")
    term.focus()
    page.wait_for_timeout(400)
    assert note.is_visible() and term.get_attribute("aria-describedby") == note.get_attribute("id")
    page.keyboard.press("Escape")
    assert not note.is_visible()
    assert term.evaluate("term => term === document.activeElement")
    assert visit.errors == [] and visit.foreign == []
    term.hover(position={"x": 3, "y": 3})
    assert Axe().run(page, context="#term-note").response["violations"] == []
    term.press("Enter")
    page.wait_for_url("**/glossary.html#term-*")


def test_what_a_term_means_fits_a_phone(open_page):
    page = open_page(TERMS, width=360).page
    note = page.get_by_role("tooltip")
    for term in page.locator("a.term").all():
        if not term.is_visible():  # in a folded exercise
            continue
        term.focus()
        box, line = note.bounding_box(), term.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
        assert box["y"] >= line["y"] or box["y"] + box["height"] <= line["y"] + line["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_page_is_printed_light_whatever_is_on_the_screen(open_page, tmp_path):
    page = open_page("book/glossary.html", theme="dark").page
    root = "document.documentElement.dataset.theme"
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {root} }})")
    page.pdf(path=tmp_path / "page.pdf")
    assert page.evaluate("window.printed") == "light"
    assert page.evaluate(root) == "dark"
