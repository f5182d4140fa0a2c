"""Tables that pandas wrote, for people: figures to the right, words to the left, plain headers."""

import re

from bs4 import BeautifulSoup
from docutils import nodes

FIGURE = r"[-+−±~≈×]?\s*[\d.,]*\d[\d.,]*(?:e[-+]?\d+)?(?:\s*(?:%|×|px|s|[kMG]i?B?))?"
NUMBER = re.compile(rf"{FIGURE}|[-–—]|nan|NaN|")
WORDS = re.compile(r"[a-z]+(?:_[a-z]+)+")  # a name of Python's, but not that of a layer
LONG = re.compile(r"\d{5,}")


def is_number(text):
    """Whether a cell of a table is one figure, with or without its unit, or a dash for none."""
    return bool(NUMBER.fullmatch(" ".join(text.split())))


def improve(html):
    """A table as pandas writes it, with the class ``number`` on each column of figures.

    The name of the index joins the header's row, ``million_macs`` is read as million MACs, and
    26378 as 26,378.
    """
    soup = BeautifulSoup(html, "html.parser")
    for table in soup.select("table.dataframe"):
        del table["border"]
        for style in soup.find_all("style"):  # pandas' own
            style.extract()
        heads = table.thead.find_all("tr")
        name, *rest = heads[-1].find_all("th")
        corner = heads[0].th
        if len(heads) == 2 and not any(th.get_text() for th in (corner, *rest)):
            corner.string = name.get_text()
            heads[-1].extract()
        for th in table.thead.find_all("th"):
            if WORDS.fullmatch(th.get_text()):
                th.string = th.get_text().replace("_", " ").replace("macs", "MACs")
        for td in table.find_all("td"):
            if LONG.fullmatch(td.get_text()):
                td.string = f"{int(td.get_text()):,}"
        rows = [row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr")]
        for back in range(
            1, max(map(len, rows)) + 1
        ):  # from the right: at the left, cells span rows
            column = [row[-back] for row in rows if len(row) >= back]
            figures = [cell.get_text() for cell in column if cell.name == "td"]
            if any(figures) and all(map(is_number, figures)):
                for cell in column:
                    cell["class"] = "number"
    return str(soup)


def improve_tables(app, doctree):
    """Improve the tables that cells show (Sphinx's ``doctree-read`` event)."""
    for raw in doctree.findall(nodes.raw):
        if raw.get("format") == "html" and "dataframe" in raw.astext():
            html = improve(raw.astext())
            raw.replace_self(nodes.raw("", html, format="html", classes=raw["classes"]))


def setup(app):
    app.connect("doctree-read", improve_tables)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
