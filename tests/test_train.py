"""The recipe and the training loop (§3.1), and the plain test (§4)."""

import dataclasses
import math
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from refusing import refuses, warns

import vgglib
from vgglib import Config, Conv, Recipe, precision
from vgglib.data import Data, ImageSet
from vgglib.devices import Place
from vgglib.train import run
from vgglib.train.batches import DeviceBatches, LoaderBatches, check_size, seed_of, split

TINY = Config("tiny", ((Conv(8),), (Conv(8),)), hidden=())


def colours(count, seed):
    """Four classes that a net can learn at once: noise around four colours."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    palette = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
    noise = torch.randint(-50, 50, (count, 3, 16, 16), generator=generator)
    images = (palette[labels][..., None, None] + noise).clamp(0, 255).to(torch.uint8)
    return ImageSet(images, labels)


@pytest.fixture
def data():
    return Data("colours", colours(400, 0), colours(200, 1), tuple("rgby"), "made here")


def tiny(**options):
    torch.manual_seed(0)
    return vgglib.vgg(TINY, num_classes=4, image_size=16, init="he", **options)


def fit(data, net=None, **changes):
    recipe = Recipe.small(**({"batch_size": 50, "epochs": 3, "precision": "fp32"} | changes))
    net = net or tiny()
    return net, vgglib.train(net, data, recipe, device="cpu", progress=False)


def test_paper_recipe_holds_the_values_of_section_3_1():
    recipe = Recipe.paper()
    assert (recipe.batch_size, recipe.epochs, recipe.momentum) == (256, 74, 0.9)
    assert (recipe.lr, recipe.weight_decay, recipe.dropout) == (1e-2, 5e-4, 0.5)
    assert (recipe.lr_factor, recipe.max_drops, recipe.schedule) == (0.1, 3, "plateau")
    assert (recipe.scale, recipe.flip, recipe.colour_shift) == (256, True, True)
    assert recipe.normalise == "mean"
    assert round(370_000 * 256 / 1_281_167) == recipe.epochs


def test_scale_keeps_its_ratio_for_smaller_nets():
    assert Recipe.paper(scale=(256, 512)).scale_for(224) == (256, 512)
    assert Recipe.paper().scale_for(32) == (37, 37)
    assert Recipe.small().scale_for(32) is None


SCALES = (None, "S", "(S_min, S_max)", 224)


@pytest.mark.parametrize(
    ("field", "value", "accepts"),
    [
        ("batch_size", 0, "integer"),
        ("epochs", 2.5, "integer"),
        ("lr", -1, "number"),
        ("lr", math.nan, "number"),
        ("momentum", 1.0, "[0, 1)"),
        ("dropout", 1, "[0, 1)"),
        ("schedule", "linear", ("plateau", "one-cycle", "constant", "cosine", "step")),
        ("optimizer", "adam", ("sgd", "adamw")),
        ("milestones", (3,), ("schedule='step'",)),
        ("warmup", 2.0, ("cosine", "step", "constant")),
        ("clip", 0, ("positive",)),
        ("cutout", -1, (0,)),
        ("label_smoothing", 1, ("[0, 1)",)),
        ("precision", "fp8", ("fp32", "tf32", "bf16", "fp16", "auto")),
        ("scale", 200, SCALES),
        ("scale", (512, 256), SCALES),
        ("holdout", 1.0, "[0, 1)"),
        ("weight_decay", math.inf, 0),
        ("lr", "fast", "number"),
        ("lr", None, "number"),
        ("momentum", (1, 2), "[0, 1)"),
        ("dropout", "x", "[0, 1)"),
        ("flip", "yes", (True, False)),
        ("channels_last", 3, (True, False)),
        ("epochs", True, "integer"),
        ("seed", 2**63, (2, 63)),
        ("scale", 256.5, SCALES),
        ("scale", "big", SCALES),
        ("scale", (256, 300, 400), SCALES),
    ],
)
def test_recipe_refuses_values_out_of_range(field, value, accepts):
    with refuses(ValueError, got=("Recipe", field, repr(value)), accepts=accepts):
        Recipe.paper(**{field: value})


def test_recipe_names_unknown_fields():
    with refuses(TypeError, got=("Recipe", "leraning_rate"), accepts=("lr", "batch_size", "seed")):
        Recipe.paper().changed(leraning_rate=0.1)


def test_training_learns_and_reports(data):
    net, history = fit(data)
    assert list(history.epoch) == [1, 2, 3]
    assert history.train_loss.iloc[-1] < 0.5 < history.train_loss.iloc[0]
    assert history.val_accuracy.iloc[-1] > 0.95
    assert not net.training and history.attrs["stopped"] == "all epochs done"
    tested = vgglib.evaluate(net, data.test, *Recipe.small().normalisation(data))
    assert tested["top1"] == pytest.approx(history.val_accuracy.iloc[-1])
    assert tested["loss"] == pytest.approx(history.val_loss.iloc[-1], rel=1e-4)


def test_one_plain_epoch_equals_a_loop_written_out(data):
    """No augmentation, constant rate: the loop must be SGD with momentum and L2, nothing else."""
    changes = dict(flip=False, pad=0, schedule="constant", lr=0.05, epochs=1, weight_decay=0.01)
    net, _ = fit(data, **changes)
    reference = tiny()
    mean, std = Recipe.small().normalisation(data)
    place = Place(torch.device("cpu"))
    order = DeviceBatches(data.train, reference, Recipe.small(batch_size=50), mean, std, place)
    velocity = [torch.zeros_like(p) for p in reference.parameters()]
    for part in order.order(epoch=1):
        images = vgglib.augment.normalise(data.train.images[part], mean, std)
        loss = F.cross_entropy(reference(images), data.train.labels[part])
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for p, v, g in zip(reference.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(g + 0.01 * p)
                p.sub_(0.05 * v)
    for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_same_seed_same_weights_other_seed_other_weights(data):
    runs = [fit(data, seed=seed)[0].state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["classifier.0.weight"], runs[2]["classifier.0.weight"])


def test_plateau_divides_by_ten_and_stops_after_the_last_drop(data):
    """A rate too small to change anything: the accuracy never improves after the first epoch."""
    _, history = fit(
        data, schedule="plateau", lr=1e-12, patience=1, max_drops=3, epochs=30, momentum=0.0
    )
    assert history.attrs["stopped"] == "no better validation accuracy after 3 drops"
    rates = history.lr.round(20).drop_duplicates().tolist()
    assert rates == pytest.approx([1e-12, 1e-13, 1e-14, 1e-15])
    assert len(history) == 9  # the first epoch, then four times patience + 1


def test_holdout_keeps_validation_images_out_of_training(data):
    recipe = Recipe.small(batch_size=10, holdout=0.25, epochs=1)
    training, validation = split(data, recipe)
    assert (len(training), len(validation)) == (300, 100)
    seen = {image.numpy().tobytes() for image in training.images}
    assert not seen & {image.numpy().tobytes() for image in validation.images}


def test_dropout_of_the_recipe_reaches_the_net(data):
    config = Config("tiny", ((Conv(8),), (Conv(8),)), hidden=(16,))
    net = vgglib.vgg(config, num_classes=4, image_size=16, dropout=0.5)
    fit(data, net, dropout=0.2, epochs=1)
    assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == [0.2]


def test_a_loss_that_is_not_finite_ends_the_training_with_a_reason(data):
    with warns(RuntimeWarning, got=("epoch 1", "lr=1e+30"), remedy="vgglib.signal"):
        _, history = fit(data, lr=1e30, schedule="constant")
    assert "epoch 1" in history.attrs["stopped"] and len(history) == 1


def test_on_epoch_sees_each_row_and_can_stop(data):
    rows = []

    def stop_at_two(row):
        rows.append(row["epoch"])
        return row["epoch"] == 2

    recipe = Recipe.small(batch_size=50, epochs=5)
    history = vgglib.train(tiny(), data, recipe, progress=False, on_epoch=stop_at_two)
    assert rows == [1, 2] and history.attrs["stopped"] == "a callback asked for it"


class Folder(torch.utils.data.Dataset):
    """The colours as PIL images of different sizes, as an image folder gives them."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        image, label = self.split[index]
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        return picture.resize((40 + index % 7, 30)), label


def test_images_from_disk_are_trained_on_and_tested(data):
    folder = Data("folder", Folder(data.train), Folder(data.test), data.classes, "made here")
    recipe = Recipe.paper(batch_size=50, epochs=3, normalise="mean-std", holdout=0.25)
    net = tiny()
    history = vgglib.train(net, folder, recipe, device="cpu", progress=False, workers=0)
    assert history.val_accuracy.iloc[-1] > 0.9
    tested = vgglib.evaluate(net, folder.test, *recipe.normalisation(folder))
    assert tested["top1"] > 0.9


@pytest.mark.parametrize(
    ("changes", "got", "remedy"),
    [
        (dict(scale=None), "scale", ("scale=256", "scale=(256, 512)")),
        (dict(scale=256, pad=4), "pad=4", "pad=0"),
    ],
)
def test_images_from_disk_need_a_scale(data, changes, got, remedy):
    folder = Data("folder", Folder(data.train), Folder(data.test), data.classes, "made here")
    with refuses(ValueError, got=got, remedy=remedy):
        vgglib.train(tiny(), folder, Recipe.paper(**changes), progress=False, workers=0)


def test_classes_and_sizes_that_do_not_suit_the_net_are_refused(data):
    two = vgglib.vgg(TINY, num_classes=2, image_size=16)
    with refuses(ValueError, got=("colours", 4), accepts=2, remedy="num_classes=4"):
        fit(data, two)
    with refuses(ValueError, got="… 3", accepts="0 … 1", remedy="num_classes=4"):
        vgglib.evaluate(two, data.test, data.mean)
    with refuses(
        ValueError, got="16 × 16", accepts="32 px", remedy=("image_size=16", "--image-size 16")
    ):
        fit(data, vgglib.vgg(TINY, num_classes=4, image_size=32))
    with refuses(ValueError, got=("evaluate", 0), accepts=1):
        vgglib.evaluate(two, data.test[:0], data.mean)


def test_top_5_counts_the_five_best(data):
    class Fixed(torch.nn.Module):
        """Scores that put the true class, the mean red of the image, at a known rank."""

        num_classes, image_size = 10, 16

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            first = images[:, 0, 0, 0].round().long()  # the class that is scored highest
            ranks = (torch.arange(10) - first[:, None]) % 10  # 0 for it, 1 for the next …
            return -ranks.float()

    images = torch.zeros(100, 3, 16, 16, dtype=torch.uint8)
    images[:, 0] = (torch.arange(100) % 10)[:, None, None]
    offset = torch.arange(100) // 10  # the true class has rank 0, 1, … 9, ten images each
    labels = (torch.arange(100) % 10 + offset) % 10
    tested = vgglib.evaluate(Fixed(), ImageSet(images, labels), (0.0, 0.0, 0.0))
    assert (tested["top1"], tested["top5"]) == (0.1, 0.5)


def test_mirror_averages_the_class_probabilities():
    torch.manual_seed(0)
    net = tiny().eval()  # any weights will do, and random ones differ most between the two
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    labels = torch.randint(0, 4, (40,))
    with torch.no_grad():
        seen, mirrored = (net(i.float() / 9 - 3).softmax(1) for i in (images, images.flip(3)))
    averaged = (seen + mirrored) / 2
    for mirror, wanted in ((False, seen), (True, averaged)):
        tested = vgglib.evaluate(
            net, ImageSet(images, labels), (27.0,) * 3, (9.0,) * 3, mirror=mirror
        )
        assert tested["top1"] == (wanted.argmax(1) == labels).double().mean().item()
        assert tested["loss"] == pytest.approx(
            -wanted[torch.arange(40), labels].log().mean().item(), rel=1e-4
        )
    assert not torch.allclose(seen, averaged, atol=1e-3)


def test_half_precision_is_close_to_full(data):
    net, _ = fit(data)
    mean, std = Recipe.small().normalisation(data)
    full, half = (
        vgglib.evaluate(net, data.test, mean, std, precision=p)["loss"] for p in ("fp32", "bf16")
    )
    assert half == pytest.approx(full, abs=0.02)


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_bf16_where_the_device_has_it(data, monkeypatch, there):
    monkeypatch.setattr(precision, "has_bf16", lambda device: there)
    fixed = fit(data, epochs=1, precision="bf16" if there else "fp32")[0]
    chosen = fit(data, epochs=1, precision="auto")[0]
    for ours, theirs in zip(chosen.parameters(), fixed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("capability", "auto", "imitated"),
    [((6, 1), "fp32", {"bf16", "fp16"}), ((7, 5), "fp16", {"bf16"}), ((8, 0), "bf16", set())],
)
def test_auto_is_what_the_gpu_has_units_for(monkeypatch, capability, auto, imitated):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.precision_on("cuda", "auto") == auto
    for chosen in ("fp32", "tf32", "bf16", "fp16"):
        assert precision.precision_on("cuda", chosen) == chosen
        assert precision.imitates("cuda", chosen) == (chosen in imitated)
    assert precision.precision_on("mps", "auto") == "fp32"


def test_imitated_bf16_is_reported(data, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    with warns(
        RuntimeWarning,
        got=("cpu", "bf16"),
        accepts="fp32",
        remedy=("precision='auto'", "--precision auto"),
    ):
        fit(data, epochs=1, precision="bf16")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors, other flags")
@pytest.mark.parametrize(
    ("precision", "channels_last", "inside"),
    [("fp32", True, 9), ("bf16", True, 1), ("bf16", False, 9)],
)
def test_a_cpu_stores_channels_last_in_bf16_only(data, precision, channels_last, inside):
    net = tiny()
    with warnings.catch_warnings(action="ignore"):  # of bf16 where it is imitated
        fit(data, net, epochs=1, precision=precision, channels_last=channels_last)
    second = [p for p in net.parameters() if p.dim() == 4][1]  # (C', C, 3, 3)
    assert second.stride(1) == inside


def test_a_cpu_has_bf16_if_its_flags_say_so():
    flags = Path("/proc/cpuinfo").read_text().split()
    assert precision.has_bf16("cpu") == ("avx512bw" in flags)


def test_evaluate_names_the_precisions(data):
    with refuses(ValueError, got=("precision", "fp8"), accepts=("fp32", "bf16", "auto")):
        vgglib.evaluate(tiny(), data.test, data.mean, precision="fp8")


def test_one_image_more_of_50000_is_better(data, monkeypatch):
    """Torch's own plateau asks for 1e-4 of the best value more; the paper for any improvement."""
    rising = iter(range(35_000, 35_100))
    monkeypatch.setattr(
        run, "evaluate", lambda *_, **__: {"loss": 1, "top1": next(rising) / 50_000}
    )
    _, history = fit(data, schedule="plateau", lr=1e-3, patience=0, epochs=4)
    assert history.lr.tolist() == [1e-3] * 4
    assert history.attrs["stopped"] == "all epochs done"


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_gives_the_net_back_in_the_mode_it_had(data, training):
    net = tiny(batch_norm=True).train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    vgglib.evaluate(net, data.test, data.mean)
    assert [m.training for m in net.modules()] == [training] * len(list(net.modules()))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with pytest.raises(ValueError):  # also when it fails: the images are of another size
        vgglib.evaluate(net, ImageSet(data.test.images[..., :8], data.test.labels), data.mean)
    assert net.training == training


# The recipe at its edges --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("batch_size", (1, np.int64(2)), (0, 1.0, True, None)),
        ("epochs", (1,), (0, False)),
        ("patience", (0, 1), (-1, 0.5, True)),
        ("max_drops", (0,), (-1, None)),
        ("pad", (0, 1), (-1, False)),
        ("seed", (0, 2**63 - 1), (-1, 2**63, True)),
        ("flip", (True, False), (0, 1, None)),
        ("colour_shift", (True, False), (0, None)),
        ("channels_last", (True, False), (1, None)),
        ("lr", (1e-9, 1, 2.5), (0, math.inf, True, None)),
        ("momentum", (0, 0.5), (-0.1, 1, None)),
        ("weight_decay", (0, 1, 2.5), (-1e-9, math.inf, math.nan, None)),
        ("dropout", (None, 0, 0.5), (-0.1, 1, True)),
        ("lr_factor", (0.001, 0.999), (0, 1, None)),
        ("holdout", (0, 0.999), (-0.1, 1, None)),
        ("scale", (None, 224, (224, 224), (224, 300)), (223, (223, 300), (300, 224), True, (256,))),
        ("scale", (np.int64(256),), ((224, 300.5), (224.0, 300), (True, 300), (224, 300, 301))),
        ("schedule", ("plateau", "one-cycle", "constant"), ("", None)),
        ("normalise", ("mean", "mean-std"), ("std", None)),
        ("precision", ("fp32", "tf32", "bf16", "fp16", "auto"), ("fp8", None)),
    ],
)
def test_each_field_takes_what_is_in_its_range_and_names_itself_else(name, inside, outside):
    for value in inside:
        assert getattr(Recipe(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(ValueError) as caught:
            Recipe(**{name: value})
        assert name in str(caught.value) and repr(value) in str(caught.value)


def test_small_recipe_is_ours_and_what_it_does_not_name_is_the_papers():
    small, paper = Recipe.small(), Recipe.paper()
    ours = {
        **{"batch_size": 128, "epochs": 8, "lr": 0.02, "dropout": None, "schedule": "one-cycle"},
        **{"scale": None, "pad": 4, "colour_shift": False, "normalise": "mean-std"},
        "precision": "auto",
    }
    for field in dataclasses.fields(Recipe):
        assert getattr(small, field.name) == ours.get(field.name, getattr(paper, field.name))
    assert (paper.pad, paper.patience, paper.holdout, paper.seed) == (0, 3, 0, 0)
    assert paper.channels_last is True and paper.precision == "fp32"
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper.lr = 1


@pytest.mark.parametrize(
    ("scale", "size", "expected"),
    [
        (256, 112, (128, 128)),
        ((256, 512), 112, (128, 256)),
        ([256, 400], 32, (37, 57)),  # 36.57 and 57.14
        (np.int64(256), 224, (256, 256)),
        (384, 64, (110, 110)),  # 109.71
    ],
)
def test_scales_of_smaller_nets_are_rounded(scale, size, expected):
    assert Recipe(scale=scale).scale_for(size) == expected


def test_normalisation_is_the_datas(data):
    mean, std = Recipe(normalise="mean-std").normalisation(data)
    pixels = data.train.images.double().movedim(1, 0).flatten(1)
    assert mean == pytest.approx(pixels.mean(1).tolist(), rel=1e-4)
    assert std == pytest.approx(pixels.std(1, correction=0).tolist(), rel=1e-4)
    assert Recipe(normalise="mean").normalisation(data) == (mean, None)


def test_settings_are_read_as_they_are_written():
    read = Recipe().with_settings
    assert read(["lr = 0.5 ", " batch-size=3"]) == Recipe(lr=0.5, batch_size=3)
    assert read(["dropout=NONE", "flip=False", "colour_shift=true"]) == Recipe(
        dropout=None, flip=False
    )
    assert read(["schedule=one-cycle"]).schedule == "one-cycle"
    assert read(["lr=0.5", "lr=0.25"]).lr == 0.25
    assert read([]) == Recipe()
    for wrong, named in (("lr", "="), ("lr", "lr"), ("rate=1", "rate"), ("normalise=a=b", "a=b")):
        with pytest.raises(ValueError) as caught:
            read([wrong])
        assert named in str(caught.value)
    with pytest.raises(TypeError) as caught:
        Recipe().changed(b=1, a=2)
    assert "a, b" in str(caught.value) and "weight_decay" in str(caught.value)


# Batches ----------------------------------------------------------------------------------


CPU = Place(torch.device("cpu"))


def batches(data, place=CPU, **changes):
    recipe = Recipe.small(**({"batch_size": 60, "flip": False, "pad": 0} | changes))
    return DeviceBatches(data.train, tiny(), recipe, (0.0,) * 3, None, place)


def test_an_epoch_shows_whole_batches_of_each_image_once_in_another_order_each_time(data):
    source = batches(data)
    assert len(source) == 6  # of 400 images; 40 are left over
    first, second = torch.stack(source.order(1)), torch.stack(source.order(2))
    assert first.shape == second.shape == (6, 60)
    assert len(first.unique()) == 360 and not torch.equal(first, second)
    assert torch.equal(first, torch.stack(batches(data).order(1)))
    assert not torch.equal(first, torch.stack(batches(data, seed=1).order(1)))
    shown = list(source.epoch(1))
    assert len(shown) == 6
    for (images, labels), part in zip(shown, first, strict=True):
        assert torch.equal(images, data.train.images[part].float())
        assert torch.equal(labels, data.train.labels[part])
    later = list(source.epoch(1, start=4))
    assert len(later) == 2 and torch.equal(later[0][0], shown[4][0])


def test_a_batch_is_at_most_all_images(data):
    assert batches(data, batch_size=1000).batch == 400
    assert len(batches(data, batch_size=400)) == 1


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_process_takes_its_own_third(data, rank):
    part = batches(data, Place(CPU.device, rank, 3))
    assert part.mine == slice(20 * rank, 20 * rank + 20)
    images, labels = next(part.epoch(1))
    whole = next(batches(data).epoch(1))
    assert torch.equal(images, whole[0][20 * rank : 20 * rank + 20])
    assert torch.equal(labels, whole[1][20 * rank : 20 * rank + 20])


def test_batches_are_drawn_and_made_as_the_recipe_says(data):
    """Every part of the recipe that concerns images changes them; none changes the order."""
    plain = next(batches(data).epoch(1))
    for changes in ({"flip": True}, {"pad": 2}, {"scale": 280}, {"colour_shift": True}):
        images, labels = next(batches(data, **changes).epoch(1))
        assert images.shape == plain[0].shape and torch.equal(labels, plain[1])
        assert not torch.equal(images, plain[0]), changes
    steps = list(batches(data, pad=4).epoch(1)), list(batches(data, pad=4).epoch(1))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(*steps, strict=True))


def test_the_colours_shift_along_the_axes_of_the_training_images(data):
    plain, shifted = (next(batches(data, colour_shift=c).epoch(1))[0] for c in (False, True))
    shift = (shifted - plain)[:, :, 0, 0].double()
    values, axes = vgglib.augment.rgb_pca(data.train.images)
    alpha = shift @ axes.double() / (255 * values)
    assert alpha.std(0).tolist() == pytest.approx([0.1] * 3, rel=0.3)


def test_seeds_belong_to_their_numbers_and_fit_into_63_bits():
    keys = [(), (0,), (1,), (0, 1), (1, 0), (1, 1), (11,), (0, 0, 0), (2**62, 3)]
    seeds = [seed_of(*key) for key in keys]
    assert len(set(seeds)) == len(keys) and seeds == [seed_of(*key) for key in keys]
    many = [seed_of(number) for number in range(2000)]
    assert 0 <= min(many) < 2**53 and 2**62 < max(many) < 2**63
    torch.Generator().manual_seed(max(many))


@pytest.mark.parametrize(("holdout", "held"), [(0.0025, 1), (0.9975, 399), (0.25, 100)])
def test_both_sides_of_a_holdout_are_whole_and_apart(data, holdout, held):
    numbers = torch.arange(400)
    images = torch.zeros(400, 3, 1, 1, dtype=torch.uint8)
    names = tuple(map(str, range(400)))
    numbered = Data("n", ImageSet(images, numbers), data.test, names, "made here")
    training, validation = split(numbered, Recipe(holdout=holdout))
    assert len(validation) == held
    both = torch.cat([training.labels, validation.labels])
    assert torch.equal(both.sort().values, numbers)
    again = split(numbered, Recipe(holdout=holdout))[1]
    other = split(numbered, Recipe(holdout=holdout, seed=1))[1]
    assert torch.equal(again.labels, validation.labels)
    assert not torch.equal(other.labels, validation.labels)
    folder = Data("folder", Folder(numbered.train), data.test, names, "made here")
    by_place = split(folder, Recipe(holdout=holdout))
    assert [list(part.indices) for part in by_place] == [
        training.labels.tolist(),
        validation.labels.tolist(),
    ]


@pytest.mark.parametrize("holdout", [0.001, 0.999])
def test_a_holdout_that_leaves_nothing_is_refused(data, holdout):
    with pytest.raises(ValueError) as caught:
        split(data, Recipe(holdout=holdout))
    assert str(holdout) in str(caught.value) and "400" in str(caught.value)


def test_without_a_holdout_all_images_train(data):
    training, validation = split(data, Recipe(holdout=0))
    assert training is data.train and validation is data.test


def test_sizes_that_the_net_does_not_take_are_named():
    images = lambda *size: torch.zeros(1, 3, *size, dtype=torch.uint8)  # noqa: E731
    labels = torch.zeros(1, dtype=torch.long)
    check_size(ImageSet(images(16, 16), labels), tiny())
    for size in ((16, 17), (17, 16), (3, 16)):
        with pytest.raises(ValueError) as caught:
            check_size(ImageSet(images(*size), labels), tiny())
        assert all(str(side) in str(caught.value) for side in (*size, 16))


def test_no_images_and_uneven_shares_are_refused(data):
    for empty_or_uneven, named in (
        (lambda: DeviceBatches(data.train[:0], tiny(), Recipe(), (0,) * 3, None, CPU), "images"),
        (lambda: batches(data, Place(CPU.device, 0, 7)), "60"),
    ):
        with pytest.raises(ValueError) as caught:
            empty_or_uneven()
        assert named in str(caught.value)


def test_photos_come_in_the_same_order_and_from_their_own_generator(data):
    photos = Folder(data.train[:20])
    changes = dict(batch_size=8, scale=256, pad=0, flip=False, colour_shift=False)

    def source(**more):
        recipe = Recipe.small(**(changes | more))
        return LoaderBatches(photos, tiny(), recipe, (1.0,) * 3, (2.0,) * 3, CPU, 0)

    first = source()
    state = torch.get_rng_state()
    made = list(first.epoch(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(labels) for _, labels in made] == [8, 8]
    order = torch.cat(source().order(1))
    assert torch.equal(torch.cat([labels for _, labels in made]), photos.split.labels[order])
    pixels = made[0][0] * 2 + 1
    assert pixels.shape == (8, 3, 16, 16) and pixels.min() >= 0 and 200 < pixels.max() <= 255
    for more in ({"flip": True}, {"colour_shift": True}, {"seed": 1}, {"scale": (256, 512)}):
        other = list(source(**more).epoch(1))
        assert not torch.equal(other[0][0], made[0][0]), more
    assert not torch.equal(next(source().epoch(2))[0], made[0][0])


def test_the_rate_of_a_pipeline_is_images_by_seconds(data, monkeypatch):
    """By a clock that goes on by a second at each look; an epoch has four batches of 100."""
    source, waits = batches(data, batch_size=100), []
    clock = iter(range(5, 1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(Place, "synchronise", lambda place: waits.append(place))
    # Begun at 5, it looks before each batch until the 10 seconds are over, then once more: three
    # batches (the first has started the pipeline), the end of an epoch, four batches, an end.
    assert source.rate(seconds=10.0) == pytest.approx(100 * 7 / 11)
    assert len(waits) == 1 + 7  # a GPU is waited for before the clock starts and after each batch
    clock = iter([5 + quarter / 4 for quarter in range(100)])
    assert source.rate() == pytest.approx(100 * 3 / 1.25)  # a second if nothing is said


def test_the_crops_of_a_step_are_the_same_wherever_an_epoch_starts(data):
    whole = list(batches(data, pad=4, flip=True).epoch(1))
    torch.manual_seed(99)
    later = list(batches(data, pad=4, flip=True).epoch(1, start=3))
    for (ours, _), (theirs, _) in zip(later, whole[3:], strict=True):
        assert torch.equal(ours, theirs)
    padded = batches(data, pad=4, batch_size=400)
    first, second = (next(padded.epoch(n))[0][padded.order(n)[0].argsort()] for n in (1, 2))
    assert (first != second).flatten(1).any(1).float().mean() > 0.9  # of each image, anew


class Green(torch.utils.data.Dataset):
    """Photos of one colour, which only workers may read."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        assert torch.utils.data.get_worker_info() is not None
        return Image.new("RGB", (40, 30), (3, 205, 9)), index


def test_photos_are_read_by_workers_and_normalised():
    recipe = Recipe.paper(batch_size=2, colour_shift=False)
    source = LoaderBatches(Green(), tiny(), recipe, (1.0, 5.0, 9.0), (2.0, 100.0, 1.0), CPU, 1)
    for images, labels in source.epoch(1):
        assert labels.shape == (2,) and images.shape == (2, 3, 16, 16)
        assert (images == torch.tensor([1.0, 2.0, 0.0])[:, None, None]).all()


def test_a_cycle_of_one_step_is_refused(data):
    """It would end before it rose, at a rate of nearly zero."""
    with refuses(ValueError, got=1, accepts="2 steps", remedy=("epochs", "batch_size", "constant")):
        fit(data, tiny(), epochs=1, batch_size=len(data.train), schedule="one-cycle")
