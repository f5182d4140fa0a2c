"""Corrections to the HTML that others write, for readers who listen to a page or use no mouse."""

import re
from pathlib import Path

# What may scroll sideways in a narrow window. It can be reached by keyboard from the first moment,
# and says what it is; `book.js` takes that back where nothing scrolls.
SCROLLS = {
    r'<div class="pst-scrollable-table-container"': "Table",
    r'<div class="(?:[\w-]+ )*output(?: [\w-]+)*"': "Output",
    r"<pre(?=>)": "Code or output",
    r'<div class="math(?: [\w-]+)*"': "Formula",
}

CORRECTIONS = [
    *(
        (
            f"({opening})",
            rf'\1 data-scrolls tabindex="0" role="group" aria-label="{name}, scrolls sideways"',
        )
        for opening, name in SCROLLS.items()
    ),
    # A list has items alone as its children (sphinxcontrib-bibtex puts links there too), and a
    # role for entries is no longer one.
    (r'role="list" class="citation-list"', 'class="citation-list"'),
    (r' role="doc-biblioentry"', ""),
    # The corner of a table is no heading of anything.
    (r'<th(?: class="head")?>(?:<p></p>)?</th>', "<td></td>"),
    # Everything that is read lies in a landmark.
    (
        r'<div id="pst-primary-sidebar"',
        r'<div id="pst-primary-sidebar" role="region" aria-label="Book"',
    ),
    # The contents of a printed page; the page itself has its heading below.
    (r"<h1>([^<]*)</h1>\s*<!-- Table of contents -->", ""),
    (r"<h2> (\w+) </h2>", r"<p>\1</p>"),
]


def correct(app, exception):
    """Apply the corrections to every page (Sphinx's ``build-finished`` event)."""
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        before = after = page.read_text(encoding="utf-8")
        for pattern, replacement in CORRECTIONS:
            after = re.sub(pattern, replacement, after)
        if after != before:
            page.write_text(after, encoding="utf-8")


def setup(app):
    app.connect("build-finished", correct)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
