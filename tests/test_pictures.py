"""vgglib.pictures: the same picture in RGB from every mode, and files that are none are named."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, PngImagePlugin
from refusing import refuses
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

import vgglib
from vgglib import augment, data, features, localise, pictures
from vgglib.evaluate import read_image
from vgglib.evaluate.views import rescaled
from vgglib.plots.pictures import picture_of

# Two greys and two colours, side by side; what a mode cannot hold is left out.
GREY = np.array([[0, 64, 255]], np.uint8)
COLOURS = np.array([[[255, 0, 0], [0, 128, 255], [10, 20, 30]]], np.uint8)


def grey(top, dtype):
    return Image.fromarray((GREY / 255 * top).astype(dtype))


def palette(**options):
    image = Image.new("P", (3, 1))
    image.putpalette(COLOURS.tobytes())
    image.putdata([0, 1, 2])
    image.info |= options
    return image


def over_white(colour, alpha):
    return tuple(round(255 + (value - 255) * alpha / 255) for value in colour)


MODES = {
    "RGB": (Image.fromarray(COLOURS), COLOURS),
    "L": (Image.fromarray(GREY), GREY),
    "1": (Image.fromarray(GREY > 100), (GREY > 100) * 255),
    "16 bits": (grey(65535, np.uint16), GREY),
    "32 bits with 16": (grey(65535, np.int32), GREY),
    "32 bits with 8": (grey(255, np.int32), GREY),
    "floats to 1": (grey(1, np.float32), GREY),
    "floats to 255": (grey(255, np.float32), GREY),
    "palette": (palette(), COLOURS),
    "palette, first colour see-through": (
        palette(transparency=0),
        [[[255, 255, 255], *COLOURS[0, 1:].tolist()]],
    ),
    "RGBA": (
        Image.fromarray(np.dstack([COLOURS, [[255, 128, 0]]]).astype(np.uint8)),
        [[[255, 0, 0], over_white((0, 128, 255), 128), [255, 255, 255]]],
    ),
    "LA": (
        Image.fromarray(np.dstack([GREY, [[0, 255, 255]]]).astype(np.uint8)),
        [[255, 64, 255]],
    ),
    "CMYK": (Image.fromarray(COLOURS).convert("CMYK"), COLOURS),
    "YCbCr": (Image.fromarray(COLOURS).convert("YCbCr"), COLOURS),
}


def as_rgb(expected):
    expected = np.asarray(expected)
    return expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)


@pytest.mark.parametrize("kind", MODES)
def test_every_mode_is_the_same_picture_in_rgb(kind):
    image, expected = MODES[kind]
    before = image.mode, image.tobytes()
    found = pictures.rgb(image)
    assert found.mode == "RGB"
    np.testing.assert_allclose(np.asarray(found).astype(int), as_rgb(expected), atol=2)
    assert (image.mode, image.tobytes()) == before


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (np.array([[-1, 5]], np.int32), ("'I'", -1, 5)),
        (np.array([[0, 70_000]], np.int32), ("'I'", 0, 70_000)),
        (np.array([[0, np.nan]], np.float32), ("'F'", "nan")),
    ],
)
def test_values_of_no_known_range_are_refused(values, got):
    with refuses(ValueError, got=got, accepts=("0–1", "0–255", "0–65535"), remedy="scale"):
        pictures.rgb(Image.fromarray(values))


@pytest.mark.parametrize("kind", ["float", "int", "alpha", "flat"])
def test_a_tensor_that_is_no_picture_is_refused_everywhere(kind):
    """Floats of 0–1 were taken for a picture in the dark, alpha for a fourth colour."""
    pixels = torch.randint(256, (3, 40, 40), dtype=torch.uint8)
    wrong = {
        "float": pixels / 255,
        "int": pixels.int(),
        "alpha": torch.cat([pixels, pixels[:1]]),
        "flat": pixels[0],
    }[kind]
    net, got = vgglib.standin(), (wrong.dtype, str(tuple(wrong.shape)))
    for way_in in (
        pictures.rgb,
        features.preprocess,
        augment.training_crop(32, 32),
        net.transforms(),
        lambda picture: read_image([(picture, 0)], 0),
        lambda picture: vgglib.evaluate(net, [(picture, 0)]),
    ):
        with refuses(TypeError, got=got, accepts="uint8"):
            way_in(wrong)
    with pytest.raises(TypeError):
        vgglib.Dense(net, scales=32)([wrong])


def test_a_grey_tensor_is_a_grey_picture():
    grey = torch.randint(256, (1, 40, 40), dtype=torch.uint8)
    net, three = vgglib.standin(), grey.repeat(3, 1, 1)
    assert torch.equal(pictures.rgb(grey), three)
    for way_in in (
        net.transforms(),
        features.preprocess,
        lambda p: vgglib.Dense(net, scales=32)([p]),
    ):
        assert torch.equal(way_in(grey), way_in(three))


@pytest.mark.parametrize(
    ("item", "got"),
    [((Image.new("RGB", (9, 9)), 1, 2), "3 values"), (Image.new("RGB", (9, 9)), "Image"),
     ((COLOURS, 0), "ndarray")],
)  # fmt: skip
def test_an_item_that_is_no_pair_is_not_called_damaged(item, got):
    with refuses(TypeError, got=got, accepts="PIL"):
        read_image([item], 0)


def test_class_numbers_of_any_width_train_and_count(tmp_path):
    photos = [(Image.new("RGB", (40, 40), "red"), np.int32(number % 2)) for number in range(4)]
    listed = Subset(photos, range(4))
    net = vgglib.vgg("A", num_classes=2, image_size=32, width=1 / 16)
    made = data.Data("made", listed, listed, ("a", "b"), "here", ((1.0,) * 3, (1.0,) * 3))
    recipe = vgglib.Recipe.small(epochs=1, batch_size=2, scale=256, pad=0)
    assert len(vgglib.train(net, made, recipe, workers=0, progress=False)) == 1
    assert vgglib.evaluate(net, listed)["loss"] > 0


def test_what_is_no_picture_is_refused():
    with refuses(TypeError, got="ndarray", accepts="PIL", remedy="PIL.Image.fromarray"):
        pictures.rgb(COLOURS)


def sideways():
    """A file whose camera lay on its side: a left half in red, which belongs to the top."""
    image = Image.new("RGB", (40, 20), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return image, exif


def test_every_way_in_sees_the_same_picture(tmp_path):
    """Sideways, and see-through with a palette: class folders, tests, crops and preprocess."""
    turned, exif = sideways()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        turned.save(tmp_path / name / "0.png", exif=exif)
        palette(transparency=0).resize((20, 20), 0).save(tmp_path / name / "1.png", transparency=0)
    ours, theirs = data.folder(tmp_path).train.dataset, ImageFolder(tmp_path, loader=Image.open)
    for number, size in ((0, (20, 40)), (1, (20, 20))):
        expected = np.asarray(read_image(ours, number)[0])
        assert expected.shape[:2] == size[::-1]
        raw = Image.open(ours.samples[number][0])
        assert np.array_equal(np.asarray(read_image(theirs, number)[0]), expected)
        assert np.array_equal(np.asarray(pictures.read(ours.samples[number][0])), expected)
        (_, pixels), *_ = rescaled([raw], 20)
        assert np.array_equal(pixels[0].permute(1, 2, 0), expected)
        top = (expected.shape[0] - 20) // 2
        square = torch.tensor(expected[top : top + 20]).permute(2, 0, 1).float()
        assert torch.equal(features.preprocess(raw, 20, mean=(0, 0, 0)), square)
        assert augment.training_crop(20, 20, flip=False)(raw).shape == (3, 20, 20)
        assert np.array_equal(picture_of(raw), expected)
        clothes = data.load("fashion-mnist-mini").train[:2]
        scenes = [
            localise.compose(clothes, [photo], 2, size=20) for photo in (raw, pictures.rgb(raw))
        ]
        assert torch.equal(scenes[0].images, scenes[1].images)
    assert np.asarray(read_image(ours, 0)[0])[0, 0].tolist() == [255, 0, 0]  # red is on top


def png(width, height):
    """A PNG of the given size that holds next to nothing."""

    def chunk(kind, content):
        code = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + code

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def zipped_text():
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("note", "x" * 2**21, zip=True)
    Image.new("RGB", (8, 8)).save(file, "png", pnginfo=info)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (png(20_000, 10_000), "decompression bomb"),
        (zipped_text(), "PngImagePlugin.MAX_TEXT_CHUNK"),
        (b"not an image", "cannot identify"),
        (png(8, 8), ()),
    ],
    ids=["bomb", "zipped text", "text", "cut"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, why):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "0.png"
    path.write_bytes(content)
    for dataset in (
        ImageFolder(tmp_path),
        Subset(ImageFolder(tmp_path, loader=pictures.read), [0]),
    ):
        with refuses(OSError, got=(path, *([why] if why else [])), remedy="replace") as raised:
            read_image(dataset, 0)
        assert str(raised.value).count(str(path)) <= 2 and "\n" not in str(raised.value)
        assert "--resume" not in str(raised.value)
    with refuses(OSError, got=path):
        pictures.read(path)
    with pytest.raises(FileNotFoundError):
        pictures.read(tmp_path / "none.png")


def test_a_photo_of_another_orientation_is_tested_upright(tmp_path):
    net = vgglib.vgg("A", num_classes=2, image_size=32, width=1 / 16)
    turned, exif = sideways()
    file = io.BytesIO()
    turned.save(file, "png", exif=exif)
    upright = pictures.rgb(turned.rotate(-90, expand=True))
    scores = [
        vgglib.evaluate(net, [(image, 0)], (0, 0, 0))["loss"]
        for image in (Image.open(file), upright)
    ]
    assert scores[0] == scores[1]
