"""How a chapter reads: what is folded, how figures, tables and verdicts look, the type."""

from itertools import pairwise

import claims
import figures
import folding
import frames
import nbformat
import pytest
import verdicts
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree
from fontTools.ttLib import TTFont
from test_book import pages, parsed

import vgglib
from conftest import CHAPTERS, ROOT, tags
from vgglib import plots
from vgglib.evidence import VERDICTS

FONTS = ROOT / "book" / "_static" / "fonts"
WIDTHS = (360, 768, 1440)
ELSEWHERE = {"✗", "ᵢ"}  # left to the reader's system: none of the faces draws them

# Folding ----------------------------------------------------------------------------------

DRAWS = "fig, ax = plots.subplots()\nax.plot([1])\nplots.show(fig, 'One line.')"
TRAINS = "net = vgglib.vgg('A')\nfor _ in range(3):\n    vgglib.train(net, data)\n"
FOLDED = [
    ("import math\nfrom torch import nn", [], folding.IMPORTS),
    (DRAWS, [], folding.DRAWS),
    (f"{TRAINS}{DRAWS}", [], None),  # half of it computes
    (DRAWS, ["show-input"], None),
    (DRAWS, ["claim-1-1"], None),
    ("assert a == 1\nprint('as the paper says')", ["claim-1-1"], folding.CLAIM),
    ("for a in b:\n    assert a", [], folding.RESULT),
    ("a = vgglib.anatomy('A')\nassert a == 1", ["claim-1-1"], None),
    ("print(vgglib.compare('depth', 'A', '<', 'B'))", ["claim-1-1"], None),
    ("my_side = None\n\n\ndef check_it(side):\n    return side == 3", [], None),
    ("def mine(x): ...\n\n\ndef check_it(f):\n    return f(1)", [], None),
    ("def check_it(answer):\n    return 'Right.'\n\n\nprint(check_it(1))", [], folding.ANSWER),
    ("# nothing but a comment", [], None),
]


@pytest.mark.parametrize(("source", "labels", "expected"), FOLDED)
def test_a_cell_folds_that_installs_imports_draws_or_checks(source, labels, expected):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(labels)})
    for _ in range(2):  # the second time changes nothing
        folding.fold(cell)
        assert cell.source == (f"# @title {expected}\n{source}" if expected else source)
        assert ("hide-input" in tags(cell)) is bool(expected)
        assert cell.metadata.get("jupyter") == ({"source_hidden": True} if expected else None)
    cell.source = cell.source.partition("\n")[0] + "\nnet = vgglib.vgg('A')"
    cell.metadata.pop("jupyter", None)
    folding.fold(cell)
    assert "@title" not in cell.source and "hide-input" not in tags(cell)


def test_the_code_of_a_question_is_folded():
    cell = nbformat.v4.new_code_cell("# @title Predict: a\nask = 1", metadata={"tags": ["predict"]})
    for _ in range(2):
        folding.fold(cell)
        assert tags(cell) == ["predict", "hide-input"]
    assert cell.source.startswith("# @title Predict: a\n")


# Figures, tables, verdicts ----------------------------------------------------------------


def test_a_caption_is_what_the_alt_text_says_first():
    assert figures.caption("Net D as blocks, drawn: five stages. And more.") == (
        "Net D as blocks, drawn"
    )
    assert figures.caption("Points: accuracies of VGG-16 and 0.5 more") == (
        "Points: accuracies of VGG-16 and 0.5 more"
    )
    assert figures.caption("the error of A falls to 29.6 %.") == "The error of A falls to 29.6 %"


def test_every_figure_of_a_chapter_has_its_number_and_a_caption(book, chapter):
    soup, _ = parsed(book / "notebooks" / f"{chapter.path.stem}.html")
    pictures = [
        kind for _, output in chapter.outputs for kind in output.get("data", {}) if "image/" in kind
    ]
    number = int(chapter.path.name[:2])
    found = soup.select("figure.numbered")
    assert [figure["id"] for figure in found] == [
        f"figure-{number}-{i + 1}" for i in range(len(pictures))
    ]
    for i, figure in enumerate(found):
        said = figure.figcaption.get_text(" ", strip=True)
        assert said.startswith(f"Figure {number}.{i + 1} ") and len(said) > 30


def test_the_figure_in_the_text_is_one_of_its_section():
    tree = publish_doctree("Title\n=====\n\nThe figure of X; see the figure.\n\nPart\n----\n\nA.\n")
    section = next(iter(tree.findall(nodes.section)), tree)
    one, two = (nodes.figure("", ids=[f"figure-1-{i}"], classes=["numbered"]) for i in (1, 2))
    text = next(p for p in tree.findall(nodes.paragraph) if "figure" in p.astext())
    text.parent.insert(text.parent.index(text) + 1, one)
    section.append(two)
    figures.link_mentions(tree, [one, two])
    assert text.astext() == "The figure of X; see Figure 1.1."
    assert [link["refid"] for link in text.findall(nodes.reference)] == ["figure-1-1"]


def test_a_table_of_pandas_is_made_for_people():
    html = (
        '<div><style scoped>.dataframe {}</style><table border="1" class="dataframe"><thead><tr>'
        "<th></th><th>million_macs</th><th>conv1_1</th></tr><tr><th>layer</th><th></th><th></th>"
        "</tr></thead><tbody><tr><th>fc_6</th><td>26378</td><td>3 × 3</td></tr>"
        "<tr><th>fc_7</th><td>–</td><td>5 %</td></tr></tbody></table></div>"
    )
    soup = BeautifulSoup(frames.improve(html), "html.parser")
    heads = [th.get_text() for th in soup.thead.find_all("th")]
    assert heads == ["layer", "million MACs", "conv1_1"] and not soup.style
    assert [cell.get_text() for cell in soup.select(".number")] == ["million MACs", "26,378", "–"]


@pytest.mark.parametrize("text", ["1", "-0.5", "1.2e-05", "12,345", "39%", "0.5 %", "", "× 9.2"])
def test_what_is_a_figure(text):
    assert frames.is_number(text) and not frames.is_number(f"{text} of A")


def test_a_verdict_becomes_a_badge_with_its_evidence():
    tree = publish_doctree("**Verdict 4.2: holds at our scale (live; one seed).** It starts.")
    verdicts.show_verdicts(None, tree)
    (badge,) = [node for node in tree.findall(nodes.inline) if "sd-badge" in node["classes"]]
    assert badge.astext() == "holds at our scale" and "sd-outline-success" in badge["classes"]
    assert tree.astext() == "Verdict 4.2 holds at our scale live; one seed It starts."
    for other in ("**Verdict 4.2: grand (live).** No.", "**Bold.** Verdict 4.2: holds (exact)."):
        tree = publish_doctree(other)
        before = tree.astext()
        verdicts.show_verdicts(None, tree)
        assert tree.astext() == before


def test_every_verdict_of_a_chapter_is_a_badge(book, chapter):
    soup, _ = parsed(book / "notebooks" / f"{chapter.path.stem}.html")
    shown = [
        (line.strong.get_text(), line.select_one(".sd-badge").get_text())
        for line in soup.select("p.verdict")
    ]
    expected = claims.chapter_claims(chapter.path)
    assert sorted(shown) == sorted((f"Verdict {c.number}", c.verdict) for c in expected)


def test_a_badge_says_what_its_words_mean_in_the_ledger(book, chapter):
    ledger, _ = parsed(book / "book" / "claims.html")
    means = {row.td.get_text(): row("td")[1].get_text() for row in ledger.table("tr")[1:]}
    soup, _ = parsed(book / "notebooks" / f"{chapter.path.stem}.html")
    lines = soup.select("p.verdict")
    assert lines
    for line in lines:
        link = line.select_one("a:has(> .sd-badge)")
        word, said = link.get_text(), link["data-definition"]
        kind = line.select_one(".verdict-evidence").get_text().split(";")[0].split("(")[0].strip()
        assert link["href"] == "../book/claims.html" and means[word] in said
        assert all(one.capitalize() in said for one in (word, kind))


# Type -------------------------------------------------------------------------------------


def test_the_faces_are_small_and_bring_their_licence():
    faces = sorted(FONTS.glob("*.woff2"))
    assert len(faces) == 4 and sum(path.stat().st_size for path in faces) <= 120_000
    assert all("SIL OPEN FONT LICENSE" in p.read_text("utf-8") for p in FONTS.glob("LICENSE-*"))
    assert len(list(FONTS.glob("LICENSE-*"))) == 2
    for path in faces:  # the licence keeps the name Source for what is unchanged
        assert "Source" not in str(TTFont(path)["name"].getDebugName(1))


def test_the_faces_have_every_character_of_the_pages(book):
    """The text's face, the code's, and that of the formulas, to which both fall back."""
    maths = TTFont(book / "_static" / "math.woff").getBestCmap().keys()
    has = {name: maths | TTFont(FONTS / f"{name}.woff2").getBestCmap().keys()
           for name in ("serif", "serif-italic", "serif-bold", "code")}  # fmt: skip
    missing = {}
    for page in pages(book):
        article = parsed(page)[0].find("article")
        for text in article.find_all(string=True) if article else ():
            within = {parent.name for parent in text.parents}
            if within & {"math", "script", "style", "svg", "i"}:
                continue
            face = "code" if within & {"pre", "code"} else "serif"
            for character in set(text) - {"\n", "\t"} - ELSEWHERE:
                if ord(character) not in has[face]:
                    missing.setdefault((face, character), page.name)
    assert missing == {}


MEASURES = """() => {
  const style = (name) => getComputedStyle(document.querySelector(`.bd-article ${name}`));
  const size = (name) => parseFloat(style(name).fontSize);
  const paper = document.createElement("canvas").getContext("2d");
  const text = document.querySelector(".bd-article section > p");
  paper.font = getComputedStyle(text).font;
  const letters = text.textContent.replace(/\\s+/g, " ");
  return {
    heads: ["h1", "h2", "h3", "h4"].map(size),
    weights: ["h1", "h2", "h3", "h4"].map((name) => Number(style(name).fontWeight)),
    text: size("p"),
    line: parseFloat(style("p").lineHeight) / size("p"),
    characters: text.clientWidth / (paper.measureText(letters).width / letters.length),
    faces: [style("p").fontFamily, style("pre").fontFamily],
    loaded: ['17px "Book Serif"', '600 17px "Book Serif"', 'italic 17px "Book Serif"',
      '14px "Book Code"'].map((face) => document.fonts.check(face)),
    badges: [...document.querySelectorAll(".verdict .sd-badge")].map((b) => b.textContent),
    number: style("td.number").textAlign,
    padding: parseFloat(style("table.dataframe td").paddingLeft),
    paper: getComputedStyle(document.body).backgroundColor,
    code: style(".cell_input").backgroundColor,
    drawing: getComputedStyle(document.querySelector(".bd-article .drawing")).filter,
  };
}"""


def light(colour):
    """How light a CSS colour is, from 0 to 255."""
    return sum(map(float, colour[colour.index("(") + 1 : -1].split(",")[:3])) / 3


def test_only_what_is_drawn_is_turned_over_in_the_dark():
    """Lines and bars are; a photo is not, also beside a drawing, nor are pictures of clothes."""
    fig, axes = plots.subplots(2, 1)
    axes[0].bar([1, 2, 3], [1, 2, 3])
    axes[1].plot([3, 1, 2])
    assert figures.is_drawing(plots.png(fig, "Three bars above a line."))
    axes[0].imshow(vgglib.data.photos()["chelsea"])
    assert not figures.is_drawing(plots.png(fig, "A photo of a cat above a line."))
    clothes = vgglib.data.load("fashion-mnist-mini").test.images[:10]
    grid = plots.image_grid(list(clothes), columns=5)
    assert not figures.is_drawing(plots.png(grid, "Ten pieces of clothing."))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_look_of_every_element(open_page, width, theme):
    """Measures and computed styles of the style page: what a picture would show, in any browser."""
    visit = open_page("book/style.html", width=width, theme=theme)
    found = visit.page.evaluate(MEASURES)
    assert found["heads"] == sorted(set(found["heads"]), reverse=True)
    assert found["heads"][-1] >= found["text"] >= 16
    assert found["weights"] == sorted(found["weights"], reverse=True) and found["weights"][3] >= 600
    assert 1.4 <= found["line"] <= 1.7
    assert found["faces"][0].startswith('"Book Serif"')
    assert found["faces"][1].startswith('"Book Code"')
    assert all(found["loaded"])
    assert found["badges"] == list(VERDICTS)
    assert found["number"] == "right" and found["padding"] >= 8
    assert abs(light(found["code"]) - light(found["paper"])) < 16, "code stands on a quiet ground"
    assert (light(found["paper"]) < 60) is (theme == "dark")
    assert ("invert" in found["drawing"]) is (theme == "dark")
    if width == 1440:
        assert 65 <= found["characters"] <= 75


# Length -----------------------------------------------------------------------------------

LENGTHS = """() => {
  const tall = (box) => box.getBoundingClientRect().height;
  const article = document.querySelector(".bd-article");
  const code = [...article.querySelectorAll(".cell_input")].filter((box) => box.checkVisibility());
  const first = article.querySelector(".cell_output img, .vgg-widget");
  return {
    screens: document.documentElement.scrollHeight / innerHeight,
    code: code.reduce((sum, box) => sum + tall(box), 0) / tall(article),
    cells: code.length,
    sideways: code.map((box) => box.querySelector("pre"))
      .map((box) => box.scrollWidth - box.clientWidth).filter((more) => more > 1),
    figure: first && (first.getBoundingClientRect().top + scrollY) / innerHeight,
  };
}"""
LINES = """() => [...document.querySelectorAll(".cell_input.long")].map((cell) => {
  const box = cell.querySelector("pre");
  return [box.clientHeight < box.scrollHeight, cell.querySelector(".show-code").ariaExpanded];
})"""


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.path.stem)
def test_a_chapter_is_not_mostly_code(open_page, chapter):
    page = open_page(f"notebooks/{chapter.path.stem}.html").page
    found = page.evaluate(LENGTHS)
    assert found["code"] <= 0.25
    assert len(found["sideways"]) < 0.1 * found["cells"]
    assert max(found["sideways"], default=0) < 100


def test_a_longer_cell_opens_and_closes(open_page):
    page = open_page("book/style.html").page
    button = page.locator(".show-code")
    assert page.evaluate(LINES) == [[True, "false"]]
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(LINES) == [[False, "true"]]
    button.click()
    assert page.evaluate(LINES) == [[True, "false"]]
    page.emulate_media(media="print")
    assert not page.evaluate(LINES)[0][0] and button.is_hidden()


def test_without_script_all_code_is_there(open_page):
    page = open_page("book/style.html", java_script_enabled=False).page
    code = page.locator(".cell_input.long pre")
    assert code.bounding_box()["height"] > 12 * 15
    assert page.locator(".show-code").count() == 0


# Keyboard ---------------------------------------------------------------------------------


def test_the_keyboard_is_seen_on_the_buttons_and_does_not_stop_at_each_cell(open_page):
    page = open_page("notebooks/02_design.html").page
    seen = 0
    for button in page.locator(".article-header-buttons :is(a, button):visible").all():
        button.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        if button.evaluate("(b) => b === document.activeElement"):
            assert button.evaluate("(b) => parseFloat(getComputedStyle(b).outlineWidth)") >= 2
            assert button.evaluate("(b) => getComputedStyle(b).outlineStyle") != "none"
            seen += 1
    assert seen >= 3
    assert page.locator("button.copybtn").count() > 20
    assert page.locator("button.copybtn:not([tabindex='-1'])").count() == 0


def test_the_lens_leaves_the_search_word_alone(open_page):
    page = open_page("notebooks/02_design.html").page
    page.locator(".bd-sidebar-primary .search-button-field").click()
    field = page.locator("dialog[open] input[type=search]")
    lens = page.locator("dialog[open] .fa-magnifying-glass").bounding_box()
    padding = field.evaluate("(input) => parseFloat(getComputedStyle(input).paddingLeft)")
    assert lens["x"] + lens["width"] <= field.bounding_box()["x"] + padding


def test_headings_of_the_style_page_go_down(book):
    soup, _ = parsed(book / "book" / "style.html")
    levels = [int(head.name[1]) for head in soup.find("article").select("h1, h2, h3, h4")]
    assert set(levels) == {1, 2, 3, 4} and all(b <= a + 1 for a, b in pairwise(levels))
