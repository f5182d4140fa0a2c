"""The style sheets without the rules that no page has a use for, and without their white space.

A rule stays when the pages, or the scripts that change them, know every class and id that one of
its selectors names. All other selectors stay: what is decided is only whether a name exists.
"""

import re
from pathlib import Path

import tinycss2

# What a name may look like, in the attributes of a page and anywhere in a script.
NAME = re.compile(r"-?[A-Za-z_][\w-]*")
ATTRIBUTES = re.compile(r'\b(?:class|id)="([^"]*)"')
NESTED = {"media", "supports", "layer", "container"}


def known_names(folder):
    """Classes and ids in the pages of a folder, and all words of its scripts."""
    names = set()
    for page in folder.rglob("*.html"):
        for value in ATTRIBUTES.findall(page.read_text(encoding="utf-8")):
            names.update(value.split())
    for script in (folder / "_static").rglob("*.js"):
        if script.name != "fontawesome.js":  # the pages load it no more
            names.update(NAME.findall(script.read_text(encoding="utf-8")))
    return names


def named(tokens):
    """Classes and ids that a selector cannot do without."""
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "hash" or (token.type == "ident" and before == "."):
            yield token.value
        elif token.type == "function" and token.lower_name not in ("not", "is", "where"):
            yield from named(token.arguments)


def selectors(prelude):
    """The selectors of a rule, each as a list of tokens."""
    parts = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        elif token.type != "comment":
            parts[-1].append(token)
    return parts


def purge(css, names):
    """A style sheet's text with the rules alone whose selectors' names are known.

    Parameters
    ----------
    css : str
    names : set of str
        From `known_names`.
    """
    return "".join(_kept(tinycss2.parse_stylesheet(css, True, True), names))


def _kept(rules, names):
    """Text of the rules to keep, one after the other."""
    for rule in rules:
        if rule.type == "qualified-rule":
            heads = [s for s in selectors(rule.prelude) if names.issuperset(named(s))]
            if heads:
                yield f"{','.join(map(_text, heads))}{{{_text(rule.content)}}}"
        elif rule.type == "at-rule":
            head = f"@{rule.at_keyword} {_text(rule.prelude)}"
            if rule.content is None:
                yield f"{head};"
            elif rule.lower_at_keyword in NESTED:
                inner = tinycss2.parse_rule_list(rule.content, True, True)
                body = "".join(_kept(inner, names))
                yield f"{head}{{{body}}}" if body else ""
            elif "Font Awesome" not in (body := _text(rule.content)):  # the icons' fonts
                yield f"{head}{{{body}}}"
        else:
            raise ValueError(f"no rule of a style sheet: {rule.serialize()}")


def _text(tokens):
    """Tokens as text, with single spaces."""
    return "".join(" " if t.type == "whitespace" else t.serialize() for t in tokens).strip()


def purge_styles(app, exception):
    """Purge the style sheets of the theme and the extensions (``build-finished`` event)."""
    if exception or app.builder.format != "html":
        return
    names = known_names(Path(app.outdir))
    static = Path(app.outdir, "_static")
    for sheet in (*static.glob("*.css"), *(static / "styles").glob("*.css")):
        sheet.write_text(purge(sheet.read_text(encoding="utf-8"), names), encoding="utf-8")


def setup(app):
    # After the icons: their classes are known then.
    app.connect("build-finished", purge_styles, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
