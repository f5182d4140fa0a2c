"""Figures: what is drawn equals the data, the alt text arrives, bad input is named."""

import base64
import io
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import patch

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from drawn import ask_each, outside
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from nbclient import NotebookClient
from PIL import Image
from refusing import refuses

import vgglib
from conftest import ROOT
from vgglib import plots

ALT = "A line that climbs from one to three."


def history(values):
    return pd.DataFrame({"epoch": range(1, len(values) + 1), "val_accuracy": values})


def draw(fig):
    """Render as a notebook would; drawing is where many mistakes in a figure come to light."""
    data = io.BytesIO()
    with plots.style():
        fig.savefig(data, format="png", dpi=50)
    assert outside(fig) == []
    return Image.open(data)


def line(ax, label):
    (found,) = [line for line in ax.get_lines() if line.get_label() == label]
    return found


def texts(ax):
    return [text.get_text() for text in ax.texts]


# --- showing


def shown(fig, alt):
    with patch("IPython.display.display") as display:
        plots.show(fig, alt)
    (bundle,), options = display.call_args
    return bundle, options


def test_show_carries_the_alt_text_and_a_picture():
    fig, ax = plots.subplots(width=4, height=3)
    ax.plot([1, 2, 3])
    bundle, options = shown(fig, ALT)
    assert options == {"raw": True, "metadata": {"image/png": {"alt": ALT}}}
    assert bundle["text/plain"] == ALT
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert picture.size == (400, 300) and len(picture.convert("RGB").getcolors(10**6)) > 2


def test_a_figure_is_shown_once():
    with plots.style():
        mine, _ = plt.subplots()
    assert plt.get_fignums()
    shown(mine, ALT)
    shown(plots.network("A"), "The eleven layers of net A as blocks.")
    assert not plt.get_fignums()  # nothing is left for a notebook to show again


@pytest.mark.parametrize("alt", ["", "   ", "figure.png", "too short", None, "x" * 40])
def test_alt_has_to_be_a_sentence(alt):
    with refuses(ValueError, got=("alt", repr(alt)), accepts=20):
        plots.show(plots.subplots()[0], alt)


def test_style_ends_with_its_block():
    before = plt.rcParams["font.size"], plt.rcParams["axes.spines.top"]
    with plots.style():
        assert (plt.rcParams["font.size"], plt.rcParams["axes.spines.top"]) == (12, False)
    plots.curves({"A": history([0.1, 0.2])}, y="val_accuracy", y_label="accuracy")
    assert (plt.rcParams["font.size"], plt.rcParams["axes.spines.top"]) == before


def test_colours_are_told_apart_without_red_and_green():
    """Simulated deuteranopia (Viénot et al., 1999) leaves the first six colours distinct."""
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                       [0.0299566, 0.184309, 1.46709]])  # fmt: skip
    blind = (
        np.linalg.inv(to_lms) @ np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]) @ to_lms
    )
    linear = np.array([to_rgb(colour) for colour in list(plots.COLOURS.values())[:6]]) ** 2.2
    seen = np.clip(linear @ blind.T, 0, 1) ** (1 / 2.2)
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 0.15


# --- numbers


def test_curves_draw_mean_band_and_seeds():
    seeds = [[0.1, 0.4, 0.6], [0.2, 0.3, 0.8], [0.3, 0.5, 0.7, 0.9]]
    fig = plots.curves(
        {"B": [history(seed) for seed in seeds], "A": history([0.1, 0.2, 0.3])},
        y="val_accuracy", y_label="validation accuracy", percent=True, reference={"chance": 0.1},
    )  # fmt: skip
    draw(fig)
    (ax,) = fig.axes
    first = np.array([seed[:3] for seed in seeds])
    x, y = line(ax, "B").get_data()
    np.testing.assert_allclose(y[:3], first.mean(axis=0))
    assert np.isnan(y[3]) and list(x) == [1, 2, 3, 4]  # only one seed got that far
    band = ax.collections[0].get_paths()[0].vertices
    for epoch in (1, 2, 3):
        low, high = band[band[:, 0] == epoch, 1].min(), band[band[:, 0] == epoch, 1].max()
        assert high - low == pytest.approx(2 * first[:, epoch - 1].std(ddof=1))
    thin = [one for one in ax.get_lines() if one.get_linewidth() < 1]
    assert len(thin) == 3 and list(thin[2].get_ydata()) == seeds[2]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "validation accuracy")
    assert sorted(texts(ax)) == ["A", "B", "chance"] and ax.get_legend() is None
    assert "40%" in [tick.get_text() for tick in ax.get_yticklabels()]


def test_labels_at_the_ends_of_lines_do_not_overlap():
    fig = plots.curves(
        {name: history([0.1, 0.5 + i / 1000]) for i, name in enumerate("ABCD")},
        y="val_accuracy", y_label="accuracy", reference={"half": 0.5},
    )  # fmt: skip
    draw(fig)
    boxes = sorted((text.get_window_extent() for text in fig.axes[0].texts), key=lambda b: b.y0)
    assert len(boxes) == 5
    assert all(above.y0 >= below.y0 + 8 for below, above in pairwise(boxes))


def test_curves_take_recorded_histories_and_many_of_them():
    columns = {"epoch": [1, 2], "val_accuracy": [0.2, 0.3]}
    rows = [{"epoch": 1, "val_accuracy": 0.2}, {"epoch": 2, "val_accuracy": 0.3}]
    runs = {"columns": columns, "rows": rows, "both": [columns, rows]}
    fig = plots.curves({**runs, "d": columns, "e": columns}, y="val_accuracy", y_label="accuracy")
    for name in runs:
        assert list(line(fig.axes[0], name).get_ydata()) == [0.2, 0.3]
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == [*runs, "d", "e"]


def test_curves_tick_whole_epochs():
    fig = plots.curves({"A": history([0.1, 0.2, 0.3])}, y="val_accuracy", y_label="accuracy")
    ticks = fig.axes[0].get_xticks()
    assert len(ticks) >= 3 and all(tick == int(tick) for tick in ticks)


def test_curves_name_what_is_missing():
    with refuses(ValueError, got="curves", accepts=dict):
        plots.curves({}, y="loss", y_label="loss")
    with refuses(ValueError, got=("'A'", "loss"), accepts=("epoch", "val_accuracy")):
        plots.curves({"A": history([1.0])}, y="loss", y_label="loss")
    with refuses(ValueError, got="'A'", accepts="DataFrame"):
        plots.curves({"A": []}, y="loss", y_label="loss")
    with refuses(TypeError, got="curves()", remedy="y_label"):
        plots.curves({"A": history([1.0])}, y="val_accuracy")


def test_a_diverged_run_can_be_drawn():
    fig = plots.curves(
        {"std 0.1": history([np.nan, np.nan]), "he": history([1.0, 0.5])},
        y="val_accuracy", y_label="loss", log=True,
    )  # fmt: skip
    draw(fig)
    assert texts(fig.axes[0]) == ["he"]


def epochs(count):
    numbers = np.arange(1, count + 1)
    table = {"epoch": numbers, "lr": 0.1 / numbers}
    for offset, kind in enumerate(plots.KINDS):
        table |= {f"{kind}_loss": 2 / numbers + offset, f"{kind}_accuracy": numbers / 10}
    return pd.DataFrame(table)


def test_a_training_is_drawn_with_loss_accuracy_and_rate():
    run = epochs(4)
    run.loc[3, ["val_loss", "train_loss"]] = np.nan, np.inf  # an epoch that went wrong
    loss, accuracy, rate = plots.training(run, rate=True, title="A").axes
    draw(loss.figure)
    for kind, label in plots.KINDS.items():
        for ax, what in ((loss, "loss"), (accuracy, "accuracy")):
            x, y = line(ax, label).get_data()
            assert list(x) == [1, 2, 3, 4]
            np.testing.assert_allclose(y[:3], run[f"{kind}_{what}"][:3])
        assert np.isnan(line(loss, label).get_ydata()[3])
    assert list(rate.get_lines()[0].get_ydata()) == list(run.lr)
    assert loss.get_title(loc="left") == "A" and rate.get_xlabel() == "epoch"


@pytest.mark.slow
def test_a_live_figure_leaves_one_output_with_the_last_epoch():
    """In a real kernel, for it is the front end that replaces one drawing by the next."""
    notebook = nbformat.v4.new_notebook()
    row = "{'epoch': n, 'lr': 1, **{f'{k}_{w}': n / 4 for k in plots.KINDS for w in WHAT}}"
    code = (
        "from vgglib import plots\nWHAT, live = ('loss', 'accuracy'), plots.Live('A')\n"
        f"for n in (1, 2):\n    live({row})"
    )
    notebook.cells = [nbformat.v4.new_code_cell(code)]
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    alt = output.metadata["image/png"]["alt"]
    assert "after epoch 2 the loss is 0.50 and 0.50, the accuracy 50% and 50%" in alt
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert len(picture.convert("RGB").getcolors(10**6)) > 2


def test_bars_are_means_with_errors_and_dots():
    values = {"A": [0.5, 0.6, 0.7], "B": 0.8}
    fig = plots.bars(values, y_label="accuracy", errors={"B": 0.05}, number=".2f", percent=True)
    draw(fig)
    (ax,) = fig.axes
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.6, 0.8])
    spans = [np.ptp(c.get_segments()[0][:, 1]) for c in ax.collections]
    assert spans == pytest.approx([0.2, 0.1])  # ± one standard deviation; ± the one given
    dots = [one for one in ax.get_lines() if one.get_marker() == "o"]
    assert [list(one.get_ydata()) for one in dots] == [[0.5, 0.6, 0.7]]
    assert texts(ax) == ["0.60", "0.80"] and ax.get_ylim()[0] == 0
    top = ax.get_window_extent().y1
    for number in ax.texts:  # below the title, and no line runs through it
        assert number.get_window_extent().y1 <= top and number.get_bbox_patch() is not None


def test_a_cut_axis_gets_points_instead_of_bars():
    fig = plots.bars({"A": [0.5, 0.6], "B": 0.8}, y_label="accuracy", limits=(0.4, 0.9))
    draw(fig)
    assert not fig.axes[0].patches
    points = [one for one in fig.axes[0].get_lines() if one.get_marker() == "D"]
    assert [one.get_ydata()[0] for one in points] == pytest.approx([0.55, 0.8])


def test_a_value_that_would_not_be_seen_is_an_error():
    with refuses(ValueError, got=(1, "limits=(0.4, 0.8)"), accepts=(0.3, 0.7)):
        plots.bars({"a": [0.3, 0.5], "b": {"c": 0.7}}, y_label="", limits=(0.4, 0.8))


def test_a_datum_beyond_its_axes_would_be_found():
    fig = plots.curves({"A": history([0.1, 0.5])}, y="val_accuracy", y_label="", limits=(0, 0.4))
    assert {tuple(row) for row in outside(fig)} == {(2, 0.5)}
    fig = plots.bars({"A": [0.2, 0.6], "B": 0.5}, y_label="")
    fig.axes[0].set_ylim(0, 0.45)
    assert {round(y, 2) for _, y in outside(fig)} == {0.5, 0.6, 0.68}  # bar, seed, error bar


def test_so_it_is_in_a_chapter():
    """`conftest.py` lets each kernel of nbval begin with this."""
    asked, fig = SimpleNamespace(show=lambda fig, alt: None), plots.bars({"A": 0.5}, y_label="")
    ask_each(asked)
    fig.axes[0].axvspan(-0.2, 0.2)
    fig.axes[0].axhspan(0.2, 0.3)
    asked.show(fig, ALT)
    fig.axes[0].set_ylim(0, 0.4)
    with pytest.raises(AssertionError):
        asked.show(fig, ALT)


@pytest.mark.slow
def test_every_datum_of_a_record_lies_inside_its_axes():
    drawn = 0
    for path in sorted((ROOT / "benchmarks" / "recorded").glob("*.json")):
        runs = pd.DataFrame(vgglib.recorded(path.stem)["runs"])
        if "test_accuracy" not in runs:
            continue
        labels = runs.groupby("label", sort=False)
        accuracies = {str(label): list(part["test_accuracy"].dropna()) for label, part in labels}
        accuracies = dict(list((k, v) for k, v in accuracies.items() if v)[:12])
        assert outside(plots.bars(accuracies, y_label="", percent=True)) == [], path.stem
        if "history" in runs:
            histories = {str(label): list(part["history"].dropna()) for label, part in labels}
            histories = dict(list((k, v) for k, v in histories.items() if v)[:8])
            fig = plots.curves(histories, y="train_loss", y_label="", reference={"ln 10": 2.303})
            assert outside(fig) == [], path.stem
            drawn += 1
    assert drawn >= 5


def test_grouped_bars_share_the_colour_of_their_series():
    fig = plots.bars(
        {"A": {"conv": 9, "fc": 124}, "E": {"fc": 124, "conv": 20}}, y_label="millions"
    )
    draw(fig)
    heights = {}
    for bar in fig.axes[0].patches:
        heights.setdefault(bar.get_facecolor(), []).append(bar.get_height())
    assert sorted(heights.values()) == [[9, 20], [124, 124]]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["conv", "fc"]
    for nothing in ({}, {"A": []}, {"A": {}}):
        with refuses(ValueError, got="bars", accepts=dict):
            plots.bars(nothing, y_label="y")


def test_signal_matches_layers_of_different_nets_by_name():
    tables = {}
    for name in "AE":
        net = vgglib.vgg(name, image_size=32, width=0.05, num_classes=10)
        tables[name] = vgglib.signal(net, torch.randn(2, 3, 32, 32))
    tables["E"].loc[3, "gradient_std"] = 0.0  # has no place on a logarithmic axis
    fig = plots.signal(tables)
    draw(fig)
    ticks = [tick.get_text() for tick in fig.axes[1].get_xticklabels()]
    assert ticks == list(tables["E"].layer)
    for ax, column in zip(fig.axes, ("activation_std", "gradient_std"), strict=True):
        assert ax.get_yscale() == "log" and ax.get_ylabel().startswith("std ")
        x, y = line(ax, "A").get_data()
        assert [ticks[int(place)] for place in x] == list(tables["A"].layer)
        np.testing.assert_allclose(y, tables["A"][column])
    assert np.isnan(line(fig.axes[1], "E").get_ydata()[3])
    assert draw(plots.signal(tables["A"]))
    with refuses(ValueError, got="gradient_std", remedy="vgglib.signal"):
        plots.signal(tables["A"].drop(columns="gradient_std"))
    stranger = tables["A"].replace("conv1_1", "conv9_9")
    with refuses(ValueError, got=("'A'", "conv9_9"), accepts=("conv1_1", "fc8")):
        plots.signal({"A": stranger, "E": tables["E"]})


# --- networks and pictures


@pytest.mark.parametrize("name", list(vgglib.CONFIGS))
def test_network_draws_every_layer_at_its_size(name):
    config, fig = vgglib.CONFIGS[name], plots.network(name)
    draw(fig)
    blocks = [block for block in fig.axes[0].patches if isinstance(block, Rectangle)]
    kinds = [block.get_label() for block in blocks]
    assert [kind for kind in kinds if kind.startswith("conv")] == [
        f"conv {conv.kernel}×{conv.kernel}" for conv in config.convs
    ]
    assert (kinds.count("max-pool"), kinds.count("fully connected")) == (5, 3)
    assert kinds.count("LRN") == (name == "A-LRN")
    heights = [block.get_height() ** 2 for block in blocks]
    table = vgglib.anatomy(name)
    drawn = table[table.kind.isin(["conv", "lrn", "pool", "fc"])]
    sides = [shape[1] if len(shape) == 3 else 1 for shape in drawn.output_shape]
    assert heights == pytest.approx(sides)
    for block, shape, kind in zip(blocks, drawn.output_shape, drawn.kind, strict=True):
        if kind in ("conv", "fc"):
            assert (block.get_width() / 2.5) ** 3 == pytest.approx(shape[0])
    ends = [(block.get_x(), block.get_x() + block.get_width()) for block in blocks]
    assert all(left[1] < right[0] for left, right in pairwise(ends))
    written = texts(fig.axes[0])
    assert written[:2] == ["conv1", "224²\n×64"] and written[-2:] == ["fc8", "1000"]


def test_network_takes_a_net_with_its_own_size():
    net = vgglib.vgg("vgg16_bn", image_size=32, width=0.25, num_classes=10)
    fig = plots.network(net)
    written = texts(fig.axes[0])
    assert written[:2] == ["conv1", "32²\n×16"] and written[-4:] == ["fc7", "1024", "fc8", "10"]
    assert fig.axes[0].get_title(loc="left") == "D: 16 weight layers"
    with refuses(ValueError, got="'F'", accepts=("A", "A-LRN", "vgg19_bn", "Config")):
        plots.network("F")


def test_image_grid_takes_tensors_arrays_and_photos():
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    photo = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    mean, std = torch.tensor([10.0, 20.0, 30.0]), torch.tensor([2.0, 4.0, 8.0])
    fig = plots.image_grid([pixels, photo, pixels / 255, pixels[:1]], ["a", "b", "c", "d"])
    draw(fig)
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", "d"]
    arrays = [ax.images[0].get_array() for ax in fig.axes]
    expected = pixels.permute(1, 2, 0).numpy()
    assert (arrays[0] == expected).all() and (arrays[1] == expected).all()
    np.testing.assert_allclose(arrays[2] * 255, expected, atol=1e-4)
    assert (arrays[3] == expected[..., 0]).all()
    normal = vgglib.augment.normalise(pixels[None], mean, std)
    again = plots.image_grid(normal, mean=mean, std=std).axes[0].images[0].get_array()
    np.testing.assert_allclose(again * 255, expected, atol=1e-3)


def test_image_grid_names_what_is_wrong():
    with refuses(ValueError, got=40, accepts="0..1", remedy=("mean=", "std=")):
        plots.image_grid(torch.full((1, 3, 2, 2), 40.0))
    with refuses(ValueError, got="nan", accepts="0..1", remedy=("mean=", "std=")):
        plots.image_grid(torch.full((1, 3, 2, 2), torch.nan))
    with refuses(ValueError, got=("titles", 1), accepts="2 images"):
        plots.image_grid(torch.zeros(2, 3, 2, 2), ["one"])
    with refuses(ValueError, got=("image_grid", 0), accepts=1):
        plots.image_grid([])
    with refuses(ValueError, got="(2, 2, 4)", accepts=("(height, width, channels)", 1, 3)):
        plots.image_grid(torch.zeros(1, 4, 2, 2))


def test_filters_and_feature_maps_lie_where_their_number_says():
    net = vgglib.vgg("A", image_size=32, width=0.1)
    weights = vgglib.features.first_filters(net)  # (6, 3, 3, 3)
    sheet = plots.filters(weights, columns=4).axes[0].images[0].get_array()
    assert sheet.shape == (2 * 3 + 1, 4 * 3 + 3, 3)
    np.testing.assert_allclose(sheet[4:7, 4:7], weights[5].permute(1, 2, 0))

    maps = torch.rand(1, 6, 8, 8)
    maps[:, 4] += 2
    fig = plots.feature_maps(maps, [5, 0, 4], columns=2)
    draw(fig)
    assert [text.strip() for text in texts(fig.axes[0])] == ["5", "0", "4"]
    sheet = fig.axes[0].images[0].get_array()
    scaled = (maps[0, 4] - maps[0, 4].min()) / (maps[0, 4].max() - maps[0, 4].min())
    np.testing.assert_allclose(sheet[9:17, :8], scaled, atol=1e-6)
    assert texts(plots.feature_maps(maps, 2).axes[0])[0].strip() == "4"  # the strongest first
    for bad in (torch.rand(2, 6, 8, 8), torch.rand(6, 8)):
        with refuses(ValueError, got=str(tuple(bad.shape)), accepts="(C, H, W)"):
            plots.feature_maps(bad)
    with refuses(ValueError, got=("channels", "[6]"), accepts=(0, 5)):
        plots.feature_maps(maps, [6])
    with refuses(ValueError, got="3 axes", accepts="(filters, channels, height, width)"):
        plots.filters(weights[0])


def test_heatmap_scales_each_map_and_keeps_its_sign():
    image = torch.zeros(3, 10, 20)
    ramp = torch.linspace(0, 5, 200).reshape(10, 20)
    fig = plots.heatmap_over(image, {"up": ramp, "down": -3 * ramp}, label="score lost")
    draw(fig)
    up, down = (ax.images[-1] for ax in fig.axes[1:3])
    np.testing.assert_allclose(up.get_array(), -down.get_array(), atol=1e-6)
    assert up.get_array().max() == 1 and up.get_array()[5, 0] == pytest.approx(
        float(ramp[5, 0] / ramp.quantile(0.995)), rel=1e-4
    )
    assert up.norm.vmin == -1 and "score lost" in fig.axes[-1].get_xlabel()
    alone = plots.heatmap_over(image, ramp, label="x").axes[1].images[-1]
    assert alone.norm.vmin == 0
    blank = plots.heatmap_over(image, torch.zeros(10, 20), label="x")
    assert not blank.axes[1].images[-1].get_array().any()
    with refuses(ValueError, got="(20, 10)", accepts="(10, 20)"):
        plots.heatmap_over(image, ramp.T, label="x")
    with refuses(ValueError, got=("heatmap_over", 0), accepts="1 map"):
        plots.heatmap_over(image, {}, label="x")


def test_receptive_fields_are_squares_around_the_middle():
    table = vgglib.anatomy("D")
    pools = table[table.kind == "pool"]
    fig = plots.receptive_fields(torch.zeros(3, 224, 224), pools)
    draw(fig)
    (ax,) = fig.axes
    squares = {square.get_label(): square for square in ax.patches}
    assert {name: square.get_width() for name, square in squares.items()} == {
        "pool1": 6, "pool2": 16, "pool3": 44, "pool4": 100, "pool5": 212,
    }  # fmt: skip
    for square in squares.values():
        assert square.get_height() == square.get_width() == -2 * square.get_x()
    assert "pool4: 100 px" in texts(ax)
    wide = plots.receptive_fields(torch.zeros(3, 32, 32), {"fc6": 404}).axes[0]
    assert wide.get_xlim()[1] >= 202  # the square is larger than the picture, and wholly visible
    with refuses(ValueError, got=("receptive_fields", 0), accepts="1 layer"):
        plots.receptive_fields(torch.zeros(3, 32, 32), {})
