"""Where do the limits of `vgglib.diagnose` lie? What it measures, beside what became of the nets.

First the random starts of the recorded runs of chapter 4, made again by their seeds: what a batch
says of each before the first step, and the accuracy to which it came. Then short trainings at other
rates, with dropout of other strengths, and from starts that are too large. Prints tables; records
nothing.

    python benchmarks/limits.py [starts|rates|dropout|large|healthy]
"""

import re
import sys
import warnings

import pandas as pd
import torch

import vgglib
from vgglib import Recipe
from vgglib.diagnosis.given import batch_of, rates_of
from vgglib.diagnosis.passes import look

SIZE = {"num_classes": 10, "image_size": 32}
LABEL = re.compile(r"(\w), (?:random, σ = ([\d.]+)|(Xavier|He))(, unit variance)?$")


def build(name, seed, scheme="he", std=0.01, width=0.25, **options):
    torch.manual_seed(seed)
    net = vgglib.vgg(name, width=width, init=None, **SIZE, **options)
    return vgglib.initialise(net, scheme, std=std)


def figures(net, data, recipe):
    """All that the checks compare with a limit, whatever they say."""
    images, labels, *_ = batch_of(net, data, recipe)
    rates = rates_of(net, recipe)
    seen = look(net, images, labels, rates)
    return {
        "loss": seen.loss,
        "scores": seen.scores.std().item(),
        "balance": seen.median("gradient_over_decay"),
        "step": seen.median("relative_step"),
        "after": seen.after,
        "dead": max(seen.dead.values(), default=0.0),
        "says": vgglib.diagnose(net, data, recipe).cause,
        "classes": len(seen.scores.argmax(1).unique()),
    }


def trained(net, data, recipe):
    """Loss of the first and the last epoch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = vgglib.train(net, data, recipe, progress=False)
    return {"first": history["train_loss"].iloc[0], "last": history["train_loss"].iloc[-1]}


def starts(data):
    for record, divided in (("pre_init_pixels", False), ("pre_init", True)):
        for run in vgglib.recorded(record)["runs"]:
            if not (found := LABEL.match(run["label"])):
                continue
            name, std, scheme, unit = found.groups()
            how = "mean-std" if divided or unit else "mean"
            recipe = Recipe.small(lr=0.01, normalise=how, precision="fp32")
            net = build(name, run["seed"], (scheme or "normal").lower(), float(std or 1))
            yield {
                "what": run["label"],
                "record": record,
                "seed": run["seed"],
                "accuracy": run["test_accuracy"],
                **figures(net, data, recipe),
            }


def rates(data):
    for norm in (False, True):
        for lr in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0):
            for seed in (0, 1):
                recipe = SHORT.changed(lr=lr, seed=seed)
                net = build("A", seed, "he", width=0.125, batch_norm=norm)
                known = figures(net, data, recipe)
                yield {
                    "what": f"A{', batch norm' * norm}",
                    "lr": lr,
                    "seed": seed,
                    **known,
                } | trained(net, data, recipe)


def dropout(data):
    for p in (0.0, 0.5, 0.7, 0.8, 0.9):
        for seed in (0, 1):
            net = build("A", seed, "he", width=0.125, batch_norm=True, dropout=p)
            recipe = SHORT.changed(seed=seed, dropout=None)
            yield (
                {"what": f"dropout {p}", "seed": seed}
                | trained(net, data, recipe)
                | {"top1": vgglib.evaluate(net, data.test)["top1"]}
            )


def large(data):
    for name in "AD":
        for factor in (1, 1.2, 1.4, 1.7, 2):
            for seed in (0, 1):
                net = build(name, seed, "he", width=0.125)
                with torch.no_grad():
                    for layer in net.modules():
                        if hasattr(layer, "weight"):
                            layer.weight *= factor
                recipe = SHORT.changed(seed=seed)
                known = figures(net, data, recipe)
                yield {"what": name, "factor": factor, "seed": seed, **known} | trained(
                    net, data, recipe
                )


def healthy(data):
    for name in vgglib.CONFIGS:
        for scheme, norm in (("he", False), ("he", True), ("xavier", True), ("normal", True)):
            for seed in range(3):
                net = build(name, seed, scheme, width=0.125, batch_norm=norm)
                what = f"{name}, {scheme}{', batch norm' * norm}"
                yield {"what": what, "seed": seed, **figures(net, data, SHORT)}


SHORT = Recipe.small(
    epochs=4, batch_size=64, lr=0.01, schedule="constant", pad=0, flip=False, precision="fp32"
)


def main(which):
    data = vgglib.data.load("cifar10", offline="fashion-mnist-mini", progress=False)
    small = vgglib.data.Data(data.name, data.train[:1280], data.test[:500], data.classes, "part")
    table = pd.DataFrame(list(globals()[which](data if which == "starts" else small)))
    with pd.option_context("display.width", 250, "display.max_rows", None):
        print(table.to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "starts")
