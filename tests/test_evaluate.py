"""Tests of whole images and of many crops, against timm, against loops written out."""

import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from refusing import refuses
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

import vgglib
from vgglib.augment import normalise
from vgglib.data import ImageSet
from vgglib.evaluate import (
    Dense,
    Fusion,
    MultiCrop,
    check_labels,
    read_image,
    test_scales,
    top_k_error,
)

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)


@pytest.fixture(scope="module")
def net():
    """Net A at an eighth of its width for images of 64 px: fc6 covers a map of 2×2."""
    torch.manual_seed(0)
    return vgglib.vgg("A", num_classes=7, image_size=64, width=0.125, init="he").eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(0, 256, (3, 3, 90, 110), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )


# Dense ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["A", "A-LRN", "C", "vgg13_bn"])
def test_dense_at_the_nets_own_size_is_the_net(name):
    torch.manual_seed(0)
    net = vgglib.vgg(name, num_classes=5, image_size=64, width=0.125, init="he").eval().double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.double)
    whole = vgglib.dense(net)
    assert whole(images).shape == (2, 5, 1, 1)
    torch.testing.assert_close(whole.scores(images), net(images), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_dense_at_224_is_the_net_at_full_width():
    torch.manual_seed(0)
    net = vgglib.vgg("A", num_classes=10, init="he").eval().double()
    image = torch.randn(1, 3, 224, 224, dtype=torch.double)
    with torch.no_grad():
        found = vgglib.dense(net).scores(image)
        torch.testing.assert_close(found, net(image), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_dense_on_larger_images_is_timms_convolutional_head():
    torch.manual_seed(0)
    theirs = timm.create_model("vgg11", num_classes=10).eval()
    net = vgglib.vgg("A", num_classes=10, init="he").eval()
    state = net.state_dict()
    renamed = {k: v for k, v in state.items() if k.startswith("features")}
    for ours, name, side in ((0, "pre_logits.fc1", 7), (3, "pre_logits.fc2", 1)):
        weight = state[f"classifier.{ours}.weight"]
        renamed[f"{name}.weight"] = weight.view(4096, -1, side, side)
        renamed[f"{name}.bias"] = state[f"classifier.{ours}.bias"]
    renamed["head.fc.weight"] = state["classifier.6.weight"]
    renamed["head.fc.bias"] = state["classifier.6.bias"]
    theirs.load_state_dict(renamed)
    images = torch.randn(1, 3, 256, 320)
    with torch.no_grad():
        whole = vgglib.dense(net)
        assert whole(images).shape == (1, 10, 2, 4)
        torch.testing.assert_close(whole.scores(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_each_place_of_the_map_of_an_unpadded_net_is_the_net_there():
    """With zero padding in the net, neighbours differ; a net of 1×1 kernels has none."""
    torch.manual_seed(0)
    config = vgglib.Config("1x1", ((vgglib.Conv(6, 1),), (vgglib.Conv(8, 1),)), hidden=(9,))
    net = vgglib.vgg(config, num_classes=4, image_size=8).eval()
    image = torch.randn(1, 3, 16, 20)
    found = vgglib.dense(net)(image)
    assert found.shape == (1, 4, 3, 4)
    for row in range(3):
        for column in range(4):
            crop = image[..., 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
            torch.testing.assert_close(found[..., row, column], net(crop))


def test_dense_shares_the_weights_and_leaves_the_mode_alone():
    net = vgglib.vgg("vgg11_bn", num_classes=5, image_size=64, width=0.125)
    whole = vgglib.dense(net)
    assert net.training and all(module.training for module in net.modules())
    assert not any(module.training for module in whole.modules())
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.add_(1)
    whole.eval(), net.eval()
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(whole.scores(image), net(image))


def test_what_has_no_dense_form_is_refused():
    with refuses(TypeError, got="Linear", accepts="vgglib.vgg", remedy="load_weights"):
        vgglib.dense(nn.Linear(3, 2))
    net = vgglib.vgg("A", num_classes=5, image_size=64, width=0.125)
    net.classifier[1] = nn.BatchNorm1d(512)
    with refuses(
        ValueError, got=("classifier.1", "BatchNorm1d"), accepts=("Linear", "ReLU", "Dropout")
    ):
        vgglib.dense(net)
    net.classifier = nn.Sequential(nn.Linear(3, 5))
    with refuses(ValueError, got=("classifier.0", 3), accepts="2×2", remedy="vgg(…)"):
        vgglib.dense(net)


def test_images_smaller_than_fc6_are_refused(net, pixels):
    whole = vgglib.dense(net)
    with refuses(ValueError, got="63×64", accepts="64×64", remedy="scales"):
        whole(torch.zeros(1, 3, 63, 64))
    with refuses(ValueError, got="(3, 64, 64)", accepts="(N, 3, H, W)"):
        whole(torch.zeros(3, 64, 64))
    for kind in (Dense, MultiCrop):
        for scales in (63, (64, 63), (), 64.0, (64.5,), True):
            with refuses(ValueError, got=("scales", str(scales)), accepts="64 px"):
                kind(net, MEAN, scales=scales)


# Tests of images --------------------------------------------------------------------------


def test_dense_averages_scores_over_places_and_probabilities_over_mirrors_and_scales(net, pixels):
    test = Dense(net, MEAN, STD, scales=(90, 100))
    whole, expected = vgglib.dense(net), 0
    for size in ((90, 110), (100, 122)):
        images = normalise(v2.functional.resize(pixels, size), MEAN, STD)
        for view in (images, images.flip(-1)):
            expected = expected + whole(view).flatten(2).mean(2).softmax(1) / 4
    found = test(pixels)
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_multi_crop_is_a_slow_obvious_loop(net, pixels):
    found = MultiCrop(net, MEAN, STD, scales=(90, 72))(pixels)
    total, crops = torch.zeros(3, 7), 0
    for side, width in ((90, 110), (72, 88)):
        for number, image in enumerate(pixels):
            pil = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((width, side), 2)
            shown = v2.functional.pil_to_tensor(pil).permute(1, 2, 0).float()
            shown = (shown - torch.tensor(MEAN)) / torch.tensor(STD)
            for i in range(5):
                for j in range(5):
                    top, left = round(i * (side - 64) / 4), round(j * (width - 64) / 4)
                    crop = shown[top : top + 64, left : left + 64].permute(2, 0, 1)
                    for view in (crop, crop.flip(2)):
                        total[number] += net(view[None])[0].softmax(0).detach()
                        crops += number == 0
    assert crops == 100
    torch.testing.assert_close(found, total / crops, rtol=2e-3, atol=2e-4)


def test_three_scales_of_the_paper_make_150_crops(net):
    test = MultiCrop(net, MEAN, scales=test_scales((256, 512)))
    views = sum(len(list(test.views(torch.zeros(1, 3, q, q)))) for q in test.scales)
    assert views * 2 == 150


def test_the_grid_touches_the_edges_and_one_crop_is_the_centre(net):
    assert MultiCrop(net, MEAN).offsets(32) == [0, 8, 16, 24, 32]
    assert MultiCrop(net, MEAN, grid=1).offsets(32) == [16]
    split = ImageSet(torch.randint(0, 256, (40, 3, 64, 64)).byte(), torch.arange(40) % 7)
    plain = vgglib.evaluate(net, split, MEAN, STD)
    test = MultiCrop(net, MEAN, STD, scales=64, grid=1, mirror=False)
    assert top_k_error(test, split, (1,))[1] == pytest.approx(1 - plain["top1"])


@pytest.mark.parametrize("kind", [Dense, MultiCrop])
def test_pictures_of_any_kind_and_size_keep_their_order(net, pixels, kind):
    test = kind(net, MEAN, STD, scales=70, batch_size=2)
    sizes = [(90, 110), (110, 90), (90, 110), (64, 64)]
    pictures = [pixels[i % 3, :, :h, :w] for i, (h, w) in enumerate(sizes)]
    wide = torch.randint(0, 256, (3, 110, 90), generator=torch.Generator().manual_seed(2)).byte()
    pictures[1] = wide
    alone = torch.cat([test(picture[None]) for picture in pictures])
    torch.testing.assert_close(test(pictures), alone)
    pil = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
    torch.testing.assert_close(test(pil), alone, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize(
    ("scale", "size", "expected"),
    [(256, 224, (224, 256, 288)), (384, 224, (352, 384, 416)), ((256, 512), 224, (256, 384, 512))],
)
def test_scales_are_the_papers(scale, size, expected):
    assert test_scales(scale, size) == expected


def test_scales_of_small_nets_keep_the_ratio():
    assert test_scales(37, 32) == (32, 37, 42)
    for scale in (200, (256, 250), (200, 300), 256.5, (256,), "256", None):
        with refuses(ValueError, got=repr(scale), accepts=(224, "(S_min, S_max)")):
            test_scales(scale)


def test_bf16_is_close_to_fp32(net, pixels):
    exact, short = (Dense(net, MEAN, STD, scales=96, precision=p)(pixels) for p in ("fp32", "bf16"))
    assert not torch.equal(exact, short)
    torch.testing.assert_close(exact, short, rtol=0.05, atol=0.01)


def test_a_net_that_was_moved_or_trained_on_is_tested_as_it_is_now(pixels):
    net = vgglib.vgg("A", num_classes=7, image_size=64, width=0.125, init="he")
    test = Dense(net, MEAN, STD, scales=90)
    before = test(pixels)
    net.double().float()  # replaces every tensor, as .to("cuda") does
    with torch.no_grad():
        net.classifier[6].bias[3] += 9
    assert (test(pixels)[:, 3] > before[:, 3]).all()
    assert net.training


@pytest.mark.parametrize(
    ("wrong", "error", "got", "accepts"),
    [
        (
            lambda: torch.zeros(2, 3, 90, 90),
            ValueError, ("torch.float32", "(2, 3, 90, 90)"), ("uint8", "(N, 3, H, W)"),
        ),
        (
            lambda: torch.zeros(3, 90, 90, dtype=torch.uint8),
            ValueError, ("torch.uint8", "(3, 90, 90)"), ("uint8", "(N, 3, H, W)"),
        ),
        (lambda: [torch.zeros(3, 90, 90)], TypeError, "Tensor", ("PIL", "uint8", "(3, H, W)")),
        (lambda: ["photo.jpg"], TypeError, str, ("PIL", "uint8", "(3, H, W)")),
    ],
)  # fmt: skip
def test_images_of_another_kind_are_refused(net, wrong, error, got, accepts):
    with refuses(error, got=got, accepts=accepts):
        Dense(net, MEAN, scales=90)(wrong())


@pytest.mark.parametrize(
    ("wrong", "accepts"),
    [
        ({"grid": 0}, "integer"),
        ({"grid": 2.5}, "integer"),
        ({"batch_size": 0}, "integer"),
        ({"precision": "fp8"}, ("fp32", "bf16", "auto")),
    ],
)
def test_settings_out_of_range_are_refused(net, wrong, accepts):
    with refuses(ValueError, got=next(iter(wrong.items())), accepts=accepts):
        MultiCrop(net, MEAN, scales=90, **wrong)


# Fusion -----------------------------------------------------------------------------------


def test_fusion_is_the_mean(net, pixels):
    dense, crops = Dense(net, MEAN, scales=90), MultiCrop(net, MEAN, scales=90, grid=2)
    both = Fusion(dense, crops)
    torch.testing.assert_close(both(pixels), (dense(pixels) + crops(pixels)) / 2)
    three = Fusion(both, dense)
    torch.testing.assert_close(three(pixels), both(pixels) / 2 + dense(pixels) / 2)


def test_fusion_of_other_classes_is_refused(net):
    other = vgglib.vgg("A", num_classes=5, image_size=64, width=0.125)
    with refuses(ValueError, got=(7, 5), remedy="num_classes"):
        Fusion(Dense(net, MEAN), Dense(other, MEAN))
    with refuses(ValueError, got=("Fusion", 0), accepts=1, remedy="Dense"):
        Fusion()


# Error ------------------------------------------------------------------------------------


SCORES = torch.tensor([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25]])
LABELS = torch.tensor([1, 1, 0, 2])  # found in the first 1, 2, 3 and 3


class Photos(Dataset):
    """Pictures of different sizes, whose top left pixel is their number."""

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        return Image.new("RGB", (8 + index, 9), (index, 0, 0)), int(LABELS[index])


def looked_up(images):
    numbers = [i.getpixel((0, 0))[0] if isinstance(i, Image.Image) else int(i) for i in images]
    return SCORES[numbers]


def test_top_k_error_over_sets_datasets_and_loaders():
    expected = {1: 0.75, 2: 0.5, 3: 0.0}
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    images[:] = torch.arange(4)[:, None, None, None]
    split = ImageSet(images, LABELS)
    by_pixel = lambda images: SCORES[images[:, 0, 0, 0].long()]  # noqa: E731
    assert top_k_error(by_pixel, split, (1, 2, 3), batch_size=3) == expected
    assert top_k_error(looked_up, Photos(), (1, 2, 3), batch_size=3) == expected
    loader = DataLoader(list(zip(range(4), LABELS.tolist(), strict=True)), batch_size=3)
    assert top_k_error(looked_up, loader, (1, 2, 3)) == expected


def test_datasets_are_read_by_workers_too():
    assert top_k_error(looked_up, Photos(), (2,), batch_size=1, workers=2) == {2: 0.5}


@pytest.mark.parametrize(
    ("scores", "labels", "k", "got", "accepts"),
    [
        (SCORES, LABELS, (4,), ("top-4", "k"), 3),
        (SCORES, LABELS + 1, (1,), "1 … 3", "0 … 2"),
        (SCORES, LABELS - 1, (1,), "-1 … 1", "0 … 2"),
        (SCORES[0], LABELS, (1,), "(3,)", "4 images"),
        (SCORES[:2], LABELS, (1,), "(2, 3)", "4 images"),
        (SCORES * math.nan, LABELS, (1,), ("NaN", "4 images"), ()),
        (SCORES, LABELS, (), ("k", "()"), "(1, 5)"),
        (SCORES, LABELS, (0,), ("k", "(0,)"), "(1, 5)"),
        (SCORES, LABELS, (1.5,), ("k", "(1.5,)"), "(1, 5)"),
    ],
)
def test_what_can_not_be_counted_is_refused(scores, labels, k, got, accepts):
    with refuses(ValueError, got=got, accepts=accepts):
        top_k_error(lambda images: scores, [(None, labels)], k)


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_no_batch_of_less_than_an_image(size):
    """Batches of -1 tested nothing, and gave a loss of 0."""
    net = vgglib.standin()
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    split, pixels = ImageSet(images, torch.zeros(4).long()), net.pixels(images)
    for test in (
        lambda: vgglib.evaluate(net, split, batch_size=size),
        lambda: top_k_error(Dense(net, scales=32), split, batch_size=size),
        lambda: vgglib.transfer.descriptors(net, images, scales=32, batch_size=size),
        lambda: vgglib.features.top_patches(net, pixels, "conv1_1", 0, batch_size=size),
        lambda: vgglib.features.effective_receptive_field(net, pixels, "conv1_1", batch_size=size),
    ):
        with refuses(ValueError, got=("batch_size", size), accepts="positive"):
            test()


def test_what_has_no_classes_is_not_evaluated():
    net, images = vgglib.standin(), torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    split = ImageSet(images, torch.zeros(4).long())
    data = vgglib.data.Data("zeros", split, split, tuple("abcdefghij"), "made")
    for wrong, remedy in ((images, "ImageSet(images, labels)"), (data, "data.test")):
        with refuses(TypeError, got=type(wrong), remedy=remedy):
            vgglib.evaluate(net, wrong)


def test_numbers_of_numpy_are_scales_and_ks():
    net, images = vgglib.standin(), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert Dense(net, scales=np.array([32, 40])).scales == (32, 40)
    split = ImageSet(images, torch.zeros(2).long())
    test = Dense(net, scales=np.int64(32))
    assert top_k_error(test, split, np.array([1, 5])) == top_k_error(test, split, (1, 5))
    assert top_k_error(test, split, 5).keys() == {5}


def test_no_images_is_an_error():
    with refuses(ValueError, got=("top_k_error", 0), accepts=1):
        top_k_error(looked_up, [])


@pytest.mark.slow
def test_two_processes_count_as_one(tmp_path):
    program = tmp_path / "count.py"
    program.write_text(
        "import os, pathlib, torch, vgglib\n"
        "from vgglib.data import ImageSet\n"
        "from vgglib.evaluate import top_k_error\n"
        "from vgglib.train import processes\n"
        "split = ImageSet(torch.arange(7).view(7, 1, 1, 1).expand(7, 3, 2, 2).byte(),"
        " torch.tensor([0, 1, 2, 0, 1, 2, 0]))\n"
        "scores = torch.eye(3)[torch.tensor([0, 0, 2, 0, 0, 0, 1])] + torch.tensor([0, .1, .2])\n"
        "with processes():\n"
        "    found = top_k_error(lambda x: scores[x[:, 0, 0, 0].long()], split, (1, 2))\n"
        "    answer = pathlib.Path(__file__).with_name('answer-' + os.environ['RANK'])\n"
        "    answer.write_text(str(found))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--standalone", str(program)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    answers = [answer.read_text() for answer in sorted(tmp_path.glob("answer-*"))]
    assert answers == [str({1: 4 / 7, 2: 3 / 7})] * 2


# Edges ------------------------------------------------------------------------------------


def scored(rows, image_size=4):
    """A "net" whose scores are the rows of a table, by the first value of each image."""

    class Table(nn.Module):
        num_classes = rows.shape[1]

        def __init__(self):
            super().__init__()
            self.weight, self.image_size = nn.Parameter(torch.zeros(1)), image_size

        def forward(self, images):
            return rows[images[:, 0, 0, 0].round().long()]

    return Table()


def numbered(labels, size=4):
    """Images that hold their own number, with these classes."""
    labels = torch.as_tensor(labels)
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None]
    return ImageSet(images.expand(-1, 3, size, size).clone(), labels)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 500])
def test_evaluate_counts_every_image_once_whatever_the_batch(batch_size):
    rows = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    split = numbered([0, 0, 1])
    found = vgglib.evaluate(scored(rows), split, (0.0,) * 3, batch_size=batch_size)
    by_hand = [math.log(1 + math.exp(-2)), math.log(1 + math.e), math.log(1 + math.exp(3))]
    assert found == {"loss": pytest.approx(sum(by_hand) / 3), "top1": 1 / 3}


@pytest.mark.parametrize(("classes", "has"), [(1, False), (5, False), (6, True)])
def test_top5_is_told_from_six_classes_on(classes, has):
    rows = torch.arange(float(classes)).expand(classes, classes)  # the last class is the best
    found = vgglib.evaluate(scored(rows), numbered(range(classes)), (0.0,) * 3)
    assert ("top5" in found) == has
    assert found["top1"] == pytest.approx(1 / classes)
    assert found.get("top5", 5 / 6) == pytest.approx(5 / 6)


@pytest.mark.parametrize("label", [-1, 7, 100])
def test_classes_that_the_net_lacks_are_named(net, label):
    with pytest.raises(ValueError) as caught:
        check_labels(torch.tensor([0, label]), net.num_classes)
    assert str(max(label, 0)) in str(caught.value)


def test_the_first_and_the_last_class_are_classes(net):
    split = ImageSet(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.tensor([0, 6]))
    assert 0 <= vgglib.evaluate(net, split, MEAN)["top1"] <= 0.5


def test_evaluate_of_photos_is_the_centre_crop_of_each(net):
    """Of photos of 256/224 the size of the net's images, as §3.2 tests at S = 256."""

    class Pictures(Dataset):
        def __init__(self):
            generator = torch.Generator().manual_seed(2)
            self.pixels = torch.randint(0, 256, (5, 3, 73, 80), generator=generator).byte()

        def __len__(self):
            return 5

        def __getitem__(self, index):
            return v2.functional.to_pil_image(self.pixels[index]).convert("RGB"), index

    pictures = Pictures()
    state = torch.get_rng_state()
    found = vgglib.evaluate(net, pictures, MEAN, STD, batch_size=2)
    assert torch.equal(torch.get_rng_state(), state)
    # 64 · 256 / 224 = 73.14 → 73, so nothing is resized; (73 − 64) / 2 is rounded to the even 4.
    crops = normalise(pictures.pixels[:, :, 4:68, 8:72], MEAN, STD)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(net(crops), torch.arange(5)).item()
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    subset = Subset(Subset(pictures, [4, 2]), [1])
    with torch.no_grad():
        loss = nn.functional.cross_entropy(net(crops[2:3]), torch.tensor([2])).item()
    assert vgglib.evaluate(net, subset, MEAN, STD)["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_photo_that_cannot_be_read_is_named_through_subsets():
    class Broken(Dataset):
        def __getitem__(self, index):
            raise OSError("cut off")

    class Listed(Broken):
        samples = (("a.png", 0), ("b.png", 1), ("c.png", 2))

    chain = lambda dataset: Subset(Subset(dataset, [2, 1]), [1])  # noqa: E731
    for dataset, name in ((chain(Listed()), "b.png"), (chain(Broken()), "1"), (Listed(), "a.png")):
        with pytest.raises(OSError) as caught:
            read_image(dataset, 0)
        assert name in str(caught.value) and "cut off" in str(caught.value)


def test_top_k_error_says_nothing_of_order_within_k_and_takes_any_iterable_of_k():
    found = top_k_error(lambda images: SCORES, [(None, LABELS)], iter([3, 1]))
    assert found == {3: 0.0, 1: 0.75}
    assert top_k_error(lambda images: SCORES, [(None, LABELS)], (2, 2)) == {2: 0.5}
    assert top_k_error(lambda images: SCORES, [(None, LABELS.tolist())] * 2, (1,)) == {1: 0.75}


def test_top_k_error_is_of_top_1_and_top_5_unless_told():
    scores = torch.eye(6)[torch.tensor([0, 0, 0])] - torch.arange(6) / 100
    assert top_k_error(lambda images: scores, [(None, torch.tensor([0, 4, 5]))]) == {
        1: pytest.approx(2 / 3),
        5: pytest.approx(1 / 3),
    }


def test_an_empty_batch_among_others_counts_nothing():
    batches = [(None, LABELS), (None, LABELS[:0])]
    answers = iter([SCORES, SCORES[:0]])
    assert top_k_error(lambda images: next(answers), batches, (1,)) == {1: 0.75}


def test_batches_are_of_the_size_asked_for():
    seen = []

    def counting(images):
        seen.append(len(images))
        return SCORES[: len(images)]

    split = numbered(LABELS)
    top_k_error(counting, split, (1,), batch_size=3)
    top_k_error(counting, Photos(), (1,), batch_size=3)
    assert seen == [3, 1, 3, 1]
    top_k_error(counting, split, (1,))
    top_k_error(counting, Photos(), (1,))
    assert seen[4:] == [4, 4]


@pytest.mark.parametrize(("kind", "more"), [(Dense, {}), (MultiCrop, {"grid": 2})])
def test_any_batch_size_gives_the_same_probabilities_and_no_gradient(net, pixels, kind, more):
    whole = kind(net, MEAN, STD, scales=64, **more)(pixels)
    for size in (1, 2, 3):
        test = kind(net, MEAN, STD, scales=64, batch_size=size, **more)
        torch.testing.assert_close(test(pixels), whole)
    assert whole.shape == (3, 7) and whole.dtype == torch.float32 and not whole.requires_grad
    assert kind(net, MEAN, scales=64)([]).shape == kind(net, MEAN)(pixels[:0]).shape == (0, 7)


def test_a_test_is_of_256_px_with_mirror_images_unless_told(net):
    for test in (Dense(net, MEAN), MultiCrop(net, MEAN)):
        assert (test.scales, test.mirror, test.precision) == ((256,), True, "fp32")
        with pytest.raises(dataclasses.FrozenInstanceError):
            test.mirror = False
    assert MultiCrop(net, MEAN).grid == 5
    assert Dense(net, MEAN).num_classes == 7 and Dense(net, MEAN).device == torch.device("cpu")


def test_the_smallest_settings_are_accepted(net, pixels):
    for kind in (Dense, MultiCrop):
        assert kind(net, MEAN, scales=64, batch_size=1).scales == (64,)
        assert kind(net, MEAN, scales=[64, 65]).scales == (64, 65)
    assert len(list(MultiCrop(net, MEAN, grid=1).views(torch.zeros(1, 3, 64, 70)))) == 1
    corners = MultiCrop(net, MEAN, grid=2).views(torch.arange(70.0).expand(1, 3, 64, 70))
    assert [view[0, 0, 0, 0].item() for view in corners] == [0, 6, 0, 6]


def test_a_crop_larger_than_the_image_is_refused_where_fc6_would_fit():
    """A net of 65 px has a last map of 2×2 as at 64 px, but crops of 65 px."""
    net = vgglib.vgg("A", num_classes=2, image_size=65, width=0.02)
    assert Dense(net, MEAN, scales=64).scales == (64,)
    with pytest.raises(ValueError) as caught:
        MultiCrop(net, MEAN, scales=(70, 64))
    assert "65" in str(caught.value)
    assert MultiCrop(net, MEAN, scales=65).scales == (65,)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(224, (192, 224, 256)), ((224, 224), (192, 224, 256)), ((224, 227), (224, 225, 227))],
)
def test_test_scales_at_their_bounds(scale, expected):
    assert test_scales(scale) == expected
    with pytest.raises(ValueError) as caught:
        test_scales((256, 300, 400))
    assert "224" in str(caught.value) and "400" in str(caught.value)


def test_dense_shares_every_tensor_takes_no_gradient_and_names_its_size():
    net = vgglib.vgg("vgg11_bn", num_classes=5, image_size=70, width=0.125)
    whole = vgglib.dense(net)
    assert (whole.smallest, whole.num_classes) == (64, 5)
    ours = {t.data_ptr() for t in (*net.parameters(), *net.buffers())}
    assert {t.data_ptr() for t in (*whole.parameters(), *whole.buffers())} == ours
    assert not any(p.requires_grad for p in whole.head.parameters())
    with pytest.raises(ValueError) as caught:
        whole(torch.zeros(1, 3, 64, 63))
    assert "64" in str(caught.value) and "63" in str(caught.value)
    for shape in ((1, 4, 64, 64), (3, 64, 64), (1, 1, 3, 64, 64)):
        with pytest.raises(ValueError) as caught:
            whole(torch.zeros(shape))
        assert str(shape) in str(caught.value)


def test_fusion_needs_only_one_test_and_keeps_its_classes(net, pixels):
    dense = Dense(net, MEAN, scales=64)
    alone = Fusion(dense)
    assert alone.num_classes == 7
    torch.testing.assert_close(alone(pixels), dense(pixels))


@pytest.mark.parametrize("wrong", [torch.zeros(3, 3, 9, 9, 9), torch.zeros(2, 4, 90, 90)])
def test_tensors_of_another_shape_are_named(net, wrong):
    for images in (wrong.byte(), [wrong[0].byte().sum(0)]):
        with pytest.raises((ValueError, TypeError)) as caught:
            Dense(net, MEAN, scales=90)(images)
        assert "uint8" in str(caught.value)


class Recorder(nn.Module):
    """A "net" that keeps what it is shown, and finds all classes alike."""

    num_classes = 2

    def __init__(self, image_size):
        super().__init__()
        self.weight, self.image_size = nn.Parameter(torch.zeros(1)), image_size
        self.seen = []

    def forward(self, images):
        assert not torch.is_grad_enabled(), "a test needs no gradients"
        self.seen.append(images)
        return self.weight.expand(len(images), 2)


class Noise(Dataset):
    """Photos of one size; it can say whether a worker reads them."""

    def __init__(self, *size, count=3):
        generator = torch.Generator().manual_seed(3)
        self.pixels = torch.randint(0, 256, (count, 3, *size), generator=generator).byte()
        self.by_worker = False

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        assert (torch.utils.data.get_worker_info() is not None) == self.by_worker
        return v2.functional.to_pil_image(self.pixels[index]), index % 2


@pytest.mark.parametrize(("size", "side"), [(224, 256), (62, 71), (32, 37)])
def test_a_photo_is_tested_at_256_for_a_crop_of_224(size, side):
    photos, net = Noise(side, side + 4), Recorder(size)
    vgglib.evaluate(net, photos, (1.0, 2.0, 3.0), (2.0, 4.0, 8.0))
    wanted = v2.functional.center_crop(photos.pixels, size).float()
    wanted -= torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    wanted /= torch.tensor([2.0, 4.0, 8.0])[:, None, None]
    torch.testing.assert_close(torch.cat(net.seen), wanted)


def test_batches_of_500_of_evaluate_and_of_64_of_an_error_unless_told():
    labels = torch.zeros(501, dtype=torch.long)
    split = ImageSet(torch.zeros(501, 3, 1, 1, dtype=torch.uint8), labels)
    for images in (split, Noise(1, 1, count=501)):
        net = Recorder(1)
        vgglib.evaluate(net, images, (0.0,) * 3)
        assert [len(batch) for batch in net.seen] == [500, 1]
    vgglib.evaluate(net, split[:2], (0.0,) * 3, mirror=True)
    assert [len(batch) for batch in net.seen[2:]] == [2, 2]
    sizes = []
    test = lambda images: sizes.append(len(images)) or torch.zeros(len(images), 2)  # noqa: E731
    for images in (split[:65], Noise(1, 1, count=65)):
        top_k_error(test, images, (1,))
    assert sizes == [64, 1] * 2


def test_workers_read_where_there_are_some():
    photos = Noise(4, 4)
    photos.by_worker = True
    test = lambda images: torch.zeros(len(images), 2)  # noqa: E731
    vgglib.evaluate(Recorder(2), photos, (0.0,) * 3, workers=1)
    top_k_error(test, photos, (1,), workers=1)


def test_a_large_loss_does_not_swallow_small_ones():
    """2²⁴ and a hundred times ln 2: in 32 bits the sum would stay 2²⁴ or grow by too much."""
    rows = torch.tensor([[0.0, 2.0**24], [0.0, 0.0]])
    images = torch.ones(101, 3, 1, 1, dtype=torch.uint8)
    images[0] = 0
    split = ImageSet(images, torch.zeros(101, dtype=torch.long))
    found = vgglib.evaluate(scored(rows, 1), split, (0.0,) * 3, batch_size=1)
    assert found["loss"] * 101 == pytest.approx(2**24 + 100 * math.log(2), rel=1e-9)


@pytest.mark.parametrize(
    ("scores", "k", "named"),
    [
        (SCORES, (1, 0), "0"),
        (SCORES, (1, 4), "4"),
        (SCORES + torch.tensor([0, 0, math.nan]), (1,), "NaN"),
    ],
)
def test_one_wrong_value_among_right_ones_is_seen(scores, k, named):
    with pytest.raises(ValueError) as caught:
        top_k_error(lambda images: scores, [(None, LABELS)], k)
    assert named in str(caught.value)


def test_dense_takes_any_number_of_channels():
    """fc6 covers 5 channels of 2×2: 20 values, which no cube of 2 divides."""
    torch.manual_seed(0)
    odd = vgglib.Config("odd", ((vgglib.Conv(5),),), hidden=())
    net = vgglib.vgg(odd, num_classes=3, image_size=4).eval()
    image = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(vgglib.dense(net).scores(image), net(image))


def test_without_mirror_images_only_the_image_counts(net, pixels):
    images = normalise(pixels[..., :90], MEAN, STD)
    expected = vgglib.dense(net).scores(images).softmax(1).detach()
    found = Dense(net, MEAN, STD, scales=90, mirror=False)(pixels[..., :90])
    torch.testing.assert_close(found, expected)
    assert Dense(net, MEAN).batch_size == 64


def test_offsets_and_scales_are_rounded_to_the_nearest(net):
    """Steps of 3/4 px: 0, 0.75, 1.5 (to the even 2), 2.25, 3; 32 px of 224 are 128 of 896."""
    assert MultiCrop(net, MEAN).offsets(3) == [0, 1, 2, 2, 3]
    assert test_scales(896, 896) == (768, 896, 1024)
    assert test_scales(40, 35) == (35, 40, 45)
    for scale in ((256, 300.5), (256.5, 300)):
        with pytest.raises(ValueError) as caught:
            test_scales(scale)
        assert repr(scale) in str(caught.value)
