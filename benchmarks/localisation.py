"""Where is the object? Tables 8 and 9 of appendix A at an eighth of the paper's scale (chapter 9).

The first two stages of net B at a quarter of the width, on scenes made of Fashion-MNIST and parts
of photos; crops of 28 px (224 / 8) from scenes of 32 and 48 px (256 / 8 and 384 / 8); several
seeds. Classification first, then boxes from its weights.

    python benchmarks/record.py --only localisation
"""

import functools

import torch
from record import Job, Plan

import vgglib
from vgglib import CONFIGS, Config, Recipe, localise
from vgglib.data import Data, ImageSet

CROP, SMALL, LARGE, BETWEEN = 28, 32, 48, 44  # 224, 256, 384 and 352 px in the paper
NET = Config("two stages of B", CONFIGS["B"].stages[:2], hidden=(512, 512))
SCENES, TEST_SCENES, LEFT = 2000, 500, 0.6
CLASS_EPOCHS, BOX_EPOCHS, LR = 10, 8, 0.03
#: Table 8, and the row that it leaves out: (fine-tuned layers, per-class?).
SETTINGS = {
    "FC layers, one box": ("fc", False),
    "FC layers, a box a class": ("fc", True),
    "all layers, one box": ("all", False),
    "all layers, a box a class": ("all", True),
}
BEST = "all layers, a box a class"


@functools.cache
def scenes(size):
    """Training and test scenes; they share no piece of clothing and no part of a photo."""
    data = vgglib.data.load("fashion-mnist-mini")
    photos = vgglib.data.photos().values()
    cuts = [(photo, round(LEFT * photo.width)) for photo in photos]
    left = [photo.crop((0, 0, cut, photo.height)) for photo, cut in cuts]
    right = [photo.crop((cut, 0, photo.width, photo.height)) for photo, cut in cuts]
    train = localise.compose(data.train, left, SCENES, size=LARGE, seed=1)
    test = localise.compose(data.test, right, TEST_SCENES, size=LARGE, seed=2)
    return train.rescaled(size), test.rescaled(size), data.classes


@functools.cache
def classifier(size, seed):
    """A net that names the object; at the large S from the small one's weights."""
    train, test, classes = scenes(size)
    centre = ImageSet(test.centre(CROP), test.labels)
    data = Data("scenes", ImageSet(train.images, train.labels), centre, classes, "composed")
    torch.manual_seed(seed)
    options = dict(num_classes=10, image_size=CROP, width=0.25, batch_norm=True, dropout=0.0)
    net = vgglib.vgg(NET, init="he", **options)
    if size > SMALL:  # as the paper goes from S = 256 to S = 384, at a lower rate (§3.1)
        vgglib.load_weights(net, classifier(SMALL, seed).state_dict())
    recipe = Recipe.small(
        epochs=CLASS_EPOCHS // 2 if size > SMALL else CLASS_EPOCHS,
        lr=LR / 3 if size > SMALL else LR,
        batch_size=32,
        scale=round(size * 224 / CROP),
        pad=0,
        seed=seed,
    )
    vgglib.train(net, data, recipe, progress=False)
    return net


@functools.cache
def located(size, seed, setting):
    """A net that predicts boxes, fine-tuned from the classifier."""
    layers, per_class = SETTINGS[setting]
    torch.manual_seed(seed)
    boxes = localise.regressor(classifier(size, seed), per_class=per_class)
    train, _, _ = scenes(size)
    localise.train_boxes(
        boxes,
        train,
        layers=layers,
        epochs=BOX_EPOCHS,
        lr=LR,
        batch_size=32,
        seed=seed,
    )
    return boxes


def outcome(boxes, test, named=None):
    """Localisation error, and mean IoU with the true box."""
    if named is None:
        wrong = localise.error(boxes, test.boxes)
    else:  # of an image's five boxes only the true class's can be right, if it is among the five
        labels = torch.where(named, test.labels, -1)[:, None]
        wrong = localise.error(boxes[:, None], test.boxes, labels, test.labels)
    return {
        "localisation_error": wrong,
        "mean_iou": localise.iou(boxes, test.boxes).mean().item(),
        "top5_class_error": 0.0 if named is None else 1 - named.double().mean().item(),
    }


def central(seed, size, setting):
    """Table 8: from the central crop, for the true class."""
    _, test, _ = scenes(size)
    return outcome(localise.centre_boxes(located(size, seed, setting), test), test)


def whole(seed, views):
    """Table 9: every window of every (S, Q), merged, for the five likeliest classes."""
    _, test, _ = scenes(LARGE)
    found, rated, likely = [], [], 0
    for size, scale in views:
        net, boxes_net = classifier(size, seed), located(size, seed, BEST)
        boxes, probabilities = localise.candidates(boxes_net, net, test.images, scale=scale)
        found.append(boxes)
        rated.append(probabilities)
        likely = likely + probabilities.mean(1)  # the class map averaged, views likewise
    named = (likely.topk(5).indices == test.labels[:, None]).any(1)
    boxes = localise.final_boxes(torch.cat(found, 1), torch.cat(rated, 1), test.labels[:, None])
    return outcome(boxes[:, 0] * LARGE, test, named)


def plans(seeds=6):
    tables = {
        "S = 32, Q = 32": [(SMALL, SMALL)],
        "S = 48, Q = 48": [(LARGE, LARGE)],
        "S = 48, Q = 44, 48": [(LARGE, BETWEEN), (LARGE, LARGE)],
        "fusion of the first and the third": [(SMALL, SMALL), (LARGE, BETWEEN), (LARGE, LARGE)],
    }
    tests = {f"centre, S = 48, {name}": (central, LARGE, name) for name in SETTINGS}
    tests[f"centre, S = 32, {BEST}"] = central, SMALL, BEST
    tests |= {f"whole, {name}": (whole, views) for name, views in tables.items()}

    jobs = [
        Job(label, seed, lambda _, s=seed, t=test, d=details: t(s, *d))
        for seed in range(seeds)
        for label, (test, *details) in tests.items()
    ]
    settings = {
        "net": NET.name,
        "width": 0.25,
        "crop": CROP,
        "scenes": SCENES,
        "test scenes": TEST_SCENES,
        "class epochs": CLASS_EPOCHS,
        "box epochs": BOX_EPOCHS,
        "lr": LR,
        "details": {"sizes": [SMALL, BETWEEN, LARGE], "share of a photo for training": LEFT},
    }
    return [Plan("localisation", settings, jobs)]
