"""What shows the way: the first page, the map of the chapters, reading times, the gallery."""

import gzip
import re
from urllib.parse import urlsplit

import nbformat
import pytest
import reading
from axe_playwright_python.sync_playwright import Axe
from refusing import refuses
from test_book import parsed

from conftest import CHAPTERS, ROOT, notebook_of
from vgglib.widgets.base import explorers

# The first page as GitHub Pages sends it, text compressed, before its widget is touched.
FIRST_PAGE = 350_000
COMPRESSED = (".html", ".css", ".js", ".json", ".svg")

FOUND = reading.read_chapters(ROOT / "notebooks")


def sent(answer):
    """Bytes of an answer on their way."""
    body = answer.body()
    path = urlsplit(answer.url).path
    return len(gzip.compress(body)) if path.endswith(COMPRESSED) else len(body)


def shown(page):
    """The probabilities on the page, in per cent."""
    return [float(text.split()[0]) for text in page.locator(".vgg-value:visible").all_inner_texts()]


# The first page ---------------------------------------------------------------------------


def test_the_first_page_is_light_until_its_widget_is_touched(open_page):
    visit = open_page("book/index.html", height=1200)
    page = visit.page
    assert sum(map(sent, visit.responses)) < FIRST_PAGE
    heavy = ("live_vgg.js", "safetensors", "shared.json")
    assert not [url for url in visit.requests if url.endswith(heavy)]
    before = shown(page)
    assert len(before) == 10 and sum(before) == pytest.approx(100, abs=2)
    page.get_by_role("button", name="Cover a part").press("Enter")
    page.wait_for_selector(".vgg-widget[data-ready]")
    page.wait_for_function("document.activeElement.matches('.vgg')")
    covered = shown(page)
    assert page.get_by_label("Cover a part").is_checked()
    assert max(abs(a - b) for a, b in zip(before, covered, strict=True)) > 20
    page.get_by_label("Cover a part").uncheck()
    page.wait_for_timeout(300)
    assert shown(page) == pytest.approx(before, abs=0.11)  # the poster is what the net answers
    assert visit.errors == [] and visit.foreign == []


def test_a_tap_on_the_picture_starts_the_widget(open_page):
    page = open_page("book/index.html", width=360, height=740, has_touch=True).page
    page.locator(".vgg-poster img").tap()
    page.wait_for_selector(".vgg-widget[data-ready]")
    assert page.get_by_role("img", name="covered").is_visible()
    assert not page.get_by_role("combobox", name="Layer").is_visible()  # that is chapter 6
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_the_started_widget(open_page, theme):
    page = open_page("book/index.html#live-vgg:covered=true", theme=theme).page
    page.wait_for_selector(".vgg-widget[data-ready]")
    page.get_by_role("button", name="Copy as Python").click()
    found = Axe().run(page, context=".first-widget").response["violations"]
    assert [problem["id"] for problem in found] == []


def test_the_button_is_above_the_fold_and_the_doors_lead_to_three_places(open_page, served):
    for width, height in ((1440, 900), (768, 1024), (360, 740)):
        page = open_page("book/index.html", width=width, height=height).page
        button = page.get_by_role("link", name="Start chapter 1").bounding_box()
        assert button["y"] + button["height"] < height
        counts = page.locator(".pst-scrollable-table-container:has(.verdicts)")
        assert counts.evaluate("(box) => box.scrollWidth <= box.clientWidth")
    doors = {
        name: page.locator(".sd-card", has_text=name).locator("a.sd-stretched-link").first
        for name in ("Read", "Run", "Teach")
    }
    targets = {name: door.get_attribute("href") for name, door in doors.items()}
    assert targets["Read"].endswith("01_architecture.html")
    assert targets["Run"].endswith("how_to_use.html#running")
    assert len(set(targets.values())) == 3


def test_the_drawing_of_vgg_can_be_read_on_a_phone(open_page):
    page = open_page("_images/vgg16.svg", width=328, height=140).page
    heights = page.evaluate(
        "[...document.querySelectorAll('text')].map((text) => text.getBoundingClientRect().height)"
    )
    assert all(height > 12 for height in heights if height) and sum(map(bool, heights)) >= 12


# Reading times ----------------------------------------------------------------------------


def test_reading_takes_words_code_and_figures():
    prose = "word " * 1000 + "[link](https://example.org/a%20long%20address) <br>"
    code = "\n".join(["x = 1"] * 75) + "\n\n"
    figure = nbformat.v4.new_output("display_data", {"image/png": ""})
    notebook = notebook_of(prose, (code, []), (code, ["hide-input"]), (code, ["solution"]))
    notebook.cells[1].outputs = notebook.cells[3].outputs = 10 * [figure]
    assert reading.reading_minutes(notebook) == 15  # 5 for the words, 5 for 75 lines, 5 for figures
    assert reading.about(55) == "55 minutes"
    assert reading.about(90) == "1 and a half hours" and reading.about(560) == "9 and a half hours"


def test_cards_give_each_chapters_time_and_the_page_that_of_all(book):
    soup, _ = parsed(book / "book" / "index.html")
    footers = [footer.get_text(" ") for footer in soup.select(".sd-card-footer")]
    for chapter, footer in zip(FOUND, footers, strict=True):
        assert f"{chapter.minutes} minutes to read" in footer
        assert 20 <= chapter.minutes <= 120
    assert reading.about(sum(chapter.minutes for chapter in FOUND)) in soup.article.get_text(" ")


# The map ----------------------------------------------------------------------------------


def test_the_map_is_what_chapters_say_must_be_read_before(book):
    """Read anew: the numbers in the words of each chapter's head, and of each row of the map."""
    soup, _ = parsed(book / "book" / "how_to_use.html")
    rows = [row.get_text(" ", strip=True) for row in soup.select(".chapter-map li")]
    table = (ROOT / "book" / "how_to_use.md").read_text(encoding="utf-8")
    for chapter, row in zip(CHAPTERS, rows, strict=True):
        head = " ".join(cell.source for cell in chapter.of("markdown")[:2])
        said = head.split("Read before:")[1].split("\n\n")[0]
        numbers = sorted(set(re.findall(r"\[chapter (\d+)\]", said)), key=int)
        assert re.findall(r"\d+", row.split("·")[0])[1:] == numbers
        listed = re.search(rf"{chapter.path.name}\) .*\| ([^|]+) \|$", table, re.MULTILINE)[1]
        assert re.findall(r"\d+", listed) == numbers


def test_lines_leave_out_what_others_imply():
    nearest = reading.nearest(FOUND)
    needs = {chapter.number: set(chapter.needs) for chapter in FOUND}
    reached = {number: set() for number in needs}
    for before, number in sorted(nearest, key=lambda line: line[1]):
        assert before in needs[number]
        reached[number] |= {before} | reached[before]
    assert all(needs[number] <= reached[number] for number in needs)
    assert len(nearest) < sum(map(len, needs.values()))


def test_a_chapter_that_does_not_say_what_it_needs_is_refused(tmp_path):
    nbformat.write(notebook_of("# 1. Title", "No word of it."), tmp_path / "01_title.ipynb")
    with refuses(ValueError, got="01_title.ipynb", accepts="Read before:"):
        reading.read_chapters(tmp_path)


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_the_lines_of_the_map_meet_its_dots(open_page, width):
    page = open_page("book/how_to_use.html", width=width).page
    ends = page.evaluate(
        """() => {
          const map = document.querySelector(".chapter-map");
          const rows = [...map.querySelectorAll("li")].map((row) => row.getBoundingClientRect());
          return [...map.querySelectorAll("path")].map((path) => {
            const matrix = path.getScreenCTM();
            return [0, path.getTotalLength()].map((at) => {
              const point = path.getPointAtLength(at).matrixTransform(matrix);
              const far = rows.map((row) => Math.abs(row.y + row.height / 2 - point.y));
              return [Math.min(...far), rows[0].x - point.x];
            });
          });
        }"""
    )
    assert len(ends) == len(reading.nearest(FOUND))
    assert all(down < 2 and 2 < aside < 16 for line in ends for down, aside in line)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# The gallery ------------------------------------------------------------------------------


def test_the_gallery_has_every_widget_with_its_chapter_and_a_setting_to_try(open_page):
    visit = open_page("book/widgets.html")
    page = visit.page
    fronts = page.locator(".vgg-widget").evaluate_all("all => all.map((one) => one.dataset.widget)")
    assert sorted(fronts) == sorted(widget.front for widget in explorers())
    chapters = page.locator("h2 ~ p a[href*='notebooks/']").evaluate_all(
        "all => all.map((one) => one.pathname.split('/').pop())"
    )
    assert len(chapters) == len(fronts) and chapters == sorted(chapters)
    started = {url.split("/")[-1] for url in visit.requests if url.endswith(".js")}
    assert started & {f"{front}.js" for front in fronts} <= {f"{front}.js" for front in fronts[:2]}
    for widget in explorers():
        section = page.locator("section", has=page.locator(f"[data-widget={widget.front}]")).last
        assert section.locator("h2").inner_text().startswith(widget.title())
        assert section.locator("a[href*='notebooks/']").count() == 1
        if widget.example:
            section.get_by_role("link", name="Set it so").click()
            section.locator(".vgg-share").wait_for()
            section.locator(".vgg").first.wait_for()
            page.wait_for_timeout(200)
            assert section.locator(".vgg-share .vgg-error").count() == 0
            assert section.locator(".vgg").count() == 1
    assert visit.errors == [] and visit.foreign == []


def test_the_gallery_shows_still_pictures_without_javascript(open_page):
    page = open_page("book/widgets.html", java_script_enabled=False, height=12_000).page
    pictures = page.locator(".vgg-fallback img")
    sizes = [picture.evaluate("(one) => one.naturalWidth") for picture in pictures.all()]
    assert len(sizes) >= len(explorers()) - 1 and all(sizes)
