"""Does depth help once the nets have converged? Table 3's depth line at length (chapter 2).

Nets A, B, D and E with batch norm, at a quarter of the width, on all 50,000 training images of
CIFAR-10, with training and test accuracy after every epoch. Each epoch ends in a checkpoint in
``runs/``, so that a run that was cut off goes on where it was. Accuracies may come from several
machines; each run names its own.

    python benchmarks/depth_converged.py --threads 1
"""

from pathlib import Path

import torch
from record import arguments, columns, record

import vgglib
from vgglib import Recipe

EPOCHS, WIDTH, LR = 24, 0.25, 0.05
NETS = ("A", "D", "B", "E")
RUNS = Path(__file__).resolve().parent.parent / "runs" / "depth_converged"


def run(data, name, seed):
    """Train one net, or go on with it; its accuracies and its history."""
    torch.manual_seed(seed)
    net = vgglib.vgg(
        name, num_classes=10, image_size=32, width=WIDTH, batch_norm=True, init="he", dropout=0
    )
    # The schedule does not look at the validation images, so these can be the test set.
    recipe = Recipe.small(epochs=EPOCHS, lr=LR, seed=seed)
    folder = RUNS / f"{name}-{seed}"
    history = vgglib.train(net, data, recipe, out=folder, resume=True, progress=False)
    return {"test_accuracy": float(history.val_accuracy.iloc[-1]), "history": columns(history)}


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    data = vgglib.data.load("cifar10")
    jobs = [
        (f"{name} + batch norm, lr {LR}", seed, lambda name=name, seed=seed: run(data, name, seed))
        for seed in range(chosen.seeds)
        for name in NETS
    ]
    settings = {"images": len(data.train), "epochs": EPOCHS, "width": WIDTH, "data": data.name}
    record("depth_converged", jobs, settings, only=chosen.only, timed=False)


if __name__ == "__main__":
    main()
