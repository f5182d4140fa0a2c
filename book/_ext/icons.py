"""The theme's icons, drawn into the pages.

The theme writes ``<i class="fa-solid fa-moon">`` and loads Font Awesome's script of 1.5 MB (and its
fonts), which puts a drawing there. The same drawings, read from that script when the book is
built, go into the pages instead: some ten kinds of them, a few hundred bytes each.
"""

import re
from functools import cache
from pathlib import Path

PLACE = re.compile(r'<(i|span) class="([^"]*\bfa[srb]?[ -][^"]*)"([^>]*)>\s*</\1>')
# An icon in the script: moon:[384,512,[127769,9214],"f186","M223.5 32C…"]
ICON = re.compile(r'"?([a-z][\w-]*)"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]')
PREFIXES = {"fas": "fas", "fa-solid": "fas", "far": "far", "fab": "fab", "fa-brands": "fab"}


@cache
def drawings(script, prefix):
    """Icons of a style ("fas" is solid, "fab" brands): ``{name: (width, height, path)}``.

    In the script a style's icons stand before the call that registers them, and those of styles
    registered earlier before these; so the last one of a name is the one of the style.
    """
    text = script.read_text(encoding="utf-8")
    registered = re.search(rf'\w\("{prefix}",\w\)', text)
    return {name: drawing for name, *drawing in ICON.findall(text[: registered.start()])}


def draw(match, script):
    """The drawing for a place in a page that asks for an icon."""
    _, classes, attributes = match.groups()
    names = classes.split()
    prefix = next(PREFIXES[name] for name in names if name in PREFIXES)
    name = next(n[3:] for n in names if n.startswith("fa-") and n not in (*PREFIXES, "fa-lg"))
    width, height, path = drawings(script, prefix)[name]
    # A tip for the mouse is a child of a drawing, and its button has a name of its own.
    attributes = re.sub(r'\s*title="[^"]*"', "", attributes)
    return (
        f'<svg class="icon {" ".join(names)}"{attributes} viewBox="0 0 {width} {height}" '
        f'aria-hidden="true"><path fill="currentColor" d="{path}"/></svg>'
    )


def draw_icons(app, exception):
    """Put the drawings into every page (Sphinx's ``build-finished`` event)."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    script = static / "scripts" / "fontawesome.js"
    for page in Path(app.outdir).rglob("*.html"):
        if static in page.parents:
            continue
        before = page.read_text(encoding="utf-8")
        after = PLACE.sub(lambda match: draw(match, script), before)
        if after != before:
            page.write_text(after, encoding="utf-8")


def setup(app):
    app.connect("build-finished", draw_icons)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
