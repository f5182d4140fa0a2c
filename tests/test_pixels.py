"""A net knows how its images are normalised, wherever its weights go."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from refusing import refuses, warns
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models.feature_extraction import create_feature_extractor

import vgglib
from vgglib import Pixels, PixelsWarning, evaluate, features, load_weights, predict, vgg
from vgglib.evaluate import Dense, MultiCrop

SMALL = {"width": 1 / 16, "image_size": 32, "num_classes": 10}
OWN = Pixels((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
NAMES = tuple(f"class {n}" for n in range(10))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = vgg("A", batch_norm=True, init="he", **SMALL).eval()
    net.pixels, net.classes = OWN, NAMES
    return net


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)


def knows(net):
    return net.pixels == OWN and net.classes == NAMES


# ------------------------------------------------------------------------------- where they travel


def test_they_travel_with_the_state_dict_and_torchvision_overlooks_them(net, tmp_path):
    with torch.device("meta"):
        theirs, wide = torchvision.models.vgg11_bn(), vgg("A", batch_norm=True, init=None)
        wide.pixels = OWN
        theirs.load_state_dict(wide.state_dict())  # strict: no key is added
    plain = dict(net.state_dict())  # weights that do not say
    assert load_weights(copy.deepcopy(net), plain).pixels is None
    other = vgg("A", batch_norm=True, **SMALL)
    other.load_state_dict(net.state_dict())
    assert knows(other) and knows(copy.deepcopy(net))
    torch.save(net.state_dict(), tmp_path / "w.pth")
    assert knows(vgg("A", batch_norm=True, weights=tmp_path / "w.pth", **SMALL))
    around = nn.Sequential(net)  # inside another module
    fresh = nn.Sequential(vgg("A", batch_norm=True, **SMALL))
    fresh.load_state_dict(around.state_dict())
    assert knows(fresh[0])


def test_a_state_says_which_pixels_its_net_knew(net):
    unknowing = vgg("A", batch_norm=True, **SMALL)
    net.load_state_dict(dict(unknowing.state_dict()))  # tensors alone say nothing
    assert knows(net)
    head = copy.copy(unknowing.state_dict())
    for name in [name for name in head if name.startswith("features")]:
        del head[name]
    net.load_state_dict(head, strict=False)  # whatever it is, the first layer goes on as it was
    assert knows(net)
    around = nn.Sequential(net)
    around.load_state_dict(nn.Sequential(unknowing).state_dict())
    assert (net.pixels, net.classes) == (None, None)


def test_a_state_of_other_channels_changes_no_pixels(net, tmp_path):
    grey = vgg("A", batch_norm=True, in_channels=1, **SMALL)
    grey.pixels = Pixels((100,))
    with refuses(RuntimeError, got="features.0.weight"):
        grey.load_state_dict(net.state_dict())
    assert grey.pixels == Pixels((100,))
    said = {"vgglib.pixels": json.dumps({"mean": [100], "std": None})}
    save_file(net.state_dict(), tmp_path / "w.safetensors", metadata=said)
    other = vgg("A", batch_norm=True, **SMALL)
    before = copy.deepcopy(other.state_dict())
    with refuses(ValueError, got="1 values", accepts="images 3"):
        load_weights(other, tmp_path / "w.safetensors")
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_only_pixels_of_its_own_channels_can_be_put_on_a_net(net):
    with refuses(TypeError, got="((100,), (50,))", accepts="None", remedy="vgglib.Pixels(mean"):
        net.pixels = ((100,), (50,))
    with refuses(ValueError, got="2 values", accepts="images 3"):
        net.pixels = Pixels((1, 2))
    assert knows(net)
    around = nn.Sequential(net)
    around.pixels = ((100,), (50,))
    with refuses(TypeError, got="((100,), (50,))", remedy="vgglib.Pixels(mean"):
        predict(around, photo())
    around.pixels = nn.Identity()  # a layer of that name
    with refuses(ValueError, got="Sequential", remedy="mean="):
        predict(around, photo())


def test_weights_of_another_kind_of_net_are_named(net):
    theirs = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    with refuses(ValueError, got=theirs, accepts="VGG16_Weights.IMAGENET1K_V1"):
        load_weights(net, theirs)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_save_weights_writes_them_for_any_program(net, tmp_path, suffix):
    path = vgglib.save_weights(net, tmp_path / f"w{suffix}")
    other = vgg("A", batch_norm=True, weights=path, **SMALL)
    assert knows(other)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    if suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            said = json.loads(file.metadata()["vgglib.pixels"])
        assert (said["range"], said["order"], said["classes"]) == ([0, 255], "RGB", list(NAMES))
        assert said["mean"] == list(OWN.mean)
    with refuses(ValueError, got="w.onnx", accepts=(".safetensors", ".pth")):
        vgglib.save_weights(net, tmp_path / "w.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


@pytest.mark.parametrize(
    "form",
    [
        lambda net: {"state_dict": net.state_dict()},
        lambda net: nn.Sequential(net).state_dict(),
        lambda net: nn.DataParallel(net).state_dict(),
    ],
)
@pytest.mark.filterwarnings("ignore:the names in")
def test_they_come_out_of_what_holds_a_net(net, form):
    assert knows(load_weights(vgg("A", batch_norm=True, **SMALL), form(net)))


def test_a_file_says_in_which_units_it_is(net, tmp_path):
    said = {"mean": [0.5] * 3, "std": None, "range": [0, 1]}
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"vgglib.pixels": json.dumps(said)})
    other = load_weights(net, tmp_path / "w.safetensors")
    assert other.pixels == Pixels((127.5,) * 3, (255.0,) * 3) and other.classes is None
    said["order"] = "BGR"
    save_file(tensors, tmp_path / "w.safetensors", metadata={"vgglib.pixels": json.dumps(said)})
    with refuses(ValueError, got="BGR", accepts="RGB", remedy="weight.flip(1)"):
        load_weights(net, tmp_path / "w.safetensors")


def test_classes_stay_with_the_head_that_tells_them(net):
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("classifier.6")}
    partial = copy.copy(net.state_dict())
    for name in set(partial) - set(state):
        del partial[name]
    other = vgg("A", batch_norm=True, **SMALL)
    other.load_state_dict(partial, strict=False)
    assert (other.pixels, other.classes) == (OWN, None)


def test_files_may_be_read_by_others_and_a_failed_one_leaves_nothing(net, tmp_path):
    path = vgglib.save_weights(net, tmp_path / "w.safetensors")
    assert path.stat().st_mode & 0o777 == 0o644
    with refuses(OSError, got=tmp_path / "no" / "w.pth"):
        vgglib.save_weights(net, tmp_path / "no" / "w.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_new_weights_have_no_pixels(net):
    vgglib.initialise(net, "he")
    assert net.pixels is None and net.classes is None


def test_the_stand_in_knows_its_own():
    net = vgglib.standin()
    assert (net.pixels.mean, net.classes) == (
        tuple(net.training_data["mean"]), tuple(net.training_data["classes"])
    )  # fmt: skip


# ------------------------------------------------------------------------------- who takes them


def test_what_is_left_out_is_the_nets_own(net, images):
    split = vgglib.data.ImageSet(images, torch.arange(6))
    assert evaluate(net, split) == evaluate(net, split, OWN.mean, OWN.std)
    for test in (Dense, MultiCrop):
        given = test(net, OWN.mean, OWN.std, scales=40)(images)
        torch.testing.assert_close(test(net, scales=40)(images), given)
    by_net = vgglib.transfer.descriptors(net, images, scales=32)
    given = vgglib.transfer.descriptors(net, images, OWN.mean, OWN.std, scales=32)
    torch.testing.assert_close(by_net, given)


def test_a_net_that_knows_none_asks_for_them(images):
    net, split = vgg("A", **SMALL), vgglib.data.ImageSet(images, torch.arange(6))
    for use in (
        lambda: evaluate(net, split),
        lambda: Dense(net, scales=32),
        lambda: predict(net, images),
        lambda: net.transforms(),
    ):
        with refuses(ValueError, got="None", accepts="0–255", remedy="net.pixels"):
            use()


def test_other_pixels_than_the_nets_are_told(net, images):
    split = vgglib.data.ImageSet(images, torch.arange(6))
    with warns(PixelsWarning, got="0.485", accepts="125.3", remedy="leave mean and std out"):
        evaluate(net, split, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with warnings.catch_warnings():  # another rounding of the same mean is no other choice
        warnings.simplefilter("error")
        evaluate(net, split, (125.0, 123.0, 114.0), (63.0, 62.0, 67.0))


@pytest.mark.parametrize(
    ("mean", "std", "wrong"),
    [
        ((), None, "()"),
        ((1, 2, 3), (1, 0, 1), "(1, 0, 1)"),
        ((1, 2, 3), (1, 1), "(1, 1)"),
        ((1, 2, np.nan), None, "nan"),
        ("mean", None, "mean"),
        ((1, 2), None, "2"),
    ],
)
def test_pixels_that_are_none(net, images, mean, std, wrong):
    with refuses(ValueError, got=wrong, accepts="channel"):
        predict(net, images, mean=mean, std=std)


def test_published_values_come_in_units_of_255():
    torchvisions = Pixels.in_units((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torchvisions.mean == pytest.approx((123.675, 116.28, 103.53))
    assert Pixels.in_units((0.5,) * 3, (1 / 255,) * 3) == Pixels((127.5,) * 3)
    assert Pixels((0,) * 3) == Pixels((0, 0, 0), (1, 1, 1))


# ------------------------------------------------------------------------ transforms, predict


def photo(side=(70, 50)):
    pixels = np.random.default_rng(0).integers(0, 256, (*side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_transforms_are_torchvisions(net):
    by_hand = torchvision.transforms.v2.functional
    resized = by_hand.resize(photo(), [37])
    crop = by_hand.pil_to_tensor(by_hand.center_crop(resized, [32, 32])).float()
    torch.testing.assert_close(net.transforms()(photo()), OWN(crop))
    assert net.transforms(64)(photo((90, 80))).shape == (3, 64, 64)


def test_predict_takes_pictures_of_all_kinds(net, tmp_path):
    picture = photo()
    picture.save(tmp_path / "photo.png")
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    kinds = (picture, tmp_path / "photo.png", str(tmp_path / "photo.png"), array, tensor)
    tables = [predict(net, kind, top=3) for kind in (*kinds, array[None], tensor[None])]
    for table in tables:
        assert list(table.columns) == ["image", "rank", "class", "probability"]
        assert list(table["rank"]) == [1, 2, 3]
        assert list(table["class"]) == list(tables[0]["class"])
        np.testing.assert_allclose(table.probability, tables[0].probability, rtol=1e-5)
    scores = net(net.transforms()(picture)[None]).softmax(1)[0]
    assert tables[0]["class"][0] == NAMES[scores.argmax()]
    assert tables[0].probability[0] == pytest.approx(float(scores.max()), rel=1e-5)
    assert tables[1]["image"][0] == str(tmp_path / "photo.png")
    ready = predict(net, net.transforms()(picture)[None], top=3)
    assert list(ready["class"]) == list(tables[0]["class"])
    several = predict(net, [picture, photo((40, 60)), array], top=20, batch_size=2)
    assert len(several) == 30 and list(several["image"].unique()) == [0, 1, 2]
    assert several.groupby("image").probability.sum().to_numpy() == pytest.approx(1)
    net.train().features.eval()  # a mixed mode
    before = [module.training for module in net.modules()]
    predict(net, picture)
    evaluate(net, vgglib.data.ImageSet(tensor[None, :, :32, :32], torch.tensor([0])))
    assert before == [module.training for module in net.modules()]


def test_predict_for_a_net_of_torchvision():
    theirs = torchvision.models.squeezenet1_1(num_classes=4)
    table = predict(theirs, photo(), mean=OWN.mean, std=OWN.std, top=1)
    assert table["class"][0] in range(4)


def test_what_predict_refuses(net, tmp_path):
    (tmp_path / "no.png").write_bytes(b"none")
    with refuses(OSError, got="no.png"):
        predict(net, tmp_path / "no.png")
    with refuses(TypeError, got=("int64", "(4, 4)"), accepts=("PIL", "uint8", "path")):
        predict(net, np.zeros((4, 4), np.int64))
    with refuses(TypeError, got="int", accepts="PIL"):
        predict(net, [3])
    with refuses(ValueError, got="none", accepts="at least 1"):
        predict(net, [])
    with refuses(TypeError, got="NoneType", accepts="PIL"):
        predict(net, None)
    with refuses(ValueError, got=("(3, 32, 32)", "(3, 40, 40)"), remedy="net.transforms()"):
        predict(net, [torch.zeros(3, 32, 32), torch.zeros(3, 40, 40)])
    with refuses(ValueError, got="NaN"):
        predict(net, torch.full((3, 32, 32), torch.nan))
    with refuses(ValueError, got="2 names", accepts="10 classes"):
        predict(net, photo(), classes=["a", "b"])
    with refuses(ValueError, got=("top", 0), accepts="positive"):
        predict(net, photo(), top=0)


@pytest.mark.parametrize(
    "shape", [(), (5,), (0, 4), (4, 0, 3), (4, 5, 5), (4, 5, 0), (1, 2, 4, 5, 3)]
)
@pytest.mark.parametrize("kind", [np.uint8, np.float32, complex, object])
def test_arrays_that_are_no_pictures_are_named(net, shape, kind):
    odd = np.zeros(shape, kind)
    got = (odd.dtype, str(odd.shape[-4:]))  # a batch is named by its first
    with refuses(TypeError, got=got, accepts=("(H, W, 3)", "(3, H, W)")):
        predict(net, odd)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *(
            (shape, dtype)
            for shape in ((), (5,), (3, 0, 4))
            for dtype in (torch.float, torch.uint8)
        ),
        ((5, 4, 4), torch.uint8),
        ((3, 4, 4), torch.bool),
        ((3, 4, 4), torch.complex64),
    ],
)
def test_tensors_that_are_no_pictures_are_named(net, shape, dtype):
    with refuses(TypeError, got=(dtype, str(shape)), accepts=("(H, W, 3)", "(3, H, W)")):
        predict(net, torch.zeros(shape, dtype=dtype))


def test_grey_and_see_through_arrays_are_pictures(net):
    pixels = np.asarray(photo())
    grey, clear = pixels[..., :1], np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    for same in ((grey, grey[..., 0], np.repeat(grey, 3, 2)), (pixels, clear)):
        tables = [predict(net, array) for array in same]
        tables.append(predict(net, torch.tensor(np.atleast_3d(same[0])).movedim(2, 0)))
        assert all(table.equals(tables[0]) for table in tables)


# ------------------------------------------------------------------------------- heads and channels


def test_another_number_of_classes(net, tmp_path):
    before = net.classifier[0].weight.clone()
    assert net.reset_classifier(3) is net
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert (net.num_classes, net.classes, net.pixels) == (3, None, OWN)
    assert torch.equal(before, net.classifier[0].weight)
    assert net.classifier[-1].weight.std() > 0 and not net.classifier[-1].bias.any()
    with refuses(ValueError, got=("num_classes", 0), accepts="positive"):
        net.reset_classifier(0)
    ten = vgg("A", **SMALL)
    ten.pixels = OWN
    options = SMALL | {"num_classes": 3}
    with refuses(ValueError, got="(10, 256)", accepts="(3, 256)", remedy="head='new'"):
        vgg("A", weights=ten.state_dict(), **options)
    three = vgg("A", weights=ten.state_dict(), head="new", **options)
    assert three(torch.zeros(1, 3, 32, 32)).shape == (1, 3) and three.pixels == OWN
    assert torch.equal(three.classifier[0].weight, ten.classifier[0].weight)
    with refuses(ValueError, got="old", accepts=("load", "new")):
        load_weights(ten, ten.state_dict(), head="old")


def test_images_of_other_channels():
    net = vgg("A", in_channels=1, **SMALL)
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    with refuses(ValueError, got="(2, 3, 32, 32)", accepts="(N, 1, 32, 32)"):
        net(torch.zeros(2, 3, 32, 32))
    with refuses(ValueError, got="(2, 3, 32, 32)", accepts="(N, 1, 32, 32)"):
        net(images=torch.zeros(2, 3, 32, 32))
    assert vgglib.anatomy(net).output_shape[0] == (1, 32, 32)
    net.pixels = Pixels((100,), (50,))
    crop = net.transforms()(photo().convert("L"))
    assert crop.shape == (1, 32, 32) and crop.abs().max() < 4
    assert len(predict(net, photo(), top=2)) == 2


def test_what_looks_into_a_net_takes_grey_images(images):
    torch.manual_seed(0)
    net, one = vgg("A", in_channels=1, init="he", **SMALL).eval(), torch.randn(1, 1, 32, 32)
    net.pixels = Pixels((100,), (50,))
    assert features.activations(net, one[0], "conv1_1")["conv1_1"].shape == (1, 4, 32, 32)
    torch.testing.assert_close(vgglib.dense(net)(one)[..., 0, 0], net(one))
    assert features.saliency(net, one[0]).shape == (32, 32)
    assert features.occlusion(net, one[0]).shape == (32, 32)
    picture, history = features.maximise(net, "conv2_1", 0, size=16, steps=3)
    assert picture.shape == (3, 16, 16) and len(history) == 4
    grey = net.pixels(images)
    assert grey.shape == (6, 1, 32, 32)
    for test in (Dense(net, scales=32, mirror=False), MultiCrop(net, scales=32, mirror=False)):
        torch.testing.assert_close(test(images), net(grey).softmax(1).detach())
    found = vgglib.transfer.descriptors(net, images, scales=32, mirror=False)["pool5"][0]
    torch.testing.assert_close(found, net.features(grey).mean((2, 3)).detach())
    for look in (vgglib.dense(net), lambda x: features.activations(net, x, "conv1_1")):
        with refuses(ValueError, got="(1, 3, 32, 32)", accepts="(N, 1, H, W)"):
            look(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["A", "A-LRN"])
def test_nets_of_another_precision_are_tested(images, dtype, name):
    net = vgg(name, **SMALL).to(dtype)
    net.pixels = OWN
    found = evaluate(net, vgglib.data.ImageSet(images, torch.arange(6)))
    assert np.isfinite(found["loss"])


def test_lrn_under_bf16(images):
    split = vgglib.data.ImageSet(images, torch.arange(6))
    net = vgg("A-LRN", **SMALL)
    net.pixels = OWN
    exact, rounded = (evaluate(net, split, precision=p)["loss"] for p in ("fp32", "bf16"))
    assert rounded == pytest.approx(exact, rel=0.05)


# ------------------------------------------------------------------------------- foreign names


def paper_names(net):
    paths = {path: name for name, path in net.layer_names.items()}
    state = {}
    for key, value in net.state_dict().items():
        layer, _, kind = key.rpartition(".")
        state[f"{paths[layer]}.{kind}"] = value
    return state


def prefixed(net, prefix):
    return {prefix + key: value for key, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (lambda net: prefixed(net, "module."), "module"),
        (lambda net: prefixed(net, "_orig_mod."), "_orig_mod"),
        (lambda net: prefixed(net, "module._orig_mod."), "module"),
        (lambda net: {k.replace("features.", "features.module."): v
                      for k, v in net.state_dict().items()}, None),
        (lambda net: {"state_dict": net.state_dict(), "epoch": 3}, None),
        (lambda net: {"model": prefixed(net, "module.")}, "module"),
        (lambda net: AveragedModel(net).state_dict(), "n_averaged"),
        (lambda net: {"state_dict": prefixed(net, "model.") | {"loss.weight": torch.ones(10)}},
         "loss.weight"),
        (lambda net: {"optimizer": {"state": {}}, "model_ema": net.state_dict()}, None),
        (paper_names, None),
        (lambda net: {k: v for k, v in net.state_dict().items()
                      if "num_batches" not in k}, None),
    ],
)  # fmt: skip
def test_well_known_forms_of_names_load(net, tmp_path, form, told):
    torch.save(form(net), tmp_path / "w.pth")
    other = vgg("A", batch_norm=True, **SMALL)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load_weights(other, tmp_path / "w.pth")
    assert (told is None) == (not seen)
    assert told is None or told in str(seen[0].message)
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("form", "got"),
    [
        # Which of the two is meant?
        (lambda net: prefixed(net, "student.") | prefixed(net, "teacher."),
         "student.features.0.weight"),
        (lambda net: {"ema": net.state_dict(), "swa": net.state_dict()}, "ema"),
        (lambda net: dict(enumerate(net.state_dict().values())), "0"),
    ],
)  # fmt: skip
def test_forms_that_leave_it_open_are_refused(net, form, got):
    with refuses(ValueError, got=got):
        load_weights(vgg("A", batch_norm=True, **SMALL), form(net))


def test_a_net_in_place_of_its_weights(net):
    with refuses(TypeError, got="VGG", remedy="state_dict()"):
        load_weights(net, net)


@pytest.mark.parametrize(
    "said", ["", "[1]", '{"std": null}', '{"mean": 5}', '{"mean": [1, 2, 3], "range": [0, "x"]}']
)
def test_what_a_file_says_of_its_pixels_is_checked(net, tmp_path, said):
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"vgglib.pixels": said})
    with refuses(ValueError, got=repr(said), accepts="RGB"):
        load_weights(net, tmp_path / "w.safetensors")


def test_another_programs_digest_makes_no_run(net, tmp_path):
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"sha256": "of something"})
    load_weights(vgg("A", batch_norm=True, **SMALL), tmp_path / "w.safetensors")


@pytest.mark.parametrize("around", [nn.DataParallel, AveragedModel])
def test_a_net_inside_tells_its_pixels_size_and_classes(net, images, around):
    split = vgglib.data.ImageSet(images, torch.zeros(6).long())
    outer = around(net).eval()
    assert evaluate(outer, split) == evaluate(net, split)
    photos = [photo(), photo()]
    assert predict(outer, photos).equals(predict(net, photos))


@pytest.mark.slow
def test_timms_names_there_and_back():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("vgg11", num_classes=4).eval()
    with torch.device("meta"):
        ours = vgg("A", num_classes=4, init=None)
    ours = load_weights(ours.to_empty(device="cpu"), theirs.state_dict()).eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-6)
    back = vgglib.weights.for_timm(ours)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[k], v) for k, v in theirs.state_dict().items())


def test_both_sides_of_a_mismatch_are_named(net):
    state = {("trunk." + k if "features.0" in k else k): v for k, v in net.state_dict().items()}
    with refuses(ValueError, got=("features.0.weight", "trunk.features.0.weight")):
        load_weights(net, state)


# ------------------------------------------------------------------------------- other programs


def converted(kind, net, image):
    if kind == "fx":
        return torch.fx.symbolic_trace(net)
    if kind == "script":
        return torch.jit.script(net)
    if kind == "trace":
        return torch.jit.trace(net, image)
    if kind == "export":
        return torch.export.export(net, (image,)).module()
    return torch.compile(net, backend="eager", fullgraph=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", ["fx", "script", "trace", "export", "compile"])
def test_other_forms_of_a_net_give_its_scores(net, images, kind):
    image = OWN(images[:1])
    with torch.no_grad():
        expected = net(image)
        torch.testing.assert_close(converted(kind, net, image)(image), expected)
    with refuses(ValueError, got="(1, 3, 16, 16)", accepts="(N, 3, 32, 32)"):
        net(image[..., ::2, ::2])


def test_features_are_extracted_by_torchvision(net, images):
    names = {net.layer_names["relu3_2"]: "map", "classifier": "scores"}
    found = create_feature_extractor(net, names)(OWN(images))
    ours = vgglib.features.activations(net, OWN(images), "relu3_2")["relu3_2"]
    torch.testing.assert_close(found["map"], ours)
    torch.testing.assert_close(found["scores"], net(OWN(images)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_quantised_net_is_near(net, images):
    small = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    expected = net(OWN(images))
    error = (small(OWN(images)) - expected).abs().max()
    assert error < 0.1 * expected.std() * 10


@pytest.mark.parametrize("std", [None, (50.0, 60.0, 70.0)])
def test_kept_on_a_device_they_do_the_same_and_copy_nothing(std):
    """A number that has to be copied with each batch makes a GPU wait for the CPU."""
    pixels = vgglib.Pixels((1.0, 2.0, 3.0), std)
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(pixels.on(torch.device("cpu"))(images), pixels(images))
    away = pixels.on(torch.device("meta"))  # a real number could not be copied from here
    assert away(images.to("meta")).device.type == "meta"
