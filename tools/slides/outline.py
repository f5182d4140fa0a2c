"""Which slides does a chapter make?

A chapter asks, predicts, claims, shows and judges, and its marks say where (see `tools/claims.py`).
Each of these becomes a slide; the prose in between becomes the notes of the slide before it, so
that the lecturer has it at hand and the audience does not read along. Answers to exercises stay
behind.
"""

import json
import re
from dataclasses import dataclass, field

import nbformat
from claims import CLAIM
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

TABLE_ROWS, TABLE_COLUMNS = 12, 9  # a larger table is no slide
TEXT_LINES = 12
VERDICT = re.compile(r"\*\*(Verdict (\d+\.\d+): .+?)\.\*\* ?(.*)", re.DOTALL)
PREDICT = re.compile(r"(.*?)\*\*Predict:\*\* ?(.+)", re.DOTALL)
EXERCISE = re.compile(r"### (Exercise \d+\.\d+) \((.+?)\): (.+)")

#: The Markdown of the chapters: tables and LaTeX between dollars.
markdown = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin)


@dataclass
class Slide:
    """One slide.

    Attributes
    ----------
    kind : str
        "title", "section", "predict", "claim", "verdict", "figure", "table", "text", "summary" or
        "exercises".
    content : dict
        What it shows, by names that the deck's template knows; Markdown, unless said otherwise.
    notes : list of str
        Paragraphs of Markdown for the lecturer.
    """

    kind: str
    content: dict
    notes: list = field(default_factory=list)


def blocks(source):
    """The top-level blocks of a Markdown cell: paragraphs, headings, lists, quotations …"""
    lines = source.splitlines()
    for token in markdown.parse(source):
        if token.level == 0 and token.map and token.nesting >= 0:
            yield "\n".join(lines[slice(*token.map)]).strip()


def outline(path):
    """The slides of a chapter, as sections: each is a list of slides, the first is its title.

    Parameters
    ----------
    path : path-like
        An executed notebook in the house's form.

    Returns
    -------
    list of list of Slide
    """
    sections, claims = [], {}
    part = None  # "What we saw", "Exercises" or "Further reading", which have forms of their own
    for cell in nbformat.read(path, 4).cells:
        if "solution" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "code":
            if part is None and sections:
                sections[-1].extend(_shown(cell))
            continue
        for block in blocks(cell.source):
            if block.startswith("# "):
                sections.append([Slide("title", {"title": block[2:]})])
            elif block.startswith("## "):
                part = block[3:] if block[3:] in ENDS else None
                if part != "Further reading":
                    kind = ENDS.get(part, "section")
                    sections.append([Slide(kind, {"title": block[3:], "items": []})])
            elif part in ENDS:
                _add_to_end(sections[-1][0], part, block)
            else:
                _add(sections[-1], block, claims)
    return sections


ENDS = {"What we saw": "summary", "Exercises": "exercises", "Further reading": None}


def _add(section, block, claims):
    """A block of a section as a slide, or as notes of the slide before it."""
    if section[0].kind == "title" and "aim" not in section[0].content:
        if block.startswith("[!["):  # the badge
            return
        section[0].content["aim"] = first_sentence(block)
        section[0].notes.append(block)
    elif found := PREDICT.fullmatch(block):
        if found[1]:
            section[-1].notes.append(found[1])
        section.append(Slide("predict", {"title": "Predict", "question": found[2]}))
    elif found := CLAIM.findall(block):
        for number, source, words in found:
            claims[number] = {"name": f"Claim {number}", "source": source, "claim": words}
            section.append(Slide("claim", claims[number]))
    elif found := VERDICT.fullmatch(block):
        content = claims[found[2]] | {"verdict": found[1], "why": first_sentence(found[3])}
        section.append(Slide("verdict", content, [found[3]]))
    elif block.startswith("### "):
        section.append(Slide("section", {"title": block[4:]}))
    else:
        section[-1].notes.append(block)


def _add_to_end(slide, part, block):
    """A block of "What we saw" or of "Exercises"."""
    if part == "What we saw":
        slide.content["items"].append(block)
    elif found := EXERCISE.fullmatch(block):
        slide.content["items"].append(f"**{found[1]}** ({found[2]}): {found[3]}")
    else:
        slide.notes.append(block)


def _shown(cell):
    """Slides of a code cell's outputs: pictures, short tables, short texts of checked claims."""
    tags = cell.metadata.get("tags", [])
    if "predict" in tags:
        yield from _asked(cell)
    if "widget" in tags:  # lives in the book's page
        return
    claims = [tag for tag in tags if tag.startswith("claim-")]
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            alt = output.metadata.get("image/png", {}).get("alt", "")
            yield Slide("figure", {"png": data["image/png"].replace("\n", ""), "alt": alt}, [alt])
        elif "text/html" in data:
            html = data["text/html"]
            rows = html.count("<tr")
            if 1 < rows <= TABLE_ROWS + 1 and html.count("<th") + html.count("<td") <= (
                rows * (TABLE_COLUMNS + 1)
            ):
                yield Slide("table", {"html": html})
        elif claims and 0 < output.get("text", "").count("\n") <= TEXT_LINES:
            yield Slide("text", {"text": output.text})


def _asked(cell):
    """The questions of a control as slides, the answers as notes."""
    state = re.search(r"<script[^>]*>(.*?)</script>", cell.outputs[0].data["text/html"])
    questions = json.loads(state[1])["questions"]
    for question in questions:
        offered = question.get("order") or question.get("choices") or ()
        text = "\n".join([question["ask"], "", *(f"- {one}" for one in offered)])
        truth = question["truth"]
        answer = ", ".join(truth) if isinstance(truth, list) else truth
        note = f"{answer} {question.get('unit', '')}".strip() + f". {question.get('because', '')}"
        title = "Predict" if len(questions) == 1 else "Check yourself"
        yield Slide("predict", {"title": title, "question": text.strip()}, [note.strip()])


def first_sentence(paragraph):
    """A paragraph up to the end of its first sentence, as Markdown."""
    flat = " ".join(paragraph.split())
    # A full stop ends a sentence where a capital follows: not in "3.1", "e.g. this", "vgg.py".
    end = re.search(r"[.?!][)”\"*]*(?= [A-Z“\"(*`$])", flat)
    return flat[: end.end()] if end else flat
