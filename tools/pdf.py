"""The whole book as one PDF: contents, outline, pictures, formulas, links that work.

    python tools/pdf.py FOLDER OUT.pdf

FOLDER is what Sphinx's builder `singlehtml` made: the book as a single page. `make pdf` builds it
and calls this; a browser of the Chromium family prints it.
"""

import shutil
import sys
from pathlib import Path

from machine import find_chrome
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

TIMEOUT = 300_000  # milliseconds; the page is large, and the machine may be busy

# The code of a question goes.
# Folded cells are opened (paper has no click); pictures are loaded now, not when in view; a link
# to another page of the book goes to its place in this one, and one to a file of the book nowhere.
PREPARE = """async () => {
  for (const code of document.querySelectorAll(".tag_predict details.hide")) code.remove();
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  for (const label of document.querySelectorAll("details.hide > summary"))
    label.textContent = "Solution";
  const pictures = [...document.images];
  for (const picture of pictures) picture.loading = "eager";
  for (const link of document.links) {
    if (link.protocol !== "file:") continue;
    if (link.hash) link.setAttribute("href", link.hash);
    else link.removeAttribute("href");
  }
  await Promise.all(pictures.map((picture) => picture.decode()));
  await document.fonts.ready;
}"""

# A table of contents behind the first page: documents, and the sections of chapters. The headings
# get names of their own, for sections of several chapters share theirs ("Exercises").
CONTENTS = """() => {
  const contents = document.createElement("nav");
  contents.className = "book-contents";
  contents.append(Object.assign(document.createElement("h2"), { textContent: "Contents" }));
  for (const heading of document.querySelectorAll(
    "[id^='document-'] + section > h2, [id^='document-notebooks'] + section > section > h3",
  )) {
    const name = heading.cloneNode(true);
    name.querySelector(".headerlink")?.remove();
    heading.id = `heading-${contents.children.length}`;
    const line = document.createElement("a");
    line.href = `#${heading.id}`;
    line.className = heading.localName === "h2" ? "document" : "part";
    const page = Object.assign(document.createElement("span"), { className: "page" });
    line.append(name.textContent.trim(), page);
    contents.append(line);
  }
  document.querySelector(".toctree-wrapper").before(contents);
}"""

# A chapter begins with the empty element that carries its name. The break comes before that: behind
# a page that is full to its last line it would be left alone on a page of its own.
STYLE = """
  .book-contents, .book-contents + .toctree-wrapper, [id^="document-notebooks"] {
    break-before: page;
  }
  [id^="document-notebooks"] { display: block; }
  .book-contents a { display: flex; justify-content: space-between; gap: 1em;
    color: inherit !important; text-decoration: none !important; }
  .book-contents .document { margin-top: 0.6em; font-weight: bold; break-after: avoid; }
  .book-contents .part { padding-left: 1.5em; }
"""

# The browser can not count pages for us: they are read from a first printing.
FILL = """(pages) => {
  for (const line of document.querySelectorAll(".book-contents a"))
    line.querySelector(".page").textContent = pages[line.hash.slice(1)];
}"""

NUMBER = '<div style="width: 100%; font: 8px sans-serif; text-align: center; color: #444">{}</div>'


def print_book(folder, out):
    """Print a book that is a single page into a PDF file."""
    out = Path(out)
    # Its paths start at the folder, and it lies where the landing page does.
    page = Path(folder, "book.html").resolve()
    shutil.copy(page.parent / "book" / "index.html", page)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--allow-file-access-from-files"]
        browser = playwright.chromium.launch(executable_path=find_chrome(), args=flags)
        tab = browser.new_page(reduced_motion="reduce")
        tab.goto(page.as_uri(), wait_until="load", timeout=TIMEOUT)
        tab.evaluate(PREPARE)
        tab.evaluate(CONTENTS)
        tab.add_style_tag(content=STYLE)
        # Print to a temporary name: a PDF that is there is a whole one.
        part = out.with_suffix(".part.pdf")
        for _ in range(2):  # the second time with page numbers in the table of contents
            tab.pdf(
                path=part,
                format="A4",
                margin={"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"},
                print_background=True,
                outline=True,
                tagged=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=NUMBER.format('<span class="pageNumber"></span>'),
            )
            tab.evaluate(FILL, page_numbers(part))
        browser.close()
    part.replace(out)


def page_numbers(pdf):
    """The page, from 1, on which each named place of a PDF file lies."""
    reader = PdfReader(pdf)
    places = reader.named_destinations.items()
    return {
        name.removeprefix("/"): reader.get_destination_page_number(place) + 1
        for name, place in places
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        print_book(*sys.argv[1:])
    except FileNotFoundError as error:
        raise SystemExit(f"pdf.py: {error}") from None
