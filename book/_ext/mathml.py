"""Formulas as MathML, written when the book is built.

Browsers draw MathML and screen readers read it, without a script; MathJax, which Sphinx would put
there, weighs more than a megabyte. A font with the measures that formulas need is not on every
device, so the book brings the characters it uses of STIX Two Math.
"""

import re
import unicodedata
from html import unescape
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from latex2mathml.converter import convert_to_element
from sphinx.util import logging

log = logging.getLogger(__name__)
# An identifier of one letter is drawn in italics, that is, as another character.
ITALIC = {
    unicodedata.normalize("NFKC", letter): letter
    for letter in map(chr, (*range(0x1D434, 0x1D468), *range(0x1D6FC, 0x1D71C), 0x210E))
}
FORMULA = re.compile(r"<math.*?</math>", re.DOTALL)


def bold(character):
    """The mathematical bold letter for a Latin one."""
    first = 0x1D41A - ord("a") if character.islower() else 0x1D400 - ord("A")
    return chr(ord(character) + first) if character.isascii() and character.isalpha() else character


def to_mathml(tex, display="inline"):
    """A formula in LaTeX as a ``<math>`` element.

    Parameters
    ----------
    tex : str
        The formula without its dollars.
    display : {"inline", "block"}

    Raises
    ------
    ValueError
        When the converter leaves a command as it stands, that is, does not know it.
    """
    root = convert_to_element(tex, display=display)
    for element in root.iter():
        element.text = element.text and unescape(element.text)  # the converter writes &#x003C3;
    unknown = [text for text in root.itertext() if "\\" in text]
    if unknown:
        raise ValueError(f"{unknown[0]} in the formula {tex!r} has no MathML")
    for parent in list(root.iter()):
        for place, child in reversed(list(enumerate(parent))):
            # Browsers know of `mathvariant` the value "normal" alone.
            if child.get("mathvariant") == "bold":
                child.text = "".join(map(bold, child.text))
                del child.attrib["mathvariant"]
            # A relation, not the key on the keyboard; and a slash as in TeX, without spaces.
            if child.tag == "mo" and child.text == "~":
                child.text = "∼"
            if child.tag == "mo" and child.text == "/":
                child.attrib.update(lspace="0", rspace="0")
            # The name of a function (Var, ln) is an identifier, not an operator with its
            # spaces; before an argument without brackets a thin one is left.
            if child.tag in ("mi", "mo") and len(child.text or "") > 1 and child.text.isalpha():
                child.tag = "mi"
                follows = parent[place + 1] if place + 1 < len(parent) else None
                if parent.tag == "mrow" and follows is not None and follows.tag != "mo":
                    parent.insert(place + 1, ElementTree.Element("mspace", width="0.167em"))
    return ElementTree.tostring(root, encoding="unicode")


def write(self, node, display):
    """Append a node's formula to the page that ``self``, a translator, writes."""
    try:
        self.body.append(to_mathml(node.astext(), display))
    except ValueError as error:
        log.warning("%s", error, location=node)


def visit_inline(self, node):
    write(self, node, "inline")
    raise nodes.SkipNode


def visit_block(self, node):
    if node.get("number"):
        log.warning("equations have no numbers in this book", location=node)
    self.body.append(self.starttag(node, "div", CLASS="math"))
    write(self, node, "block")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def write_font(app, exception):
    """Write the part of the font that the pages use (Sphinx's ``build-finished`` event).

    That is the formulas' characters, and those of the text that the text's own face lacks.
    """
    if exception or app.builder.format != "html":
        return
    pages = [path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html")]
    formulas = "".join(formula for page in pages for formula in FORMULA.findall(page))
    letters = {*"".join(ElementTree.fromstring(f"<p>{formulas}</p>").itertext())}
    letters |= {ITALIC[letter] for letter in letters & ITALIC.keys()}
    letters.add("√")  # in no text
    face = TTFont(Path(app.srcdir, "book", "_static", "fonts", "serif.woff2"))
    letters |= {*"".join(pages)} - {*map(chr, face.getBestCmap())}
    font = TTFont(files("ziamath.fonts") / "STIXTwoMath-Regular.ttf")
    # ssty: the forms for scripts. The larger variants of a sign are kept with it.
    keep = subset.Subsetter(subset.Options(layout_features=["ssty"], hinting=False))
    keep.populate(text="".join(letters))
    keep.subset(font)
    font.flavor = "woff"
    font.save(Path(app.outdir, "_static", "math.woff"))


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("build-finished", write_font)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
