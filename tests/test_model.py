"""The networks against torchvision's, LRN against its formula, and weights that come and go."""

import hashlib
import http.client
import io
import os
import pickle
import socket
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refuses, warns
from safetensors.torch import save_file
from torch import nn

from vgglib import CONFIGS, LRN, STANDIN, VGG, Config, Conv, load_weights, pretrained, vgg

SMALL = {"width": 1 / 16, "image_size": 32, "num_classes": 10}
REFERENCES = [f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")]
LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}


def state_of(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def on_meta(make, *arguments, **options):
    with torch.device("meta"):
        return make(*arguments, **options)


# ---------------------------------------------------------------------------------- torchvision


@pytest.mark.parametrize("name", REFERENCES)
def test_names_shapes_and_counts_are_torchvisions(name):
    theirs = on_meta(torchvision.models.get_model, name).state_dict()
    base, _, batch_norm = name.partition("_")
    for ours in (
        on_meta(vgg, name),
        on_meta(vgg, base, batch_norm=bool(batch_norm)),
        on_meta(vgg, LETTERS[base], batch_norm=bool(batch_norm)),
    ):
        state = ours.state_dict()
        assert list(state) == list(theirs)
        assert [v.shape for v in state.values()] == [v.shape for v in theirs.values()]
    counts = {"vgg11_bn": 132_868_840, "vgg13_bn": 133_053_736}
    counts |= {"vgg16_bn": 138_365_992, "vgg19_bn": 143_678_248}
    if batch_norm:
        assert sum(p.numel() for p in ours.parameters()) == counts[name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name.startswith(("vgg11", "vgg16")) else pytest.mark.slow)
        for name in REFERENCES
    ],
)
def test_logits_are_torchvisions_with_weights_moved_there_and_back(name):
    torch.manual_seed(0)
    base, _, batch_norm = name.partition("_")
    theirs = on_meta(torchvision.models.get_model, name, num_classes=10).eval()
    config = CONFIGS[LETTERS[base]]
    if name != "vgg11":  # one net in full; the others with 64 hidden units, to spare memory
        config = Config("narrow", config.stages, hidden=(64, 64))
        for index, sides in ((0, (25_088, 64)), (3, (64, 64)), (6, (64, 10))):
            theirs.classifier[index] = on_meta(nn.Linear, *sides)
    options = {"num_classes": 10, "batch_norm": bool(batch_norm), "init": None}
    ours, back = (on_meta(vgg, config, **options).to_empty(device="cpu").eval() for _ in range(2))
    for module in ours.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = (6 / module.weight[0].numel()) ** 0.5  # He's variance, quickly drawn
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.uniform_(values, -0.5, 0.5)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = ours(images)
        # There: their net runs on the very tensors of ours.
        theirs.load_state_dict(ours.state_dict(), assign=True)
        logits = theirs(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    # And back, into a net of ours that holds other weights.
    assert load_weights(back, theirs.state_dict()) is back
    with torch.inference_mode():
        torch.testing.assert_close(back(images), logits, rtol=1e-5, atol=1e-6)


def test_at_32_px_the_classifier_takes_the_1x1_map_as_it_is():
    net = vgg("D", image_size=32, num_classes=10, width=1 / 4)
    assert net.classifier[0].in_features == 128
    with torch.inference_mode():
        assert net.features(torch.zeros(2, 3, 32, 32)).shape == (2, 128, 1, 1)
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_no_relu_works_in_place():
    net = vgg("D", batch_norm=True, **SMALL)
    assert not any(m.inplace for m in net.modules() if isinstance(m, nn.ReLU | nn.Dropout))
    maps = {}
    net.features[0].register_forward_hook(lambda m, inputs, output: maps.update(conv=output))
    net(torch.randn(2, 3, 32, 32))
    assert (maps["conv"] < 0).any()


# ------------------------------------------------------------------------------------------ LRN


def test_lrn_is_alexnets_formula():
    """b[i] = a[i] / (2 + 1e-4 · Σ a[j]²)^0.75 over the five channels around i."""
    lrn = vgg("A-LRN", image_size=32, num_classes=2, width=1 / 4).features[2]
    generator = np.random.default_rng(0)
    a = generator.uniform(0, 300, size=(2, 16, 3, 4))  # large enough that α matters
    b = np.empty_like(a)
    for i in range(16):
        near = a[:, max(0, i - 2) : min(15, i + 2) + 1]
        b[:, i] = a[:, i] / (2 + 1e-4 * (near**2).sum(axis=1)) ** 0.75
    np.testing.assert_allclose(lrn(torch.from_numpy(a)).numpy(), b, rtol=1e-12)
    naive = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2)(torch.from_numpy(a)).numpy()
    assert np.abs(naive / b - 1).max() > 0.5  # PyTorch's α is a fifth of the paper's


def test_a_lrn_is_a_with_one_layer_more_and_the_same_weights():
    plain, normalised = vgg("A", **SMALL), vgg("A-LRN", **SMALL)
    load = dict(zip(normalised.state_dict(), plain.state_dict().values(), strict=True))
    load_weights(normalised, load)
    images = torch.rand(2, 3, 32, 32) * 200
    with torch.inference_mode():
        x = normalised.features[2](plain.features[:2](images))
        x = plain.classifier.eval()(plain.features[2:](x).flatten(1))
        torch.testing.assert_close(normalised.eval()(images), x)


# ------------------------------------------------------------------------------- layers and sizes


def test_layer_names():
    names = on_meta(vgg, "D").layer_names
    assert names["conv1_1"] == "features.0"
    assert names["relu1_2"] == "features.3"
    assert names["pool3"] == "features.16"
    assert names["conv5_3"] == "features.28"
    assert (names["fc6"], names["relu6"], names["dropout6"]) == tuple(
        f"classifier.{i}" for i in range(3)
    )
    assert names["fc8"] == "classifier.6"


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_layer_names_name_every_layer_once_and_by_its_kind(name, batch_norm):
    net = vgg(name, batch_norm=batch_norm, **SMALL)
    leaves = [path for path, m in net.named_modules() if path and not list(m.children())]
    assert list(net.layer_names.values()) == leaves
    kinds = {
        "conv": nn.Conv2d,
        "bn": nn.BatchNorm2d,
        "lrn": nn.LocalResponseNorm,
        "relu": nn.ReLU,
        "pool": nn.MaxPool2d,
        "fc": nn.Linear,
        "dropout": nn.Dropout,
    }
    for layer, path in net.layer_names.items():
        assert isinstance(net.get_submodule(path), kinds[layer.rstrip("0123456789_")]), layer


def test_width_scales_channels_and_hidden_units_alike():
    net = on_meta(vgg, "D", width=0.25)
    convs = [m.out_channels for m in net.features if isinstance(m, nn.Conv2d)]
    assert convs == [conv.channels // 4 for conv in CONFIGS["D"].convs]
    linears = [m for m in net.classifier if isinstance(m, nn.Linear)]
    assert [m.in_features for m in linears] == [128 * 7 * 7, 1024, 1024]
    assert linears[-1].out_features == 1000
    assert min(m.out_channels for m in vgg("A", **SMALL | {"width": 1e-6}).features[::3][:2]) == 1


@given(
    st.integers(1, 3), st.integers(0, 30), st.sampled_from([1, 3, 5]), st.sampled_from([0.3, 1, 2])
)
@settings(deadline=None, max_examples=25)
def test_any_image_that_survives_the_pools_gives_one_score_a_class(stages, more, kernel, width):
    size = 2**stages + more
    net = vgg(
        Config("own", ((Conv(3, kernel),),) * stages, hidden=()),
        image_size=size,
        width=width,
        num_classes=4,
    )
    with torch.inference_mode():
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 4)


def test_dropout_sits_behind_the_hidden_layers_only():
    net = vgg("A", dropout=0.3, **SMALL)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    assert isinstance(net.classifier[-1], nn.Linear)


def test_names_of_torchvision_mean_the_letters():
    for name, letter in LETTERS.items():
        assert on_meta(vgg, name).config == CONFIGS[letter]
        assert not on_meta(vgg, name).batch_norm
        assert on_meta(vgg, f"{name}_bn").batch_norm


NAMES = ("A", "A-LRN", "B", "C", "D", "E", "vgg11", "vgg19_bn", "Config")


@pytest.mark.parametrize(
    ("arguments", "error", "got", "accepts"),
    [
        ({"name": "vgg15"}, ValueError, "vgg15", NAMES),
        ({"name": "d"}, ValueError, "'d'", NAMES),
        ({"name": 16}, TypeError, int, NAMES),
        ({"name": "D", "image_size": 31}, ValueError, ("image_size", 31), (32, "5 stages")),
        ({"name": "D", "image_size": 224.0}, ValueError, ("image_size", 224.0), (32, "integer")),
        ({"name": "D", "num_classes": 0}, ValueError, ("num_classes", 0), "integer"),
        ({"name": "D", "width": 0}, ValueError, ("width", 0), (0.25, 1.0)),
        ({"name": "D", "width": float("inf")}, ValueError, ("width", "inf"), (0.25, 1.0)),
        ({"name": "D", "width": float("nan")}, ValueError, ("width", "nan"), (0.25, 1.0)),
        ({"name": "D", "width": "1"}, ValueError, ("width", "'1'"), (0.25, 1.0)),
        ({"name": "D", "dropout": 1}, ValueError, ("dropout", 1), "[0, 1)"),
        ({"name": "D", "dropout": None}, ValueError, ("dropout", None), "[0, 1)"),
        ({"name": "A", "init": "zeros", **SMALL}, ValueError, "zeros", ("normal", "xavier", "he")),
    ],
)
def test_what_the_builder_refuses_and_why(arguments, error, got, accepts):
    with refuses(error, got=got, accepts=accepts):
        vgg(**arguments)


def test_vgg_takes_a_config():
    with refuses(TypeError, got="'D'", accepts="Config", remedy="vgg(…)"):
        VGG("D")


@pytest.mark.parametrize(
    "shape",
    [(2, 1, 32, 32), (2, 3, 32, 64), (2, 3, 64, 64), (3, 32, 32), (2, 32, 32, 3)],
    ids=["one channel", "oblong", "too large", "no batch", "channels last"],
)
def test_images_of_another_shape_are_refused(shape):
    net = vgg("A", **SMALL)
    with refuses(ValueError, got=str(shape), accepts="(N, 3, 32, 32)", remedy="image_size="):
        net(torch.zeros(shape))


# -------------------------------------------------------------------------------------- weights


@pytest.fixture
def net():
    torch.manual_seed(0)
    return vgg("A", **SMALL)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_back_from_a_file(net, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(net.state_dict(), path)
    for given_as in (path, str(path)):
        assert same(net.state_dict(), vgg("A", weights=given_as, **SMALL).state_dict())


def test_weights_of_another_precision_are_converted(net):
    halves = {key: value.half() for key, value in net.state_dict().items()}
    other = load_weights(vgg("A", **SMALL), halves)
    assert other.features[0].weight.dtype == torch.float32
    torch.testing.assert_close(other.state_dict(), net.state_dict(), rtol=1e-3, atol=1e-3)


def changed(net, **values):
    return {**state_of(net), **values}


SETTINGS = ("A", "image_size=32", "width=0.0625", "num_classes=10", "batch_norm=False")


@pytest.mark.parametrize(
    ("state", "got", "accepts"),
    [
        (lambda net: vgg("D", **SMALL).state_dict(), "features.3.weight", SETTINGS),
        (lambda net: vgg("A-LRN", **SMALL).state_dict(), "features.3.weight", SETTINGS),
        (
            lambda net: vgg("A", **SMALL | {"num_classes": 5}).state_dict(),
            ("classifier.6.weight", "(5, 256)"),
            ("(10, 256)", *SETTINGS),
        ),
        (
            lambda net: vgg("A", **SMALL | {"width": 1 / 8}).state_dict(),
            ("features.0.weight", "(8, 3, 3, 3)", 18),
            ("(4, 3, 3, 3)", *SETTINGS),
        ),
        (
            lambda net: vgg("A", **SMALL | {"image_size": 64}).state_dict(),
            ("classifier.0.weight", "(256, 128)"),
            ("(256, 32)", *SETTINGS),
        ),
        (
            lambda net: vgg("A", batch_norm=True, **SMALL).state_dict(),
            "features.3.weight",
            SETTINGS,
        ),
        (lambda net: {}, "features.0.weight", SETTINGS),
        (lambda net: changed(net, extra=torch.zeros(1)), "extra", SETTINGS),
        (
            lambda net: changed(net, **{"features.0.bias": [0.0]}),
            ("features.0.bias", list),
            ("state_dict", "tensors"),
        ),
        (
            lambda net: changed(net, **{"features.3.bias": torch.full((8,), torch.nan)}),
            "features.3.bias",
            "finite",
        ),
        (
            lambda net: changed(net, **{"classifier.6.bias": torch.full((10,), torch.inf)}),
            "classifier.6.bias",
            "finite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_changed(
    net, tmp_path, state, got, accepts
):
    before, state = state_of(net), state(net)
    pair = got if isinstance(got, tuple) else (got,)
    with refuses(ValueError, got=got, accepts=accepts):
        load_weights(net, state)
    torch.save(state, tmp_path / "weights.pth")
    with refuses(ValueError, got=(tmp_path / "weights.pth", *pair), accepts=accepts):
        load_weights(net, tmp_path / "weights.pth")
    assert same(before, net.state_dict())


def test_a_missing_file_is_named_with_what_is_accepted(net, tmp_path):
    accepts = ("IMAGENET1K_V1", "IMAGENET1K_FEATURES", ".pth", ".safetensors")
    for path in (tmp_path / "none.pth", tmp_path, "IMAGENET1K_V9"):
        with refuses(FileNotFoundError, got=path, accepts=accepts):
            load_weights(net, path)


class Trap:
    """Unpickled, it makes a folder: what a malicious file could do, harmlessly."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def test_code_in_a_file_is_not_run(net, tmp_path):
    proof, before = tmp_path / "ran", state_of(net)
    torch.save(changed(net, **{"features.0.bias": Trap(proof)}), tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(proof), protocol=2))
    for name in ("zip.pth", "plain.pth"):
        with refuses(ValueError, got=name, accepts="tensors", remedy="torch.save") as error:
            load_weights(net, tmp_path / name)
        assert "weights_only" not in str(error.value)  # no advice to load it all the same
    assert not proof.exists()
    assert same(before, net.state_dict())


def test_a_whole_pickled_net_is_not_a_state_dict(net, tmp_path):
    remedy = "torch.save(net.state_dict(), …)"
    torch.save(net, tmp_path / "net.pth")
    with refuses(ValueError, got="net.pth", accepts="tensors", remedy=remedy):
        load_weights(net, tmp_path / "net.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with refuses(ValueError, got=("list.pth", list), accepts="state_dict", remedy=remedy):
        load_weights(net, tmp_path / "list.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_a_damaged_file_is_refused(net, tmp_path, suffix, keep):
    whole = tmp_path / f"whole{suffix}"
    (torch.save if suffix == ".pth" else save_file)(net.state_dict(), whole)
    content, before = whole.read_bytes(), state_of(net)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(keep * len(content))])
    with refuses(ValueError, got=path, accepts="torch.save"):
        load_weights(net, path)
    path.write_bytes(b"<!DOCTYPE html><title>404</title>")
    with refuses(ValueError, got=path, accepts="torch.save"):
        load_weights(net, path)
    assert same(before, net.state_dict())


# ------------------------------------------------------------------- torchvision's trained weights


@pytest.fixture
def no_network(monkeypatch):
    """torch.hub without the network; the list holds what it asked for."""
    asked = []

    def refuse(request, *arguments, **options):
        asked.append(getattr(request, "full_url", request))
        raise urllib.error.URLError("network is unreachable")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    return asked


@pytest.fixture
def fetched(monkeypatch):
    """torchvision hands out weights of 0.5; the list holds how it was asked for them."""
    calls = []
    shapes = {k: v.shape for k, v in on_meta(torchvision.models.vgg16).state_dict().items()}

    def get_state_dict(weights, *arguments, **options):
        calls.append((str(weights), arguments, options))
        broken = ("classifier",) if weights.name == "IMAGENET1K_FEATURES" else ()  # as it really is
        return {
            key: torch.tensor(torch.nan if key.startswith(broken) else 0.5).expand(shape)
            for key, shape in shapes.items()
        }

    monkeypatch.setattr(torchvision.models.VGG16_Weights, "get_state_dict", get_state_dict)
    return calls


def test_features_go_into_any_net_d_and_leave_its_classifier(fetched):
    torch.manual_seed(4)
    untouched = vgg("D", image_size=32, num_classes=10).classifier
    torch.manual_seed(4)
    net = vgg("vgg16", image_size=32, num_classes=10, weights="IMAGENET1K_FEATURES")
    assert all((p == 0.5).all() for p in net.features.parameters())
    assert same(untouched.state_dict(), net.classifier.state_dict())
    ((weights, arguments, options),) = fetched
    assert weights == "VGG16_Weights.IMAGENET1K_FEATURES"
    assert arguments == ()
    assert options["check_hash"] is True
    assert options["weights_only"] is True


def test_v1_fills_features_and_classifier_alike(fetched):
    net = on_meta(vgg, "D", init=None).to_empty(device="cpu")
    load_weights(net, "imagenet1k_v1")
    assert all((p == 0.5).all() for p in net.parameters())
    assert [weights for weights, _, _ in fetched] == ["VGG16_Weights.IMAGENET1K_V1"]


@pytest.mark.parametrize(
    ("name", "options", "weights", "got", "accepts"),
    [
        ("A", {}, "IMAGENET1K_FEATURES", "vgg11", "IMAGENET1K_V1"),
        ("vgg16_bn", {}, "IMAGENET1K_FEATURES", "vgg16_bn", "IMAGENET1K_V1"),
        ("C", {}, "IMAGENET1K_V1", "C", ("A (vgg11)", "E (vgg19)")),
        ("A-LRN", {}, "IMAGENET1K_V1", "A-LRN", ("A (vgg11)", "E (vgg19)")),
        (
            "D", {"width": 0.5}, "IMAGENET1K_FEATURES",
            ("IMAGENET1K_FEATURES", "width=0.5", "(32, 3, 3, 3)"),
            ("features.0.weight", "(64, 3, 3, 3)"),
        ),
        (
            "D", {"num_classes": 10}, "IMAGENET1K_V1",
            ("IMAGENET1K_V1", "num_classes=10", "(10, 4096)"),
            ("classifier.6.weight", "(1000, 4096)"),
        ),
        (
            "vgg19_bn", {"image_size": 64}, "IMAGENET1K_V1",
            ("IMAGENET1K_V1", "image_size=64", "(4096, 2048)"),
            ("classifier.0.weight", "(4096, 25088)"),
        ),
        (
            Config("D", ((Conv(64),),)), {}, "IMAGENET1K_V1",
            ("D", "CONFIGS['D']"), ("A (vgg11)", "E (vgg19)"),
        ),
    ],
)  # fmt: skip
def test_weights_that_torchvision_lacks_are_refused_before_anything_is_fetched(
    no_network, name, options, weights, got, accepts
):
    with refuses(ValueError, got=got, accepts=accepts):
        load_weights(on_meta(vgg, name, **options), weights)
    assert no_network == []


def test_without_network_the_error_says_what_to_do(no_network, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    net = vgg("D", image_size=32, num_classes=2, init=None)
    before = state_of(net)
    got = ("IMAGENET1K_FEATURES", "vgg16", "https://download.pytorch.org", "unreachable")
    with refuses(OSError, got=got, remedy=tmp_path / "hub" / "checkpoints"):
        load_weights(net, "IMAGENET1K_FEATURES")
    assert len(no_network) == 1
    assert no_network[0].endswith("vgg16_features-amdegroot-88682ab5.pth")
    assert same(before, net.state_dict())


def test_bytes_with_another_hash_are_refused(monkeypatch, tmp_path):
    """A file that is not what torchvision published, as a broken mirror would send it."""

    class Answer(io.BytesIO):
        def info(self):
            return Message()

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *arguments, **options: Answer(b"other bytes"))
    got = ("IMAGENET1K_FEATURES", "vgg16", hashlib.sha256(b"other bytes").hexdigest())
    with refuses(OSError, got=got, accepts="88682ab5", remedy=tmp_path / "hub" / "checkpoints"):
        vgg("D", image_size=32, num_classes=2, init=None, weights="IMAGENET1K_FEATURES")
    assert not list(tmp_path.rglob("*.pth"))


def saved(net):
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><title>404</title>",
        b'{"message": "Not Found"}',
        b"X4",  # what unpickling raises here and below is of other kinds than above
        b"h\x13",
        b"X\x02\x00\x00\x00\xff\xff.",
        b"PK\x03\x04",
        saved(vgg("A", image_size=32, width=1 / 64)),  # sound, and something else
    ],
)
def test_a_damaged_file_in_torchs_cache(no_network, monkeypatch, tmp_path, content):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    kept = tmp_path / "hub" / "checkpoints" / "vgg16_features-amdegroot-88682ab5.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    got = (kept, hashlib.sha256(content).hexdigest()[:8])
    with refuses(OSError, got=got, accepts="88682ab5", remedy="delete"):
        load_weights(on_meta(vgg, "D", init=None), "IMAGENET1K_FEATURES")
    assert kept.read_bytes() == content and no_network == []
    if content == b"X4":  # a chapter goes on
        with warns(UserWarning, got=kept, accepts="vgglib.standin()"):
            assert pretrained().config == STANDIN


@pytest.mark.parametrize("error", [http.client.IncompleteRead(b""), KeyError("x"), OSError("x")])
def test_whatever_a_fetch_raises_is_an_oserror(monkeypatch, tmp_path, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", fail)
    with refuses(OSError, got="IMAGENET1K_FEATURES", remedy=tmp_path / "hub" / "checkpoints"):
        load_weights(on_meta(vgg, "D", init=None), "IMAGENET1K_FEATURES")


def test_the_papers_own_convolutions(no_network):
    """The real file where torch's cache has it; else the refusal to go on without."""
    file = Path(torch.hub.get_dir(), "checkpoints", "vgg16_features-amdegroot-88682ab5.pth")
    net = vgg("D", image_size=32, num_classes=2, init=None)
    before = state_of(net)
    if not file.exists():
        with refuses(OSError, got=file.name, remedy=file.parent):
            load_weights(net, "IMAGENET1K_FEATURES")
        return
    load_weights(net, "IMAGENET1K_FEATURES")
    reference = torch.load(file, weights_only=True, mmap=True)
    for key, value in net.state_dict().items():
        assert torch.equal(value, (reference if key.startswith("features") else before)[key]), key
    assert no_network == []


def test_pretrained_is_net_d_where_its_weights_are_there(fetched):
    net = pretrained()
    assert net.config == CONFIGS["D"] and net.image_size == 224 and not net.training
    assert all((p == 0.5).all() for p in net.features.parameters())


def test_pretrained_is_the_standin_where_a_server_is_silent(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        url = "http://{}:{}".format(*server.getsockname())
        monkeypatch.setattr("torch.hub.urlopen", lambda *arguments, **options: direct.open(url))
        with warns(UserWarning, got=("VGG-16", "timed out"), accepts="vgglib.standin()") as told:
            net = pretrained(patience=0.2)
    assert net.config == STANDIN and not net.training
    assert told[0].filename == __file__ and socket.getdefaulttimeout() is None


def test_a_width_that_does_not_divide_is_rounded_to_the_nearest():
    """64, 128, 256, 512 and 4096 times 0.3 are 19.2, 38.4, 76.8, 153.6 and 1228.8."""
    net = on_meta(vgg, "B", width=0.3)
    convs = [m.out_channels for m in net.features if isinstance(m, nn.Conv2d)]
    assert convs == [19, 19, 38, 38, 77, 77, 154, 154, 154, 154]
    assert [m.out_features for m in net.classifier if isinstance(m, nn.Linear)][:2] == [1229, 1229]


def test_a_net_is_by_default_for_imagenet_with_dropout_of_a_half():
    for net in (on_meta(vgg, "A"), on_meta(VGG, CONFIGS["A"])):
        assert (net.num_classes, net.image_size, net.width, net.batch_norm) == (1000, 224, 1, False)
        assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
        assert [m.out_features for m in net.classifier if isinstance(m, nn.Linear)][-1] == 1000


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("image_size", (4, 5), (3, 4.0, None)),
        ("num_classes", (1, 2), (0, -1, 2.0)),
        ("width", (1e-9, 1, 2.5), (0, -1, float("inf"), float("nan"), None)),
        ("dropout", (0, 0.5, 0.999), (-0.1, 1, 1.5, float("nan"), "0")),
    ],
)
def test_each_option_at_its_bounds(name, inside, outside):
    two = Config("two", ((Conv(2),), (Conv(3),)), hidden=(4,))
    for value in inside:
        net = vgg(two, **({"image_size": 4, "num_classes": 2} | {name: value}))
        assert net(torch.zeros(1, 3, net.image_size, net.image_size)).shape == (1, net.num_classes)
    for value in outside:
        with pytest.raises(ValueError) as caught:
            vgg(two, **({"image_size": 4, "num_classes": 2} | {name: value}))
        assert name in str(caught.value) and repr(value) in str(caught.value)


def test_names_of_the_layers_of_a_net_of_every_kind_of_layer():
    """By hand, for two stages: conv, BN, ReLU, LRN, pool; conv, BN, ReLU twice, pool; fc3, fc4."""
    config = Config("kinds", ((Conv(2), LRN()), (Conv(3), Conv(3, 1))), hidden=(4,))
    net = vgg(config, image_size=4, num_classes=2, batch_norm=True)
    features = (
        "conv1_1 bn1_1 relu1_1 lrn1_1 pool1 conv2_1 bn2_1 relu2_1 conv2_2 bn2_2 relu2_2 pool2"
    )
    classifier = "fc3 relu3 dropout3 fc4"
    assert net.layer_names == {
        **{name: f"features.{i}" for i, name in enumerate(features.split())},
        **{name: f"classifier.{i}" for i, name in enumerate(classifier.split())},
    }
    for number in (0, 5, 8):
        kernel = net.features[number].kernel_size[0]
        assert net.features[number].padding == ((kernel - 1) // 2,) * 2
        assert net.features[number].stride == (1, 1)


def test_a_net_says_what_it_is():
    said = repr(vgg("A", width=0.125, image_size=32, num_classes=3, batch_norm=True))
    assert all(word in said for word in ("A, ", "32", "0.125", "True"))


def test_no_scheme_leaves_what_torch_draws():
    torch.manual_seed(0)
    net = vgg("A", init=None, **SMALL)
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3, padding=1)
    assert torch.equal(net.features[0].weight, first.weight) and net.training


def test_the_first_differences_are_listed_and_the_others_counted():
    state = vgg("A", **SMALL).state_dict()
    names = list(state)
    for missing in (1, 3, 4, 6):
        kept = {name: state[name] for name in names[missing:]}
        with pytest.raises(ValueError) as caught:
            load_weights(vgg("A", **SMALL), kept)
        said = str(caught.value)
        assert [name in said for name in names[:3]] == [n < missing for n in range(3)]
        assert names[3] not in said
        assert (f" {missing - 3} " in said) == (missing > 3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_not_finite_is_enough(net, bad):
    state = state_of(net)
    state["features.0.weight"][1, 2, 0, 1] = bad
    before = state_of(net)
    with pytest.raises(ValueError) as caught:
        load_weights(net, state)
    assert "features.0.weight" in str(caught.value)
    assert same(before, net.state_dict())


def test_a_file_of_weights_is_read_to_the_cpu_without_code(net, tmp_path, monkeypatch):
    options, load = [], torch.load

    def watched(*arguments, **more):
        options.append(more)
        return load(*arguments, **more)

    torch.save(net.state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr(torch, "load", watched)
    load_weights(net, tmp_path / "w.pth")
    assert options == [{"map_location": "cpu", "weights_only": True}]


def test_torchvisions_weights_are_asked_for_on_the_cpu_in_sight_and_checked(fetched):
    vgg("D", image_size=32, num_classes=2, init=None, weights="IMAGENET1K_FEATURES")
    ((_, _, options),) = fetched
    checked = {"check_hash": True, "weights_only": True}
    assert options == {"progress": True, "map_location": "cpu", **checked}


def test_what_follows_an_lrn_in_its_stage_is_built_and_named():
    net = vgg(Config("mid", ((Conv(2), LRN(), Conv(3)),), hidden=()), image_size=2, num_classes=2)
    kinds = [type(module).__name__ for module in net.features]
    assert kinds == ["Conv2d", "ReLU", "ResponseNorm", "Conv2d", "ReLU", "MaxPool2d"]
    names = "conv1_1 relu1_1 lrn1_1 conv1_2 relu1_2 pool1 fc2"
    assert list(net.layer_names) == names.split()
