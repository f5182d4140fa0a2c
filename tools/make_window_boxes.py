"""Make ``window_boxes.json``: what the windows of a few scenes predict, for the box laboratory.

The nets are chapter 9's, trained as there: two stages of B at a quarter of the width, first to name
clothes, then to predict a box for each class. Of some test scenes the file holds the picture, the
true box and, of the true class, each window's box and probability. A minute on two cores.

    python tools/make_window_boxes.py
"""

import base64
import io
import json
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import to_pil_image

import vgglib
from vgglib import CONFIGS, Config, Recipe, localise
from vgglib.data import Data, ImageSet

CROP, SMALL, LARGE = 28, 32, 48
CLASSES = ("Trouser", "Coat", "Sneaker", "Bag")  # the first test scene of each
NET = Config("two stages of B", CONFIGS["B"].stages[:2], hidden=(512, 512))


def nets(train, test, classes):
    """The classifier, and the regressor made of it."""
    torch.manual_seed(0)
    net = vgglib.vgg(
        NET, num_classes=10, image_size=CROP, width=0.25, batch_norm=True, dropout=0.0, init="he"
    )
    for size, changes in ((SMALL, {"epochs": 8, "lr": 0.03}), (LARGE, {"epochs": 4, "lr": 0.01})):
        scenes = train.rescaled(size)
        centre = ImageSet(test.rescaled(size).centre(CROP), test.labels)
        seen = Data("scenes", ImageSet(scenes.images, scenes.labels), centre, classes, "composed")
        recipe = Recipe.small(batch_size=32, scale=size * 224 // CROP, pad=0, **changes)
        vgglib.train(net, seen, recipe, progress=False)
    torch.manual_seed(0)
    boxes_net = localise.regressor(net)
    localise.train_boxes(boxes_net, train, epochs=6, lr=0.03, batch_size=32)
    return boxes_net, net


def main():
    data = vgglib.data.load("fashion-mnist-mini")
    photos = list(vgglib.data.photos().values())
    left = [photo.crop((0, 0, round(0.6 * photo.width), photo.height)) for photo in photos]
    right = [photo.crop((round(0.6 * photo.width), 0, *photo.size)) for photo in photos]
    train = localise.compose(data.train, left, 2000, size=LARGE, seed=1)
    test = localise.compose(data.test, right, 500, size=LARGE, seed=2)
    boxes_net, net = nets(train, test, data.classes)
    chosen = [(test.labels == data.classes.index(name)).nonzero()[0].item() for name in CLASSES]
    boxes, probabilities = localise.candidates(boxes_net, net, test.images[chosen])
    scenes = {}
    for place, (name, index) in enumerate(zip(CLASSES, chosen, strict=True)):
        label, file = test.labels[index], io.BytesIO()
        to_pil_image(test.images[index]).save(file, "png", optimize=True)
        scenes[name] = {
            "picture": base64.b64encode(file.getvalue()).decode(),
            "true": test.boxes[index].tolist(),
            "boxes": [
                [round(value, 2) for value in box]
                for box in (LARGE * boxes[place, :, label]).tolist()
            ],
            "scores": [round(value, 4) for value in probabilities[place, :, label].tolist()],
        }
    path = Path(vgglib.__file__).parent / "assets" / "window_boxes.json"
    path.write_text(json.dumps({"size": LARGE, "scenes": scenes}), encoding="utf-8")


if __name__ == "__main__":
    main()
