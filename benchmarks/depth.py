"""Does depth help, and do small filters? Table 3's comparisons at reduced scale (chapter 2).

All six nets of Table 1, and B with each pair of 3×3 convolutions replaced by one 5×5 (§4.1), at
a quarter of the width on 20,000 CIFAR-10 images; the whole test set; several seeds. The nets of
Table 1's depth line, A, B, D and E, also with batch norm, which the paper did not have.

    python benchmarks/depth.py
"""

import torch
from record import arguments, columns, record

import vgglib
from vgglib import CONFIGS, Config, Conv, Recipe

IMAGES, EPOCHS, WIDTH = 20_000, 8, 0.25
DEPTH_LINE = ("A", "B", "D", "E")


def shallow_b() -> Config:
    """§4.1: every stage of two 3×3 convolutions becomes one 5×5 convolution."""
    stages = tuple((Conv(stage[-1].channels, kernel=5),) for stage in CONFIGS["B"].stages)
    return Config("B-5x5", stages)


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    data = vgglib.data.load("cifar10")
    subset = vgglib.data.Data(data.name, data.train[:IMAGES], data.test, data.classes, data.source)
    nets = {**CONFIGS, "B-5x5": shallow_b()}

    def run(config, batch_norm, seed):
        torch.manual_seed(seed)
        net = vgglib.vgg(
            config,
            num_classes=10,
            image_size=32,
            width=WIDTH,
            batch_norm=batch_norm,
            init="he",
        )
        lr = 0.05 if batch_norm else 0.02
        recipe = Recipe.small(epochs=EPOCHS, seed=seed, lr=lr, precision="bf16")
        history = vgglib.train(net, subset, recipe, progress=False)
        tested = vgglib.evaluate(net, data.test, *recipe.normalisation(subset))
        return {"test_accuracy": tested["top1"], "history": columns(history)}

    jobs = []
    for seed in range(chosen.seeds):
        for name, config in nets.items():
            jobs.append((name, seed, lambda c=config, s=seed: run(c, False, s)))
        for name in DEPTH_LINE:
            label = f"{name} + batch norm"
            jobs.append((label, seed, lambda c=nets[name], s=seed: run(c, True, s)))
    settings = {"images": IMAGES, "epochs": EPOCHS, "width": WIDTH, "data": data.name}
    record("depth", jobs, settings, only=chosen.only)


if __name__ == "__main__":
    main()
