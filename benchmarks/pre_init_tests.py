"""Chapter 4's predictions, tested: does D start by itself at a larger σ, or with batch norm?

Nets, images and units as in pre_init_pixels.py, in fp32. By the chapter's measurement the step of
D's gradient is as large as that of weight decay at σ = 0.036. So D should start without a donor at
0.04, where it was not tried before. With batch norm it should start from the σ at which it stalls.

    python benchmarks/pre_init_tests.py --threads 1
"""

import torch
from pre_init_pixels import IMAGES, RECIPE, WIDTH
from record import arguments, columns, record

import vgglib

#: label → σ, and what differs in the net
STARTS = {
    "D, random, σ = 0.04": (0.04, {}),
    "D, batch norm, σ = 0.025": (0.025, {"batch_norm": True}),
}


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    data = vgglib.data.load("cifar10")
    # Validation on a part: all 10,000 test images after each epoch would cost more than training.
    parts = data.train[:IMAGES], data.test[:1000]
    subset = vgglib.data.Data(data.name, *parts, data.classes, data.source)

    def fit(seed, std, options):
        torch.manual_seed(seed)
        net = vgglib.vgg("D", num_classes=10, image_size=32, width=WIDTH, init=None, **options)
        vgglib.initialise(net, "normal", std=std)
        recipe = RECIPE.changed(seed=seed, precision="fp32")
        history = vgglib.train(net, subset, recipe, progress=False)
        mean, std = recipe.normalisation(subset)
        return {
            "test_accuracy": vgglib.evaluate(net, data.test, mean, std)["top1"],
            "history": columns(history),
        }

    jobs = [
        (label, seed, lambda s=seed, w=what: fit(s, *w))
        for label, what in STARTS.items()
        for seed in range(chosen.seeds)
    ]
    settings = {
        "images": IMAGES,
        "width": WIDTH,
        "epochs": RECIPE.epochs,
        "lr": RECIPE.lr,
        "batch_size": RECIPE.batch_size,
        "precision": "fp32",
        "normalise": RECIPE.normalise,
        "data": data.name,
    }
    record("pre_init_tests", jobs, settings, only=chosen.only)


if __name__ == "__main__":
    main()
