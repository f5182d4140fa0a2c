"""The open loop: a caller's loss, weights, transform, callbacks and net are used as given."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refusing import refuses, warns
from safetensors import safe_open
from torch import nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

import vgglib
from vgglib import Callback, Config, Conv, Pixels, PixelsWarning, Recipe, augment, train
from vgglib.data import Data, ImageSet
from vgglib.devices import Place
from vgglib.train import CheckpointError
from vgglib.train.batches import DeviceBatches

TINY = Config("tiny", ((Conv(4),), (Conv(6),)), hidden=(8,))
CPU = Place(torch.device("cpu"))


def tiny(**options):
    torch.manual_seed(0)
    return vgglib.vgg(TINY, num_classes=3, image_size=8, init="he", **options)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 3
    noise = torch.randint(60, (60, 3, 8, 8), generator=generator)
    images = (noise + 60 * labels.view(-1, 1, 1, 1)).byte()
    split = ImageSet(images, labels)
    return Data("shades", split, split[:12], ("dark", "grey", "bright"), "drawn")


def recipe(**changes):
    quick = dict(epochs=2, batch_size=20, lr=0.01, schedule="constant", pad=1, precision="fp32")
    return Recipe.small(**(quick | changes))


def fit(net, data, recipe, **options):
    return train(net, data, recipe, progress=False, **options)


class Watch(Callback):
    """Notes what it is called with."""

    def __init__(self, stop_after=None):
        self.seen, self.rates, self.stop_after = [], [], stop_after

    def on_start(self, run):
        self.seen.append(("start", run.epoch, run.step))
        self.first = [[group["lr"] for group in run.optimiser.param_groups]]

    def on_step(self, run):
        self.rates.append([group["lr"] for group in run.optimiser.param_groups])

    def on_epoch(self, run, row):
        self.seen.append(("epoch", row["epoch"]))
        return row["epoch"] == self.stop_after

    def on_end(self, run, history):
        self.seen.append(("end", len(history)))


# ------------------------------------------------------------------------------------- callbacks


def test_callbacks_see_start_steps_epochs_and_end(data):
    watch, rows = Watch(), []
    fit(tiny(), data, recipe(), callbacks=[watch], on_epoch=rows.append)
    assert watch.seen == [("start", 1, 0), ("epoch", 1), ("epoch", 2), ("end", 2)]
    assert len(watch.rates) == 6 and [row["epoch"] for row in rows] == [1, 2]
    functions = []
    fit(tiny(), data, recipe(epochs=1), callbacks=[functions.append])
    assert functions[0]["epoch"] == 1
    for wrong in (watch, [Watch], ["bar"]):
        with refuses(TypeError, got="callbacks", accepts="vgglib.Callback"):
            fit(tiny(), data, recipe(), callbacks=wrong)
    watch = Watch(stop_after=1)
    history = fit(tiny(), data, recipe(), callbacks=[Watch(), watch])
    assert len(history) == 1 and "callback" in history.attrs["stopped"]


def test_the_end_is_told_of_a_training_that_fails(data):
    class Fails(Callback):
        def on_step(self, run):
            raise LookupError

    watch = Watch()
    with pytest.raises(LookupError):
        fit(tiny(), data, recipe(), callbacks=[watch, Fails()])
    assert watch.seen[-1] == ("end", 0)


# ------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1.0] * 12),
        ({"warmup": 1}, [1 / 4, 2 / 4, 3 / 4, *[1.0] * 9]),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * n / 12)) / 2 for n in range(12)]),
        (
            {"schedule": "step", "milestones": (1, 3), "lr_factor": 0.5},
            [1.0] * 3 + [0.5] * 6 + [0.25] * 3,
        ),
        (
            {"schedule": "cosine", "warmup": 1},
            [1 / 4, 2 / 4, 3 / 4, *((1 + math.cos(math.pi * n / 9)) / 2 for n in range(9))],
        ),
    ],
)
def test_rates_follow_the_schedule(data, changes, expected):
    """Three steps an epoch, four epochs; each callback sees the rate of the step that comes."""
    net, watch = tiny(), Watch()
    groups = [
        {"params": net.features.parameters(), "lr": 0.001},
        {"params": net.classifier.parameters()},
    ]
    fit(net, data, recipe(epochs=4, **changes), parameters=groups, callbacks=[watch])
    for number, base in enumerate((0.001, 0.01)):
        rates = [rates[number] for rates in watch.rates]
        assert rates[:-1] == pytest.approx([base * share for share in expected[1:]])


# ------------------------------------------------------------------------------------- the step


def plain_loop(net, data, recipe, optimiser, loss, change=lambda *pair: pair):
    """A training as people write it, over the same batches."""
    source = DeviceBatches(data.train, net, recipe, *recipe.normalisation(data), CPU, change)
    net.train()
    for epoch in range(1, recipe.epochs + 1):
        for images, labels in source.epoch(epoch):
            optimiser.zero_grad()
            loss(net(images), labels).backward()
            if recipe.clip:
                nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            optimiser.step()
    return net


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.05},
        {"label_smoothing": 0.2},
        {"clip": 0.05},
        {"cutout": 3},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_step_is_that_of_a_plain_loop(data, changes):
    settings = recipe(**changes)
    ours, theirs = tiny(dropout=0.0), tiny(dropout=0.0)
    fit(ours, data, settings)
    if settings.optimizer == "adamw":
        optimiser = torch.optim.AdamW(theirs.parameters(), 0.01, weight_decay=0.05)
    else:
        optimiser = torch.optim.SGD(theirs.parameters(), 0.01, 0.9, weight_decay=5e-4)
    smoothed = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    plain_loop(theirs, data, settings, optimiser, smoothed)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    plain = tiny(dropout=0.0)
    fit(plain, data, recipe())
    assert not torch.allclose(plain.classifier[0].weight, ours.classifier[0].weight, rtol=1e-3)


def test_own_loss_and_own_transform(data):
    given = []

    def negative(images, labels):
        given.append(images)
        return 255 - images, labels.flip(0)

    def squares(scores, labels):
        return (scores - F.one_hot(labels, 3)).square().mean()

    ours, theirs = tiny(dropout=0.0), tiny(dropout=0.0)
    fit(ours, data, recipe(), loss=squares, transform=negative)
    assert given[0].shape == (20, 3, 8, 8) and given[0].max() > 100  # grey levels, not normalised
    optimiser = torch.optim.SGD(theirs.parameters(), 0.01, 0.9, weight_decay=5e-4)
    plain_loop(theirs, data, recipe(), optimiser, squares, negative)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_targets_that_are_shares_of_classes(data):
    def smeared(images, labels):
        return images, F.one_hot(labels, 3) * 0.8 + 0.1

    history = fit(tiny(), data, recipe(), transform=smeared)
    assert history.train_accuracy.between(0, 1).all()


def test_a_square_is_covered_wherever_it_lies():
    images = torch.rand(500, 2, 9, 11) + 1
    colour = torch.tensor([7.0, 8.0])
    covered = augment.cutout(images, 3, colour)
    hidden = (covered != images).all(1)  # (N, H, W)
    assert torch.equal(covered[:, 1][hidden], torch.full((hidden.sum(),), 8.0))
    assert torch.equal(covered[~hidden[:, None].expand_as(images)],
                       images[~hidden[:, None].expand_as(images)])  # fmt: skip
    sizes = hidden.sum((1, 2))
    assert sizes.max() == 9 and sizes.min() == 4  # two by two in a corner
    assert (hidden.float().mean(0) > 0).all()


# -------------------------------------------------------------------------------- what is trained


def test_weights_that_are_frozen_or_not_named_stay(data):
    net = tiny(batch_norm=True)
    net.features.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fit(net, data, recipe(epochs=1))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("features"), name
    net = tiny()
    fit(net, data, recipe(epochs=1), parameters=net.classifier.parameters())
    assert torch.equal(net.features[0].weight, tiny().features[0].weight)
    assert not torch.equal(net.classifier[0].weight, tiny().classifier[0].weight)


def test_what_is_not_named_gathers_no_gradient_and_keeps_its_averages(data):
    net = tiny(batch_norm=True)
    before = {name: value.clone() for name, value in net.named_buffers()}
    fit(net, data, recipe(epochs=1), parameters=vgglib.transfer.rate_groups(net, 0.01, 0.0))
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert all(weight.grad is None for weight in net.features.parameters())
    assert all(weight.requires_grad for weight in net.parameters())


def test_a_convolution_with_a_forward_of_its_own_keeps_it(data):
    net, calls = tiny(), []
    plain = net.features[0].forward
    net.features[0].forward = lambda images: calls.append(1) or plain(images)
    fit(net, data, recipe(epochs=1))
    assert len(calls) == 4 and "forward" in vars(net.features[0])  # three steps, one validation


@pytest.mark.parametrize(
    ("parameters", "given"),
    [(lambda net: [], 0), (lambda net: [{"params": []}], 0), (lambda net: tiny().parameters(), 8)],
)
def test_where_nothing_of_the_net_is_trained(data, parameters, given):
    net = tiny()
    with refuses(ValueError, got=given, remedy="net.parameters()"):
        fit(net, data, recipe(), parameters=parameters(net))


def test_what_a_caller_brings_is_checked(data, tmp_path):
    with refuses(ValueError, got="(20,)", accepts="()"):
        fit(tiny(), data, recipe(), loss=nn.CrossEntropyLoss(reduction="none"))
    with refuses(ValueError, got="NoneType", accepts="tuple"):
        fit(tiny(), data, recipe(), transform=lambda images, labels: None)
    with refuses(ValueError, got="label_smoothing=0.1", remedy="loss="):
        fit(tiny(), data, recipe(label_smoothing=0.1), loss=nn.CrossEntropyLoss())
    for name, wrong in {"loss": nn.CrossEntropyLoss, "transform": "mixup", "on_epoch": 3}.items():
        with refuses(TypeError, got=(name, wrong if name != "loss" else "class")):
            fit(tiny(), data, recipe(), **{name: wrong})
    for wrong in ({"lr": 0.1}, Recipe):
        got = "lr" if wrong is not Recipe else "class"
        with refuses(TypeError, got=got, accepts="vgglib.Recipe"):
            fit(tiny(), data, wrong)
    with refuses(ValueError, got="empty", remedy="out"):
        fit(tiny(), data, recipe(), out="")
    outside = [*(net := tiny()).parameters(), nn.Parameter(torch.ones(1))]
    with refuses(ValueError, got="outside", remedy="out="):
        fit(net, data, recipe(), parameters=outside, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_with_the_groups_that_it_had(data, tmp_path):
    def groups(net, lr=0.01):
        return vgglib.transfer.rate_groups(net, lr, 0.5)

    net = tiny()
    fit(net, data, recipe(epochs=1), out=tmp_path, parameters=groups(net))
    for other in (groups(net, 0.02), net.classifier.parameters(), None):
        with refuses(CheckpointError, got="trained"):
            fit(net, data, recipe(), out=tmp_path, resume=True, parameters=other)
    with refuses(ValueError, got="lr", remedy="out="):
        fit(net, data, recipe(), out=tmp_path, resume=True, parameters=groups(net),
            change={"lr": 0.1})  # fmt: skip
    assert len(fit(net, data, recipe(), out=tmp_path, resume=True, parameters=groups(net))) == 2


def test_a_callback_may_draw_and_note_numbers_of_any_kind(data, tmp_path):
    class Draws(Callback):
        def on_start(self, run):
            torch.rand(3)

        def on_epoch(self, run, row):
            row["drawn"] = torch.tensor(0.5)
            return np.True_ if row["epoch"] == 1 else None

    history = fit(tiny(), data, recipe(), out=tmp_path, callbacks=[Draws()])
    assert len(history) == 1  # NumPy's True ends it, too
    drawn, plain = tiny(), tiny()
    fit(drawn, data, recipe(epochs=1), callbacks=[Draws()])
    fit(plain, data, recipe(epochs=1))
    assert torch.equal(drawn.features[0].weight, plain.features[0].weight)


def test_the_row_has_the_rate_of_the_last_step(data):
    history = fit(tiny(), data, recipe(epochs=2, schedule="step", milestones=(1,)))
    assert history.lr.tolist() == pytest.approx([0.01, 0.001])


class Plain(nn.Module):
    """A net that knows nothing of VGG."""

    def __init__(self):
        super().__init__()
        self.convolution, self.last = nn.Conv2d(3, 5, 3), nn.Linear(5, 3)

    def forward(self, images):
        return self.last(self.convolution(images).relu().mean((2, 3)))


def test_any_net_trains_is_resumed_and_refused_as_a_run(data, tmp_path):
    torch.manual_seed(0)
    net, whole = Plain(), Plain()
    whole.load_state_dict(net.state_dict())
    first = recipe(epochs=2, lr=0.05)
    fit(net, data, replace(first, epochs=1), out=tmp_path)
    history = fit(net, data, first, out=tmp_path, resume=True)
    fit(whole, data, first)
    assert len(history) == 2 and history.val_accuracy.iloc[-1] > 0.5
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), whole.parameters(), strict=True))
    assert vgglib.evaluate(net, data.test)["top1"] == history.val_accuracy.iloc[-1]
    with refuses(CheckpointError, got="Plain", remedy="net.load_state_dict"):
        vgglib.load_run(tmp_path)


class Tied(Plain):
    """Two layers that share a weight."""

    def __init__(self):
        super().__init__()
        self.hidden, self.back = nn.Linear(5, 5), nn.Linear(5, 5)
        self.back.weight = self.hidden.weight

    def forward(self, images):
        x = self.convolution(images).relu().mean((2, 3))
        return self.last(self.back(self.hidden(x).relu()).relu())


def test_tied_weights_are_written_and_resumed(data, tmp_path):
    torch.manual_seed(0)
    net, whole = Tied(), Tied()
    whole.load_state_dict(net.state_dict())
    fit(net, data, recipe(epochs=1), out=tmp_path)
    fit(net, data, recipe(), out=tmp_path, resume=True)
    fit(whole, data, recipe())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), whole.parameters(), strict=True))
    vgg = tiny()
    vgg.features[2].bias = vgg.features[0].bias = nn.Parameter(torch.zeros(4))  # any two of a shape
    vgg.features[3] = nn.Conv2d(4, 4, 3, padding=1)
    vgg.features[3].bias = vgg.features[0].bias
    path = vgglib.save_weights(vgg, tmp_path / "tied.safetensors")
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("features.3.bias"), file.get_tensor("features.0.bias"))


class Counting(nn.ReLU):
    """A layer that keeps more than tensors."""

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        assert state == {"calls": 3}


def test_a_state_beside_tensors_is_named_before_anything_is_written(data, tmp_path):
    net = tiny()
    net.features[1] = Counting()
    fit(net, data, recipe(epochs=1))
    got = ("features.1._extra_state", "dict")
    with refuses(ValueError, got=got, remedy=("Tensor", "buffer", "out=")):
        fit(net, data, recipe(epochs=1), out=tmp_path / "run")
    with refuses(ValueError, got=got, remedy=".pth"):
        vgglib.save_weights(net, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
    path = vgglib.save_weights(net, tmp_path / "w.pth")
    net.load_state_dict(torch.load(path, weights_only=True))


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_ends_with_the_same_bits(data, tmp_path, optimizer, schedule):
    settings = recipe(
        epochs=3, optimizer=optimizer, schedule=schedule, warmup=1, clip=1.0,
        milestones=(2,) if schedule == "step" else (),
    )  # fmt: skip
    whole, parts = tiny(), tiny()
    fit(whole, data, settings)
    fit(parts, data, settings, out=tmp_path, callbacks=[Watch(stop_after=2)])
    # The last checkpoint is of a run that was ended; the one before is of one that goes on.
    fit(parts, data, settings, out=tmp_path, resume="previous")
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_another_rate_from_here_on(data, tmp_path):
    settings = recipe(epochs=2, schedule="step", milestones=(1,))
    fit(tiny(), data, settings, out=tmp_path)
    watch = Watch()
    change = {"lr": 0.5, "epochs": 3}
    fit(tiny(), data, settings, out=tmp_path, resume=True, change=change, callbacks=[watch])
    assert [rates[0] for rates in watch.first] == pytest.approx([0.05])  # 0.5 · lr_factor
    assert watch.rates == [pytest.approx([0.05])] * 3


# ------------------------------------------------------------------------------------- pixels


def test_a_trained_net_knows_its_pixels_and_goes_on_with_them(data, tmp_path):
    net = tiny()
    fit(net, data, recipe(epochs=1), out=tmp_path)
    assert net.pixels == Pixels(*recipe().normalisation(data)) and net.classes == data.classes
    again = vgglib.load_run(tmp_path)
    assert (again.pixels, again.classes) == (net.pixels, net.classes)
    assert vgglib.vgg(TINY, num_classes=3, image_size=8, weights=tmp_path).pixels == net.pixels
    brighter = replace(data, train=ImageSet(255 - data.train.images, data.train.labels))
    with warns(PixelsWarning, got="shades", remedy="net.pixels = None"):
        fit(net, brighter, recipe(epochs=1))
    assert net.pixels == again.pixels
    net.pixels = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(net, brighter, recipe(epochs=1))
    assert net.pixels.mean[0] == pytest.approx(255 - again.pixels.mean[0])


def test_a_net_for_grey_images_trains_in_grey(data):
    net = tiny(in_channels=1)
    with refuses(ValueError, got="3 values", accepts="images 1"):
        fit(net, data, recipe(epochs=1))
    net.pixels = Pixels((100,), (50,))
    with warns(PixelsWarning, got="shades"):
        history = fit(net, data, recipe(epochs=1))
    assert net.pixels == Pixels((100,), (50,)) and np.isfinite(history.val_loss.iloc[0])
    grey = rgb_to_grayscale(data.test.images.float())
    expected = F.cross_entropy(net((grey - 100) / 50), data.test.labels).item()
    assert vgglib.evaluate(net, data.test)["loss"] == pytest.approx(expected, rel=1e-5)


def test_without_validation_images_nothing_is_validated(data):
    blind = replace(data, test=None)
    history = fit(tiny(), blind, recipe(epochs=1))
    assert history.val_accuracy.isna().all() and history.train_loss.notna().all()
    with refuses(ValueError, got="validation", accepts="schedule", remedy="holdout=0.1"):
        fit(tiny(), blind, recipe(schedule="plateau"))
