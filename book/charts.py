"""The charts of the results and architecture pages, drawn whenever the book is built."""

import importlib
import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

import vgglib
from vgglib import plots

BLUE, ORANGE, GREY = plots.COLOURS["blue"], plots.COLOURS["orange"], "#999999"


def runs(name):
    """A recorded run as a table, a row a measurement."""
    return pd.DataFrame(vgglib.recorded(name)["runs"])


@plots.style()
def throughput(name="throughput"):
    """Images a second of each way, the plain loop being 1."""
    table = runs(name).dropna(subset="ratio_to_plain")  # narrow nets have a peer of their own
    table = table.groupby("label", sort=False).median(numeric_only=True)
    ways = {
        "plain loop": table.ratio_to_plain / table.ratio_to_plain,
        "timm": table.ratio_to_plain / table.ratio_to_timm,
        "vgglib": table.ratio_to_plain,
    }
    _, ax = plt.subplots(figsize=(plots.WIDTH, 0.9 + 0.95 * len(table)))
    for number, (label, ratio) in enumerate(ways.items()):
        where = [row + 0.26 * (number - 1) for row in range(len(table))]
        bars = ax.barh(where, ratio, 0.24, color=(GREY, ORANGE, BLUE)[number])
        ax.bar_label(bars, [f" {label} {value:.2f}×" for value in ratio], fontsize=11)
    ax.set(yticks=range(len(table)), yticklabels=[s.replace(", ", "\n") for s in table.index])
    ax.set(xlabel="images a second, plain loop = 1", xlim=(0, 1.35 * ax.get_xlim()[1]))
    ax.invert_yaxis()


def throughput_fp32():
    """The same on a CPU that does not compute in bf16."""
    throughput("throughput_fp32")


@plots.style()
def time_to_accuracy(name="time_to_accuracy"):
    """Test accuracy against wall-clock time, a point a seed, a corner for each goal."""
    run = vgglib.recorded(name)
    table = pd.DataFrame(run["runs"])
    _, ax = plt.subplots(figsize=(plots.WIDTH, 4))
    for number, (label, goal) in enumerate(run["settings"]["goals"].items()):
        colour = list(plots.COLOURS.values())[number]
        done = table[table.label == label]
        ax.plot(done.seconds, done.test_accuracy, "o", color=colour, alpha=0.8)
        limit, wanted = goal["seconds_allowed"], goal["accuracy_wanted"]
        # The corner's inside, up and to the left, is where a run reaches its goal.
        ax.plot([limit / 1.5, limit, limit], [wanted, wanted, wanted + 0.03], "-", color=colour)
        ax.annotate(
            f"goal: {label}",
            (limit, wanted),
            xytext=(0, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            color=colour,
        )
    ax.set(xscale="log", xlabel="seconds from the start of the process", ylabel="test accuracy")
    ticks = [10, 30, 60, 120, 180, 360, 720]
    ax.set_xticks(ticks, ticks)
    ax.minorticks_off()
    ax.set(ylim=(0.7, 0.95), xlim=(8, 900))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


@plots.style()
def generalisation(name="generalisation"):
    """Accuracy of fixed features by block, one panel a set; bars: ± 1 standard deviation."""
    table = runs(name).groupby("label").test_accuracy.agg(["mean", "std"])
    blocks = range(1, 6)
    sets = ("CIFAR-10", "Fashion-MNIST")
    fig, axes = plt.subplots(1, len(sets), figsize=(plots.WIDTH, 3.6), sharey=True)
    for ax, images in zip(axes, sets, strict=True):
        for weights, colour, line in (("trained", BLUE, "o-"), ("random", ORANGE, "s--")):
            rows = table.loc[[f"{images}, {weights}, block {number}" for number in blocks]]
            ax.errorbar(blocks, rows["mean"], rows["std"], fmt=line, color=colour, label=weights)
        scratch = table["mean"][f"{images}, from scratch"]
        ax.axhline(scratch, color=GREY, linestyle=":", label="small net from scratch")
        ax.set(title=images, xlabel="block", xticks=blocks)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set(ylabel="test accuracy", ylim=(0, 1))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


@plots.style()
def memory(name="memory"):
    """Peak memory of a step beside what ``anatomy`` foresees."""
    table = runs(name).groupby("label", sort=False).median(numeric_only=True)
    labels = ["foreseen from\nthe shapes", *(label.replace(", ", ",\n") for label in table.index)]
    values = [table.foreseen_gib.iloc[0], *table.peak_gib]
    _, ax = plt.subplots(figsize=(plots.WIDTH, 2.6))
    bars = ax.barh(labels, values, color=[GREY, BLUE, ORANGE][: len(values)])
    ax.bar_label(bars, [f" {value:.2f} GiB" for value in values])
    ax.set(xlabel="peak memory of a training step", xlim=(0, 1.2 * max(values)))
    ax.invert_yaxis()


@plots.style()
def testing(name="testing"):
    """Top-1 error of the jittered nets' tests, a line a test, a dot a seed."""
    table = runs(name)
    start = ", S in [16, 32]; Q = "
    table = table[table.label.str.contains(start, regex=False)]
    found = list(table.groupby("label", sort=False).test_accuracy)
    _, ax = plt.subplots(figsize=(plots.WIDTH, 0.6 + 0.45 * len(found)))
    for row, (_, accuracy) in enumerate(found):
        error = 100 * (1 - accuracy)
        ax.plot(error, [row] * len(error), "o", color=GREY, markersize=4, alpha=0.6)
        ax.plot(error.mean(), row, "D", color=BLUE)
    labels = [label.replace(start, ", Q = ") for label, _ in found]
    ax.set(yticks=range(len(found)), yticklabels=labels, xlabel="top-1 error, %")
    ax.invert_yaxis()


@plots.style()
def architecture():
    """Parts of vgglib, each above those that it builds on."""
    # Here: a class's copy has neither that page nor the tools.
    sys.path.insert(0, str(Path(vgglib.__file__).parent.parent / "tools"))
    imports = importlib.import_module("imports")
    edges, _ = imports.graphs()
    level, direct = imports.levels(edges), imports.direct(edges)
    for part in sorted(edges, key=level.get, reverse=True):  # as high as its users let it: shorter
        level[part] = min((level[p] - 1 for p in edges if part in direct[p]), default=level[part])
    rows = [sorted(p for p in level if level[p] == n) for n in range(max(level.values()) + 1)]
    place = {part: at for y, row in enumerate(rows) for part, at in spread(row, y)}
    near = {p: direct[p] | {user for user in direct if p in direct[user]} for p in direct}
    for _ in range(9):  # each row in the order of where its neighbours are: fewer crossings
        for y, row in enumerate(rows):
            row.sort(key=lambda p: sum(place[n][0] for n in near[p]) / max(len(near[p]), 1))
            place.update(spread(row, y))
    _, ax = plt.subplots(figsize=(plots.WIDTH, 1.1 * len(rows)))
    for part, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": BLUE}
        ax.text(x, y, part, ha="center", va="center", bbox=box, zorder=3, fontsize=10)
        for below in direct[part]:
            ax.plot(*zip((x, y), place[below], strict=True), color=GREY, linewidth=1.2)
    ax.set(xlim=(0, 1), ylim=(-0.5, len(rows) - 0.5))
    ax.axis("off")


def spread(row, y, margin=4):
    """Each part of a row with its place (x, y); a box is as wide as its word and a margin."""
    widths = [len(part) + margin for part in row]
    centres = [sum(widths[:number]) + width / 2 for number, width in enumerate(widths)]
    return [(part, (at / sum(widths), y)) for part, at in zip(row, centres, strict=True)]


#: Errors of the paper's Tables 8 and 9 (validation set), in the order of the recorded labels.
PAPER_LOCALISATION = {
    "centre, S = 48, FC layers, one box": 36.4,
    "centre, S = 48, FC layers, a box a class": 34.3,
    "centre, S = 48, all layers, a box a class": 33.1,
    "whole, S = 32, Q = 32": 29.5,
    "whole, S = 48, Q = 48": 28.2,
    "whole, S = 48, Q = 44, 48": 27.5,
    "whole, fusion of the first and the third": 26.9,
}


@plots.style()
def localisation(name="localisation"):
    """Localisation error of each setting, a dot a seed, beside the paper's."""
    table = runs(name)
    labels = list(table.label.unique())
    _, ax = plt.subplots(figsize=(plots.WIDTH, 0.9 + 0.5 * len(labels)))
    for row, label in enumerate(labels):
        errors = 100 * table.localisation_error[table.label == label]
        ax.barh(row, errors.mean(), 0.6, color=BLUE if label.startswith("whole") else ORANGE)
        ax.plot(errors, [row] * len(errors), "o", color="white", markeredgecolor="black")
        if label in PAPER_LOCALISATION:
            ax.plot(2 * [PAPER_LOCALISATION[label]], [row - 0.4, row + 0.4], "k--", linewidth=1.5)
    ax.set_yticks(range(len(labels)), [label.replace(", ", ",\n", 1) for label in labels])
    ax.set(xlabel="localisation error (%); dashed: paper", xlim=(0, None))
    ax.invert_yaxis()
