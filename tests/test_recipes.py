"""The page of recipes: every block runs, section by section, in a folder of its own."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vgglib
from vgglib import Pixels
from vgglib.features import AUTHORS_MEAN

PAGE = Path(__file__).parent.parent / "book" / "recipes.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)


def blocks(section):
    return re.findall(r"^```python\n(.*?)^```$", section, flags=re.M | re.S)


def smaller(code):
    """The authors' weights as those of a narrow net, which the folder holds."""
    narrow = 'width=1 / 16, weights="narrow.pth", head="new"'
    return code.replace('weights="IMAGENET1K_FEATURES"', narrow)


@pytest.mark.slow
def test_every_recipe_runs(tmp_path, monkeypatch):
    assert len(SECTIONS) == 9
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(1, 21):
            pixels = generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
    narrow = vgglib.vgg("D", width=1 / 16)
    narrow.pixels = Pixels(AUTHORS_MEAN)
    vgglib.save_weights(narrow, "narrow.pth")
    space = {"__name__": "recipes"}
    for section in SECTIONS:
        title = section.partition("\n")[0]
        for number, code in enumerate(blocks(section), start=1):
            exec(compile(smaller(code), f"{title}, block {number}", "exec"), space)
