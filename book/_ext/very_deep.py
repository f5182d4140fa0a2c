"""What the book needs beyond Jupyter Book.

Once a page has been read:

- Figures get the alt text that ``vgglib.plots.show`` stored beside the picture.
- A code cell tagged ``solution`` folds under a "Solution" line, one that only installs, draws or
  checks (``hide-input``, written by `tools/folding.py`) under its own first line.
- An exercise folds under its heading, so that those of a chapter are seen together.
- A longer code cell gets the class ``long``: the style sheet shows how it begins, a click the rest.
- A code cell tagged ``claim-2-3`` can be linked as ``02_design.ipynb#claim-2-3``.
- The Colab badge is drawn from a local file, so that reading needs no other host; beside it stand
  badges for Kaggle and Codespaces, which the launch menu has as well.
- Thebe, live code on a host of somebody else's, is not loaded (Jupyter Book does so twice).

And for the widgets of `vgglib.widgets`: the files they load are put beside the pages, and a page
that has one gets the script and the style that bring it to life.
"""

import hashlib
import re
from base64 import b64decode
from pathlib import Path, PurePosixPath

import nbformat
from docutils import nodes
from figures import is_drawing

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
LOCAL_BADGE = "/book/_static/{}-badge.svg"
WIDGET = 'class="vgg-widget"'
EXERCISE = re.compile(r"Exercise \d+\.\d+ \(")
FIRST_LINE = re.compile(r"# (?:@title )?(.+)\n")
LONG = 7  # lines of code that a page shows whole


def launchers(app, document):
    """Where else a chapter opens: ``(name, address, icon)`` of each place, from the book's own."""
    options = app.config.html_theme_options
    url, branch = options.get("repository_url"), options.get("repository_branch")
    if not url or not document.startswith("notebooks/"):
        return []
    notebook = f"{url}/blob/{branch}/{document}.ipynb"
    repository = url.removeprefix("https://github.com/")
    return [
        ("Kaggle", f"https://kaggle.com/kernels/welcome?src={notebook}", "fa-brands fa-kaggle"),
        # A machine of its own, made as .devcontainer/ says.
        ("Codespaces", f"https://codespaces.new/{repository}?quickstart=1", "fa-brands fa-github"),
    ]


def badges(app, document):
    """What follows the Colab badge."""
    for name, url, _ in launchers(app, document):
        link = nodes.reference("", "", refuri=url)
        link += nodes.image(uri=LOCAL_BADGE.format(name.lower()), alt=f"Open in {name}")
        yield from (nodes.Text(" "), link)


def add_launchers(app, pagename, templatename, context, doctree):
    """And in the menu of the theme, below Colab (``html-page-context``, after the theme's)."""
    for button in context.get("header_buttons", ()):
        if button["label"] == "launch-buttons":
            button["buttons"] += [
                {
                    "type": "link",
                    "text": name,
                    "tooltip": f"Launch on {name}",
                    "icon": icon,
                    "url": url,
                }
                for name, url, icon in launchers(app, pagename)
            ]


def shown_pictures(notebook):
    """By the SHA-256 of each stored PNG: alt text, whether it is a drawing, width in pixels."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt:
                picture = b64decode(output.data["image/png"])
                width = int.from_bytes(picture[16:20], "big")  # as the format has it
                found[hashlib.sha256(picture).hexdigest()] = alt, is_drawing(picture), width
    return found


def finish_page(app, doctree):
    """Apply the changes of the list above to a page (Sphinx's ``doctree-read`` event)."""
    source = app.env.doc2path(app.env.docname)
    pictures = shown_pictures(nbformat.read(source, 4)) if source.endswith(".ipynb") else {}
    for image in list(doctree.findall(nodes.image)):
        if image["uri"] == BADGE:
            image["uri"] = LOCAL_BADGE.format("colab")
            image.parent.parent.extend(badges(app, app.env.docname))
        # MyST-NB names a stored picture by the hash of its bytes.
        shown = pictures.get(PurePosixPath(image["uri"]).stem)
        if shown:
            image["alt"], drawing, width = shown
            image["classes"].append("drawing" if drawing else "photo")
            if not drawing:  # small pictures beside each other
                image["width"] = f"{2 * width}px"

    anchors = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for cell in doctree.findall(nodes.container):
        tags = cell.get("cell_metadata", {}).get("tags", [])
        for tag in tags:
            if tag.startswith("claim-"):
                cell["ids"].append(tag)
                anchors[tag] = (cell.line, tag, tag)
        if "solution" in tags:
            cell["hide_mode"] = "all"
            cell["prompt_show"] = "Show the solution"
            cell["prompt_hide"] = "Hide the solution"
        elif "hide-input" in tags:
            title = FIRST_LINE.match(cell.astext())
            cell["prompt_show"] = cell["prompt_hide"] = title[1] if title else "Code"
        else:
            for code in cell.findall(nodes.literal_block):
                if "cell_input" in code.parent["classes"] and code.astext().count("\n") >= LONG:
                    code.parent["classes"].append("long")

    for section in list(doctree.findall(nodes.section)):
        if EXERCISE.match(section[0].astext()):
            fold_exercise(section)


def fold_exercise(section):
    """Put all of a section but its heading under a line that opens it, and works without script."""
    opening = '<details class="exercise"><summary>Open the exercise</summary>'
    section.insert(1, nodes.raw("", opening, format="html"))
    section.append(nodes.raw("", "</details>", format="html"))


def write_widgets(app):
    """Put what widgets load into the book's static files (Sphinx's ``builder-inited`` event)."""
    if app.builder.format == "html":
        from vgglib.widgets import write_front  # here: it takes seconds, as torch does

        write_front(Path(app.outdir) / "_static" / "widgets")


def load_widgets(app, pagename, templatename, context, doctree):
    """Load script and style on a page that has a widget (``html-page-context`` event)."""
    if WIDGET in context.get("body", ""):
        app.add_js_file("widgets.js", type="module")
        app.add_css_file("widgets/widgets.css")


def drop_thebe(app, pagename, templatename, context, doctree):
    """Drop Thebe's scripts from a page (``html-page-context`` event, after all that add some)."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}"
    ]


def setup(app):
    app.connect("builder-inited", write_widgets)
    app.connect("html-page-context", drop_thebe, priority=999)
    app.connect("html-page-context", load_widgets)
    app.connect("html-page-context", add_launchers, priority=998)
    # Before Sphinx collects the images of the page.
    app.connect("doctree-read", finish_page, priority=400)
    return {"version": "1", "parallel_read_safe": True}
