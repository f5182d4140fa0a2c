"""What previews, search engines and readers who took a wrong turn need of a published book.

Every page gets a description; `book/_templates/layout.html` writes it, and the card that is shown
where a page is linked. (sphinxext-opengraph would begin a chapter's with "Open in Colab", end it
within a word, and leave out what a page says of itself.) The page for addresses that lead nowhere
is sphinx-notfound-page's; the book's own address is `html_baseurl`, in `_config.yml`.
"""

import re
from urllib.parse import urlsplit

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


def set_address(app, config):
    """Tell sphinx-notfound-page where the book lies (``config-inited`` event)."""
    config.notfound_urls_prefix = top = urlsplit(config.html_baseurl).path
    config.notfound_context = {"title": "No such page", "body": MISSING.format(top=top)}


def setup(app):
    app.connect("html-page-context", describe)
    app.connect("config-inited", set_address)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
