"""The training crop (§3.1): geometry, colour, normalisation."""

import numpy as np
import pytest
import torch
from PIL import Image
from refusing import refuses

from vgglib.augment import (
    ColourShift,
    batch_crops,
    centre_crop,
    normalise,
    rgb_pca,
    training_crop,
)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.fixture
def ramp():
    """A 400×300 picture whose red is the column and whose green is the row, in grey levels."""
    columns, rows = np.meshgrid(np.arange(400), np.arange(300))
    return Image.fromarray(
        np.stack([columns * 255 // 399, rows * 255 // 299, 0 * rows], -1).astype(np.uint8)
    )


def test_normalise_subtracts_and_divides_per_channel(images):
    mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
    result = normalise(images, mean, std)
    for channel in range(3):
        expected = (images[:, channel].double() - mean[channel]) / std[channel]
        torch.testing.assert_close(result[:, channel].double(), expected, atol=1e-5, rtol=0)
    assert normalise(images, mean).std() > 50  # the paper keeps the pixels' scale


def test_rgb_pca_agrees_with_numpy(images):
    values, vectors = rgb_pca(images)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, 3).numpy() / 255
    covariance = np.cov(pixels, rowvar=False)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-4)
    rebuilt = vectors @ torch.diag(values) @ vectors.T
    np.testing.assert_allclose(rebuilt, covariance, atol=1e-6)


def test_colour_shift_adds_one_colour_an_image_with_the_stated_covariance():
    values, vectors = torch.tensor([0.2, 0.02, 0.01]), torch.linalg.qr(torch.randn(3, 3))[0]
    shift = ColourShift(values, vectors, std=0.1)
    black = torch.zeros(20_000, 3, 2, 2)
    result = shift(black, torch.Generator().manual_seed(0))
    assert (result == result[:, :, :1, :1]).all()  # the same for every pixel of an image
    colours = result[:, :, 0, 0]
    expected = 255**2 * vectors @ torch.diag((0.1 * values) ** 2) @ vectors.T
    torch.testing.assert_close(torch.cov(colours.T), expected, atol=0.6, rtol=0.05)
    assert shift(torch.zeros(3, 5, 7)).shape == (3, 5, 7)  # a single image, not square


def test_colour_shift_refuses_other_shapes():
    with refuses(ValueError, got="(4,)", accepts=("(3,)", "(3, 3)"), remedy="rgb_pca"):
        ColourShift(torch.ones(4), torch.eye(3))


@pytest.mark.parametrize("scale", [256, 384, (256, 512)])
def test_training_crop_rescales_with_the_aspect_ratio_kept(ramp, scale):
    torch.manual_seed(0)
    low, high = (scale, scale) if isinstance(scale, int) else scale
    crop = training_crop(scale, flip=False)
    steps = set()
    for _ in range(20):
        image = crop(ramp)
        assert image.shape == (3, 224, 224) and image.dtype == torch.float32
        # Neighbouring columns differ by 255/399 grey levels in the original of 400 px. After
        # rescaling the shorter side, 300, to S, by 300/S as much; the same holds for the rows.
        across = float((image[0, :, -1] - image[0, :, 0]).mean()) / 223 * 399 / 255
        down = float((image[1, -1] - image[1, 0]).mean()) / 223 * 299 / 255
        assert across == pytest.approx(down, rel=0.02)
        side = 300 / across
        assert low * 0.98 <= side <= high * 1.02
        steps.add(round(side / 10))
    assert len(steps) > 5 if high > low else len(steps) <= 3


def test_training_crop_moves_mirrors_and_normalises(ramp):
    torch.manual_seed(0)
    mean = (100.0, 50.0, 25.0)
    crops = torch.stack([training_crop(256, mean=mean)(ramp) for _ in range(60)])
    mirrored = (crops[:, 0, 0, -1] < crops[:, 0, 0, 0]).sum()
    assert 15 < mirrored < 45
    assert len(crops[:, 1, 0, 0].unique()) > 10  # rows move
    assert (crops[:, 2] == -25).all()  # blue is 0 in the picture


def test_centre_crop_is_centred(ramp):
    image = centre_crop(256, 224)(ramp)
    middle = image[:, 111:113, 111:113].mean((1, 2))
    torch.testing.assert_close(middle, torch.tensor([127.5, 127.5, 0]), atol=1.5, rtol=0)


def test_scale_below_the_crop_is_refused():
    for scale in (200, (512, 256)):
        with refuses(ValueError, got=("scale", str(scale)), accepts=("S", "(S_min, S_max)", 224)):
            training_crop(scale)


@pytest.mark.parametrize("scale", [0, 224.5, "256", None, (256,), (256, 256, 300), True])
def test_a_scale_of_another_kind_is_refused(scale):
    for maker in (training_crop, centre_crop):
        with refuses(ValueError, got=("scale", repr(scale)), accepts=("S", "(S_min, S_max)", 224)):
            maker(scale, 224)


@pytest.mark.parametrize(
    "values",
    [
        {"mean": (1.0, 2.0)},
        {"mean": 3},
        {"mean": (0.0, 0.0, float("nan"))},
        {"std": (1.0, 0.0, 1.0)},
        {"std": ()},
        {"mean": "abc"},
    ],
)
def test_means_and_deviations_are_three_numbers(values):
    ((name, value),) = values.items()
    for maker in (training_crop, centre_crop):
        with refuses(ValueError, got=(name, repr(value)), accepts=3):
            maker(256, 224, **values)


def test_batch_crops_without_room_are_the_images_themselves(images):
    assert torch.equal(batch_crops(images, 32, flip=False), images.float())


def test_batch_crops_cut_and_mirror_each_image_by_itself(images):
    """Every crop must be a window of its zero-padded image, mirrored or not; look for it."""
    generator = torch.Generator().manual_seed(1)
    crops = batch_crops(images, 32, pad=4, generator=generator)
    padded = torch.nn.functional.pad(images.float(), (4, 4, 4, 4))
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (N, 3, 9, 9, 32, 32)
    found = []
    for crop, window in zip(crops, windows, strict=True):
        for mirrored in (False, True):
            wanted = crop.flip(2) if mirrored else crop
            distance = (window - wanted[:, None, None]).abs().amax((0, 3, 4))  # (9, 9)
            found += [(*place, mirrored) for place in (distance < 0.01).nonzero().tolist()]
    assert len(found) == len(images)
    rows, columns, mirrored = zip(*found, strict=True)
    assert set(rows) == set(columns) == set(range(9))  # all offsets occur, both ends included
    assert 16 < sum(mirrored) < 48


def test_batch_crops_rescale_like_interpolate(images):
    """With the crop as large as the rescaled image nothing is random: compare with torch."""
    smooth = torch.nn.functional.avg_pool2d(images.float(), 5, 1, 2)
    ours = batch_crops(smooth, 64, scale=(64, 64), flip=False)
    reference = torch.nn.functional.interpolate(smooth, 64, mode="bilinear", align_corners=False)
    # Beyond the outermost pixel centres interpolate repeats the border, grid_sample fades to 0.
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], reference[..., 2:-2, 2:-2], atol=1e-3, rtol=0)


def test_batch_crops_refuse_what_does_not_fit(images):
    with refuses(ValueError, got=(40, 3), accepts=32, remedy=("pad", "scale")):
        batch_crops(images, 40, pad=3)
    with refuses(ValueError, got="(64, 3, 32, 20)", accepts="(N, 3, H, H)"):
        batch_crops(images[..., :20], 16)


def test_batch_crops_draw_every_scale_up_to_s_max_and_every_place():
    """Of an image that is a ramp, a crop's slope tells S, and its value tells the place."""
    ramp = torch.arange(32.0)
    image = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)])
    generator = torch.Generator().manual_seed(0)
    many = image.expand(4000, 3, 32, 32)
    crops = batch_crops(many, 32, scale=(32, 36), flip=False, generator=generator)
    across, down = crops[:, 0, 16], crops[:, 1, :, 16]
    drawn = []
    for line in (across, down):
        side = 32 / (line[:, 20] - line[:, 10]) * 10  # in an image of side S a step is 32 / S
        place = (line[:, 16] + 0.5) * side / 32 - 16.5
        drawn.append((side, place))
    (side, left), (side_down, top) = drawn
    torch.testing.assert_close(side, side_down, rtol=0, atol=0.01)  # the aspect ratio is kept
    found = set(
        zip(side.round().tolist(), left.round().tolist(), top.round().tolist(), strict=True)
    )
    places = [(s, x, y) for s in range(32, 37) for x in range(s - 31) for y in range(s - 31)]
    assert found == set(places)
    assert (left - left.round()).abs().max() < 0.01
