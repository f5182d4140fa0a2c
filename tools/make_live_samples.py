"""Make ``live_samples.png``: the pictures that the live VGG starts with, as it sees them.

Squares cut from the photos of :func:`vgglib.data.photos` and from one more, a moose, which Debian's
package gcompris-qt-data holds (there ``explore_world_animals``, ``moose.webp``; in the public
domain), each shrunk to 32×32 pixels and set side by side.

    python tools/make_live_samples.py MOOSE.png
"""

import sys
from pathlib import Path

from PIL import Image

import vgglib
from vgglib.widgets.live_vgg import SAMPLES, SIZE

#: Left, top and side of the square, in pixels of the photo.
SQUARES = {
    "cat": ("chelsea", (100, 0, 300)),
    "moose": ("moose", (250, 0, 683)),
    "rocket": ("rocket", (180, 0, 400)),
    "coffee": ("coffee", (100, 0, 400)),
    "astronaut": ("astronaut", (0, 0, 512)),
    "temple": ("china", (107, 0, 427)),
    "flower": ("flower", (107, 0, 427)),
}


def main(moose):
    pictures = vgglib.data.photos() | {"moose": Image.open(moose).convert("RGB")}
    strip = Image.new("RGB", (SIZE * len(SAMPLES), SIZE))
    for place, name in enumerate(SAMPLES):
        photo, (left, top, side) = SQUARES[name]
        square = pictures[photo].crop((left, top, left + side, top + side))
        strip.paste(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS), (place * SIZE, 0))
    strip.save(Path(vgglib.__file__).parent / "assets" / "live_samples.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
