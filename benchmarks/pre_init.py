"""Does a deep net start when it is begun from a shallow one? §3.1's pre-initialisation (chapter 4).

Nets at a quarter of the width on 10,000 CIFAR-10 images, no batch norm, constant learning rate.
A is trained from He's initialisation; D and E start from N(0, σ²) everywhere, or from A in the
paper's layers and N(0, σ²) in the others; Xavier and He stand beside them. Several σ and seeds.
The gain of a layer is σ·√(fan_in / 2), so the paper's 0.01 corresponds to 0.02 at this width.

    python benchmarks/pre_init.py
"""

import functools

import torch
from record import arguments, columns, record

import vgglib
from vgglib import Recipe

IMAGES, WIDTH, EPOCHS_A, EPOCHS = 10_000, 0.25, 8, 6
EQUAL_COST = 10  # epochs of D; one of A costs 0.52 of them
RECIPE = Recipe.small(epochs=EPOCHS, lr=0.01, schedule="constant", pad=0, precision="bf16")
SIGMAS = {"D": (0.02, 0.03, 0.04), "E": (0.03, 0.04)}


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=5)
    data = vgglib.data.load("cifar10")
    subset = vgglib.data.Data(data.name, data.train[:IMAGES], data.test, data.classes, data.source)

    def build(name, seed, scheme, std=0.01):
        torch.manual_seed(seed)
        net = vgglib.vgg(name, num_classes=10, image_size=32, width=WIDTH, init=None)
        return vgglib.initialise(net, scheme, std=std)

    def fit(net, seed, epochs=EPOCHS):
        recipe = RECIPE.changed(seed=seed, epochs=epochs)
        history = vgglib.train(net, subset, recipe, progress=False)
        tested = vgglib.evaluate(net, data.test, *recipe.normalisation(subset))
        return {"test_accuracy": tested["top1"], "history": columns(history)}

    @functools.lru_cache(maxsize=1)
    def trained_a(seed):
        net = build("A", seed, "he")
        return net, fit(net, seed, EPOCHS_A)

    def started_from_a(name, seed, std):
        net = build(name, seed, "normal", std)
        vgglib.pre_initialise(net, trained_a(seed)[0])
        return fit(net, seed)

    jobs = []
    for seed in range(chosen.seeds):
        jobs.append(("A, He", seed, lambda s=seed: trained_a(s)[1]))
        for name, sigmas in SIGMAS.items():
            for std in sigmas:
                for label, job in (
                    ("random", lambda n=name, s=seed, v=std: fit(build(n, s, "normal", v), s)),
                    ("from A", lambda n=name, s=seed, v=std: started_from_a(n, s, v)),
                ):
                    jobs.append((f"{name}, {label}, σ = {std}", seed, job))
        for scheme in ("xavier", "he"):
            label = f"D, {scheme.capitalize()}"
            jobs.append((label, seed, lambda k=scheme, s=seed: fit(build("D", s, k), s)))
        # From scratch for as many epochs as A and then D have had together, and for as many
        # multiply-adds. (The rate is constant: in the record the shorter run is the longer one's
        # beginning, with the accuracy on the test images that was measured after that epoch.)
        for together in (EPOCHS_A + EPOCHS, EQUAL_COST):
            label = f"D, He, {together} epochs"
            jobs.append((label, seed, lambda s=seed, e=together: fit(build("D", s, "he"), s, e)))
    settings = {
        "images": IMAGES,
        "width": WIDTH,
        "epochs": EPOCHS,
        "epochs_a": EPOCHS_A,
        "lr": RECIPE.lr,
        "batch_size": RECIPE.batch_size,
        "precision": RECIPE.precision,
        "data": data.name,
    }
    record("pre_init", jobs, settings, only=chosen.only)


if __name__ == "__main__":
    main()
