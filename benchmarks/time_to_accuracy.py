"""How long does it take from a cold start to a given accuracy on CIFAR-10?

Each run is a process of its own. The clock starts before Python does and stops when the process
has ended, so it counts imports, reading the data, training and the test: one look at the whole
test set, each image and its mirror image, whose probabilities are averaged as in the paper (§3.2).
Nets and recipes were chosen by trying a few on seed 0.

    python benchmarks/time_to_accuracy.py
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

import torch
from record import arguments, record

import vgglib
from vgglib import Recipe
from vgglib.configs import Config, Conv


@dataclass(frozen=True)
class Goal:
    """A test accuracy to reach, the seconds it may take, and the way there."""

    net: str | tuple[tuple[int, ...], ...]  # a column of Table 1, or the channels of each stage
    batch_norm: bool
    recipe: Recipe
    accuracy: float
    seconds: float | None = None
    init: str = "he"


def quick(**changes):
    """Our recipe for small images; 100 images are kept aside only to see that nothing broke."""
    return Recipe.small(**({"holdout": 0.002, "lr": 0.1, "batch_size": 64} | changes))


# One convolution at full resolution is cheap with three input channels; what follows is not.
GOALS = {
    "cpu": {
        "74 % in 30 s": Goal(
            ((16,), (64,), (128,), (256,)),
            True,
            quick(epochs=2, pad=0, lr=0.15, momentum=0.8, batch_size=96),
            0.74,
            30,
        ),
        "85 % in 3 min": Goal(
            ((32,), (64, 64), (128, 128), (256,)), True, quick(epochs=7, pad=2), 0.85, 180
        ),
        "90 % in 12 min": Goal(
            ((48,), (96, 96), (192, 192), (256, 256)), True, quick(epochs=14), 0.90, 720
        ),
    },
    "cuda": {
        "VGG-16 with batch norm: 94 % in 60 s": Goal(
            "D",
            True,
            quick(epochs=60, batch_size=512, lr=0.1, weight_decay=2e-3),
            0.94,
            60,
            # Its hidden FC layers have no batch norm, and from He's weights they die at this rate.
            init="xavier",
        ),
        "VGG-16 as in the paper: 92.5 %": Goal(
            "D", False, quick(epochs=60, batch_size=128, lr=0.02, dropout=0.5), 0.925
        ),
    },
}
KIND = "cuda" if torch.cuda.is_available() else "cpu"


def main():
    if sys.argv[1:2] == ["--one"]:
        return print(json.dumps(one(GOALS[KIND][sys.argv[2]], int(sys.argv[3]))))
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    jobs = [
        (label, seed, lambda label=label, seed=seed: timed(label, seed))
        for seed in range(chosen.seeds)
        for label in GOALS[KIND]
    ]
    settings = {
        label: {
            "net": goal.net,
            "epochs": goal.recipe.epochs,
            "batch_size": goal.recipe.batch_size,
            "lr": goal.recipe.lr,
            "accuracy_wanted": goal.accuracy,
            "seconds_allowed": goal.seconds,
        }
        for label, goal in GOALS[KIND].items()
    }
    name = "time_to_accuracy" if KIND == "cpu" else "gpu_time_to_accuracy"
    record(
        name,
        jobs,
        {"data": "cifar10", "test": "image and mirror image", "goals": settings},
        only=chosen.only,
    )


def timed(label, seed):
    """One run in a new process, and how long that took."""
    begin = time.perf_counter()
    process = subprocess.run(
        [sys.executable, __file__, "--one", label, str(seed)], stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"{label}, seed {seed}: the run failed, see above")
    return {**json.loads(process.stdout.splitlines()[-1]), "seconds": round(seconds, 2)}


def one(goal, seed):
    """Train and test once, in this process."""
    data = vgglib.data.load("cifar10")
    net = goal.net
    if not isinstance(net, str):
        stages = tuple(tuple(Conv(channels) for channels in stage) for stage in net)
        net = Config("small", stages, hidden=())
    torch.manual_seed(seed)
    net = vgglib.vgg(net, num_classes=10, image_size=32, batch_norm=goal.batch_norm, init=goal.init)
    recipe = goal.recipe.changed(seed=seed)
    vgglib.train(net, data, recipe, progress=False)
    normalisation = recipe.normalisation(data)
    tested = vgglib.evaluate(
        net, data.test, *normalisation, precision=recipe.precision, mirror=True
    )
    return {"test_accuracy": tested["top1"]}


if __name__ == "__main__":
    main()
