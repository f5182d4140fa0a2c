"""What the theme would load on every page and the book does not need stays out."""

# Parts of names, or of the text, of scripts and style sheets.
UNUSED = ("thebe", "THEBE_JS_URL")  # live code through a host of somebody else's


def is_used(asset):
    """Whether a script or style sheet of Sphinx's is one that the book needs."""
    text = f"{asset} {getattr(asset, 'filename', '')} {getattr(asset, 'attributes', {})}"
    return not any(part in text for part in UNUSED)


def trim(app, pagename, templatename, context, doctree):
    """Drop unused scripts and style sheets (Sphinx's ``html-page-context`` event)."""
    for name in ("script_files", "css_files"):
        context[name] = [asset for asset in context[name] if is_used(asset)]


def setup(app):
    app.connect("html-page-context", trim, priority=999)  # after everybody who adds some
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
