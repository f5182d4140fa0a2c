"""Transfer against plain loops, scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from refusing import refuses
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import LinearSVC
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.v2.functional import resize, to_pil_image

import vgglib
from vgglib import Config, Conv, transfer

SMALL = Config("small", ((Conv(4), Conv(6)), (Conv(8), Conv(8))), hidden=(16,))
MEAN, STD = (120.0, 115.0, 110.0), (60.0, 61.0, 62.0)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return vgglib.vgg(SMALL, num_classes=5, image_size=16, batch_norm=True, init="he")


@pytest.fixture
def images():
    return torch.randint(256, (7, 3, 16, 20), generator=torch.Generator().manual_seed(1)).byte()


# --- descriptors


@pytest.mark.parametrize("mirror", [True, False])
def test_descriptors_are_means_over_places_and_mirror_images(net, images, mirror):
    """Against torchvision's feature extractor, one image at a time."""
    layers = {"relu1_2": "5", "pool2": "13"}
    assert all(net.layer_names[ours] == f"features.{theirs}" for ours, theirs in layers.items())
    found = transfer.descriptors(
        net, images, MEAN, STD, scales=(16, 24), layers=list(layers), mirror=mirror, batch_size=3
    )
    assert net.training, "the net is left in the mode in which it was"
    extract = create_feature_extractor(net.features, {k: v for v, k in layers.items()}).eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    for place, size in enumerate([(16, 20), (24, 30)]):
        for number, image in enumerate(images):
            pixels = (resize(image[None], size).float() - mean) / std
            with torch.no_grad():
                seen, mirrored = extract(pixels), extract(pixels.flip(3))
            for layer in layers:
                wanted = seen[layer].mean((0, 2, 3))
                if mirror:
                    wanted = (wanted + mirrored[layer].mean((0, 2, 3))) / 2
                torch.testing.assert_close(found[layer][place, number], wanted)


def test_pictures_of_several_sizes_keep_their_order(net, images):
    sizes = [(16, 20), (16, 16), (16, 20), (20, 16)]
    mixed = [images[i, :, :h, :w] if h <= 16 else images[i].mT for i, (h, w) in enumerate(sizes)]
    pictures = [to_pil_image(image) for image in mixed]
    for given in (mixed, pictures):
        together = transfer.descriptors(net, given, MEAN, STD, scales=16)
        assert list(together) == ["pool1", "pool2"]
        for number, image in enumerate(given):
            alone = transfer.descriptors(net, [image], MEAN, STD, scales=16)
            torch.testing.assert_close(together["pool2"][:, number], alone["pool2"][:, 0])


def test_a_mirror_image_has_the_same_descriptor(net, images):
    one, other = (
        transfer.descriptors(net, x, MEAN, STD, scales=16) for x in (images, images.flip(3))
    )
    torch.testing.assert_close(one["pool2"], other["pool2"])


@pytest.mark.parametrize(
    ("change", "got", "accepts"),
    [
        ({"scales": 3}, ("scales", 3), "4 px"),
        ({"scales": ()}, ("scales", "()"), "4 px"),
        ({"scales": 16.0}, ("scales", 16.0), "4 px"),
        ({"layers": ["fc3"]}, ("descriptors", "fc3"), ("conv1_1", "pool2")),
        ({"layers": ["conv9_1"]}, ("descriptors", "conv9_1"), ("conv1_1", "pool2")),
        (
            {"images": torch.zeros(1, 3, 16, 16)},
            ("torch.float32", "(1, 3, 16, 16)"),
            ("uint8", "(N, 3, H, W)"),
        ),
        ({"images": []}, ("descriptors", 0), "1 image"),
    ],
)
def test_descriptors_say_what_is_wrong(net, images, change, got, accepts):
    given = {"images": images, "scales": 16} | change
    with refuses(ValueError, got=got, accepts=accepts):
        transfer.descriptors(net, given.pop("images"), MEAN, STD, **given)


# --- aggregation


def test_aggregates_by_hand():
    by_scale = torch.tensor([[[3.0, 0.0], [0.0, 0.0]], [[3.0, 8.0], [0.0, 0.0]]])  # 2 scales
    average, stack = transfer.aggregate(by_scale), transfer.aggregate(by_scale, "stack")
    torch.testing.assert_close(average, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))  # mean 3, 4
    torch.testing.assert_close(stack[0], torch.tensor([3.0, 0.0, 3.0, 8.0]) / 82**0.5)
    assert not stack[1].any()


def test_of_one_scale_both_ways_are_the_same():
    one = torch.rand(1, 5, 3)
    torch.testing.assert_close(transfer.aggregate(one), transfer.aggregate(one, "stack"))


@pytest.mark.parametrize(
    ("shape", "how", "got", "accepts"),
    [
        ((5, 3), "average", "(5, 3)", "(scales, N, channels)"),
        ((2, 5, 3), "max", ("how", "max"), ("average", "stack")),
    ],
)
def test_aggregate_says_what_is_wrong(shape, how, got, accepts):
    with refuses(ValueError, got=got, accepts=accepts):
        transfer.aggregate(torch.rand(shape), how)


# --- the classifier


@pytest.fixture
def clouds():
    """Three classes around three directions, (300, 5) and (300,)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    return torch.eye(5)[labels] + 0.5 * torch.randn(300, 5, generator=generator), labels


def test_with_one_strength_it_is_scikit_learns_machine(clouds):
    x, y = (part[:200] for part in clouds)
    x = 3 * x + torch.arange(5)
    ours = transfer.linear_classifier(x, y, strengths=[0.5])
    centred = x.double() - x.double().mean(0)
    theirs = LinearSVC(C=0.5 / centred.square().sum(1).mean().item(), dual=False).fit(centred, y)
    np.testing.assert_allclose(ours[-1].coef_, theirs.coef_, rtol=1e-5)
    assert ours.score(x, y) == theirs.score(centred, y) > 0.8
    larger = transfer.linear_classifier(100 * x, y, strengths=[0.5])
    assert (larger.predict(100 * x) == ours.predict(x)).all()  # the unit does not matter


def test_the_strength_is_the_best_on_images_kept_aside(clouds):
    """Chosen as scikit-learn's parts, put together by hand, choose it; then all images are used."""
    x, y = clouds
    x = torch.cat([x, torch.randn(300, 30, generator=torch.Generator().manual_seed(1))], dim=1)
    x, y, grid = x[:60].double(), y[:60], (1e-3, 0.1, 10, 1000)
    variance = x.var(0, correction=0).sum().item()
    scores = dict.fromkeys(grid, 0.0)
    for fit, check in StratifiedShuffleSplit(4, test_size=0.2, random_state=2).split(x, y):
        for c in grid:
            machine = LinearSVC(C=c / variance, dual=False).fit(x[fit] - x[fit].mean(0), y[fit])
            scores[c] += machine.score(x[check] - x[fit].mean(0), y[check])
    assert len(set(scores.values())) > 1
    chosen = transfer.linear_classifier(x, y, strengths=grid, splits=4, seed=2)[-1]
    best = max(scores, key=scores.get) / variance
    assert pytest.approx(best) == chosen.C
    whole = LinearSVC(C=best, dual=False).fit(x - x.mean(0), y)
    np.testing.assert_allclose(chosen.coef_, whole.coef_, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "got", "accepts", "remedy"),
    [
        (
            torch.rand(4, 2),
            torch.zeros(3).long(),
            ("(4, 2)", "(3,)"),
            ("(N, channels)", "(N,)"),
            (),
        ),
        (torch.full((4, 2), torch.nan), torch.arange(4), 4, "finite", "load_weights"),
        (torch.zeros(4, 2), torch.arange(4), "4 descriptors", (), "load_weights"),
    ],
)
def test_the_classifier_says_what_is_wrong(x, y, got, accepts, remedy):
    with refuses(ValueError, got=got, accepts=accepts, remedy=remedy):
        transfer.linear_classifier(x, y)


# --- neighbours


def test_the_classifier_leaves_the_callers_random_numbers_alone():
    descriptors = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    transfer.linear_classifier(descriptors, torch.arange(40) % 4)
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


def test_neighbours_are_scikit_learns():
    generator = torch.Generator().manual_seed(2)
    queries, gallery = (torch.randn(n, 6, generator=generator) for n in (4, 50))
    cosines, places = transfer.nearest(queries, gallery, k=7)
    search = NearestNeighbors(n_neighbors=7, metric="cosine").fit(gallery.numpy())
    distances, indices = search.kneighbors(queries.numpy())
    assert places.tolist() == indices.tolist()
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-5)


@pytest.mark.parametrize(
    ("gallery", "k", "got", "accepts"),
    [
        ((9, 5), 3, ("(1, 6)", "(9, 5)"), ("(M, channels)", "(N, channels)")),
        ((2, 6), 3, ("k", 3), (1, 2)),
    ],
)
def test_nearest_says_what_is_wrong(gallery, k, got, accepts):
    with refuses(ValueError, got=got, accepts=accepts):
        transfer.nearest(torch.rand(1, 6), torch.rand(gallery), k)


# --- learning rates by stage


def test_a_step_moves_each_stage_by_its_own_rate(net):
    groups = transfer.rate_groups(net, lr=0.1, factor=0.5)
    assert [group["name"] for group in groups] == ["stage 1", "stage 2", "classifier"]
    before = {name: value.clone() for name, value in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(groups).step()
    second = int(net.layer_names["conv2_1"].split(".")[1])
    for name, value in net.named_parameters():
        part, number = name.split(".")[:2]
        rate = 0.1 if part == "classifier" else 0.05 if int(number) >= second else 0.025
        torch.testing.assert_close(before[name] - value, torch.full_like(value, rate))


def test_factor_one_is_one_rate_and_factor_zero_the_classifier_alone(net):
    assert {group["lr"] for group in transfer.rate_groups(net, 0.1, 1)} == {0.1}
    assert [group["name"] for group in transfer.rate_groups(net, 0.1, 0)] == ["classifier"]
    everything = sum(len(group["params"]) for group in transfer.rate_groups(net, 0.1, 0.3))
    assert everything == len(list(net.parameters()))


@pytest.mark.parametrize(("lr", "factor"), [(0, 0.5), (0.1, -1), (0.1, 2)])
def test_rates_are_checked(net, lr, factor):
    with refuses(ValueError, got=("lr", lr, "factor", factor), accepts=(0, 1)):
        transfer.rate_groups(net, lr, factor)


# --- fine-tuning


@pytest.fixture
def two_kinds():
    """Forty dark and forty bright images of noise."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(80) % 2
    pixels = torch.randint(100, (80, 3, 16, 16), generator=generator) + 150 * labels.view(
        -1, 1, 1, 1
    )
    return vgglib.data.ImageSet(pixels.byte(), labels)


@pytest.mark.parametrize("factor", [0, 0.5, 1])
def test_fine_tuning_learns_and_moves_what_it_should(net, two_kinds, factor):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tuned = transfer.fine_tune(
        net, two_kinds, MEAN, STD, lr=0.02, factor=factor, epochs=6, batch_size=20
    )
    assert tuned is net and not net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert vgglib.evaluate(net, two_kinds, MEAN, STD)["top1"] > 0.95
    moved = {
        name for name, value in net.state_dict().items() if not torch.equal(value, before[name])
    }
    features = {name for name in before if name.startswith("features")}
    assert moved == (set(before) if factor else set(before) - features)


def test_fine_tuning_repeats_itself(two_kinds):
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        net = vgglib.vgg(SMALL, num_classes=2, image_size=16, init="he")
        transfer.fine_tune(net, two_kinds, MEAN, lr=0.001, factor=0.5, epochs=1, seed=seed)
        nets.append(net.features[0].weight)
    assert torch.equal(nets[0], nets[1]) and not torch.equal(nets[0], nets[2])


@pytest.mark.parametrize("factor", [0, 0.5])
def test_fine_tuning_leaves_frozen_what_was_frozen(two_kinds, factor):
    net = vgglib.vgg(SMALL, num_classes=2, image_size=16, init="he", batch_norm=True)
    frozen = [*net.features[:2], net.classifier[-1]]  # conv1_1 and its batch norm; the last layer
    for module in frozen:
        module.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    wanted = {name: weight.requires_grad for name, weight in net.named_parameters()}
    transfer.fine_tune(net, two_kinds, MEAN, lr=0.01, factor=factor, epochs=1)
    assert wanted == {name: weight.requires_grad for name, weight in net.named_parameters()}
    stay = ("features.0.", "features.1.", f"classifier.{len(net.classifier) - 1}.")
    stay += ("features.",) * (factor == 0)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(stay), name


def test_fine_tuning_says_what_it_cannot_train(net, two_kinds):
    with refuses(TypeError, got="list", accepts="ImageSet", remedy="vgglib.train"):
        transfer.fine_tune(net, [two_kinds[0]], MEAN, lr=0.01, factor=1)
    with refuses(ValueError, got=("fine_tune", 0), accepts=1):
        transfer.fine_tune(net, two_kinds[:0], MEAN, lr=0.01, factor=1)
    with refuses(ValueError, got=("epochs", 0), accepts="integer"):
        transfer.fine_tune(net, two_kinds, MEAN, lr=0.01, factor=1, epochs=0)
    net.requires_grad_(False)
    with refuses(ValueError, got="requires_grad=False", remedy="requires_grad=True"):
        transfer.fine_tune(net, two_kinds, MEAN, lr=0.01, factor=1)


def test_fine_tuning_leaves_the_callers_random_numbers_alone(net, two_kinds):
    before = torch.get_rng_state()
    transfer.fine_tune(net, two_kinds, MEAN, lr=0.01, factor=1, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)
