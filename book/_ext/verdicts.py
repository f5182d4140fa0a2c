"""A verdict of a chapter as a badge, like those of the claims ledger.

The line ``**Verdict 4.2: holds at our scale (live; quarter width).** What we saw.``, which a
notebook shows in bold, becomes the claim's number, a badge with the verdict and, beside it, the
evidence. Its words are those that `tools/claims.py` reads. The badge leads to the ledger, and has
with it what the ledger says that these words mean; `book.js` shows it as it shows a term.
"""

import re
from html import escape

from docutils import nodes

#: How a verdict is drawn, here and in the ledger: badges of sphinx-design.
BADGES = {
    "holds": "success",
    "holds at our scale": "success-line",
    "refuted": "danger",
    "contrary at our scale": "danger-line",
    "undecided": "warning-line",
    "not run": "secondary-line",
}
OPENING = re.compile(r"(Verdict \d+\.\d+): ([a-z ]+) \(")
LEDGER = "book/claims"
KIND = re.compile(r"\b(exact|live|recorded|cited) \(((?:[^()]|\([^()]*\))*)\)")


def badge(verdict):
    """The verdict's word in the ledger's colours; None if it is no verdict."""
    if verdict not in BADGES:
        return None
    colour, _, line = BADGES[verdict].partition("-")
    look = (
        f"sd-outline-{colour} sd-text-{colour}" if line else f"sd-bg-{colour} sd-bg-text-{colour}"
    )
    return nodes.inline("", verdict, classes=["sd-sphinx-override", "sd-badge", *look.split()])


def show_verdicts(app, doctree):
    """Turn the verdicts of a page into badges (Sphinx's ``doctree-read`` event)."""
    for strong in list(doctree.findall(nodes.strong)):
        paragraph, said = (
            strong.parent,
            [part for part in strong if part.astext()],
        )  # not empty ones
        opening = OPENING.match(said[0].astext()) if said else None
        first = next(part for part in paragraph if part.astext()) is strong
        whole = opening and first and strong.astext().endswith(").")
        mark = badge(opening[2]) if whole else None
        if not mark:
            continue
        evidence = nodes.inline("", "", *said, classes=["verdict-evidence"])
        evidence[0] = nodes.Text(evidence[0].astext()[opening.end() :])
        evidence[-1] = nodes.Text(evidence[-1].astext()[: -len(").")])
        number = nodes.strong("", opening[1])
        head = nodes.inline("", "", number, nodes.Text(" "), mark, nodes.Text(" "), evidence)
        head["classes"].append("verdict-head")
        paragraph.replace(strong, head)
        paragraph["classes"].append("verdict")
    for quote in doctree.findall(nodes.block_quote):
        if quote.astext().startswith("Claim "):
            quote["classes"].append("claim")


def meanings(ledger):
    """Each word of a verdict and each kind of evidence → what the ledger says that it means."""
    table = next(ledger.findall(nodes.table))
    rows = [[cell.astext() for cell in row] for row in table.findall(nodes.row)]
    kinds = {
        kind: meaning
        for paragraph in ledger.findall(nodes.paragraph)
        for kind, meaning in KIND.findall(paragraph.astext())
    }
    return {word: meaning for word, meaning in rows if word in BADGES} | kinds


def explain(app, doctree, docname):
    """Let each badge of a chapter say what its words mean (``doctree-resolved`` event)."""
    heads = [h for h in doctree.findall(nodes.inline) if "verdict-head" in h["classes"]]
    if app.builder.name != "html" or not heads:
        return
    means, page = (
        meanings(app.env.get_doctree(LEDGER)),
        app.builder.get_relative_uri(docname, LEDGER),
    )
    for head in heads:
        mark, evidence = head[2], head[4].astext()
        words = [mark.astext(), *re.findall("exact|live|recorded|cited", evidence)[:1]]
        said = ". ".join(f"{word.capitalize()}: {means[word]}" for word in words)
        link = f'<a class="verdict-word" href="{page}" data-definition="{escape(said)}.">'
        around = [nodes.raw("", text, format="html") for text in (link, "</a>")]
        head.replace(mark, [around[0], mark, around[1]])


def setup(app):
    app.connect("doctree-read", show_verdicts, priority=450)
    app.connect("doctree-resolved", explain)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
