"""The whole book as one PDF: contents, outline, pictures, formulas, links that work.

    python tools/pdf.py FOLDER OUT.pdf

FOLDER is what Sphinx's builder `singlehtml` made: the book as a single page. `make pdf` builds it
and calls this; a browser of the Chromium family prints it.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# Folded cells are opened (paper has no click); pictures are loaded now, not when in view; a link
# to another page of the book goes to its place in this one, and one to a file of the book nowhere.
PREPARE = """async () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
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

NUMBER = '<div style="width: 100%; font: 8px sans-serif; text-align: center; color: #444">{}</div>'


def find_chrome():
    """Path of an installed Chromium or Chrome.

    Raises
    ------
    FileNotFoundError
        When there is none; the message says how to install one.
    """
    for name in CHROMES:
        path = shutil.which(name)
        if path:
            return path
    raise FileNotFoundError(
        f"no browser found (looked for {', '.join(CHROMES)}): install one with "
        "`apt-get install chromium` (Debian, Ubuntu: chromium-browser) or install Google Chrome"
    )


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
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate(PREPARE)
        # Print to a temporary name: a PDF that is there is a whole one.
        part = out.with_suffix(".part.pdf")
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
        browser.close()
    part.replace(out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        print_book(*sys.argv[1:])
    except FileNotFoundError as error:
        raise SystemExit(f"pdf.py: {error}") from None
