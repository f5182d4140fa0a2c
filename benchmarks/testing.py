"""What is each way of testing worth? Tables 3 to 6 at reduced scale (chapter 7).

The paper's geometry divided by 16: crops of 14 px; S = 16, 24, or drawn from [16, 32], where 32 is
CIFAR-10's own size. With one pool fc6 covers a map of 7×7 and moves by 2 px, so the class maps have
the sizes that they have in the paper: 2×2, 6×6, 10×10. Narrow nets with batch norm, few images,
several seeds. As in §3.1 a net for S = 24 starts from the one for S = 16, and a jittered one from
that; controls train as long at S = 16, or end with a narrower jitter. All tests see the same
images.

    python benchmarks/record.py --only testing
"""

import copy
import functools

import torch
from record import Job, Plan, noted
from torchvision.transforms.v2 import functional as tvf

import vgglib
from vgglib import Config, Conv, Recipe
from vgglib.data import Data, ImageSet
from vgglib.evaluate import Dense, MultiCrop, top_k_error

CROP, CHANNELS, HIDDEN, SHRUNK = 14, 24, (128, 128), 16
IMAGES, TESTED = 8_000, 2_000
# S at 224 px, as recipes count it; the last range is ours, narrower than the paper's.
SMALL, LARGE, JITTER, NARROW = 256, 384, (256, 512), (256, 320)
TRAININGS = {  # the S of one training after the other
    "S = 16": (SMALL,),
    "S = 24": (SMALL, LARGE),
    "S in [16, 32]": (SMALL, LARGE, JITTER),
    "S = 16, as long": (SMALL, SMALL, SMALL),
    "S in [16, 20]": (SMALL, SMALL, NARROW),
}
EPOCHS = (5, 3, 4)  # of the first, second and third training
LR = (0.05, 0.02, 0.02)
# Label → weight layers, training, scales Q of the test, its kind.
TESTS = {
    f"{number} layers, {training}; Q = {', '.join(map(str, scales))}{crops}": (
        number, training, scales, MultiCrop if crops else Dense
    )
    for number, training, scales, crops in [
        (4, "S = 16", (16,), ""),
        (5, "S = 16", (16,), ""),
        (6, "S = 16", (16,), ""),
        (6, "S = 24", (24,), ""),
        (6, "S in [16, 32]", (24,), ""),
        (6, "S = 16, as long", (16,), ""),
        (6, "S = 16", (14, 16, 18), ""),
        (6, "S = 16", (16, 24, 32), ""),
        (6, "S = 24", (22, 24, 26), ""),
        (6, "S = 16, as long", (14, 16, 18), ""),
        (6, "S in [16, 32]", (16, 24, 32), ""),
        (6, "S in [16, 32]", (16, 24, 32), ", crops"),
        (5, "S in [16, 32]", (16, 24, 32), ""),
        (6, "S in [16, 20]", (18,), ""),
        (6, "S in [16, 20]", (16, 18, 20), ""),
    ]
}  # fmt: skip
# Label → the tests whose probabilities are averaged.
ALL = "S in [16, 32]; Q = 16, 24, 32"
FUSIONS = {
    f"6 layers, {ALL}, dense + crops": (f"6 layers, {ALL}", f"6 layers, {ALL}, crops"),
    f"5 + 6 layers, {ALL}": (f"5 layers, {ALL}", f"6 layers, {ALL}"),
}


def recipe(index: int, scale: int | tuple[int, int], seed: int) -> Recipe:
    """That of a net's first, second or third training."""
    epochs, lr = EPOCHS[index - 1], LR[index - 1]
    return Recipe.small(epochs=epochs, lr=lr, scale=scale, seed=seed, pad=0, dropout=0.0)


def layers(number: int) -> Config:
    """A net of so many weight layers: convolutions, then three fully connected ones."""
    return Config(f"{number} layers", ((Conv(CHANNELS),) * (number - 3),), hidden=HIDDEN)


def centre(split: ImageSet) -> ImageSet:
    """Centre crops of images rescaled to 16 px, for a training to watch itself."""
    rescaled = tvf.resize(split.images, [SMALL // SHRUNK])
    return ImageSet(tvf.center_crop(rescaled, [CROP]), split.labels)


@functools.cache
def images():
    """8,000 training images, others to watch the training by, and 2,000 that are tested."""
    data = vgglib.data.load("cifar10")
    tested, others = data.test[:TESTED], data.test[-500:]
    return Data(data.name, data.train[:IMAGES], centre(others), data.classes, data.source), tested


@functools.cache
def trained(number, scales, seed):
    """A net after a training at each of these scales in turn."""
    subset, _ = images()
    if not scales:
        torch.manual_seed(seed)
        shape = {"num_classes": len(subset.classes), "image_size": CROP}
        return vgglib.vgg(layers(number), **shape, batch_norm=True, init="he")
    net = copy.deepcopy(trained(number, scales[:-1], seed))
    vgglib.train(net, subset, recipe(len(scales), scales[-1], seed), progress=False)
    return net


@functools.cache
def probabilities(label, seed):
    """Class probabilities of the tested images."""
    if label in FUSIONS:
        return torch.stack([probabilities(part, seed) for part in FUSIONS[label]]).mean(0)
    number, training, scales, kind = TESTS[label]
    subset, tested = images()
    net = trained(number, TRAININGS[training], seed)
    return kind(net, subset.mean, subset.std, scales=scales, batch_size=500)(tested.images)


def run(label, seed):
    _, tested = images()
    found = probabilities(label, seed)
    error = top_k_error(lambda _: found, [(tested.images, tested.labels)], (1, 5))
    return {"test_accuracy": 1 - error[1], "top5_error": error[5]}


def plans(seeds=8):
    jobs = [
        Job(label, seed, lambda _, name=label, s=seed: run(name, s))
        for seed in range(seeds)
        for label in (*TESTS, *FUSIONS)
    ]
    settings = {
        "images": IMAGES,
        "epochs": EPOCHS,
        "channels": CHANNELS,
        "tested images": TESTED,
        "details": {
            "crop": CROP,
            "hidden": HIDDEN,
            "S of each training": TRAININGS,
            "rates": LR,
            "recipe": noted(recipe(1, SMALL, 0)),
        },
        "data": "cifar10",
    }
    return [Plan("testing", settings, jobs)]
