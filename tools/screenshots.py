"""Pictures of the built book's pages for a reviewer: each wide and light, narrow and dark.

    python tools/screenshots.py FOLDER FILE ...

Each FILE is one of the repository, as `git diff --name-only` lists them. Pages among them are
pictured; where one belongs to all pages (a style, an extension, a widget), so are the landing page
and the first chapter. The book must have been built.
"""

import sys
from pathlib import Path

import yaml
from machine import find_chrome
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))
from browsing import FLAGS, open_visit, serve  # noqa: E402

SHARED = ("_config.yml", "book/_", "vgglib/widgets/", "requirements.txt")
LOOKS = {"wide-light": (1440, "light"), "narrow-dark": (360, "dark")}


def pages(changed, root=ROOT):
    """Documents of the table of contents to picture, in its order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    wanted = {str(Path(file).with_suffix("")) for file in changed}
    if any(file.startswith(SHARED) for file in changed):
        wanted |= {toc["root"], next(file for file in chapters if file.startswith("notebooks/"))}
    return [document for document in [toc["root"], *chapters] if document in wanted]


def main(folder, changed):
    """Write the pictures; returns their paths."""
    folder, written = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    with serve(ROOT / "_build" / "html") as top, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chrome(), args=FLAGS)
        for document in pages(changed):
            for look, (width, theme) in LOOKS.items():
                visit = open_visit(browser, top, f"{document}.html", width=width, theme=theme)
                written.append(folder / f"{document.replace('/', '-')}-{look}.png")
                visit.page.screenshot(path=written[-1], full_page=True)
                visit.page.context.close()
        browser.close()
    return written


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    print("\n".join(map(str, main(sys.argv[1], sys.argv[2:]))) or "no page among them")
