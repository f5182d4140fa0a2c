"""What the book's own Sphinx extensions do, and what the built pages say of themselves."""

import re
from xml.etree import ElementTree

import mathml
import tinycss2
from fontTools.ttLib import TTFont
from PIL import Image
from published import shorten
from purge import purge
from refusing import refuses
from set_address import address
from test_book import CONFIG, pages, parsed, toc_files

from conftest import ROOT

SITE = CONFIG["html"]["baseurl"]


def test_the_books_address_follows_from_the_repositorys():
    owner, name = address(ROOT)
    assert f"https://{owner.lower()}.github.io/{name}/" == SITE


def test_each_page_describes_itself_and_shows_the_card(book):
    described = {}
    for document in toc_files():
        soup, _ = parsed(book / f"{document}.html")
        tags = {
            tag.get("name") or tag.get("property"): tag["content"]
            for tag in soup("meta", content=True)
        }
        assert soup.find("link", rel="canonical")["href"] == f"{SITE}{document}.html"
        assert tags["og:url"] == f"{SITE}{document}.html"
        assert tags["og:image"] == f"{SITE}_static/social.png"
        assert len(soup.find_all("meta", attrs={"name": "description"})) == 1
        described[tags["description"]] = document
    assert len(described) == len(toc_files()), "each page has a description of its own"
    assert all(40 < len(text) <= 250 for text in described)
    with Image.open(book / "_static" / "social.png") as card:
        assert card.size == (1200, 630)


def test_the_site_map_lists_every_document(book):
    site_map = ElementTree.parse(book / "sitemap.xml")
    listed = {place.text for place in site_map.findall(".//{*}loc")}
    assert listed == {f"{SITE}{document}.html" for document in toc_files()}


def test_no_formula_is_left_as_latex(book):
    bare = [
        p.name for p in pages(book) for m in parsed(p)[0].find_all("math") if "\\" in m.get_text()
    ]
    assert bare == []
    assert any(parsed(page)[0].find("msqrt") for page in pages(book))


def drawn(tex):
    """The text of a formula's MathML, and its elements' names in order."""
    root = ElementTree.fromstring(mathml.to_mathml(tex))
    return "".join(root.itertext()), [element.tag.split("}")[1] for element in root.iter()]


def test_a_formula_becomes_mathml():
    text, names = drawn(r"\sigma = \sqrt{2/n}")
    assert text == "σ=2/n" and "msqrt" in names
    assert drawn(r"\mathbf p_i")[0] == "𝐩i"  # browsers know no attribute for bold
    assert drawn(r"\ln 10")[1].count("mspace") == 1
    assert drawn(r"\ln (x)")[1].count("mspace") == 0


def test_an_unknown_command_is_an_error():
    with refuses(ValueError, got=(r"\nonsense", repr(r"\nonsense{x}")), accepts="MathML"):
        mathml.to_mathml(r"\nonsense{x}")


def test_purging_keeps_what_is_used():
    css = """
    @charset "utf-8"; /* a comment */
    .used, .unused { color: red; }
    .unused > a { color: red }
    a:not(.unused):hover, p[class=".unused"] { content: "two  spaces" }
    :is(.unused, .used) .unused { color: red }
    @media print { .unused { color: red } #here { --empty: ; } }
    @font-face { font-family: "unused" }
    """
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    kept = "".join(purge(rules, {"used", "here"}))
    assert re.sub(r"\s*([{};>])\s*", r"\1", kept) == (
        '@charset "utf-8";.used, .unused{color: red;}'
        'a:not(.unused):hover, p[class=".unused"]{content: "two  spaces"}'
        '@media print{#here{--empty:;}}@font-face{font-family: "unused"}'
    )


def test_each_icon_has_its_drawing(book):
    """The fonts are those of the icons that the pages have, and no page loads the whole set."""
    static = book / "_static"
    css = (static / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    drawn = {
        name: sign
        for heads, sign in re.findall(r"([^{}]*)\{content:\W([\ue000-\uf8ff])", css)
        for name in re.findall(r"fa-[\w-]+", heads)
    }
    kinds = {"fa-solid", "fa-brands", "fa-regular", "fa-lg"}
    names = {
        name
        for page in pages(book)
        for icon in parsed(page)[0].find_all("i")
        for name in icon.get("class", [])
        if name.startswith("fa-") and name not in kinds
    }
    fonts = [TTFont(path).getBestCmap() for path in static.rglob("fa-*.woff2")]
    assert len(names) > 10 and names <= set(drawn)
    assert all(any(ord(drawn[name]) in font for font in fonts) for name in names)
    assert sum(path.stat().st_size for path in static.rglob("fa-*.woff2")) < 20_000


def test_a_description_ends_with_a_sentence():
    assert shorten("One. Two  words.") == "One. Two words."
    assert shorten("One of §3.1. " + 30 * "Word " + ". " + 20 * "more ", 60) == "One of §3.1."
    assert shorten(30 * "word ", 20) == "word word word…"
