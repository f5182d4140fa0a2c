"""Numbers, captions and links for the figures of a chapter.

A picture that a cell shows becomes "Figure 4.3" with what its alt text says first, can be linked as
``04_pre_initialisation.ipynb#figure-4-3``, and where the text speaks of *the figure* it says which.
A drawing on white gets the class ``drawing``: the style sheet turns it over for the dark theme,
which would make a negative of a photo, also of one beside a drawing.
"""

import io
import re
from collections import Counter

from docutils import nodes
from PIL import Image

MENTION = re.compile(r"\b[Tt]he figure\b(?! of| that| in)(?: (?:above|below)\b)?")
END = re.compile(r"[:.;] |\.$")  # of a statement in an alt text
SHORTEST = 20  # characters of a caption
WHITE = 253  # nearly: a picture that was reduced to 256 colours has none of 255


def caption(alt):
    """What a figure is, from the text that stands for it: its first statement."""
    ends = [end.start() for end in END.finditer(alt) if end.start() >= SHORTEST]
    first = alt[: ends[0]] if ends else alt
    first = first.removesuffix(", at the end").removesuffix("; after the last")
    return first[:1].upper() + first[1:]


def is_drawing(picture):
    """Whether a PNG is a drawing on white paper: the rest is of few colours, as no photo is."""
    shown = Image.open(io.BytesIO(picture)).convert("RGB")
    size = shown.width * shown.height
    white, others = 0, Counter()
    for count, colour in shown.getcolors(size):
        if min(colour) >= WHITE:
            white += count
        else:
            others[tuple(part // 32 for part in colour)] += count  # edges are blurred
    drawn = sum(count for _, count in others.most_common(4))
    return white > 0.5 * size and size - white - drawn < 0.1 * size


def number_figures(app, doctree):
    """Give the pictures of a chapter's cells their numbers (Sphinx's ``doctree-read`` event)."""
    chapter = re.match(r"notebooks/(\d\d)_", app.env.docname)
    if not chapter:
        return
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    figures = []
    for node in list(doctree.findall(nodes.image)):
        if "cell_output" in classes_above(node):
            label = f"{int(chapter[1])}.{len(figures) + 1}"
            name = f"figure-{label.replace('.', '-')}"
            figure = nodes.figure("", ids=[name], classes=["numbered"])
            node.replace_self(figure)
            said = nodes.caption("", "", nodes.strong("", f"Figure {label}"))
            said += nodes.Text(f" {caption(node.get('alt', ''))}")
            figure += [node, said]
            slugs[name] = (node.line, name, name)
            name_in_prompt(figure, label)
            figures.append(figure)
    link_mentions(doctree, figures)


def name_in_prompt(figure, label):
    """Let the line of a folded cell say which figures the cell draws."""
    cell = figure
    while cell.get("nb_element") != "cell_code":
        cell = cell.parent
    prompt = cell.get("prompt_show", "")
    if prompt == "Draws the figure":
        cell["prompt_show"] = cell["prompt_hide"] = f"Draws Figure {label}"
    elif prompt.startswith("Draws Figure"):
        cell["prompt_show"] = cell["prompt_hide"] = f"{prompt} and {label}"


def classes_above(node):
    """The classes of everything around a node."""
    found = set()
    while node.parent is not None:
        node = node.parent
        found.update(node.get("classes", []))
    return found


def section_of(node):
    """The innermost section around a node."""
    while node is not None and not isinstance(node, nodes.section):
        node = node.parent
    return node


def link_mentions(doctree, figures):
    """Say which figure *the figure* is: of those of the section the last before it, or the next."""
    place = {id(node): number for number, node in enumerate(doctree.findall())}
    for text in list(doctree.findall(nodes.Text)):
        if not isinstance(text.parent, nodes.paragraph) or not MENTION.search(text):
            continue
        near = [figure for figure in figures if section_of(figure) is section_of(text)]
        if not near:
            continue
        before = [figure for figure in near if place[id(figure)] < place[id(text)]]
        nearest = before[-1] if before else near[0]
        parts, done = [], 0
        for mention in MENTION.finditer(text):
            label = nearest["ids"][0].removeprefix("figure-").replace("-", ".")
            link = nodes.reference("", f"Figure {label}", internal=True, refid=nearest["ids"][0])
            parts += [nodes.Text(text[done : mention.start()]), link]
            done = mention.end()
        text.parent.replace(text, [*parts, nodes.Text(text[done:])])


def leave_numbers(app, config):
    """Take back that Jupyter Book numbers the figures of the whole book from one."""
    config.numfig = False


def setup(app):
    app.connect("config-inited", leave_numbers, priority=999)
    # After `very_deep.finish_page`, which knows the alt texts; before Sphinx collects the images.
    app.connect("doctree-read", number_figures, priority=450)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
