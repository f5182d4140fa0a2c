"""The charts of the results page, drawn from the recorded runs whenever the book is built."""

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
    table = runs(name).groupby("label", sort=False).median(numeric_only=True)
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
