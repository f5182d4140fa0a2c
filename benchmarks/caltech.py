"""The paper's own test of its features: Caltech-101, as in Table 11 (chapter 8).

The convolutions of net D, the paper's, fixed; each whole picture at Q = 256, 384 and 512, and its
mirror image; the maps of the last block averaged over all places, the scales one by one, averaged
and stacked; L2-normalised; a linear SVM. Three random splits of 30 training pictures a class and at
most 50 test pictures, the mean of the classes' accuracies. The paper has one thing more: it takes
the fully connected layers' 4,096 values, and the weights of those layers are not everywhere to be
had.

The pictures (Li, Andreeto, Ranzato and Perona, doi:10.22002/D1.20086, CC BY 4.0) are fetched by
hand and laid where torchvision looks for them, ``caltech101/101_ObjectCategories/CLASS/*.jpg`` in
vgglib's data folder. Without all of them the runs wait.

    python benchmarks/record.py --only caltech
"""

import functools

import torch
from record import FORWARD_RATE, RUNS, Job, Plan, alone
from torch import nn

import vgglib
from vgglib import pictures, transfer
from vgglib.data.sources import cache

TRAIN, TEST, SCALES, LAYER, SPLITS = 30, 50, (256, 384, 512), "pool5", 3
CLASSES, PICTURES = 101, 7_000  # about so many are in one of the splits
ALL_PICTURES = 8_600  # at least so many are in the 101 classes


def folder():
    return cache(None) / "caltech101" / "101_ObjectCategories"


def found():
    """The pictures of each class that are there, in the order of their names."""
    return {
        path.name: sorted(path.glob("*.jpg"))
        for path in (sorted(folder().iterdir()) if folder().is_dir() else ())
        if path.is_dir() and path.name != "BACKGROUND_Google"
    }


def complete():
    """Are all there, and not only those that have been unpacked so far?"""
    numbers = [len(pictures) for pictures in found().values()]
    return len(numbers) == CLASSES and min(numbers) > TRAIN and sum(numbers) >= ALL_PICTURES


@functools.cache
def files():
    """All pictures, as they were when the first run began."""
    return found()


def split(name, seed):
    """Which pictures of a class are for training, and which for the test."""
    order = torch.randperm(len(files()[name]), generator=torch.Generator().manual_seed(seed))
    return order[:TRAIN].tolist(), order[TRAIN : TRAIN + TEST].tolist()


@functools.cache
def net():
    made = vgglib.vgg("D", weights="IMAGENET1K_FEATURES", init=None)
    made.classifier = nn.Sequential()  # its place is taken by the SVM
    return made.to(memory_format=torch.channels_last).eval()


def kept(scale):
    """The folder of a scale's descriptors."""
    return RUNS / "caltech" / f"{LAYER}-Q-{scale}"


@functools.cache
def described(name, scale):
    """Descriptors of a class's pictures that are in some split, by their number; kept on disk.

    By one process at a time, which holds the lock of the scale.
    """
    wanted = sorted({i for seed in range(SPLITS) for part in split(name, seed) for i in part})
    path = kept(scale) / f"{name}.pt"
    if path.exists() and (rows := torch.load(path)).keys() >= set(wanted):
        return rows
    images = [pictures.read(files()[name][i]) for i in wanted]
    made = transfer.descriptors(
        net(), images, scales=scale, layers=[LAYER], batch_size=4, precision="auto"
    )
    rows = dict(zip(wanted, made[LAYER][0], strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(rows, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)
    return rows


def run(seed, scales, how, _):
    """Mean class accuracy of one split."""
    for scale in scales:  # one process makes them, others make those of another scale
        with alone(kept(scale)):
            for name in files():
                described(name, scale)
    sets = {"train": ([], []), "test": ([], [])}
    for label, name in enumerate(files()):
        for (rows, labels), numbers in zip(sets.values(), split(name, seed), strict=True):
            rows += [torch.stack([described(name, q)[i] for q in scales]) for i in numbers]
            labels += [label] * len(numbers)
    train, test = (
        (transfer.aggregate(torch.stack(rows, 1), how), torch.tensor(labels))
        for rows, labels in sets.values()
    )
    machine = transfer.linear_classifier(*train, seed=seed)
    right = torch.from_numpy(machine.predict(test[0].numpy())) == test[1]
    by_class = [right[test[1] == label].double().mean().item() for label in range(CLASSES)]
    return {"test_accuracy": sum(by_class) / CLASSES, "test_pictures": len(test[1])}


def plans():
    def minutes(scale):
        """The runs of one scale share its descriptors, of both mirror images."""
        area = 1.5 * scale**2 / 224**2  # pictures are half as long again as high
        return Job.guess(2 * 2 * 15.4e9 * area * PICTURES / SPLITS, FORWARD_RATE)

    def scales_done():
        """The joined runs come last; descriptors that are gone by then are made anew."""
        wanted = {(f"Q = {q}", seed) for q in SCALES for seed in range(SPLITS)}
        return complete() and wanted <= plan.done()

    jobs = [
        Job(f"Q = {q}", seed, functools.partial(run, seed, (q,), "average"), f"caltech: Q = {q}",
            minutes(q), complete)
        for q in SCALES
        for seed in range(SPLITS)
    ] + [
        Job(f"three scales, {name}", seed, functools.partial(run, seed, SCALES, how),
            f"caltech: {name}", 1.0, scales_done)
        for name, how in (("averaged", "average"), ("stacked", "stack"))
        for seed in range(SPLITS)
    ]  # fmt: skip
    settings = {
        "net": "D, convolutions of the paper",
        "layer": LAYER,
        "training pictures a class": TRAIN,
        "test pictures a class, at most": TEST,
        "data": "Caltech-101",
    }
    plan = Plan("caltech", settings, jobs)
    return [plan]
