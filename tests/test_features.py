"""Filters, feature maps and attributions against plain loops, formulas and nets built by hand."""

import math

import pytest
import torch
import torchvision
from refusing import refuses
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import vgglib
from vgglib import Config, Conv, features
from vgglib.features.patches import geometry

SMALL = Config("small", ((Conv(4), Conv(6)), (Conv(8), Conv(8))), hidden=(16,))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return vgglib.vgg(SMALL, num_classes=5, image_size=32, init="he")


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def spot_net(rows: slice, columns: slice) -> nn.Module:
    """A net whose class 1 is the mean brightness of one rectangle and whose class 0 is -1."""

    class Spot(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU())
            nn.init.ones_(self.features[0].weight)

        def forward(self, x):
            seen = self.features(x)[:, 0, rows, columns].mean(dim=(1, 2))
            return torch.stack([-torch.ones_like(seen), seen], dim=1)

    return Spot()


# --- filters and activations


def test_first_filters_are_a_scaled_copy_with_zero_in_the_middle(net):
    pictures, weights = features.first_filters(net), net.features[0].weight
    assert pictures.shape == (4, 3, 3, 3) and not pictures.requires_grad
    for picture, weight in zip(pictures, weights, strict=True):
        torch.testing.assert_close((picture - 0.5) * 2 * weight.abs().max(), weight.detach())
        assert max(picture.max() - 0.5, 0.5 - picture.min()) == pytest.approx(0.5)
    with refuses(ValueError, got="Linear", accepts="Conv2d"):
        features.first_filters(nn.Linear(2, 2))


def test_activations_equal_a_loop_over_the_layers(net, images):
    net.eval()
    names = ["conv1_1", "relu1_2", "pool1", "conv2_2", "relu2_2", "pool2"]
    found = features.activations(net, images, [*names, "fc3", "fc4"])
    assert list(found) == [*names, "fc3", "fc4"]
    by_path, x = {path: name for name, path in net.layer_names.items()}, images
    for index, layer in enumerate(net.features):
        x = layer(x)
        name = by_path[f"features.{index}"]
        if name in names:
            torch.testing.assert_close(found[name], x, rtol=0, atol=0)
    torch.testing.assert_close(found["fc4"], net(images), rtol=0, atol=0)
    assert found["fc3"].shape == (3, 16) and not found["fc4"].requires_grad


def test_activations_take_any_size_up_to_the_last_pool(net):
    image = torch.randn(3, 50, 70)
    assert features.activations(net, image, "pool2")["pool2"].shape == (1, 8, 12, 17)
    with refuses(ValueError, got="(1, 3, 50, 70)", accepts="(N, 3, 32, 32)", remedy="image_size="):
        features.activations(net, image, "fc3")


def test_torchvisions_in_place_trap_is_there_and_avoided():
    torch.manual_seed(0)
    theirs = torchvision.models.vgg11().eval()
    images = torch.randn(1, 3, 32, 32)
    conv = theirs.features[0](images)
    with torch.no_grad():
        trapped = create_feature_extractor(theirs, {"features.0": "x", "features.2": "y"})(images)
    assert conv.min() < 0 and trapped["x"].min() >= 0  # the trap
    found = features.activations(theirs, images, ["features.0", "features.2", "classifier.6"])
    torch.testing.assert_close(found["features.0"], conv.detach(), rtol=0, atol=0)
    torch.testing.assert_close(found["features.2"], trapped["y"], rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(found["classifier.6"], theirs(images))


def test_a_functional_in_place_operation_does_not_reach_the_activations():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return torch.relu_(self.conv(x)).mean(dim=(2, 3))

    net, images = Net(), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(
        features.activations(net, images, "conv")["conv"], net.conv(images).detach()
    )


def test_the_net_is_left_as_it_was(images):
    net = vgglib.vgg(SMALL, num_classes=5, image_size=32, batch_norm=True)
    net.train()
    net.features[1].eval()
    net.features[2].inplace = True
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = {name: (m.training, getattr(m, "inplace", None)) for name, m in net.named_modules()}

    features.activations(net, images, ["conv1_1", "fc4"])
    for attribution in (features.saliency, features.occlusion, features.grad_cam):
        attribution(net, images[0], target=1)
    features.maximise(net, "conv2_1", 0, steps=2, size=16)
    with pytest.raises(ValueError):
        features.activations(net, torch.randn(1, 3, 8, 8), "fc4")

    after = {name: (m.training, getattr(m, "inplace", None)) for name, m in net.named_modules()}
    assert flags == after
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    assert not images.requires_grad


def test_activations_can_be_differentiated(net, images):
    images = images.clone().requires_grad_()
    maps = features.activations(net, images, "conv1_1", grad=True)["conv1_1"]
    (slope,) = torch.autograd.grad(maps[0, 2, 10, 10], images)
    torch.testing.assert_close(slope[0, :, 9:12, 9:12], net.features[0].weight[2].detach())


def test_bad_layers_and_images_are_named(net, images):
    with refuses(ValueError, got="conv9_9", accepts=("conv1_1", "relu1_1", "pool2", "fc4")):
        features.activations(net, images, ["conv1_1", "conv9_9"])
    with refuses(ValueError, got="conv1_1", accepts=("features.0", "features.1")):
        features.activations(torchvision.models.vgg11(), images, "conv1_1")
    with refuses(ValueError, got="(3, 1, 32, 32)", accepts=("(N, 3, H, W)", "(3, H, W)")):
        features.activations(net, images[:, :1], "conv1_1")
    with refuses(
        ValueError, got="torch.uint8", remedy=("features.preprocess", "augment.normalise")
    ):
        features.activations(net, images.byte(), "conv1_1")


# --- attributions


def test_saliency_is_the_gradient_of_the_class_score(net, images):
    image = images[:1].clone().requires_grad_()
    net.eval()
    scores = net(image)[0]
    for target in (None, 3):
        score = scores.max() if target is None else scores[target]
        (slope,) = torch.autograd.grad(score, image, retain_graph=True)
        found = features.saliency(net, images[0], target)
        torch.testing.assert_close(found, slope[0].abs().amax(dim=0))


def test_saliency_of_a_unit(net, images):
    image = images[:1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(net.features[:6](image)[0, 5].mean(), image)
    found = features.saliency(net, images[0], unit=("conv2_1", 5))
    torch.testing.assert_close(found, slope[0].abs().amax(dim=0))


def test_occlusion_finds_the_place_and_the_amount():
    rows, columns = slice(8, 12), slice(20, 24)
    net, image = spot_net(rows, columns), torch.ones(3, 28, 28)
    lost = features.occlusion(net, image, target=1)  # 4-px window, stride 2: fits the spot once
    assert lost.shape == (28, 28)
    inside = torch.zeros(28, 28, dtype=torch.bool)
    inside[rows, columns] = True
    assert lost[inside].min() > lost[~inside].max() > 0  # a window over the edge takes a part
    assert lost[:4].abs().max() == 0 and lost[16:].abs().max() == 0
    exact = features.occlusion(net, image, target=1, window=4, stride=4)
    torch.testing.assert_close(exact, 3.0 * inside)  # three colours of 1: the whole score is lost
    whole = features.occlusion(net, -image, target=1, window=28)
    assert whole.abs().max() == 0  # the ReLU already gives 0 there


def test_occlusion_is_negative_where_the_image_speaks_against_the_target():
    net = spot_net(slice(0, 4), slice(0, 4))
    nn.init.constant_(net.features[0].weight, -1.0)
    image = torch.full((3, 16, 16), -1.0)
    image[:, :2] = 1.0  # half of the spot is bright, which this net rectifies away
    lost = features.occlusion(net, image, target=1, window=2, stride=2)
    assert lost[2:4, :4].min() > 0 and lost[:2].abs().max() == 0
    net.features[1] = nn.Identity()
    assert features.occlusion(net, image, target=1, window=2, stride=2)[:2, :4].max() < 0


def test_grad_cam_is_its_formula(net, images):
    net.eval()
    for head, unit, last in (
        (lambda maps: net.classifier(net.features[9:](maps).flatten(1))[0, 2], None, 9),
        (lambda maps: net.features[7:8](maps)[0, 4].mean(), ("conv2_2", 4), 7),
    ):
        maps = net.features[:last](images[:1])  # up to and with relu2_2 or relu2_1
        (slope,) = torch.autograd.grad(head(maps), maps)
        weights = slope.mean(dim=(2, 3), keepdim=True)
        small = torch.relu((weights * maps).sum(dim=1, keepdim=True))
        expected = nn.functional.interpolate(small, (32, 32), mode="bilinear")[0, 0]
        target = 2 if unit is None else None
        found = features.grad_cam(net, images[0], target, unit=unit)
        assert found.max() > 0
        torch.testing.assert_close(found, expected.detach())


def test_grad_cam_works_behind_an_in_place_relu(images):
    torch.manual_seed(0)
    theirs = torchvision.models.vgg11(num_classes=4).eval()
    conv = features.grad_cam(theirs, images[0], 1, layer="features.8")
    maps = theirs.features[:9](images[:1])  # ends with the convolution
    tail = nn.Sequential(*theirs.features[9:], theirs.avgpool, nn.Flatten(), *theirs.classifier)
    (slope,) = torch.autograd.grad(tail.eval()(maps.clone())[0, 1], maps)
    expected = torch.relu((slope.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True))
    expected = nn.functional.interpolate(expected, (32, 32), mode="bilinear")[0, 0].detach()
    assert expected.max() > 0
    torch.testing.assert_close(conv, expected, rtol=1e-4, atol=1e-9)
    assert all(m.inplace for m in theirs.features if isinstance(m, nn.ReLU))


def test_a_batch_is_explained_as_its_images_are(net, images):
    net.eval()
    winners = net(images).argmax(1).tolist()
    for attribution in (features.saliency, features.occlusion, features.grad_cam):
        for options in ({}, {"target": 2}, {"target": [0, 4, 1]}, {"unit": ("conv2_2", 4)}):
            together = attribution(net, images, **options)
            for n, alone in enumerate(together):
                one = options
                if "unit" not in options:
                    target = options.get("target", winners)
                    one = {"target": target if isinstance(target, int) else target[n]}
                torch.testing.assert_close(alone, attribution(net, images[n], **one))


def test_attribution_errors(net, images):
    for attribution in (features.saliency, features.occlusion, features.grad_cam):
        with refuses(ValueError, got=("target", 5), accepts=(0, 4)):
            attribution(net, images[0], 5)
        with refuses(
            ValueError, got=("target=1", "unit=('conv2_1', 0)"), accepts=("target=", "unit=")
        ):
            attribution(net, images[0], 1, unit=("conv2_1", 0))
        with refuses(ValueError, got=("conv2_1", 8), accepts=(0, 7)):
            attribution(net, images[0], unit=("conv2_1", 8))
        with refuses(ValueError, got="conv7_1", accepts=("conv1_1", "fc4")):
            attribution(net, images[0], unit=("conv7_1", 0))
        with refuses(ValueError, got="[0, 1]", accepts="3 images"):
            attribution(net, images, [0, 1])
    with refuses(ValueError, got=("stride=9", "window=4"), accepts=32):
        features.occlusion(net, images[0], window=4, stride=9)
    with refuses(ValueError, got=("grad_cam", "fc3"), accepts="net.features"):
        features.grad_cam(net, images[0], layer="fc3")
    with refuses(ValueError, got=("conv1_2", "relu2_1"), remedy="layer="):
        features.grad_cam(net, images[0], unit=("conv1_2", 0), layer="relu2_1")
    with refuses(ValueError, got="conv1_1", accepts="ReLU", remedy="layer="):
        features.grad_cam(net, images[0], unit=("conv1_1", 0))
    nn.init.constant_(net.classifier[-1].weight, math.nan)  # as IMAGENET1K_FEATURES in torchvision
    with refuses(ValueError, got="IMAGENET1K_FEATURES", remedy="unit="):
        features.saliency(net, images[0])


# --- what a channel looks for


def test_maximise_raises_the_channel_and_depends_on_the_seed_alone(net):
    image, history = features.maximise(net, "conv2_2", 3, size=33, steps=40, mean=(128,) * 3)
    assert image.shape == (3, 33, 33) and image.min() >= 0 and image.max() <= 1
    assert len(history) == 41 and not image.requires_grad
    random = torch.rand(64, 3, 33, 33, generator=torch.Generator().manual_seed(2)) * 255 - 128
    usual = features.activations(net, random, "conv2_2")["conv2_2"][:, 3].mean(dim=(1, 2))
    assert history[-1] > 3 * max(abs(history[0]), usual.max())
    value = features.activations(net, 255 * image - 128, "conv2_2")["conv2_2"][0, 3].mean()
    assert value == pytest.approx(history[-1], rel=1e-4)  # the image is the one that was measured
    again, _ = features.maximise(net, "conv2_2", 3, size=33, steps=40, mean=(128,) * 3)
    other, _ = features.maximise(net, "conv2_2", 3, size=33, steps=40, mean=(128,) * 3, seed=1)
    assert torch.equal(image, again) and not torch.equal(image, other)


def test_maximise_works_for_a_class_and_names_a_wrong_channel(net):
    image, history = features.maximise(net, "fc4", 2, steps=20)
    assert image.shape == (3, 32, 32) and history[-1] > history[0]
    with refuses(ValueError, got=("fc4", 7), accepts=(0, 4)):
        features.maximise(net, "fc4", 7, steps=1)


@pytest.mark.parametrize("name", ["A", "C", "E"])
def test_receptive_field_geometry_agrees_with_anatomy(name):
    net = vgglib.vgg(name, image_size=32, width=0.05, batch_norm=True, init=None)
    table = vgglib.anatomy(net).set_index("layer")
    for layer, path in net.layer_names.items():
        if path.startswith("features."):
            field, stride, _ = geometry(net, layer)
            assert field == table.loc[layer, "receptive_field"], layer
            assert stride == table.loc[layer, "stride"], layer


def test_top_patches_find_what_was_planted():
    """A channel that adds up brightness answers most where bright squares were put."""
    net = vgglib.vgg(SMALL, image_size=64, init=None)
    for parameter in net.features.parameters():
        nn.init.constant_(parameter, 0.1 if parameter.ndim > 1 else 0.0)
    field, stride, start = geometry(net, "conv2_1")
    images = torch.zeros(4, 3, 64, 64)
    planted = [(2, 11, 20, 3.0), (0, 20, 9, 2.0), (3, 15, 15, 1.0)]  # …, row, column, brightness
    for n, row, column, brightness in planted:
        top, left = row * stride + start, column * stride + start
        images[n, :, top : top + field, left : left + field] = brightness
    patches, table = features.top_patches(net, images, "conv2_1", 4, k=3, batch_size=3)
    assert list(table[["image", "row", "column"]].itertuples(index=False, name=None)) == [
        spot[:3] for spot in planted
    ]
    assert patches.shape == (3, 3, field, field)
    for patch, (_, _, _, brightness) in zip(patches, planted, strict=True):
        assert (patch == brightness).all()  # exactly the square, nothing beside it
    maps = features.activations(net, images, "conv2_1")["conv2_1"]
    assert table.value.tolist() == [maps[n, 4, row, column].item() for n, row, column, _ in planted]


def test_top_patches_stay_inside_small_images_and_apart(net, images):
    patches, table = features.top_patches(net, images, "pool2", 0, k=50)
    side = geometry(net, "pool2")[0]
    assert side == vgglib.anatomy(net).set_index("layer").loc["pool2", "receptive_field"]
    assert patches.shape[1:] == (3, side, side) and len(table) < 50
    assert table.value.is_monotonic_decreasing
    assert table.top.between(0, 32 - side).all() and table.left.between(0, 32 - side).all()
    apart = side / 4  # in positions of the map
    for _, group in table.groupby("image"):
        spots = group[["row", "column"]].to_numpy()
        for i, one in enumerate(spots):
            assert all(abs(one - other).max() >= apart for other in spots[:i])
    with refuses(ValueError, got="fc3", accepts="net.features"):
        features.top_patches(net, images, "fc3", 0)


@pytest.mark.parametrize("layer", ["conv1_2", "pool1", "conv2_2"])
def test_effective_receptive_field_lies_within_the_receptive_field(net, images, layer):
    seen = features.effective_receptive_field(net, images, layer, batch_size=2)
    assert seen.shape == (32, 32) and seen.max() == 1 and seen.min() == 0
    field, stride, start = geometry(net, layer)
    middle = features.activations(net, images, layer)[layer].shape[2] // 2
    low = middle * stride + start
    inside = seen[low : low + field, low : low + field]
    assert inside.count_nonzero() == seen.count_nonzero()
    # the convolutions reach each edge of the square; max-pooling leaves pixels out at random
    if layer == "conv1_2":
        assert (inside > 0).all()


def test_effective_receptive_field_equals_the_formula(net, images):
    part = images.clone().requires_grad_()
    maps = net.features[:6](part)
    (slope,) = torch.autograd.grad(maps[:, :, 8, 8].sum(), part)
    mean = slope.abs().mean(dim=(0, 1))
    found = features.effective_receptive_field(net, images, "conv2_1", batch_size=2)
    torch.testing.assert_close(found, mean / mean.max())
    with refuses(ValueError, got="fc3", accepts="net.features"):
        features.effective_receptive_field(net, images, "fc3")


def test_preprocess_cuts_the_centre_and_subtracts_the_mean():
    from PIL import Image

    photo = Image.new("RGB", (40, 20), (10, 20, 30))
    photo.paste((200, 100, 50), (10, 0, 30, 20))  # the centre square
    image = features.preprocess(photo, 20)
    expected = torch.tensor([200.0, 100.0, 50.0]) - torch.tensor(features.IMAGENET_MEAN)
    torch.testing.assert_close(image, expected[:, None, None].expand(3, 20, 20))
    meta = torchvision.models.VGG16_Weights.IMAGENET1K_FEATURES.transforms()
    assert [m * 255 for m in meta.mean] == pytest.approx(features.IMAGENET_MEAN)
    halves = features.preprocess(photo, 10, mean=(0, 0, 0), std=(100, 100, 100))
    torch.testing.assert_close(halves[:, 5, 5], torch.tensor([2.0, 1.0, 0.5]))
