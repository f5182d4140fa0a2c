"""A mistake that is made on purpose is the first that is named; a net without one has none."""

import contextlib
import copy
import io
import re
from pathlib import Path

import pytest
import torch
from refusing import refuses
from test_recipes import blocks
from torch import nn
from torch.utils.data import DataLoader

import vgglib
from vgglib import Pixels, Recipe, diagnose
from vgglib.data import ImageSet
from vgglib.diagnosis.prepared import preparation

RECIPE = Recipe.small()
PAGE = Path(__file__).parent.parent / "book" / "diagnose.md"


@pytest.fixture(scope="module")
def data():
    return vgglib.data.load("fashion-mnist-mini", progress=False)


def fresh(name="A", seed=0, init="he", width=1 / 8, **options):
    torch.manual_seed(seed)
    net = vgglib.vgg(name, num_classes=10, image_size=32, width=width, init=init, **options)
    return net


def loaded(data, normalise=True):
    """64 images as floats, and their labels."""
    few = data.train[:64]
    images = few.images.float()
    return (Pixels(data.mean, data.std)(images) if normalise else images), few.labels


# Nets without a mistake -------------------------------------------------------------------


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("name", ["A", "A-LRN", "B", "C", "D", "E"])
def test_a_healthy_start_has_no_finding(data, name, norm):
    for seed in (0, 1):
        found = diagnose(fresh(name, seed, batch_norm=norm), data, RECIPE)
        assert found.findings == (), found
        assert len(found.layers) == vgglib.CONFIGS[name].weight_layers


@pytest.fixture(scope="module")
def learned(data):
    """A net that has learned something."""
    net = fresh(batch_norm=True)
    recipe = RECIPE.changed(epochs=3, batch_size=32, lr=0.005)
    vgglib.train(net, data.limited(1500), recipe, progress=False)
    return net


@pytest.mark.slow
def test_a_trained_net_has_no_finding(data, learned):
    found = diagnose(learned, data, RECIPE)
    assert found.findings == () and found.loss < 0.6 * found.chance, found


def test_other_peoples_nets_are_looked_at_too(data):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3, stride=4), nn.Linear(8 * 8 * 8, 10)

        def forward(self, images):
            return self.head(torch.relu(self.conv(images)).flatten(1))

    torch.manual_seed(0)
    net = Functional()
    found = diagnose(net, loaded(data), torch.optim.AdamW(net.parameters(), lr=1e-3))
    assert found.findings == () and any("nn.ReLU" in text for text in found.unseen)
    with torch.no_grad():
        net.conv.weight *= 1000
    assert diagnose(net, loaded(data)).cause == "start too large"


# Mistakes ---------------------------------------------------------------------------------


def changed(net, layer, change):
    with torch.no_grad():
        change(net.get_submodule(net.layer_names[layer]))
    return net


def weights_not_finite(net, data):
    return changed(net, "conv2_1", lambda m: m.weight[0, 0].fill_(torch.inf)), data, RECIPE


def averages_not_finite(net, data):
    return changed(net, "bn2_1", lambda m: m.running_var.fill_(torch.nan)), data, RECIPE


def images_not_finite(net, data):
    images, labels = loaded(data)
    images[3, 1] = torch.nan
    return net, (images, labels), RECIPE


def labels_from_one(net, data):
    images, labels = loaded(data)
    return net, (images, labels + 1), RECIPE


def one_label(net, data):
    images, labels = loaded(data)
    return net, (images, labels * 0 + 3), RECIPE


def all_frozen(net, data):
    return net.requires_grad_(False), data, RECIPE


def not_in_the_optimiser(net, data):
    return net, data, torch.optim.SGD(copy.deepcopy(net).parameters(), lr=0.01)


def features_frozen(net, data):
    net.features.requires_grad_(False)
    return net, data, RECIPE


def two_soft_maxes(net, data):
    return nn.Sequential(net, nn.Softmax(1)), loaded(data), RECIPE


def left_at_255(net, data):
    return net, loaded(data, normalise=False), RECIPE


def left_at_1(net, data):
    images, labels = loaded(data, normalise=False)
    return net, (images / 255, labels), RECIPE


def bytes_as_they_are(net, data):
    return net, [(data.train.images[:64], data.train.labels[:64])], RECIPE


def twice(net, data):
    images, labels = loaded(data)
    return net, (Pixels.in_units((0.29,) * 3, (0.35,) * 3)(images * 255), labels), RECIPE


def twice_in_bytes(net, data):
    images, labels = loaded(data)
    return net, (Pixels(data.mean, data.std)(images), labels), RECIPE


def one_by_constants_of_255(net, data):
    images, labels = loaded(data, normalise=False)
    return net, (Pixels(data.mean, data.std)(images / 255), labels), RECIPE


def constants_of_one(net, data):
    net.pixels = Pixels([v / 255 for v in data.mean], [v / 255 for v in data.std])
    return net, data, RECIPE


def still_batch_norm(net, data):
    return net.eval(), data, RECIPE


def dead_layer(net, data):
    return changed(net, "fc6", lambda m: m.bias.sub_(100)), data, RECIPE


def great_rate(net, data):
    return net, data, RECIPE.changed(lr=20.0)


def tiny_rate(net, data):
    return net, data, RECIPE.changed(lr=1e-7)


def much_dropout(net, data):
    net.classifier[2].p = 0.95
    return net, data, RECIPE


@pytest.mark.parametrize(
    "mistake, cause",
    [
        (weights_not_finite, "weights not finite"),
        (averages_not_finite, "weights not finite"),
        (images_not_finite, "images not finite"),
        (labels_from_one, "labels do not fit"),
        (one_label, "labels constant"),
        (all_frozen, "nothing is trained"),
        (not_in_the_optimiser, "nothing is trained"),
        (features_frozen, "weights frozen"),
        (two_soft_maxes, "soft-max twice"),
        (left_at_255, "images not normalised"),
        (left_at_1, "images not normalised"),
        (bytes_as_they_are, "images not normalised"),
        (twice, "images normalised twice"),
        (twice_in_bytes, "images in the wrong range"),
        (one_by_constants_of_255, "images in the wrong range"),
        (constants_of_one, "images in the wrong range"),
        (still_batch_norm, "batch norm in eval mode"),
        (dead_layer, "dead units"),
        (great_rate, "learning rate too large"),
        (tiny_rate, "learning rate too small"),
        (much_dropout, "dropout too strong"),
    ],
)
@pytest.mark.parametrize("name", ["A", "D"])
def test_a_mistake_is_named_first(data, name, mistake, cause):
    found = diagnose(*mistake(fresh(name, seed=2, batch_norm=True), data))
    assert found.cause == cause, found


@pytest.mark.parametrize("mistake", [left_at_255, twice, dead_layer, great_rate, tiny_rate])
def test_and_so_it_is_without_batch_norm(data, mistake):
    wanted = {"left_at_255": "images not normalised", "twice": "images normalised twice"}
    wanted |= {"dead_layer": "dead units", "great_rate": "learning rate too large"}
    found = diagnose(*mistake(fresh("B", seed=1), data))
    assert found.cause == wanted.get(mistake.__name__, "learning rate too small"), found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A", "B", "C", "D", "E"])
def test_a_start_of_the_wrong_size_is_named(data, name):
    for seed in (0, 1):
        net = vgglib.initialise(fresh(name, seed), "normal", std=0.01)
        assert diagnose(net, data, RECIPE).cause == "start too small"
        net = vgglib.initialise(net, "normal", std=0.3)
        assert diagnose(net, data, RECIPE).cause == "start too large"


@pytest.mark.slow
def test_a_trained_net_shows_more(data, learned):
    images, labels = data.train.images[:128], data.train.labels[:128]
    shuffled = ImageSet(images, labels.roll(1))
    assert diagnose(learned, shuffled, RECIPE).cause == "labels of other images"
    # What it is given has to be normalised as it was trained with.
    other = Pixels(vgglib.data.IMAGENET_MEAN)(images.float())
    assert diagnose(learned, (other, labels), RECIPE).cause == "images normalised otherwise"
    assert diagnose(learned, (learned.pixels(images), labels), RECIPE).cause is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "label, cause",
    [
        ("D, random, σ = 0.025", "start too small"),
        pytest.param("E, random, σ = 0.03", "start too small", marks=pytest.mark.long),
        pytest.param("D, Xavier, unit variance", "start too small", marks=pytest.mark.long),
        pytest.param("A, random, σ = 0.03", None, marks=pytest.mark.long),
        ("D, Xavier", None),
        pytest.param("A, Xavier, unit variance", None, marks=pytest.mark.long),
        ("D, He", "start too large"),
    ],
)
def test_the_recorded_starts_are_told_apart(data, label, cause):
    """By their own nets and units of pixels; two accuracies of ten per cent are chance."""
    runs = [r for r in vgglib.recorded("pre_init_pixels")["runs"] if r["label"] == label]
    lives = [run["test_accuracy"] > 0.15 for run in runs]
    assert (lives.count(cause is None)) >= len(runs) - 1
    name, how, *rest = label.replace("random, σ = ", "").split(", ")
    recipe = RECIPE.changed(lr=0.01, normalise="mean-std" if rest else "mean")
    for run in runs:
        net = fresh(name, run["seed"], init=None, width=0.25)
        scheme, std = ("normal", float(how)) if how[0] == "0" else (how.lower(), 1)
        torch.manual_seed(run["seed"])
        vgglib.initialise(net, scheme, std=std)
        assert diagnose(net, data, recipe).cause == cause


# What it leaves alone, takes, and says ----------------------------------------------------


def test_everything_is_left_as_it_was(data):
    net = fresh(batch_norm=True)
    net.classifier.eval()
    net.features[0].weight.requires_grad_(False)
    images, labels = loaded(data)
    net(images).sum().backward()
    state = copy.deepcopy(net.state_dict())
    gradients = {n: copy.copy(p.grad) for n, p in net.named_parameters()}
    modes = {n: (m.training, len(m._forward_hooks)) for n, m in net.named_modules()}
    wanted = {n: p.requires_grad for n, p in net.named_parameters()}
    drawn = torch.get_rng_state()
    loader = DataLoader(ImageSet(data.train.images, data.train.labels), 64, shuffle=True)
    for given in (data, data.train, loader, (images, labels)):
        with torch.no_grad():
            diagnose(net, given, RECIPE)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[n]) for n, value in net.state_dict().items())
    assert {n: p.requires_grad for n, p in net.named_parameters()} == wanted
    assert modes == {n: (m.training, len(m._forward_hooks)) for n, m in net.named_modules()}
    for name, weight in net.named_parameters():
        before = gradients[name]
        assert (weight.grad is None) == (before is None)
        assert before is None or torch.equal(weight.grad, before)


def test_the_cause_comes_first_and_its_effects_not_at_all(data):
    net, _, _ = dead_layer(fresh("D", batch_norm=True, dropout=0.9), data)
    found = diagnose(net.eval(), data, RECIPE)
    causes = [one.cause for one in found.findings]
    assert causes == ["dead units", "batch norm in eval mode", "dropout too strong"]
    assert list(found.table["cause"]) == causes


def test_it_is_read_as_text_and_as_a_table(data):
    found = diagnose(fresh(batch_norm=True), loaded(data, normalise=False), RECIPE)
    one = found.findings[0]
    for text in (repr(found), found._repr_html_()):
        assert one.cause in text and "nn" not in one.cause
    assert one.remedy in repr(found) and "<table" in found._repr_html_()
    healthy = diagnose(fresh(batch_norm=True), data, RECIPE)
    assert healthy.cause is None and "<table" not in healthy._repr_html_()


@pytest.mark.slow
def test_a_remedy_is_code(data):
    for mistake in (left_at_255, tiny_rate, great_rate, dead_layer, still_batch_norm, one_label):
        net, given, recipe = mistake(fresh(batch_norm=True), data)
        compile(diagnose(net, given, recipe).findings[0].remedy, "remedy", "exec")
    net, _, recipe = great_rate(fresh(batch_norm=True), data)
    space = {"recipe": recipe}
    for _ in range(4):
        if not (findings := diagnose(net, data, space["recipe"]).findings):
            break
        exec(findings[0].remedy, space)
    assert not diagnose(net, data, space["recipe"]).findings


def test_what_cannot_be_looked_at_is_refused(data):
    net, (images, labels) = fresh(), loaded(data)
    with refuses(TypeError, got="int", accepts="torch.nn.Module"):
        diagnose(3, data)
    with refuses(TypeError, got="str", accepts=("Recipe", "torch.optim.Optimizer")):
        diagnose(net, data, "paper")
    with refuses(TypeError, got="int", accepts=("images", "labels", "DataLoader")):
        diagnose(net, 3)
    with refuses(ValueError, got="(3, 32, 32)", accepts="(N, C, H, W)", remedy="DataLoader"):
        diagnose(net, [(images[0], labels[:1])])
    with refuses(ValueError, got=1, accepts=2):
        diagnose(net, (images[:1], labels[:1]))
    with refuses(ValueError, got="(64, 64, 1, 1)", accepts="(N, classes)"):
        diagnose(net.features, (images, labels))
    with refuses(ValueError, got="none"):
        diagnose(nn.Flatten(), (images, labels))


# Preparations -----------------------------------------------------------------------------


def test_each_common_preparation_is_recognised(data):
    """On images of colours and on grey ones, of one channel and of three."""
    torch.manual_seed(0)
    smooth = nn.functional.interpolate(torch.rand(32, 3, 4, 4), size=32, mode="bicubic")
    for pixels in (smooth.clamp(0, 1) * 255, data.train.images[:64].float()):
        for channels in (1, 3):
            images = pixels[:, :channels]
            for mean, std in (
                ((123.675, 116.28, 103.53), (58.4, 57.1, 57.4)),
                ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
                ((127.5,) * 3, (127.5,) * 3),
                (vgglib.data.IMAGENET_MEAN, None),
            ):
                done = Pixels(mean[:channels], std and std[:channels])(images)
                assert preparation(done).name == "normalised"
                again = Pixels(mean[:channels], std and std[:channels])(done)
                # Constants that are not known to the digit leave open what small values were.
                twice, range_ = "normalised twice", "wrong range"
                assert preparation(again).name in ({twice, range_} if std else {twice})
                own = Pixels(mean[:channels], std and std[:channels])
                assert preparation(again, likely=[own]).name == twice
                assert preparation(again, own).name == twice
                assert preparation(done, own).name == "normalised"


# The page ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_page_prints_what_its_comments_say():
    said, space = [], {"__name__": "page"}
    for number, code in enumerate(blocks(PAGE.read_text(encoding="utf-8")), start=1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"block {number}", "exec"), space)
        wanted = re.findall(r"^print\(.*\)  # (.+)$", code, flags=re.M)
        assert printed.getvalue().splitlines() == wanted, code
        said += wanted
    named = set(re.findall(r'"([\w ()-]+)",\n +"(?:stops|slows|look)"', SOURCE))
    assert named - set(said) <= {"images not finite", "labels of other images"}


SOURCE = (Path(vgglib.__file__).parent / "diagnosis" / "checks.py").read_text(encoding="utf-8")
