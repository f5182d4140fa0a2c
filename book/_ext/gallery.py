"""Widgets on pages that are no notebooks: the gallery, and the one of the first page.

- ``gallery`` on a line of its own becomes a section for each widget of `vgglib.widgets.explorers`:
  what to try, a link that sets the widget so, and the chapter's section that it belongs to.
- ``{widget} LiveVGG`` is one widget. With ``:asked: words`` it shows its poster and loads nothing
  until the reader touches it or the button with these words; ``:then:`` is what that changes, as
  JSON.

Still pictures, which a notebook's output carries within itself, become files that a page fetches
when they come into view.
"""

import base64
import hashlib
import html
import re
import struct
from functools import cache
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from myst_parser.mdit_to_docutils.base import default_slugify
from reading import TITLE
from sphinx.util.docutils import SphinxDirective

GALLERY = re.compile(r"^```\{gallery\}\n```$", re.MULTILINE)
PICTURE = re.compile(r'src="data:image/png;base64,([^"]{8000,})"')
PLACE = "vgg-file:"  # before a file's name, until the page's own place is known
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def in_files(text):
    """HTML with the larger pictures as files, and {name: bytes} of those."""
    files = {}

    def name(found):
        data = base64.b64decode(found[1])
        file = f"{hashlib.sha256(data).hexdigest()[:12]}.png"
        files[file] = data
        # A picture without its size takes no room until it comes: all below would be in view.
        width, height = struct.unpack(">II", data[16:24])  # of a PNG's header
        return f'loading="lazy" width="{width}" height="{height}" src="{PLACE}{file}"'

    return PICTURE.sub(name, text), files


@cache
def still(name):
    """The HTML of a widget as its class makes it, and its pictures."""
    from vgglib import widgets  # here: it takes seconds, as torch does

    return in_files(getattr(widgets, name)().html())


def shown_in(folder):
    """Widget's front end → (notebook, chapter's number and title, section) that shows it first."""
    found = {}
    for path in sorted(Path(folder).glob("[0-9]*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        title, section = TITLE.match(cells[0].source), ""
        for cell in cells:
            if cell.cell_type == "markdown":
                section = (HEADING.findall(cell.source) or [section])[-1]
                continue
            for output in cell.get("outputs", []):
                text = output.get("data", {}).get("text/html", "")
                for front in re.findall(r'<div class="vgg-widget" data-widget="(\w+)"', text):
                    found.setdefault(front, (path, f"{title[1]} {title[2]}", section))
    return found


def section(widget, place, top):
    """A widget's section of the gallery, as Markdown."""
    name = widget.title().lower().replace(" ", "-")
    href = html.escape(f"#{name}:{widget.example}")
    lines = [f"## {widget.title()}", "", widget.to_try]
    lines[-1] += f' <a href="{href}">Set it so.</a>' if widget.example else ""
    if place:
        path, chapter, heading = place
        link = f"{top}notebooks/{path.name}#{default_slugify(heading)}"
        lines += ["", f"From chapter {chapter}, section [{heading}]({link})."]
    return "\n".join([*lines, "", f"```{{widget}} {widget.__name__}", "```", ""])


def fill_gallery(app, docname, source):
    """Put the widgets' sections into the page that asks for them (``source-read`` event)."""
    if not GALLERY.search(source[0]):
        return
    from vgglib.widgets.base import explorers

    places = shown_in(Path(app.srcdir) / "notebooks")
    top = "../" * docname.count("/")
    # In the order of the chapters; a widget that none has yet comes last.
    found = sorted(explorers(), key=lambda one: str(places.get(one.front, "~")))
    text = "\n".join(section(one, places.get(one.front), top) for one in found)
    source[0] = GALLERY.sub(lambda _: text, source[0])


class Widget(SphinxDirective):
    """A widget of vgglib."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012 (docutils' own attribute)
        "asked": directives.unchanged_required,
        "then": directives.unchanged_required,
    }

    def run(self):
        (name,) = self.arguments
        asked, then = self.options.get("asked"), self.options.get("then", "{}")
        if not asked:
            return [nodes.raw("", still(name)[0], format="html")]
        from vgglib import widgets

        widget = getattr(widgets, name)()
        widget.fallback = widget.poster
        attributes = f'data-asked="{html.escape(asked)}" data-then="{html.escape(then)}"'
        text = widget.html().replace("<div ", f"<div {attributes} ", 1)
        return [nodes.raw("", text, format="html")]


def write_pictures(app):
    """Put the still pictures beside what widgets load (``builder-inited`` event)."""
    if app.builder.format == "html":
        from vgglib.widgets.base import explorers

        folder = Path(app.outdir) / "_static" / "widgets"
        folder.mkdir(parents=True, exist_ok=True)
        for widget in explorers():
            for name, data in still(widget.__name__)[1].items():
                (folder / name).write_bytes(data)


def place_pictures(app, pagename, templatename, context, doctree):
    """Say where the pictures lie, and load the style of posters (``html-page-context`` event)."""
    body = context.get("body", "")
    if PLACE in body:
        folder = context["pathto"]("_static/widgets/", 1)
        body = body.replace(PLACE, folder)
        if app.builder.name == "singlehtml":  # printed: nothing comes into view
            body = body.replace('loading="lazy" ', "")
        context["body"] = body
    for front in re.findall(r'data-asked="[^>]+ data-widget="(\w+)"', body):
        app.add_css_file(f"widgets/{front}.css")


def setup(app):
    app.connect("builder-inited", write_pictures)
    app.connect("source-read", fill_gallery)
    app.connect("html-page-context", place_pictures)
    app.add_directive("widget", Widget)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
