"""Starting weights: variances, what pre-initialisation copies, and a probe that leaves no trace."""

import copy

import pytest
import torch
import torchvision
from refusing import refuses
from torch import nn

import vgglib
from vgglib import CONFIGS, Config, Conv, initialise, pre_initialise, signal, vgg

SMALL = {"width": 1 / 16, "image_size": 32, "num_classes": 10}


def state_of(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


# ------------------------------------------------------------------------------------- schemes


def fans(weight):
    field = weight[0, 0].numel() if weight.ndim == 4 else 1
    return weight.shape[1] * field, weight.shape[0] * field


@pytest.mark.parametrize(
    ("scheme", "std", "variance", "uniform"),
    [
        ("normal", 0.01, lambda fan_in, fan_out: 1e-4, False),
        ("normal", 0.1, lambda fan_in, fan_out: 1e-2, False),
        ("xavier", 0.01, lambda fan_in, fan_out: 2 / (fan_in + fan_out), True),
        ("he", 0.01, lambda fan_in, fan_out: 2 / fan_in, False),
    ],
)
def test_variance_and_distribution_of_each_scheme(scheme, std, variance, uniform):
    torch.manual_seed(1)
    net = vgg("D", width=0.25, image_size=32, num_classes=10, init=None)
    assert initialise(net, scheme, std=std) is net
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 16
    for layer in layers:
        assert not layer.bias.any()
        count, spread = layer.weight.numel(), variance(*fans(layer.weight)) ** 0.5
        scores = layer.weight.detach().flatten() / spread
        # Five standard errors of a mean and of a standard deviation.
        assert scores.mean().abs() < 5 / count**0.5
        assert abs(scores.std() - 1) < 5 / (2 * count) ** 0.5
        if uniform:
            assert scores.abs().max() <= 3**0.5 + 1e-5
        elif count > 1e4:
            assert abs((scores.abs() > 2).float().mean() - 0.0455) < 0.01
            assert scores.abs().max() > 3


def test_the_default_of_vgg_is_xavier_and_of_normal_std_001():
    def drawn(**options):
        torch.manual_seed(3)
        return state_of(vgg("A", **SMALL, **options))

    assert same(drawn(), drawn(init="xavier"))
    torch.manual_seed(3)
    net = vgg("A", **SMALL, init="normal")
    assert abs(net.classifier[0].weight.std() - 0.01) < 1e-3
    torch.manual_seed(3)
    assert same(state_of(net), drawn(init="normal"))


def test_batch_norm_starts_as_the_identity():
    net = vgg("A", batch_norm=True, **SMALL)
    net(torch.rand(8, 3, 32, 32) * 9)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
            assert module.num_batches_tracked == 1
    initialise(net, "he")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.running_var == 1).all()
            assert not torch.cat([module.bias, module.running_mean]).any()
            assert module.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("scheme", "std", "got", "accepts"),
    [
        ("glorot", 0.01, "glorot", ("normal", "xavier", "he")),
        ("normal", 0, ("std", 0), 0.01),
        ("normal", float("nan"), ("std", "nan"), 0.01),
        ("normal", "0.01", ("std", "'0.01'"), 0.01),
    ],
)
def test_schemes_that_are_refused(scheme, std, got, accepts):
    net = vgg("A", **SMALL)
    before = state_of(net)
    with refuses(ValueError, got=got, accepts=accepts):
        initialise(net, scheme, std=std)
    assert same(before, net.state_dict())


# -------------------------------------------------------------------------- pre-initialisation

CLASSIFIER = [(f"classifier.{i}", f"classifier.{i}") for i in (0, 3, 6)]


@pytest.mark.parametrize(
    ("deep", "shallow", "convs"),
    [
        *((deep, "A", [(0, 0), (3, 5), (6, 10), (8, 12)]) for deep in "BCDE"),
        *((deep, "A-LRN", [(0, 0), (4, 5), (7, 10), (9, 12)]) for deep in "BCDE"),
        ("A-LRN", "A", [(0, 0), (3, 4), (6, 7), (8, 9)]),
        ("E", "B", [(0, 0), (2, 2), (5, 5), (7, 7)]),
    ],
)
def test_pre_initialise_copies_four_convs_by_stage_and_the_classifier(deep, shallow, convs):
    deep, shallow = vgg(deep, **SMALL), vgg(shallow, **SMALL)
    for bias in (p for name, p in shallow.named_parameters() if name.endswith("bias")):
        nn.init.normal_(bias)  # or a forgotten bias would not be seen: all of them start at 0
    before, given = state_of(deep), state_of(shallow)
    pairs = pre_initialise(deep, shallow)
    assert pairs == [(f"features.{a}", f"features.{b}") for a, b in convs] + CLASSIFIER
    expected = dict(before)
    for ours, theirs in pairs:
        for kind in ("weight", "bias"):
            expected[f"{theirs}.{kind}"] = given[f"{ours}.{kind}"]
    assert same(expected, deep.state_dict())
    assert same(given, shallow.state_dict())
    nn.init.zeros_(deep.features[0].weight)  # the two nets share no memory
    assert same(given, shallow.state_dict())


def test_pre_initialise_hands_on_how_images_are_normalised():
    deep, shallow = (vgglib.vgg(name, num_classes=2, width=0.125, image_size=32) for name in "DA")
    shallow.pixels, shallow.classes = vgglib.Pixels((1, 2, 3)), ("cat", "dog")
    vgglib.pre_initialise(deep, shallow)
    assert (deep.pixels, deep.classes) == (shallow.pixels, ("cat", "dog"))
    own = deep.pixels = vgglib.Pixels((4, 5, 6))
    vgglib.pre_initialise(deep, shallow)
    assert deep.pixels is own


def test_by_position_the_second_conv_would_not_fit():
    """The index trap: A's second convolution has another shape than D's."""
    second = [[m for m in vgg(n, **SMALL).features if isinstance(m, nn.Conv2d)][1] for n in "AD"]
    assert second[0].weight.shape != second[1].weight.shape


def test_pre_initialise_takes_batch_norm_along():
    deep, shallow = (vgg(name, batch_norm=True, **SMALL) for name in "DA")
    shallow(torch.rand(8, 3, 32, 32))  # gives running statistics other than 0 and 1
    pairs = dict(pre_initialise(deep, shallow))
    assert [pairs[f"features.{i}"] for i in (1, 5, 9, 12)] == [
        f"features.{i}" for i in (1, 8, 15, 18)
    ]
    for ours, theirs in pairs.items():
        assert same(
            shallow.get_submodule(ours).state_dict(), deep.get_submodule(theirs).state_dict()
        )
    assert deep.features[1].running_mean.any()


@pytest.mark.parametrize(
    ("deep", "shallow", "got", "remedy"),
    [
        (
            vgg("A", **SMALL),
            vgg("D", **SMALL),
            ("D", "conv1_2", "A"),
            "pre_initialise(deep, shallow)",
        ),
        (
            vgg("D", **SMALL),
            vgg("A", batch_norm=True, **SMALL),
            ("A", "bn1_1", "D"),
            "batch_norm=",
        ),
        (
            vgg("D", **SMALL),
            vgg("A", **SMALL | {"width": 1 / 8}),
            ("conv1_1.weight", "(8, 3, 3, 3)", "(4, 3, 3, 3)"),
            "width",
        ),
        (
            vgg("D", **SMALL),
            vgg("A", **SMALL | {"image_size": 64}),
            ("fc6.weight", "(256, 128)", "(256, 32)"),
            "image_size",
        ),
        (
            vgg("D", **SMALL),
            vgg("A", **SMALL | {"num_classes": 5}),
            ("fc8.weight", "(5, 256)", "(10, 256)"),
            "num_classes",
        ),
        (
            vgg("D", **SMALL),
            vgg(Config("A, one hidden", CONFIGS["A"].stages, (4096,)), **SMALL),
            ("A, one hidden", "D", "fc7", "fc8"),
            "hidden=",
        ),
    ],
)
def test_pre_initialise_refuses_what_does_not_fit_and_changes_nothing(deep, shallow, got, remedy):
    before = state_of(deep)
    with refuses(ValueError, got=got, remedy=remedy):
        pre_initialise(deep, shallow)
    assert same(before, deep.state_dict())


def test_pre_initialise_takes_vggs_only():
    with torch.device("meta"):
        other = torchvision.models.vgg11()
    with refuses(
        TypeError, got="torchvision.models.vgg.VGG", accepts=("vgglib.vgg", "deep", "shallow")
    ):
        pre_initialise(vgg("D", **SMALL), other)


# -------------------------------------------------------------------------------------- signal


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(6, 3, 32, 32, generator=generator)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_signal_is_the_spread_of_outputs_and_of_weight_gradients(batch, batch_norm):
    net = vgg("B", batch_norm=batch_norm, dropout=0, init="he", **SMALL)
    labels = torch.arange(6)
    table = signal(net, batch, labels)
    assert list(table.columns) == ["layer", "activation_std", "gradient_std"]

    reference = copy.deepcopy(net).train()
    outputs, x, layers = [], batch, []
    for module in [*reference.features, nn.Flatten(), *reference.classifier]:
        x = module(x)
        if isinstance(module, nn.Conv2d | nn.Linear):
            outputs.append(x.std().item())
            layers.append(module)
    loss = nn.functional.cross_entropy(x, labels)
    loss.backward()
    gradients = [layer.weight.grad.std().item() for layer in layers]
    assert table["activation_std"].tolist() == pytest.approx(outputs, rel=1e-5)
    assert table["gradient_std"].tolist() == pytest.approx(gradients, rel=1e-4)
    assert table.attrs["loss"] == pytest.approx(loss.item(), rel=1e-5)
    names = [name for name in net.layer_names if name.startswith(("conv", "fc"))]
    assert table["layer"].tolist() == names


def test_signal_knows_no_dropout_and_is_the_same_twice(batch):
    net = vgg("A", dropout=0.9, **SMALL)
    assert signal(net, batch).equals(signal(net, batch))
    without = vgg("A", dropout=0, **SMALL)
    without.load_state_dict(net.state_dict())
    assert signal(net, batch).equals(signal(without, batch))


def test_signal_leaves_the_model_as_it_was(batch):
    net = vgg("A", batch_norm=True, **SMALL)
    net(batch)  # running statistics other than those of the start
    nn.functional.cross_entropy(net.eval()(batch), torch.zeros(6, dtype=torch.long)).backward()
    net.train()
    net.features[4:9].eval()  # a net may be frozen in part
    net.features[0].weight.requires_grad_(False)
    before, modes = state_of(net), [m.training for m in net.modules()]
    wanted = [p.requires_grad for p in net.parameters()]
    gradients = [p.grad.clone() for p in net.parameters()]
    random = torch.get_rng_state()

    for context in (torch.enable_grad(), torch.no_grad()):
        with context:
            table = signal(net, batch)
        assert table.notna().all(axis=None)  # frozen layers have their row as well

    assert same(before, net.state_dict())
    assert modes == [m.training for m in net.modules()]
    assert wanted == [p.requires_grad for p in net.parameters()]
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert not any(m._forward_hooks for m in net.modules())


def test_signal_leaves_the_model_as_it_was_after_an_error(batch):
    net = vgg("A", batch_norm=True, **SMALL).eval()
    before = state_of(net)
    with refuses(ValueError, got="(6, 3, 16, 32)", accepts="(N, 3, 32, 32)"):
        signal(net, batch[:, :, :16])
    with refuses(ValueError, got=2, accepts=("batch_size", 6)):
        signal(net, batch, torch.zeros(2, dtype=torch.long))
    assert same(before, net.state_dict())
    assert not any(m.training for m in net.modules())
    assert not any(m._forward_hooks for m in net.modules())


def test_signal_shows_the_explosion_the_stall_and_the_cure(batch):
    """§3.1's variance 10⁻² to the letter, as std 0.01, and He's: E at a quarter of its width."""
    net = vgg("E", width=0.25, image_size=32, num_classes=10)
    shown = {}
    for label, scheme, std in [
        ("letter", "normal", 0.1),
        ("0.01", "normal", 0.01),
        ("he", "he", 1),
    ]:
        torch.manual_seed(2)
        shown[label] = signal(initialise(net, scheme, std), batch)
    growth = {
        k: t["activation_std"].iloc[15] / t["activation_std"].iloc[0] for k, t in shown.items()
    }
    assert growth["letter"] > 1e3
    assert growth["0.01"] < 1e-6
    assert 0.1 < growth["he"] < 10
    assert shown["letter"].attrs["loss"] > 100
    assert shown["0.01"].attrs["loss"] == pytest.approx(2.302585, abs=1e-3)  # ln 10
    assert shown["0.01"]["gradient_std"].iloc[0] < 1e-8 < shown["he"]["gradient_std"].iloc[0]


def test_signal_takes_vggs_only(batch):
    with refuses(TypeError, got=("signal", "Linear"), accepts="vgglib.vgg"):
        signal(nn.Linear(2, 2), batch)


def test_a_layer_without_bias_is_drawn_as_well():
    net = nn.Sequential(nn.Conv2d(3, 50, 3, bias=False), nn.Linear(9, 300, bias=False))
    for layer in initialise(net, "he"):
        assert layer.bias is None
        assert layer.weight.std().item() == pytest.approx(
            (2 / fans(layer.weight)[0]) ** 0.5, rel=0.1
        )


def test_an_infinite_deviation_is_refused():
    with pytest.raises(ValueError) as caught:
        initialise(vgg("A", **SMALL), "normal", std=float("inf"))
    assert "inf" in str(caught.value)


def test_what_does_not_fit_is_named_with_both_shapes():
    deep = vgg("D", **SMALL)
    deep.features[0] = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    before = state_of(deep)
    with pytest.raises(ValueError) as caught:
        pre_initialise(deep, vgg("A", **SMALL))
    assert "conv1_1.bias" in str(caught.value) and "(4,)" in str(caught.value)
    wider = vgg("A", **SMALL | {"width": 1 / 8})
    with pytest.raises(ValueError) as caught:
        pre_initialise(vgg("D", **SMALL), wider)
    assert "(8, 3, 3, 3)" in str(caught.value) and "(4, 3, 3, 3)" in str(caught.value)
    assert same(before, deep.state_dict())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_nets_with_fewer_than_four_convolutions_give_all_of_them(batch_norm):
    two, three = ((Conv(2),), (Conv(3),)), ((Conv(2), Conv(2)), (Conv(3), Conv(3)))
    options = {"image_size": 4, "num_classes": 2, "batch_norm": batch_norm}
    shallow, deep = (vgg(Config(str(len(c)), c, hidden=()), **options) for c in (two, three))
    pairs = pre_initialise(deep, shallow)
    step = 2 + batch_norm  # modules from one convolution to the next
    convs = [("features.0", "features.0"), (f"features.{step + 1}", f"features.{2 * step + 1}")]
    norms = [
        tuple(f"features.{int(name.split('.')[1]) + 1}" for name in pair)
        for pair in convs
        if batch_norm
    ]
    assert pairs == [*convs, ("classifier.0", "classifier.0"), *norms]
    for name in ("A", nn.Linear(2, 2)):
        for wrong in ((name, shallow), (deep, name)):
            with pytest.raises(TypeError):
                pre_initialise(*wrong)
