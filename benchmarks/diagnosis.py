"""Record the four trainings that assignment 5 asks to diagnose: three have a mistake in them.

Net A at an eighth of the width, with batch norm, on the small Fashion-MNIST of the package. Run 1
learns labels of other images; run 2 is tested on images that are normalised otherwise; run 3 goes
on after epoch 12 from the weights alone, its learning rate back at the first value; run 4 has no
mistake. Writes recorded/diagnosis.json, in which no label says so.

    python benchmarks/diagnosis.py --threads 1
"""

from dataclasses import replace

import pandas as pd
import torch
from record import arguments, columns, record

import vgglib
from vgglib import Recipe

WIDTH = 1 / 8
RECIPE = Recipe.small(
    batch_size=50, lr=0.02, schedule="plateau", patience=2, max_drops=3, pad=0, precision="fp32"
)
STEADY = RECIPE.changed(schedule="constant")


def build(seed):
    torch.manual_seed(seed)
    return vgglib.vgg("A", num_classes=10, image_size=32, width=WIDTH, batch_norm=True, init="he")


def fit(net, data, recipe, normalisation=None):
    """Train; the losses of each epoch, the test images normalised as told, or as the training's."""
    tested = []

    def test(row):
        tested.append(vgglib.evaluate(net, data.test, *normalisation))

    looks = test if normalisation else None
    history = vgglib.train(net, data, recipe, progress=False, on_epoch=looks)
    history = history.rename(columns={"val_loss": "test_loss", "val_accuracy": "test_accuracy"})
    if tested:
        history["test_loss"] = [each["loss"] for each in tested]
        history["test_accuracy"] = [each["top1"] for each in tested]
    return history[["epoch", "train_loss", "test_loss", "test_accuracy"]]  # the rate would tell


def mislabelled(seed, data):
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    train = vgglib.data.ImageSet(data.train.images, data.train.labels[order])
    return fit(build(seed), replace(data, train=train), STEADY.changed(seed=seed, epochs=15))


def tested_otherwise(seed, data):
    only_scaled = (0, 0, 0), (255, 255, 255)
    return fit(build(seed), data, STEADY.changed(seed=seed, epochs=12), only_scaled)


def resumed_from_weights(seed, data):
    net = build(seed)
    parts = [fit(net, data, RECIPE.changed(seed=seed + part, epochs=n)) for part, n in PARTS]
    history = pd.concat(parts, ignore_index=True)
    return history.assign(epoch=range(1, len(history) + 1))


def sound(seed, data):
    return fit(build(seed), data, STEADY.changed(seed=seed, epochs=12))


PARTS = (0, 12), (1, 4)
RUNS = {
    "run 1": mislabelled,
    "run 2": tested_otherwise,
    "run 3": resumed_from_weights,
    "run 4": sound,
}


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=1)
    data = vgglib.data.load("fashion-mnist-mini", progress=False)

    def run(label, seed):
        history = columns(RUNS[label](seed, data))
        return {"test_accuracy": history["test_accuracy"][-1], "history": history}

    jobs = [
        (label, seed, lambda n=label, s=seed: run(n, s))
        for seed in range(chosen.seeds)
        for label in RUNS
    ]
    settings = {"net": "A", "width": WIDTH, "batch_size": RECIPE.batch_size, "data": data.name}
    record("diagnosis", jobs, settings, only=chosen.only)


if __name__ == "__main__":
    main()
