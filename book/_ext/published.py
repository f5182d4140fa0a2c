"""What search engines, previews and readers who took a wrong turn need of a published book.

Every page gets a description; `book/_templates/layout.html` writes it, and the card that is shown
where a page is linked. The book gets a site map and a page for addresses that lead nowhere. The
book's own address is `html_baseurl`, in `_config.yml`.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from docutils import nodes

LONGEST = 200  # characters of a description; search engines cut longer ones
MISSING = """
<h1>There is no such page</h1>
<p>The address leads nowhere in this book: a page may have moved, or a letter is missing.
The <a href="{top}book/index.html">first page</a> lists the chapters, and the
<a href="{top}search.html">search</a> looks through all of them.</p>
"""


def shorten(text, longest=LONGEST):
    """As many whole sentences as fit; else as many words, and an ellipsis."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    ends = [end.end() for end in re.finditer(r"[.?!](?= [A-Z])", text[: longest + 2])]
    return text[: ends[-1]] if ends else text[: longest - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def description(doctree):
    """What a page says of itself, or its first paragraph; None without one."""
    for meta in doctree.findall(nodes.meta):
        if meta.get("name") == "description":
            return meta["content"]
    paragraphs = (p.astext() for p in doctree.findall(nodes.paragraph))
    return next((shorten(text) for text in paragraphs if len(text) > 60), None)


def describe(app, pagename, templatename, context, doctree):
    """Give a page's template its description (``html-page-context`` event)."""
    own = description(doctree) if doctree else None
    context["description"] = own or context["tagline"]
    context["described"] = 'name="description"' in context.get("metatags", "")  # by docutils
    context["site"] = app.config.html_baseurl


def missing_page(app):
    """The page for addresses that lead nowhere (``html-collect-pages`` event)."""
    body = MISSING.format(top=urlsplit(app.config.html_baseurl).path)
    yield "404", {"title": "No such page", "body": body}, "page.html"


def finish(app, exception):
    """Write the site map, and fix the links of the 404 page (``build-finished`` event)."""
    if exception or app.builder.name != "html":
        return
    top, folder = app.config.html_baseurl, Path(app.outdir)
    addresses = "".join(
        f"  <url><loc>{escape(top + app.builder.get_target_uri(name))}</loc></url>\n"
        for name in sorted(app.env.found_docs)
    )
    (folder / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{addresses}</urlset>\n',
        encoding="utf-8",
    )
    # It is shown in place of a page at any depth: its links start at the host's top.
    page = folder / "404.html"
    links = r'(href|src|action|data-content_root)="(?!https?:|/|#|data:|mailto:)(?:\./)?'
    text = re.sub(links, rf'\1="{urlsplit(top).path}', page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("html-page-context", describe)
    app.connect("html-collect-pages", missing_page)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
