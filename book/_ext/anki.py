"""The glossary and the claims as cards to learn from: a text file that Anki imports.

A line is a note: its lasting number (so that a later file changes notes instead of doubling them),
front, back, tags. Anki reads the rest from the lines at the top of the file. Written into the built
book, where the glossary page links it.
"""

import csv
import html
import io
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin

from docutils import nodes

GLOSSARY, CLAIMS = "book/glossary", "book/claims"
FILE = "very-deep-anki.txt"
COLUMNS = ("GUID", "Front", "Back", "Tags")
HEAD = [
    "#separator:tab",
    "#html:true",
    "#notetype:Basic",
    "#deck:Very Deep",
    "#columns:" + "\t".join(COLUMNS),
    "#guid column:1",
    "#tags column:4",
]
MARKS = {nodes.emphasis: "em", nodes.strong: "strong", nodes.literal: "code"}


def to_html(node, site):
    """What a card shows of a node: text, emphasis, code, formulas, and links into the book."""
    if isinstance(node, nodes.math):
        return rf"\({html.escape(node.astext())}\)"
    if isinstance(node, nodes.Text):
        return html.escape(" ".join(node.astext().split("\n")), quote=False)
    inside = "".join(to_html(child, site) for child in node.children)
    if isinstance(node, nodes.reference) and node.get("refuri"):
        return f'<a href="{urljoin(site, node["refuri"])}">{inside}</a>'
    mark = MARKS.get(type(node))
    return f"<{mark}>{inside}</{mark}>" if mark else inside


def notes_of(glossary, claims, site):
    """``(name, front, back, tag)`` of each term and each claim, from the pages' resolved trees."""
    for item in glossary.findall(nodes.definition_list_item):
        terms = [term for term in item.children if isinstance(term, nodes.term)]
        back = " ".join(to_html(p, f"{site}book/") for p in item.children[-1].children)
        for term in terms:
            yield f"term {term.astext()}", to_html(term, site), back, "term"
    ledger = next(t for t in claims.findall(nodes.table) if "ledger" in t["classes"])
    for row in next(ledger.findall(nodes.tbody)).children:
        number, claim, source, verdict, evidence = (
            "".join(to_html(p, f"{site}book/") for p in entry.children) for entry in row.children
        )
        front = f"Does it hold? {claim} ({source})"
        yield f"claim {row[0].astext()}", front, f"<b>{verdict}</b>: {evidence} ({number})", "claim"


def deck(notes):
    """The file's text."""
    lines = io.StringIO()
    table = csv.writer(lines, delimiter="\t", lineterminator="\n")
    for name, front, back, tag in notes:
        guid = sha256(f"very-deep {name}".encode()).hexdigest()[:12]
        table.writerow([guid, front, back, f"very-deep::{tag}"])
    return "\n".join([*HEAD, lines.getvalue()])


def write(app, exception):
    """Write the deck (Sphinx's ``build-finished`` event)."""
    if exception or app.builder.name != "html" or GLOSSARY not in app.env.all_docs:
        return
    pages = (app.env.get_and_resolve_doctree(name, app.builder) for name in (GLOSSARY, CLAIMS))
    text = deck(notes_of(*pages, app.config.html_baseurl))
    Path(app.outdir, "_static", FILE).write_text(text, encoding="utf-8")


def setup(app):
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
