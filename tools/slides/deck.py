"""How do slides become a page that needs no network?

A reveal.js deck: pictures inside, formulas as MathML, reveal.js beside it (the copy that the
package sphinx-revealjs carries).
"""

import re
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import jinja2

from .outline import markdown, outline

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from mathml import to_mathml  # noqa: E402 (the book's own converter)

# What of reveal.js a deck loads.
REVEAL = ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "LICENSE", "plugin/notes")


def _math(self, tokens, index, options, env):
    display = "block" if tokens[index].type.startswith("math_block") else "inline"
    return to_mathml(tokens[index].content.strip(), display)


def _link(self, tokens, index, options, env):
    """A link to another chapter would lead nowhere: only those to other hosts stay links."""
    token = tokens[index]
    if not token.attrGet("href").startswith("http"):
        token.tag = "span"
        token.attrs = {}
    return self.renderToken(tokens, index, options, env)


def _link_end(self, tokens, index, options, env):
    depth = 0
    for token in reversed(tokens[:index]):
        if token.type == "link_close":
            depth += 1
        elif token.type == "link_open":
            if depth == 0:
                tokens[index].tag = token.tag
                break
            depth -= 1
    return self.renderToken(tokens, index, options, env)


for _name in ("math_inline", "math_inline_double", "math_block"):
    markdown.add_render_rule(_name, _math)
markdown.add_render_rule("link_open", _link)
markdown.add_render_rule("link_close", _link_end)


def write(notebooks, folder):
    """Write a deck for each chapter, and what the decks load.

    Parameters
    ----------
    notebooks : list of path-like
    folder : path-like
        Made if it is missing; decks in it are replaced.

    Returns
    -------
    list of Path
        The decks, ``NN_name.html``.
    """
    folder = Path(folder)
    source = files("sphinx_revealjs") / "_static" / "revealjs"
    for name in REVEAL:
        target = folder / "reveal" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, dirs_exist_ok=True)
        else:
            shutil.copy(source / name, target)
    shutil.copy(HERE / "slides.css", folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["block"] = markdown.render
    environment.filters["inline"] = markdown.renderInline
    template = environment.get_template("deck.html")
    decks = []
    for path in map(Path, notebooks):
        sections = outline(path)
        title = re.sub(r"[`*$]", "", sections[0][0].content["title"])
        page = template.render(title=title, sections=sections)
        decks.append(folder / f"{path.stem}.html")
        decks[-1].write_text(page, encoding="utf-8")
    return decks
