"""The training crop (§3.1): geometry, colour, normalisation."""

import numpy as np
import pytest
import torch
from PIL import Image
from refusing import refuses
from torchvision.transforms import v2

from vgglib.augment import (
    IMAGENET_RGB_PCA,
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
    with refuses(ValueError, got="(64, 3, 32, 20)", accepts="(N, C, H, H)"):
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


def test_imagenets_colours_have_the_published_variances_on_orthonormal_axes():
    """Eigenvalues as in fb.resnet.torch; grey, along which photographs vary most, comes first."""
    values, axes = IMAGENET_RGB_PCA
    torch.testing.assert_close(values, torch.tensor([0.2175, 0.0188, 0.0045]), rtol=0, atol=0)
    torch.testing.assert_close(axes.T @ axes, torch.eye(3), rtol=0, atol=5e-4)
    assert (axes[:, 0] / -(3**-0.5) - 1).abs().max() < 0.02
    assert axes[0, 1] > abs(axes[1, 1]) < -axes[2, 1]  # red against blue
    assert axes[0, 2] > 0 > axes[1, 2]  # magenta against green


def test_colour_shift_draws_by_default_what_alexnet_drew():
    """§4.1 of Krizhevsky et al. (2012): σ = 0.1 of ImageNet's variances; from the generator."""
    state = torch.get_rng_state()
    black = torch.zeros(20_000, 3, 1, 1)
    shifts = [ColourShift()(black, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*shifts) and torch.equal(torch.get_rng_state(), state)
    along = shifts[0].flatten(1) @ IMAGENET_RGB_PCA[1]  # (N, 3), along the axes
    expected = 255 * 0.1 * IMAGENET_RGB_PCA[0]
    torch.testing.assert_close(along.std(0), expected, rtol=0.03, atol=0)
    assert shifts[0].dtype == black.dtype
    assert ColourShift()(black[:2].half()).dtype == torch.half


@pytest.mark.parametrize(
    ("values", "axes", "std"),
    [
        (torch.ones(3), torch.eye(4), 0.1),
        (torch.ones(3), torch.ones(3, 4), 0.1),
        (torch.ones(3), torch.ones(4, 3), 0.1),
        (torch.ones(4), torch.eye(3), 0.1),
        (torch.ones(3), torch.eye(3), -0.1),
        (torch.ones(3), torch.eye(3), float("nan")),
    ],
)
def test_colour_shift_refuses_axes_and_deviations_that_are_none(values, axes, std):
    with pytest.raises(ValueError):
        ColourShift(values, axes, std)


def test_no_colour_shift_is_one_of_deviation_zero(images):
    assert torch.equal(ColourShift(std=0)(images.float()), images.float())


def test_what_is_made_of_images_lies_where_they_lie_and_has_their_precision():
    elsewhere = torch.zeros(2, 3, 8, 8, device="meta")
    assert normalise(elsewhere, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)).is_meta
    assert ColourShift()(elsewhere).is_meta
    assert batch_crops(elsewhere, 8, scale=(8, 10)).is_meta
    third = torch.full((1, 3, 1, 1), 1 / 3, dtype=torch.double)
    assert normalise(third, (1 / 3,) * 3).abs().max() == 0
    assert normalise(third, (0.0,) * 3, (1 / 3,) * 3).sub(1).abs().max() == 0
    assert normalise(third.half(), (1.0,) * 3, (2.0,) * 3).dtype == torch.half
    assert normalise(third.half(), (1.0,) * 3).dtype == torch.half


def test_jitter_of_photographs_draws_both_ends():
    """A photo of 16 px at S = 8 has one crop of 8 px, at S = 9 it has four, at S = 10 nine."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    photo = Image.fromarray(pixels)
    torch.manual_seed(0)
    found = torch.stack([training_crop((8, 10), 8, flip=False)(photo) for _ in range(300)])
    assert len(found.flatten(1).unique(dim=0)) == 1 + 4 + 9
    found = torch.stack([training_crop(8, 8)(photo) for _ in range(20)])
    assert len(found.flatten(1).unique(dim=0)) == 2  # mirrored if nothing else is said


def test_a_crop_without_more_said_is_the_papers_of_pixels_as_they_are(ramp):
    """S = 256 and 224 px; the same steps of torchvision, written one after the other."""
    small = v2.functional.pil_to_tensor(v2.functional.resize(ramp, 256)).float()
    centre = v2.functional.center_crop(small, 224)
    torch.testing.assert_close(centre_crop()(ramp), centre, rtol=0, atol=0)
    torch.manual_seed(4)
    crop = training_crop()(ramp)
    views = small.unfold(1, 224, 1).unfold(2, 224, 1)[..., ::56, ::56]  # (3, places, 4, 4)
    distances = [
        (views - wanted[:, None, None, ::56, ::56]).abs().amax((0, 3, 4)).min()
        for wanted in (crop, crop.flip(2))
    ]
    assert crop.shape == (3, 224, 224) and min(distances) == 0


def test_a_colour_shift_that_is_given_is_made_in_grey_levels_and_then_divided_too():
    black = Image.new("RGB", (4, 4))
    torch.manual_seed(1)
    crop = training_crop(4, 4, colour_shift=ColourShift(std=5.0), std=(0.5, 1.0, 2.0))
    made = torch.stack([crop(black) for _ in range(400)])[..., 0, 0]
    values, axes = IMAGENET_RGB_PCA
    expected = 255 * 5 * (axes * values).norm(dim=1) / torch.tensor([0.5, 1.0, 2.0])
    torch.testing.assert_close(made.std(0), expected, rtol=0.15, atol=0)
    assert not training_crop(4, 4)(black).any()


def test_the_smallest_crop_is_one_pixel(images):
    photo = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    for maker in (training_crop, centre_crop):
        assert maker(1, 1)(photo).shape == (3, 1, 1)
        for scale, crop in (
            (5, 0),
            (5, -1),
            (5, True),
            (5, 6),
            (True, 1),
            ((5, 4), 4),
            ((5, 6.5), 4),
        ):
            with pytest.raises(ValueError) as caught:
                maker(scale, crop)
            said, crop_is_fine = str(caught.value), type(crop) is int and crop > 0
            assert repr(crop) in said and (repr(scale) in said or not crop_is_fine)


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_one_value_of_three_that_is_not_finite_is_refused(name, wrong):
    for values in ((wrong, 1.0, 1.0), (1.0, 1.0, wrong), (1.0,) * 4):
        with pytest.raises(ValueError) as caught:
            centre_crop(256, 224, **{name: values})
        assert name in str(caught.value) and repr(values) in str(caught.value)


def test_negative_means_and_small_deviations_are_numbers_as_well():
    grey = Image.new("RGB", (4, 4), (3, 3, 3))
    crop = centre_crop(4, 4, mean=(-1.0, 0.0, 1.0), std=(0.5, 1.0, 2.0))(grey)
    assert crop[:, 0, 0].tolist() == [8.0, 3.0, 1.0]


def test_batch_crops_take_an_image_that_just_fits(images):
    cut = batch_crops(images, 40, pad=4, flip=False)
    assert torch.equal(cut, torch.nn.functional.pad(images.float(), (4,) * 4))
    smaller = batch_crops(images[:1].expand(200, 3, 32, 32), 30, flip=False)
    assert len(smaller.flatten(1).unique(dim=0)) == 9


def test_batch_crops_are_those_of_the_generator(images):
    state = torch.get_rng_state()
    options = {"scale": (32, 40), "pad": 2}
    crops = [
        batch_crops(images, 32, generator=torch.Generator().manual_seed(n), **options)
        for n in (5, 5, 6)
    ]
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(4, 3, 8), (4, 3, 8, 9), (4, 3, 8, 8, 8), (3, 8, 8)])
def test_batch_crops_name_the_shape_that_they_refuse(shape):
    with pytest.raises(ValueError) as caught:
        batch_crops(torch.zeros(shape), 8)
    assert str(shape) in str(caught.value)


def test_a_shift_of_one_whole_axis_is_255_grey_levels():
    shift = ColourShift(torch.ones(3), torch.eye(3), std=1.0)
    made = shift(torch.zeros(1000, 3, 1, 1), torch.Generator().manual_seed(0)).flatten(1)
    drawn = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made.abs(), 255 * drawn.abs())
