"""The book's typefaces: of two free ones, the characters that a course like this writes.

    python tools/make_fonts.py SOURCE_SERIF SOURCE_CODE

The folders are those of Adobe's npm packages source-serif 4.5.1 and source-code-pro 2.42.0. Their
licence reserves the name Source for what is unchanged, so the parts have names of their own.
"""

import shutil
import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FONTS = Path(__file__).resolve().parent.parent / "book" / "_static" / "fonts"
ASCII = [*range(0x20, 0x7F), *map(ord, "\xa0§°±²³·µ×÷¹¼½äáàâåæçèéêëíîïñóôöøúûüßÉÖÜ")]
LATIN = [*range(0xA0, 0x100), *map(ord, "ĄąĆćČčĘęĞğİıŁłŐőŒœŚśŞşŠšŰűŽž")]
PUNCTUATION = [*range(0x2010, 0x2017), *map(ord, "‘’‚“”„†‡•…‰′″‹›€™")]
GREEK = [*map(ord, "ΓΔΘΛΠΣΦΨΩ"), *range(0x3B1, 0x3CA)]
SIGNS = [*range(0x2070, 0x2090), *map(ord, "←↑→↓∂∆∏∑−√∞∥≈≠≤≥≪≫⟨⟩─│└├█■●✓✗")]
FACES = {
    "serif": ("SourceSerif4-Regular", "Book Serif", "Regular"),
    "serif-italic": ("SourceSerif4-It", "Book Serif", "Italic"),
    "serif-bold": ("SourceSerif4-Semibold", "Book Serif", "Semibold"),
    "code": ("SourceCodePro-Regular", "Book Code", "Regular"),
}


def rename(font, family, style):
    """Give a font the names by which systems list it; who made it stays."""
    names = {1: family, 2: style, 3: f"{family} {style}", 4: f"{family} {style}"}
    names[6] = f"{family}-{style}".replace(" ", "")
    kept = {0, 5, 9, 13, 14}  # copyright, version, designer, licence and its address
    font["name"].names = [name for name in font["name"].names if name.nameID in kept]
    for number, name in names.items():
        font["name"].setName(name, number, 3, 1, 0x409)


def main(serif, code):
    """Write the four faces and the licence beside them."""
    features = ["kern", "liga", "mark", "mkmk", "ccmp", "locl", "tnum", "lnum"]
    for name, (source, family, style) in FACES.items():
        folder = serif if family == "Book Serif" else code
        font = TTFont(Path(folder, "TTF", f"{source}.ttf"))
        options = subset.Options(layout_features=features, hinting=False, name_IDs=["*"])
        keep = subset.Subsetter(options)
        names = LATIN if name == "serif" else []  # of people, in all languages
        keep.populate(unicodes=[*ASCII, *names, *PUNCTUATION, *GREEK, *SIGNS])
        keep.subset(font)
        rename(font, family, style)
        font.flavor = "woff2"
        font.save(FONTS / f"{name}.woff2")
    for folder, name in ((serif, "serif"), (code, "code")):
        shutil.copy(Path(folder, "LICENSE.md"), FONTS / f"LICENSE-{name}.md")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
