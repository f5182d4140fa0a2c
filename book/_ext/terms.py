"""What a term means, where a chapter mentions it first: a link into the glossary that says so.

A chapter's links are to the terms that another chapter explains, or none: what it explains itself
stands on the page. A link carries the definition (``data-definition``), which `book.js` shows to
the pointer and to the keyboard's focus; without scripts it is a link as any other.
"""

import re
from html import escape

from docutils import nodes
from learning import GLOSSARY, chapter_of
from sphinx.addnodes import pending_xref

# Where words are not ours, or where a link would be in the way.
NOT_IN = (
    nodes.block_quote,
    nodes.caption,
    nodes.emphasis,  # what is explained here
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.reference,
    nodes.strong,
    nodes.table,
    nodes.title,
)
# Words that the chapters also use in their everyday sense, or in another of the field's.
AMBIGUOUS = {"gain", "kernel", "stacking", "transfer"}
ALSO = {"batch normalisation": ("batch norm",)}
SHORTEST = 3  # letters of a name
ABBREVIATION = re.compile(r"(.+?) \((\w+)\)")


def names_of(term):
    """Under which names a term of the glossary is met: "fan-in, fan-out" has two."""
    both = ABBREVIATION.fullmatch(term)
    names = [*(both.groups() if both else term.split(", ")), *ALSO.get(term, ())]
    return [name for name in names if len(name) >= SHORTEST and name not in AMBIGUOUS]


def terms_of(glossary):
    """Each name in the glossary → ``(anchor, definition, chapter that explains it)``."""
    found, same = {}, {}
    for item in glossary.findall(nodes.definition_list_item):
        said = item[-1].deepcopy()
        for link in list(said.findall(nodes.reference)) + list(said.findall(pending_xref)):
            if "notebooks/" in str(link.attributes):  # says where, not what
                link.parent.remove(link)
        definition = " ".join(said.astext().split()).rstrip(" ,")
        for term in item.findall(nodes.term):
            for name in names_of(term.astext()):
                found[name] = term["ids"][0], definition, chapter_of(item[-1])
                if definition.startswith("See "):
                    same[name] = definition.removeprefix("See ").rstrip(".")
    return found | {name: found[other] for name, other in same.items()}


def pattern_of(names):
    """What finds any of these names, the longest first; one without capitals may begin with one."""
    found = []
    for name in sorted(names, key=len, reverse=True):
        first = f"[{name[0]}{name[0].upper()}]" if name.islower() else re.escape(name[0])
        found.append(f"{first}{re.escape(name[1:])}")
    return re.compile(rf"(?<![\w-])({'|'.join(found)})s?(?![\w-])")


def above(node):
    """Everything around a node."""
    while node.parent is not None:
        node = node.parent
        yield node


def is_ours(text):
    """Whether a text is a chapter's prose, and a place for a link."""
    around = list(above(text))
    return any(isinstance(node, nodes.paragraph) for node in around) and not any(
        isinstance(node, NOT_IN) or "verdict-evidence" in node.get("classes", ()) for node in around
    )


def link_terms(app, doctree, docname):
    """Link what a chapter mentions first (Sphinx's ``doctree-resolved`` event)."""
    if app.builder.name != "html" or not docname.startswith("notebooks/"):
        return
    terms = terms_of(app.env.get_doctree(GLOSSARY))
    pattern, page = pattern_of(terms), app.builder.get_relative_uri(docname, GLOSSARY)
    over = {anchor for anchor, _, chapter in terms.values() if chapter == docname}
    for text in list(doctree.findall(nodes.Text)):
        parts, done = [], 0
        for found in pattern.finditer(text):
            name = found[1] if found[1] in terms else found[1][0].lower() + found[1][1:]
            anchor, definition, _ = terms[name]
            if anchor in over:
                continue
            if is_ours(text):
                link = (
                    f'<a class="term" href="{page}#{anchor}" '
                    f'data-definition="{escape(definition)}">{escape(found[0])}</a>'
                )
                before = nodes.Text(text[done : found.start()])
                parts += [before, nodes.raw("", link, format="html")]
                done = found.end()
            elif not isinstance(text.parent, nodes.emphasis):
                continue
            over.add(anchor)
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[done:])])


def depend(app, doctree):
    """A chapter is read again when the glossary has changed (``doctree-read`` event)."""
    if app.env.docname.startswith("notebooks/"):
        app.env.note_dependency(str(app.env.doc2path(GLOSSARY)))


def setup(app):
    app.connect("doctree-read", depend)
    app.connect("doctree-resolved", link_terms)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
