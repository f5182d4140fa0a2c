"""Of the theme's style sheets and icons, what the pages use.

A rule stays when the pages, or the scripts that change them, know every class and id that one of
its selectors names. A font of icons keeps the characters that are left in the style sheets. The
script that would draw the same icons, 1.5 MB, goes: `book/_templates/layout.html` loads it not.
"""

import re
from pathlib import Path

import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont

NAME = re.compile(r"[A-Za-z_][\w-]*")
NAMED = re.compile(r"[.#]-?([A-Za-z_][\w-]*)")
# What a selector can do without, and attributes.
OPTIONAL = re.compile(r":(?:not|is|where)\([^()]*\)|\[[^\]]*\]")
COMMA = re.compile(r",(?![^(]*\))")  # between two selectors, not within brackets
ICON = re.compile("[\ue000-\uf8ff]")  # Unicode's private use area
NESTED = {"media", "supports", "layer", "container"}


def purge(rules, names):
    """The texts of those rules, as tinycss2 parses them, that apply where only names are known."""
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = COMMA.split(OPTIONAL.sub("", tinycss2.serialize(rule.prelude)))
            if any(names.issuperset(NAMED.findall(selector)) for selector in selectors):
                yield rule.serialize()
        elif rule.type == "at-rule" and rule.content and rule.lower_at_keyword in NESTED:
            inner = "".join(purge(tinycss2.parse_rule_list(rule.content, True, True), names))
            yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
        else:
            yield rule.serialize()


def lighten(app, exception):
    """Purge style sheets and fonts of icons (Sphinx's ``build-finished`` event)."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    (static / "scripts" / "fontawesome.js").unlink(missing_ok=True)
    names = set()
    for path in (*Path(app.outdir).rglob("*.html"), *static.rglob("*.js")):
        names.update(NAME.findall(path.read_text(encoding="utf-8")))
    icons = set()
    for sheet in (*static.glob("*.css"), *(static / "styles").glob("*.css")):
        rules = tinycss2.parse_stylesheet(sheet.read_text(encoding="utf-8"), True, True)
        text = "".join(purge(rules, names))
        icons.update(ICON.findall(text))
        sheet.write_text(text, encoding="utf-8")
    for font in static.rglob("fa-*.woff2"):
        glyphs = TTFont(font)
        keep = subset.Subsetter()
        keep.populate(text="".join(icons))
        keep.subset(glyphs)
        glyphs.save(font)


def setup(app):
    # After all that writes into pages.
    app.connect("build-finished", lighten, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
