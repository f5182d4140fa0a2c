"""Make fashion_mini.npz: ``python tools/make_fashion_mini.py``.

The rule: of each class, the first 200 images of Fashion-MNIST's training files and the first 50 of
its test files, left in the files' order. Grey, 28×28, as published.
"""

from pathlib import Path

import numpy as np

import vgglib

ASSETS = Path(vgglib.__file__).parent / "assets"


def first_of_each_class(images, count: int):
    """Grey images (10 × count, 28, 28) and labels, from an ImageSet padded to 32 pixels."""
    labels = images.labels.numpy()
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)]))
    return images.images[chosen, 0, 2:-2, 2:-2].numpy(), labels[chosen].astype(np.uint8)


def main():
    data = vgglib.data.load("fashion-mnist")
    arrays = {}
    for split, count in (("train", 200), ("test", 50)):
        chosen = first_of_each_class(getattr(data, split), count)
        arrays |= dict(zip((f"{split}_images", f"{split}_labels"), chosen, strict=True))
    np.savez_compressed(ASSETS / "fashion_mini.npz", **arrays)


if __name__ == "__main__":
    main()
