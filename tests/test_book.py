"""The built book: every link, anchor and picture resolves, nothing comes from elsewhere."""

import re
import subprocess
import sys
from functools import cache
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import terms
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree

from conftest import CHAPTERS, ROOT, tags

# Names by which an element of a page points to another file.
POINTERS = {"a": "href", "img": "src", "link": "href", "script": "src", "source": "src"}

# A widget and its settings, as share.js writes them; test_orientation.py tries those of the book.
SETTING = re.compile(r"[a-z-]+:[\w=.;,%-]+")

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
SITE = urlsplit(CONFIG["html"]["baseurl"]).path


@cache
def parsed(path):
    """A page's parsed HTML, and the names its elements can be linked by."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    names = {tag["id"] for tag in soup.find_all(id=True)}
    return soup, names | {tag["name"] for tag in soup.find_all("a", attrs={"name": True})}


def pages(book):
    """Every page that a reader can open (the theme's own fragments are none)."""
    return [
        path
        for path in sorted(book.rglob("*.html"))
        if not path.relative_to(book).parts[0].startswith("_")
    ]


def toc_files():
    """Documents that `_toc.yml` names, the landing page first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [toc["root"], *listed]


def broken(page, book):
    """What a page points to and is not there."""
    soup, _ = parsed(page)
    for name, attribute in POINTERS.items():
        for tag in soup.find_all(name, attrs={attribute: True}):
            url = urlsplit(tag[attribute])
            if url.scheme or url.netloc:
                continue
            # The 404 page's links start at the host's top, where the published book is a folder.
            path = unquote(url.path)
            folder = book if path.startswith(SITE) else page.parent
            target = (folder / path.removeprefix(SITE)).resolve() if path else page
            if target.is_dir():
                target /= "index.html"
            if not target.is_relative_to(book.resolve()) or not target.is_file():
                yield f"{page.name}: no file {tag[attribute]}"
            elif (
                url.fragment
                and target.suffix == ".html"
                and unquote(url.fragment) not in parsed(target)[1]
                and not sets_a_widget(url.fragment, target)
            ):
                yield f"{page.name}: no anchor {tag[attribute]}"


def sets_a_widget(fragment, page):
    """Whether an address is that of a widget's settings, on a page that has some."""
    return SETTING.fullmatch(fragment) and parsed(page)[0].find(class_="vgg-widget")


def test_links_anchors_and_images_resolve(book):
    assert len(pages(book)) >= len(toc_files())
    assert [problem for page in pages(book) for problem in broken(page, book)] == []


def test_a_broken_link_would_be_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="no.html">1</a><a href="#no">2</a><img src="no.png"><a href="#y" id="y">'
    )
    assert len(list(broken(page, tmp_path))) == 3


def test_every_image_has_alt_text(book):
    bare = [
        f"{page.name}: {image.get('src')}"
        for page in pages(book)
        for image in parsed(page)[0].find_all("img")
        # The logo has its title beside it, in the same link.
        if not image.get("alt", "").strip() and "logo__image" not in image.get("class", [])
    ]
    assert bare == []


def test_nothing_is_loaded_from_another_host(book):
    loaded = [
        f"{page.name}: {url}"
        for page in pages(book)
        for name, attribute in POINTERS.items()
        if name != "a"
        for tag in parsed(page)[0].find_all(name, attrs={attribute: True})
        if (url := tag[attribute]) and urlsplit(url).netloc and tag.get("rel") != ["canonical"]
    ]
    assert loaded == []


def test_no_page_is_an_orphan(book):
    sources = [*(ROOT / "book").glob("*.md"), *(chapter.path for chapter in CHAPTERS)]
    wanted = {str(path.relative_to(ROOT).with_suffix("")) for path in sources}
    assert wanted == set(toc_files()), "_toc.yml lists each page and each chapter"
    landing = book / f"{toc_files()[0]}.html"
    linked = {
        (landing.parent / a["href"]).resolve().relative_to(book.resolve())
        for a in parsed(landing)[0].select("nav.bd-links a[href]")
    }
    assert {f"{document}.html" for document in toc_files()[1:]} <= set(map(str, linked))


def test_the_chapters_are_listed_alike_everywhere():
    """README, landing page, "Before you start" and `_toc.yml`; times as the chapters say them."""
    readme, landing, before = (
        (ROOT / path).read_text(encoding="utf-8")
        for path in ("README.md", "book/index.md", "book/how_to_use.md")
    )
    row = r"^\| \[(\d+ .+?)\]\((?:\.\./)?(notebooks/\w+)\.ipynb\) \| (.+?)[,|]"
    card = (
        r"^:+\{grid-item-card\} (\d+ .+)\n:link: \.\./(notebooks/\w+)\n"
        r"[^{]+\{card-footer\}\n\{reading\}`\w+`[^\n]+\n(.+) on a CPU$"
    )
    cards, rows, timed = (
        re.findall(pattern, text, re.MULTILINE)
        for pattern, text in ((card, landing), (row, readme), (row, before))
    )
    listed = {file for file in toc_files() if file.startswith("notebooks/")}
    names = [(title, file) for title, file, _ in cards]
    assert [file for _, file in names] == sorted(listed)
    assert [(title, file) for title, file, _ in rows] == names
    assert [(title, file) for title, file, _ in timed] == names
    for chapter, (title, _, time), (_, _, again) in zip(CHAPTERS, cards, timed, strict=True):
        number = title.split()[0]
        head = " ".join(cell.source for cell in chapter.of("markdown")[:2])
        head = " ".join(head.split())
        said = re.search(r"(?:CPU:|running) (about [^;,.]+?)(?: on a CPU)?[;,.]", head).group(1)
        assert chapter.of("markdown")[0].source.startswith(f"# {number}. ")
        assert (said, said) == (time, again.strip())


def test_the_top_opens_the_landing_page(book):
    refresh = parsed(book / "index.html")[0].find("meta", attrs={"http-equiv": "Refresh"})
    target = re.fullmatch(r"0; url=(.+)", refresh["content"]).group(1)
    title = parsed(book / target)[0].find("h1").get_text()
    assert target == f"{toc_files()[0]}.html" and "Very Deep" in title


def test_chapters_show_their_figures_with_alt_text_and_fold_solutions(book, chapter):
    soup, names = parsed(book / "notebooks" / f"{chapter.path.stem}.html")
    shown = [image["alt"] for image in soup.find("article").find_all("img")]
    for _, output in chapter.outputs:
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        assert alt is None or " ".join(alt.split()) in shown
    for cell in chapter.of("code"):
        assert {tag for tag in tags(cell) if tag.startswith("claim-")} <= names
    solutions = soup.select("div.cell.tag_solution")
    assert len(solutions) == sum("solution" in tags(c) for c in chapter.of("code"))
    assert all(cell.find("details", recursive=False) for cell in solutions)


def test_a_term_links_to_the_glossary_once_in_a_chapters_own_words(book, chapter):
    glossary, _ = parsed(book / "book" / "glossary.html")
    soup, _ = parsed(book / "notebooks" / f"{chapter.path.stem}.html")
    links = soup.select("a.term")
    anchors = [link["href"].rpartition("#")[2] for link in links]
    assert len(anchors) >= 3 and len(set(anchors)) == len(anchors)
    for link, anchor in zip(links, anchors, strict=True):
        explained = glossary.find(id=anchor).find_next("dd")
        assert link["data-definition"] in " ".join(explained.get_text().split())
        home = explained.select_one("a[href*=notebooks]")
        assert home is None or chapter.path.stem not in home["href"], "it is explained here"
        assert not link.find_parents(["h1", "h2", "h3", "strong", "blockquote", "table", "code"])


def test_a_term_is_found_whole_by_any_of_its_names():
    page = publish_doctree("fan-in, fan-out\n  How many.\n\nunion (IoU)\n  See fan-in.\n")
    for term in page.findall(nodes.term):
        term["ids"] = [f"term-{term.astext()}"]
    found = terms.terms_of(page)
    assert set(found) == {"fan-in", "fan-out", "union", "IoU"}
    assert found["IoU"] == found["fan-in"] and found["fan-in"][1] == "How many."
    pattern = terms.pattern_of(["batch norm", "batch", "MAC"])
    text = "Batch norm, batches, batch-wise, macs, MACs, batch."
    matches = [(match[0], match[1]) for match in pattern.finditer(text)]
    assert matches == [("Batch norm", "Batch norm"), ("MACs", "MAC"), ("batch", "batch")]


def test_colab_buttons_follow_the_configured_address(book, chapter):
    config = CONFIG["repository"]
    path = config["url"].removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{path}/blob/{config['branch']}"
    soup, _ = parsed(book / "notebooks" / f"{chapter.path.stem}.html")
    links = [a["href"] for a in soup.find_all("a", href=re.compile("^https://colab"))]
    assert len(links) == 2 and set(links) == {f"{colab}/notebooks/{chapter.path.name}"}


ALT = 'Loss: "train", <validation> & test; it falls from 2.30 to 0.41 (§4), über 30 epochs'


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    """A page of one notebook, built with the book's own extension alone."""
    folder = tmp_path_factory.mktemp("a small book")
    v4 = nbformat.v4
    # The smallest PNG: one transparent pixel.
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg=="
    )
    figure = v4.new_output(
        "display_data", {"image/png": pixel}, metadata={"image/png": {"alt": ALT}}
    )
    cells = [
        v4.new_markdown_cell("# Page\n\n[the claim](index.ipynb#claim-1-1)"),
        v4.new_code_cell("figure", outputs=[figure], metadata={"tags": ["claim-1-1"]}),
        v4.new_code_cell("secret", metadata={"tags": ["solution"]}),
    ]
    language = {"name": "python", "pygments_lexer": "ipython3"}
    notebook = v4.new_notebook(cells=cells, metadata={"language_info": language})
    nbformat.write(notebook, folder / "index.ipynb")
    (folder / "conf.py").write_text(
        f"import sys\nsys.path.append({str(ROOT / 'book' / '_ext')!r})\n"
        "extensions = ['myst_nb', 'very_deep']\nnb_execution_mode = 'off'\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", ".", "_html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return parsed(folder / "_html" / "index.html")[0]


def test_alt_text_survives_quotes_commas_and_tags(small_page):
    assert ALT in [image.get("alt") for image in small_page.find_all("img")]


def test_a_solution_is_folded(small_page):
    details = small_page.find("details")
    assert "secret" in details.get_text() and not details.has_attr("open")
    assert "solution" in details.find("summary").get_text()


def test_a_claim_links_to_its_cell(small_page):
    assert small_page.find("a", string="the claim")["href"] == "#claim-1-1"
    assert "figure" in small_page.find(id="claim-1-1").get_text()
