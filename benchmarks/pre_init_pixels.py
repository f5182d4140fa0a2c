"""§3.1's initialisation in the paper's own units: does it stall, does net A cure it? (chapter 4)

The paper subtracts the mean colour and divides by nothing, so pixels keep their 0–255 scale. Here
the same is done at a quarter of the width with 5,000 CIFAR-10 images: A, D and E start from
N(0, σ²) everywhere, or D and E take the paper's layers from that A. Xavier and He stand beside
them, Xavier also with pixels of unit variance. By its gain, the paper's σ = 0.01 at 224 px
corresponds to 0.025 here. pre_init.py is the same with pixels of unit variance.

    python benchmarks/pre_init_pixels.py
"""

import functools

import torch
from record import arguments, columns, record

import vgglib
from vgglib import Recipe

IMAGES, WIDTH, EPOCHS = 5_000, 0.25, 5
RECIPE = Recipe.small(
    precision="bf16",
    epochs=EPOCHS,
    batch_size=32,
    lr=0.01,
    schedule="constant",
    pad=0,
    normalise="mean",
)
SIGMAS = {"D": (0.025, 0.03), "E": (0.03,)}


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    data = vgglib.data.load("cifar10")
    # Validation on a part: all 10,000 test images after each epoch would cost more than training.
    parts = data.train[:IMAGES], data.test[:1000]
    subset = vgglib.data.Data(data.name, *parts, data.classes, data.source)

    def build(name, seed, scheme, std=0.01):
        torch.manual_seed(seed)
        net = vgglib.vgg(name, num_classes=10, image_size=32, width=WIDTH, init=None)
        return vgglib.initialise(net, scheme, std=std)

    def fit(net, seed, **changes):
        recipe = RECIPE.changed(seed=seed, **changes)
        history = vgglib.train(net, subset, recipe, progress=False)
        mean, std = recipe.normalisation(subset)
        return {
            "test_accuracy": vgglib.evaluate(net, data.test, mean, std)["top1"],
            "history": columns(history),
        }

    @functools.lru_cache(maxsize=2)
    def trained_a(seed, std):
        net = build("A", seed, "normal", std)
        return net, fit(net, seed)

    def started_from_a(name, seed, std):
        net = build(name, seed, "normal", std)
        vgglib.pre_initialise(net, trained_a(seed, std)[0])
        return fit(net, seed)

    jobs = []
    for seed in range(chosen.seeds):
        for std in (0.02, 0.025, 0.03):
            jobs.append(
                (f"A, random, σ = {std}", seed, lambda s=seed, v=std: trained_a(s, v)[1]),
            )
        for name, sigmas in SIGMAS.items():
            for std in sigmas:
                for label, job in (
                    ("random", lambda n=name, s=seed, v=std: fit(build(n, s, "normal", v), s)),
                    ("from A", lambda n=name, s=seed, v=std: started_from_a(n, s, v)),
                ):
                    jobs.append((f"{name}, {label}, σ = {std}", seed, job))
        for name, scheme in (("D", "xavier"), ("E", "xavier"), ("D", "he")):
            label = f"{name}, {scheme.capitalize()}"
            jobs.append(
                (label, seed, lambda n=name, s=seed, k=scheme: fit(build(n, s, k), s)),
            )
        for name in ("A", "D"):
            jobs.append(
                (
                    f"{name}, Xavier, unit variance",
                    seed,
                    lambda n=name, s=seed: fit(build(n, s, "xavier"), s, normalise="mean-std"),
                )
            )
    settings = {
        "images": IMAGES,
        "width": WIDTH,
        "epochs": EPOCHS,
        "lr": RECIPE.lr,
        "batch_size": RECIPE.batch_size,
        "precision": RECIPE.precision,
        "normalise": RECIPE.normalise,
        "data": data.name,
    }
    record("pre_init_pixels", jobs, settings, only=chosen.only)


if __name__ == "__main__":
    main()
