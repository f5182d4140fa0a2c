"""Every widget: what stands in a page, what a notebook gets, what chapters store."""

import json

import ipywidgets
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from refusing import refuses

from conftest import CHAPTERS, tags
from vgglib import widgets
from vgglib.widgets.base import FRONT, PageWidget, joined

CLASSES = PageWidget.__subclasses__()

# Every widget ------------------------------------------------------------------------------


def stored():
    """The HTML of each widget that a chapter stores, with the chapter's name."""
    for chapter in CHAPTERS:
        for cell in chapter.of("code"):
            if "widget" in tags(cell):
                for output in cell.outputs:
                    yield pytest.param(output.data["text/html"], id=chapter.path.stem)


def without_pictures(html):
    """Parsed HTML with the alt texts of its pictures, but without their bytes."""
    soup = BeautifulSoup(html, "html.parser")
    for image in soup.find_all("img"):
        del image["src"]
    return soup


def front_of(soup):
    return soup.find(class_="vgg-widget")["data-widget"]


@pytest.mark.parametrize("html", list(stored()))
def test_a_chapter_stores_what_the_class_gives_now(html):
    soup = without_pictures(html)
    (widget,) = (cls for cls in CLASSES if cls.front == front_of(soup))
    state = json.loads(soup.script.string)
    traits = widget.class_traits(sync=True)
    again = widget(**{k: v for k, v in state.items() if not traits[k].read_only})
    assert without_pictures(again.html()) == soup, "run `make notebooks` on this chapter"


def test_every_widget_has_a_chapter_and_is_public():
    shown = {front_of(BeautifulSoup(html.values[0], "html.parser")) for html in stored()}
    assert shown == {cls.front for cls in CLASSES}
    assert {cls.__name__ for cls in CLASSES} <= set(widgets.__all__)


@pytest.mark.parametrize("widget", CLASSES)
def test_html_is_whole_without_javascript_and_always_the_same(widget):
    html = widget().html()
    soup = BeautifulSoup(html, "html.parser")
    fallback = soup.find(class_="vgg-fallback")
    assert fallback.find(["img", "table", "details"])
    assert all(len(image["alt"]) >= 20 for image in fallback.find_all("img"))
    assert html == widget().html()
    assert len(html) < 150_000
    traits = widget.class_traits(sync=True)
    settable = tuple(k for k in json.loads(soup.script.string) if not traits[k].read_only)
    with refuses(TypeError, got=(widget, "colour"), accepts=settable):
        widget(colour="red")


@pytest.mark.skipif(
    hasattr(ipywidgets.DOMWidget, "_ipython_display_"), reason="ipywidgets 7 shows the view alone"
)
def test_a_notebook_gets_view_and_html():
    data, _ = widgets.NetworkExplorer(net="E")._repr_mimebundle_()
    assert "NetworkExplorer(" in data["text/plain"] and "net='E'" in data["text/plain"]
    assert "vgg-widget" in data["text/html"] and "application/vnd.jupyter.widget-view+json" in data


def test_a_notebook_gets_one_module_without_imports():
    text = joined("network.js")
    assert text.count("export ") == 1 and "export default" in text and "import {" not in text
    assert text.count("function receptiveField") == 1


def test_pages_get_every_file(tmp_path):
    widgets.write_front(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {path.name for path in FRONT.iterdir()} <= names
    for widget in CLASSES:
        files = [value["file"] for value in widget().page_state().values() if _is_file(value)]
        assert {f"{widget.front}.js", f"{widget.front}.css", *files} <= names


def _is_file(value):
    return isinstance(value, dict) and set(value) == {"file"}


# In a page -----------------------------------------------------------------------------------

# Places where a finger moves something instead of the page, and how large each is.
KEPT = """() => [...document.querySelectorAll(".vgg *")]
  .filter((element) => getComputedStyle(element).touchAction === "none")
  .map((element) => element.getBoundingClientRect())
  .filter(({ width, height }) => Math.max(width, height) > 48).length"""

# The colours of the book's theme in the dark.
DARK = """:root {
  --pst-color-text-base: #ced6dd; --pst-color-text-muted: #9ca4af; --pst-color-border: #48566b;
  --pst-color-background: #14181e; --pst-color-surface: #29313d;
} body { background: #14181e; color: #ced6dd; }"""


@pytest.mark.parametrize(
    "widget",
    [
        widgets.BoxLab(),
        widgets.BoxLab(part="merging"),
        widgets.DenseMap(),
        widgets.Neighbours(),
        widgets.BatchNormFolding(used=[True, True, True]),
    ],
    ids=lambda widget: f"{type(widget).__name__} {getattr(widget, 'part', '')}",
)
def test_it_fits_a_phone_scrolls_under_a_finger_and_axe_finds_nothing(mounted, widget):
    visit = mounted(widget, width=360, has_touch=True)
    page = visit.page
    page.wait_for_function("!document.querySelector('[aria-busy]')", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(KEPT) == 0
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.add_style_tag(content=DARK if theme == "dark" else "/* as it is */")
        found = Axe().run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    assert visit.errors == [] and visit.foreign == []
