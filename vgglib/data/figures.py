"""Which photos do the figures show?"""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from ..extras import extra


class Credit(NamedTuple):
    """Who made a photo, and under which licence it is shown."""

    title: str
    author: str
    licence: str


#: Credit of each photo that :func:`photos` returns.
PHOTO_CREDITS = {
    "astronaut": Credit("Portrait of the astronaut Eileen Collins", "NASA", "public domain"),
    "chelsea": Credit("Chelsea the cat", "Stéfan van der Walt", "CC0"),
    "coffee": Credit("Coffee cup, Pikolo Espresso Bar", "Rachel Michetti", "CC0"),
    "rocket": Credit("Launch of DSCOVR on a Falcon 9", "SpaceX", "public domain"),
    "china": Credit("Temple roof in China", "danielbuechele (Flickr)", "CC BY 2.0"),
    "flower": Credit("Flower", "vultilion (Flickr)", "CC BY 2.0"),
}


def photos() -> dict[str, Image.Image]:
    """Six real photos for figures, by name; they come with scikit-image and scikit-learn.

    Returns
    -------
    dict
        Name → RGB image of its own size (300 to 640 pixels a side); :data:`PHOTO_CREDITS` has the
        same names.
    """
    with extra("inside"):  # both are slow to import, and only figures need them
        from skimage import data as skimage_data
        from sklearn.datasets import load_sample_image

    arrays = {n: getattr(skimage_data, n)() for n in ("astronaut", "chelsea", "coffee", "rocket")}
    arrays |= {n: load_sample_image(f"{n}.jpg") for n in ("china", "flower")}
    return {name: Image.fromarray(array).convert("RGB") for name, array in arrays.items()}
