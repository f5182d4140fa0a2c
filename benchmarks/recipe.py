"""What is each part of the recipe worth? §3.1 at reduced scale, one part left out at a time.

Net A at a quarter of the width on 4,000 CIFAR-10 images, a tenth of them held out for the plateau
schedule; the whole test set; several seeds. Chapter 3 draws the result.

    python benchmarks/recipe.py
"""

import torch
from record import arguments, columns, record

import vgglib
from vgglib import Recipe

IMAGES, WIDTH = 4_000, 0.25
BASE = Recipe.paper(
    batch_size=64, epochs=24, normalise="mean-std", holdout=0.1, precision="bf16", scale=256
)
VARIANTS = {
    "all of the recipe": {},
    "no momentum": {"momentum": 0.0},
    "no L2": {"weight_decay": 0.0},
    "no dropout": {"dropout": 0.0},
    "neither L2 nor dropout": {"weight_decay": 0.0, "dropout": 0.0},
    "constant learning rate": {"schedule": "constant"},
    "no mirroring": {"flip": False},
    "no random crop": {"scale": None},
    "no colour shift": {"colour_shift": False},
    "no augmentation": {"flip": False, "scale": None, "colour_shift": False},
    "S in [256, 512]": {"scale": (256, 512)},
}


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    data = vgglib.data.load("cifar10")
    subset = vgglib.data.Data(data.name, data.train[:IMAGES], data.test, data.classes, data.source)

    def run(changes, seed):
        torch.manual_seed(seed)
        net = vgglib.vgg("A", num_classes=10, image_size=32, width=WIDTH, init="he")
        recipe = BASE.changed(seed=seed, **changes)
        history = vgglib.train(net, subset, recipe, progress=False)
        tested = vgglib.evaluate(net, data.test, *recipe.normalisation(subset))
        return {
            "test_accuracy": tested["top1"],
            "test_loss": tested["loss"],
            "stopped": history.attrs["stopped"],
            "history": columns(history),
        }

    jobs = [
        (label, seed, lambda c=changes, s=seed: run(c, s))
        for seed in range(chosen.seeds)
        for label, changes in VARIANTS.items()
    ]
    settings = {
        "net": "A",
        "images": IMAGES,
        "width": WIDTH,
        "epochs": BASE.epochs,
        "batch_size": BASE.batch_size,
        "data": data.name,
    }
    record("recipe", jobs, settings, only=chosen.only)


if __name__ == "__main__":
    main()
