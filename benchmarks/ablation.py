"""What is each part of the recipe worth? §3.1, one part changed at a time (chapter 3).

Net A at a quarter of the width on 20,000 CIFAR-10 images; the whole test set; a schedule that is
fixed, so that no noise of a few held-out images decides when the rate falls; five seeds, which the
variants share, so that differences are taken in pairs. Dropout is left out and kept for 30 epochs:
what it is worth turns round with time.

A net is tested at the scale at which it was trained: the middle of images enlarged to S, or whole
images where it saw them whole.

Jitter is tried as the paper trains it (§3.1): a net of one S is trained on with S drawn from a
range, beside one that is trained on with its own S, and each is tested at its own scale.
"""

import functools

import torch
from record import RUNS, Job, Plan, alone, flops, noted, trained
from torchvision.transforms.v2 import functional as tvf

import vgglib
from vgglib import Callback, Recipe
from vgglib.data import Data, ImageSet
from vgglib.evaluate import Dense, top_k_error

IMAGES, WIDTH, EPOCHS, SEEDS = 20_000, 0.25, 24, 5
BASE = Recipe.paper(
    batch_size=64,
    epochs=EPOCHS,
    normalise="mean-std",
    schedule="step",
    milestones=(12, 18, 22),
    precision="auto",
)
BASE_30 = BASE.changed(epochs=30, milestones=(15, 23, 28))
AS_STRONG = BASE.weight_decay / (1 - BASE.momentum)
ALL = "all of the recipe"
#: Comparison → label → what is changed; all are compared with ALL.
VARIANTS = {
    "base": {ALL: {}},
    "optimiser": {
        "no momentum": {"momentum": 0.0},
        "no momentum, ten times the rate": {"momentum": 0.0, "lr": 0.1},
        "constant learning rate": {"schedule": "constant", "milestones": ()},
    },
    "decay": {"no L2": {"weight_decay": 0.0}, "decoupled decay": {"weight_decay": 0.0}},
    "images": {
        "no mirroring": {"flip": False},
        "no random crop": {"scale": None},
        "no colour shift": {"colour_shift": False},
        "no augmentation": {"flip": False, "scale": None, "colour_shift": False},
    },
    "batch": {
        "batch 256, rate 0.01": {"batch_size": 256},
        "batch 256, rate 0.04": {"batch_size": 256, "lr": 0.04},
        "batch 16, rate 0.01": {"batch_size": 16},
        "batch 16, rate 0.0025": {"batch_size": 16, "lr": 0.0025},
    },
}
DROPOUT = {f"{ALL}, 30 epochs": 0.5, "no dropout, 30 epochs": 0.0}
# S as recipes count it, for crops of 224 px: crops of 32 px from 37, and from 37 to 55.
FIXED, JITTER, TUNING_EPOCHS, TESTED_AT = 256, (256, 384), 8, (37, 40, 43, 46, 49, 52, 55)
TUNING = BASE.changed(epochs=TUNING_EPOCHS, lr=1e-3, milestones=(TUNING_EPOCHS - 2,))


class Decoupled(Callback):
    """Weights shrink apart from the gradient (Loshchilov & Hutter, 2019).

    By lr·λ a step. L2 of strength λ goes through the momentum m, which adds up each part of the
    gradient to 1/(1 - m) of it: a decay as strong as that has λ/(1 - m).
    """

    def __init__(self, decay):
        self.decay = decay

    @torch.no_grad()
    def on_step(self, run):
        for group in run.optimiser.param_groups:
            for parameter in group["params"]:
                parameter.mul_(1 - group["lr"] * self.decay)


@functools.cache
def images(scale=None):
    """20,000 training images, and the test set, cut from the middle of images enlarged to S."""
    data = vgglib.data.load("cifar10")
    test = data.test
    if scale:
        enlarged = tvf.resize(test.images, [round(scale * 32 / 224)], antialias=True)
        test = ImageSet(tvf.center_crop(enlarged, [32]), test.labels)
    return Data(data.name, data.train[:IMAGES], test, data.classes, data.source)


def built(seed, **options):
    torch.manual_seed(seed)
    options = dict(num_classes=10, image_size=32, width=WIDTH, init="he") | options
    return vgglib.vgg("A", **options)


def variant(changes, seed, decoupled, folder):
    recipe = BASE.changed(seed=seed, **changes)
    callbacks = [Decoupled(AS_STRONG)] if decoupled else []
    return trained(built(seed), images(recipe.scale), recipe, folder, callbacks)


def dropout(share, seed, folder):
    recipe = BASE_30.changed(seed=seed, dropout=share)
    return trained(built(seed), images(recipe.scale), recipe, folder)


def fixed_s(seed):
    """The net of one S that the trainings with and without jitter go on from."""
    net, folder = built(seed), RUNS / "ablation_jitter" / f"fixed-{seed}"
    with alone(folder):
        trained(net, images(FIXED), BASE.changed(seed=seed, scale=FIXED), folder)
    return net


def jittered(scale, seed, folder):
    """Trained on with this S, tested at the middle of it (§4.1) and at others."""
    net = fixed_s(seed)
    recipe = TUNING.changed(seed=seed, scale=scale)
    outcome = trained(net, images(FIXED), recipe, folder)
    del outcome["test_loss"]  # of the middle of images of 37 px; each is tested at its own scale
    test = images().test
    outcome["accuracy_at"] = {
        q: 1 - top_k_error(Dense(net, scales=(q,)), [(test.images, test.labels)])[1]
        for q in TESTED_AT
    }
    low, high = recipe.scale_for(32)
    outcome["test_accuracy"] = outcome["accuracy_at"][(low + high) // 2]
    outcome["accuracy_at"] = list(outcome["accuracy_at"].values())
    return outcome


def plans():
    minutes = Job.guess(flops(built(0), IMAGES, EPOCHS))
    settings = {"net": "A", "images": IMAGES, "width": WIDTH, "data": "cifar10"}
    jobs = [
        Job(
            label,
            seed,
            functools.partial(variant, changes, seed, label == "decoupled decay"),
            f"ablation: {part}",
            minutes,
        )
        for part, variants in VARIANTS.items()
        for label, changes in variants.items()
        for seed in range(SEEDS)
    ]
    jobs += [
        Job(
            label,
            seed,
            functools.partial(dropout, share, seed),
            "ablation: dropout",
            1.25 * minutes,
        )
        for label, share in DROPOUT.items()
        for seed in range(SEEDS)
    ]
    tuning = [
        Job(label, seed, functools.partial(jittered, scale, seed), "ablation: jitter", minutes / 2)
        for label, scale in {"S = 37": FIXED, "S in [37, 55]": JITTER}.items()
        for seed in range(SEEDS)
    ]
    settings = {**settings, "epochs": EPOCHS, "batch_size": BASE.batch_size, "lr": BASE.lr}
    tuned = {
        **settings,
        "recipe": noted(BASE.changed(scale=FIXED)),
        "recipe of fine-tuning": noted(TUNING),
        "S": {"S = 37": FIXED, "S in [37, 55]": JITTER},
        "epochs of fine-tuning": TUNING_EPOCHS,
        "tested at Q": TESTED_AT,
    }
    changes = {label: found for part in VARIANTS.values() for label, found in part.items()}
    settings |= {
        "recipe": noted(BASE),
        "recipe, 30 epochs": noted(BASE_30),
        "changes": {**changes, **DROPOUT, "decoupled decay": {"decoupled": AS_STRONG}},
    }
    return [Plan("ablation", settings, jobs), Plan("ablation_jitter", tuned, tuning)]
