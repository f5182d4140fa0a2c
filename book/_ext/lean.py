"""A page loads no script or style sheet that it has no use for.

The theme's own are listed in its template; `book/_templates/layout.html` leaves out what is heavy
there. What extensions add to every page is dropped here from pages that lack what it works on.
"""

from docutils import nodes

# Part of a script's or style sheet's name (or of a script's text): what must be in a page's HTML.
WORKS_ON = {
    "design-tabs": "sd-tab-set",
    "toggle": 'class="toggle',
    "copybutton": 'class="highlight',
    "clipboard": 'class="highlight',
    "plot_directive": "plot-directive",
    "thebe": None,  # live code through a host of somebody else's: never
    "THEBE_JS_URL": None,
}


def is_needed(asset, body):
    """Whether a page with this HTML needs a script or style sheet of Sphinx's."""
    text = f"{asset.filename} {asset.attributes.get('body', '')}"
    return all(mark is not None and mark in body for part, mark in WORKS_ON.items() if part in text)


def trim(app, pagename, templatename, context, doctree):
    """Drop scripts and style sheets without use (Sphinx's ``html-page-context`` event)."""
    body = context.get("body", "")
    for name in ("script_files", "css_files"):
        context[name] = [asset for asset in context[name] if is_needed(asset, body)]


def drop_thebe(app, doctree, docname):
    """Drop the settings for live code that Jupyter Book puts below every page."""
    for raw in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in raw.astext() or raw.astext().startswith("<script>kernelName"):
            raw.parent.remove(raw)


def setup(app):
    # Both after everybody who adds some.
    app.connect("html-page-context", trim, priority=999)
    app.connect("doctree-resolved", drop_thebe, priority=999)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
