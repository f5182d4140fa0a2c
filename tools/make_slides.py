"""Write the slides of all chapters, or of those named.

python tools/make_slides.py [NOTEBOOK …]
"""

import sys
from pathlib import Path

from slides import deck

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    chosen = sys.argv[1:] or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    for page in deck.write(chosen, ROOT / "_build" / "slides"):
        print(page.relative_to(ROOT))
