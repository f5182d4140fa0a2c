"""What the book's own Sphinx extensions do, and what the built pages say of themselves."""

import csv
import json
import re
from xml.etree import ElementTree

import anki
import mathml
import tinycss2
from fontTools.ttLib import TTFont
from PIL import Image
from published import shorten
from purge import purge
from refusing import refuses
from searching import Spelt
from set_address import address
from test_book import CONFIG, pages, parsed, toc_files

from conftest import CHAPTERS, ROOT

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


# Learning resources -----------------------------------------------------------------------


def resource(book, document):
    """A page's JSON-LD; None without one."""
    scripts = parsed(book / f"{document}.html")[0]("script", type="application/ld+json")
    assert len(scripts) <= 1
    return json.loads(scripts[0].string) if scripts else None


def test_the_course_describes_itself_to_catalogues(book):
    """What Bioschemas asks of training material, and for each aim of the landing page a line."""
    whole = resource(book, "book/index")
    needed = {"name", "description", "keywords"}  # the profile's minimum
    wanted = {"author", "audience", "competencyRequired", "educationalLevel", "inLanguage"}
    wanted |= {"learningResourceType", "license", "teaches", "timeRequired", "url", "version"}
    assert all(whole[name] for name in needed | wanted)
    assert whole["@type"] == "LearningResource" and "TrainingMaterial" in str(whole)
    aims = parsed(book / "book" / "index.html")[0].select("#after-it-you-will-be-able-to li")
    assert [" ".join(aim.get_text().split()) for aim in aims] == [
        " ".join(aim.split()) for aim in whole["teaches"]
    ]
    parts = [part["@id"] for part in whole["hasPart"]]
    assert parts == [f"{SITE}notebooks/{chapter.path.stem}.html" for chapter in CHAPTERS]
    hours = [resource(book, f"notebooks/{c.path.stem}")["timeRequired"] for c in CHAPTERS]
    total = sum(int(re.fullmatch(r"PT(\d+)H", time)[1]) for time in hours)
    assert whole["timeRequired"] == f"PT{total}H"


def test_each_chapter_is_a_part_of_the_course(book, chapter):
    document = f"notebooks/{chapter.path.stem}"
    part, whole = resource(book, document), resource(book, "book/index")
    assert part["@id"] == part["url"] == f"{SITE}{document}.html"
    assert part["isPartOf"] == {"@id": whole["@id"]}
    name = part["name"].replace("’", "'")
    assert chapter.of("markdown")[0].source.startswith(f"# {name}")
    assert part["position"] == int(chapter.path.stem[:2])
    assert part["keywords"] and all(len(aim) > 40 for aim in part["teaches"])
    page = parsed(book / f"{document}.html")[0]
    assert part["description"] == page.find("meta", attrs={"name": "description"})["content"]
    for name in ("license", "inLanguage", "educationalLevel"):
        assert part[name] == whole[name]
    assert resource(book, "book/results") is None


# Cards ------------------------------------------------------------------------------------


def test_the_deck_has_a_card_for_each_term_and_each_claim(book):
    """Read as Anki reads it: settings in the first lines, then a note a row."""
    page = parsed(book / "book" / "glossary.html")[0]
    link = page.find("a", href=re.compile(anki.FILE))
    text = (book / "book" / link["href"]).resolve().read_text(encoding="utf-8")
    head = dict(line[1:].split(":", 1) for line in text.splitlines() if line.startswith("#"))
    assert (head["separator"], head["html"], head["notetype"]) == ("tab", "true", "Basic")
    assert tuple(head["columns"].split("\t")) == anki.COLUMNS
    assert (head["guid column"], head["tags column"]) == ("1", "4")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    notes = list(csv.reader(rows, delimiter="\t"))
    assert all(len(note) == 4 and all(note) for note in notes)
    assert len({note[0] for note in notes}) == len(notes), "each note has a number of its own"
    fronts = [note[1] for note in notes if note[3].endswith("term")]
    terms = page.select("dl.glossary > dt")
    assert len(fronts) == len(terms) > 50
    claims = [note for note in notes if note[3].endswith("claim")]
    rows = parsed(book / "book" / "claims.html")[0].select("table.ledger tbody tr")
    assert len(claims) == len(rows) > 100
    for note, row in zip(claims, rows, strict=True):
        number, _, _, verdict, _ = (cell.get_text().strip() for cell in row("td"))
        assert f"<b>{verdict}</b>" in note[2] and f">{number}</a>" in note[2]
    targets = {url for note in notes for url in re.findall(r'href="([^"]+)"', note[2])}
    assert all(url.startswith(SITE) for url in targets if "very-deep" in url)
    for url in targets:
        path, _, anchor = url.removeprefix(SITE).partition("#")
        if url.startswith(SITE):
            assert not anchor or anchor in parsed(book / path)[1], url


# Launching --------------------------------------------------------------------------------


def test_a_chapter_opens_on_kaggle_and_in_codespaces(book, chapter):
    """By a badge and in the menu, and with the notebook that the Colab badge opens."""
    owner, name = address(ROOT)
    notebook = f"https://github.com/{owner}/{name}/blob/main/notebooks/{chapter.path.name}"
    soup, _ = parsed(book / "notebooks" / f"{chapter.path.stem}.html")
    for url in (
        f"https://kaggle.com/kernels/welcome?src={notebook}",
        f"https://codespaces.new/{owner}/{name}?quickstart=1",
    ):
        badge, button = sorted(soup("a", href=url), key=lambda link: link.find("img") is None)
        assert badge.img["src"].startswith("../_images/") and badge.img["alt"].startswith("Open in")
        assert button.find_parent(class_="dropdown-menu")
    assert (ROOT / ".devcontainer" / "devcontainer.json").exists()


# Searching --------------------------------------------------------------------------------


def test_spellings_and_compounds_have_one_stem():
    lang = Spelt({})
    for pair in (
        "color colour",
        "colored coloured",
        "normalization normalisation",
        "localize localise",
        "regularizer regulariser",
        "center centre",
        "centered centred",
        "centers centres",
        "neighbor neighbour",
        "behavior behaviour",
        "gray grey",
        "analyze analyse",
        "labeled labelled",
    ):
        american, british = map(lang.stem, pair.split())
        assert american == british, pair
    assert lang.stem("size") == "size" and lang.stem("resized") == "resiz"
    assert {"fine", "tuning", "finetuning"} <= set(lang.split("Fine-tuning".lower()))
    assert "batchnorm" in lang.split("a batch norm") and "bbox" in lang.split("bounding box")


def test_the_index_is_small(book):
    assert (book / "searchindex.js").stat().st_size < 400_000
