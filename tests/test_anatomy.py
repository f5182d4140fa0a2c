"""anatomy against torch's own counts: parameters, flop_counter, saved tensors, input gradients."""

import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refuses
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from vgglib import CONFIGS, LRN, Config, Conv, anatomy, receptive_field, vgg


def on_meta(name, **options):
    """A net without memory for its values: enough for counting."""
    with torch.device("meta"):
        return vgg(name, init=None, **options)


def counted_macs(net):
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, net.image_size, net.image_size, device="meta"))
    return counter.get_total_flops() / 2  # torch counts a multiply–accumulate as two


def saved_bytes(net, image_size):
    """Bytes that autograd keeps per image, by the layer whose output or by-product it is.

    What is kept once per batch (statistics of batch norm) drops out as the difference between a
    batch of two and a batch of one.
    """
    own = {t.untyped_storage()._cdata for t in [*net.parameters(), *net.buffers()]}
    modules = [m for m in net.modules() if not list(m.children())]

    def keeps(batch):
        images = torch.empty(batch, 3, image_size, image_size, device="meta")
        maker, alive, running, kept = {images.untyped_storage()._cdata: "input"}, [], [None], {}

        def before(module, inputs):
            running[0] = module

        def after(module, inputs, output):
            alive.append(output)  # or its address might be given to another tensor
            maker.setdefault(output.untyped_storage()._cdata, module)

        def pack(tensor):
            storage = tensor.untyped_storage()
            alive.append(storage)
            if storage._cdata not in own:
                kept.setdefault(storage._cdata, (storage.nbytes(), running[0]))
            return tensor

        hooks = [m.register_forward_pre_hook(before) for m in modules]
        hooks += [m.register_forward_hook(after) for m in modules]
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            net(images)
        for hook in hooks:
            hook.remove()
        total = {}
        for address, (size, module) in kept.items():
            key = maker.get(address, module)
            total[key] = total.get(key, 0) + size
        return total

    one, two = keeps(1), keeps(2)
    return {key: two[key] - one[key] for key in two}


@pytest.mark.parametrize("image_size", [32, 64, 224])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_totals_equal_the_models_parameters_and_flop_counter(name, batch_norm, image_size):
    net = on_meta(name, batch_norm=batch_norm, image_size=image_size)
    table = anatomy(net)
    assert table["params"].sum() == sum(p.numel() for p in net.parameters())
    assert table["macs"].sum() == counted_macs(net)
    if not batch_norm:
        assert table.equals(anatomy(name, image_size))
        assert table.equals(anatomy(CONFIGS[name], image_size=image_size))


def test_gmacs_at_224():
    gmacs = {name: round(anatomy(name)["macs"].sum() / 1e9, 3) for name in CONFIGS}
    assert gmacs == {
        "A": 7.609,
        "A-LRN": 7.609,
        "B": 11.308,
        "C": 11.771,
        "D": 15.470,
        "E": 19.632,
    }
    control = Config("B-5x5", tuple((Conv(c, 5),) for c in (64, 128, 256, 512, 512)))
    assert round(anatomy(control)["macs"].sum() / 1e9, 3) == 9.356


def test_rows_are_the_layers_with_the_shapes_that_come_out_of_them():
    net = vgg("A-LRN", batch_norm=True, image_size=70, width=1 / 16, num_classes=7)
    table = anatomy(net).set_index("layer")
    assert list(table.index[table["kind"] != "flatten"]) == ["input", *net.layer_names]
    shapes = {"input": (3, 70, 70), "flatten": (32 * 2 * 2,)}
    for name, path in net.layer_names.items():
        net.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, name=name: shapes.update({name: output.shape[1:]})
        )
    net(torch.zeros(2, 3, 70, 70))
    assert table["output_shape"].to_dict() == {k: tuple(v) for k, v in shapes.items()}
    for name, path in net.layer_names.items():
        expected = sum(p.numel() for p in net.get_submodule(path).parameters())
        assert table.loc[name, "params"] == expected


def test_kinds_and_the_flatten():
    table = anatomy("vgg16_bn").set_index("layer")
    assert table["kind"].value_counts().to_dict() == {
        "relu": 15,
        "conv": 13,
        "bn": 13,
        "pool": 5,
        "fc": 3,
        "dropout": 2,
        "input": 1,
        "flatten": 1,
    }
    assert table.loc["pool5", "output_shape"] == (512, 7, 7)
    assert table.loc["flatten", "output_shape"] == (25_088,)
    assert anatomy("D", 32).set_index("layer").loc["flatten", "output_shape"] == (512,)
    assert list(anatomy("A-LRN")["kind"]).index("lrn") == 3  # input, conv, relu, LRN


@pytest.mark.parametrize(
    ("name", "mebibytes"), [("vgg11", 46.6), ("vgg13", 65.0), ("vgg16", 70.0), ("vgg19", 74.9)]
)
def test_memory_at_224_is_torchvisions_less_its_copy_of_the_last_map(name, mebibytes):
    with torch.device("meta"):
        reference = torchvision.models.get_model(name)
    measured = sum(saved_bytes(reference, 224).values())
    assert round(measured / 2**20, 1) == mebibytes
    assert anatomy(name)["activation_bytes"].sum() == measured - 4 * 25_088


@pytest.mark.parametrize("dropout", [0.5, 0.0])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", ["A-LRN", "C", "E"])
def test_memory_layer_by_layer_is_what_autograd_saves(name, batch_norm, dropout):
    net = on_meta(name, batch_norm=batch_norm, dropout=dropout, image_size=64, width=0.25)
    saved = saved_bytes(net, 64)
    table = anatomy(net).set_index("layer")["activation_bytes"]
    modules = {layer: net.get_submodule(path) for layer, path in net.layer_names.items()}
    expected = {layer: saved.get(module, 0) for layer, module in modules.items()}
    assert table.to_dict() == {"input": saved["input"], "flatten": 0, **expected}


def test_memory_on_the_cpu_is_that_on_the_meta_device():
    net = vgg("A-LRN", batch_norm=True, image_size=32, width=1 / 16)
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.ndim > 1 and not isinstance(tensor, nn.Parameter):  # 1-d: per batch
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.rand(4, 3, 32, 32)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        scores = net(images)
    pointers = [p.data_ptr() for p in net.parameters()]
    kept = sum(size for pointer, size in sizes.items() if pointer not in pointers)
    assert kept == len(scores) * anatomy(net)["activation_bytes"].sum()


# ---------------------------------------------------------------------------- receptive field


def positive(net):
    """The net made linear with positive weights: an input counts if its gradient is not 0."""
    for index, module in enumerate(net.features):
        if isinstance(module, nn.ReLU):
            net.features[index] = nn.Identity()
        elif isinstance(module, nn.MaxPool2d):
            net.features[index] = nn.AvgPool2d(2)
        elif isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            nn.init.zeros_(module.bias)
    return net.double()


def support(unit, images):
    """First and last row of the image on which a unit depends."""
    (gradient,) = torch.autograd.grad(unit, images, retain_graph=True)
    rows = gradient[0].abs().sum((0, 2)).nonzero()
    return rows.min().item(), rows.max().item()


@pytest.mark.parametrize("name", "ABCDE")  # A-LRN made linear is A
def test_receptive_field_and_stride_are_those_of_the_input_gradient(name):
    size = 512  # rows enough that the padding cuts nothing off; columns do not count here
    table = anatomy(name).set_index("layer")
    net = positive(vgg(name, width=1 / 512, image_size=32, num_classes=2))
    names = {path: layer for layer, path in net.layer_names.items()}
    images = torch.ones(1, 3, size, 224, dtype=torch.double, requires_grad=True)
    assert all(m.kernel_size in [(1, 1), (3, 3)] for m in net.features if isinstance(m, nn.Conv2d))
    maps, x = {}, images
    for index, module in enumerate(net.features):
        x = module(x)
        maps[names[f"features.{index}"]] = x
    # Fully connected layers on a larger image are convolutions; fc6 has a 7×7 kernel at 224 px.
    maps["fc6"] = nn.functional.conv2d(x, torch.ones(1, x.shape[1], 7, 7, dtype=torch.double))
    for layer, values in maps.items():
        if layer.startswith("relu"):
            continue  # sees what its convolution sees
        middle = values.shape[2] // 2
        first, last = support(values[0, 0, middle, 0], images)
        assert first > 0, "the image is too small to measure on"
        assert last < size - 1, "the image is too small to measure on"
        assert table.loc[layer, "receptive_field"] == last - first + 1, layer
        if layer.endswith("_1") or layer == "fc6":  # first of a stage, which has one stride
            neighbour, _ = support(values[0, 0, middle - 1, 0], images)
            assert table.loc[layer, "stride"] == first - neighbour, layer


def test_receptive_fields_of_vgg16():
    table = anatomy("D").set_index("layer")
    weights = table[table["kind"].isin(["conv", "fc"])]["receptive_field"]
    convs = [3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196]
    assert list(weights) == [*convs, 404, 404, 404]
    pools = table[table["kind"] == "pool"]
    assert list(pools["receptive_field"]) == [6, 16, 44, 100, 212]
    assert list(pools["stride"]) == [2, 4, 8, 16, 32]
    # A layer that works value by value sees what its input sees.
    assert table["stride"].is_monotonic_increasing
    for layer, source in [("relu4_2", "conv4_2"), ("flatten", "pool5"), ("dropout6", "fc6")]:
        assert table.loc[layer, "receptive_field"] == table.loc[source, "receptive_field"]


@pytest.mark.parametrize(
    ("name", "pool5", "fc6"), [("A", 150, 342), ("B", 156, 348), ("D", 212, 404), ("E", 268, 460)]
)
def test_receptive_fields_after_the_last_pool_and_fc6(name, pool5, fc6):
    table = anatomy(name).set_index("layer")["receptive_field"]
    assert (table["pool5"], table["fc6"], table["fc8"]) == (pool5, fc6, fc6)
    small = anatomy(name, 32).set_index("layer")["receptive_field"]  # a last map of 1×1
    assert small["fc6"] == small["pool5"] == pool5


@given(
    st.lists(
        st.tuples(st.integers(min_value=1, max_value=5), st.integers(min_value=1, max_value=3)),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=50)
def test_receptive_field_of_any_stack_is_that_of_the_input_gradient(layers):
    signal = torch.ones(1, 1, 500, dtype=torch.double, requires_grad=True)
    x = signal
    for kernel, stride in layers:
        x = nn.functional.conv1d(x, torch.ones(1, 1, kernel, dtype=torch.double), stride=stride)
    (gradient,) = torch.autograd.grad(x[0, 0, 0], signal)
    # From the first to the last input that counts: a stride above the kernel leaves holes.
    assert receptive_field(layers) == gradient.nonzero()[:, 2].max().item() + 1


def test_numbers_of_numpy_are_whole_numbers():
    found = receptive_field([(np.int64(3), np.int32(2)), (3, 1)])
    assert found == 7 and type(found) is int


def test_receptive_field_of_section_2_3():
    assert receptive_field([]) == 1
    assert receptive_field([(3, 1)] * 2) == receptive_field([(5, 1)]) == 5
    assert receptive_field([(3, 1)] * 3) == receptive_field([(7, 1)]) == 7
    assert receptive_field([(3, 1), (1, 1)]) == 3  # a 1×1 convolution sees no further
    for wrong in [(0, 1), (3, 0), (3.0, 1)]:
        with refuses(ValueError, got=str(wrong), accepts="(kernel, stride)"):
            receptive_field([wrong])


# ------------------------------------------------------------------------------ any net at all


@st.composite
def configs(draw):
    """Small nets of any make: stages, kernels, LRN, hidden layers."""
    conv = st.builds(Conv, st.integers(1, 9), st.sampled_from([1, 3, 5, 7]))
    stages = []
    for _ in range(draw(st.integers(1, 4))):
        stage = []
        for layer in draw(st.lists(conv, min_size=1, max_size=3)):
            stage += [layer, *([LRN()] if draw(st.booleans()) else [])]
        stages.append(tuple(stage))
    return Config("drawn", tuple(stages), tuple(draw(st.lists(st.integers(1, 9), max_size=3))))


@given(configs(), st.booleans(), st.integers(0, 40), st.sampled_from([0.3, 1.0, 2.0]))
@settings(deadline=None, max_examples=40)
def test_any_config_is_counted_right(config, batch_norm, more, width):
    size = 2 ** len(config.stages) + more
    net = on_meta(config, batch_norm=batch_norm, image_size=size, width=width, num_classes=3)
    table = anatomy(net)
    assert list(table["layer"]) == list(dict.fromkeys(table["layer"]))
    assert table["params"].sum() == sum(p.numel() for p in net.parameters())
    assert table["macs"].sum() == counted_macs(net)
    assert table["activation_bytes"].sum() == sum(saved_bytes(net, size).values())
    assert table["output_shape"].iloc[-1] == (3,)
    flat = table.loc[table["kind"] == "flatten", "output_shape"].item()
    assert flat == (math.prod(table.loc[table["kind"] == "pool", "output_shape"].iloc[-1]),)


def test_a_built_net_has_its_own_image_size():
    net = on_meta("A", image_size=64)
    assert anatomy(net).equals(anatomy("A", 64))
    assert anatomy(net, 64).equals(anatomy("A", 64))
    assert anatomy("A").equals(anatomy("A", 224))
    with refuses(ValueError, got=224, accepts=64, remedy=("image_size", "Config")):
        anatomy(net, 224)


def test_names_take_no_memory():
    table = anatomy("E", 224)
    assert table["params"].sum() == 143_667_240
    huge = Config("huge", ((Conv(10**6),) * 2,), hidden=(10**6,))  # 36 TB of weights
    assert anatomy(huge, 8)["params"].sum() > 9e12


@pytest.mark.parametrize(
    ("arguments", "error", "got", "accepts"),
    [
        (("vgg12",), ValueError, "vgg12", ("A", "A-LRN", "vgg19_bn", "Config")),
        ((nn.Linear(2, 2),), TypeError, "Linear", ("A", "A-LRN", "vgg19_bn", "Config")),
        (("D", 16), ValueError, ("image_size", 16), (32, "integer")),
        (("D", 224.0), ValueError, ("image_size", 224.0), (32, "integer")),
    ],
)
def test_what_is_refused_and_why(arguments, error, got, accepts):
    with refuses(error, got=got, accepts=accepts):
        anatomy(*arguments)


def test_a_replaced_layer_is_refused():
    net = on_meta("A", image_size=32)
    net.features[1] = nn.GELU()
    with refuses(TypeError, got=("relu1_1", "GELU"), accepts="ReLU", remedy="vgg()"):
        anatomy(net)


def test_receptive_fields_by_hand():
    assert receptive_field([]) == 1
    assert receptive_field([(1, 1)]) == 1
    assert receptive_field([(2, 2), (2, 2)]) == 4  # two pools of two pixels each
    assert receptive_field([(3, 2), (3, 3), (2, 1)]) == 3 + 2 * 2 + 1 * 6
    for wrong in ((1, 0), (0, 1), (1.0, 1), (1, 1.5), (-1, 1)):
        with pytest.raises(ValueError) as caught:
            receptive_field([(3, 1), wrong])
        assert str(wrong) in str(caught.value)


def test_rows_of_a_tiny_net_by_hand():
    """4 px, Conv(2, 1), pool, fc of 3: bytes in fp32; a pool keeps 8 bytes a maximum."""
    table = anatomy(on_meta(Config("t", ((Conv(2, 1),),), hidden=()), image_size=4, num_classes=3))
    columns = ["layer", "kind", "output_shape", "params", "macs", "activation_bytes"]
    assert list(table.columns) == [*columns, "receptive_field", "stride"]
    assert table.values.tolist() == [
        ["input", "input", (3, 4, 4), 0, 0, 4 * 48, 1, 1],
        ["conv1_1", "conv", (2, 4, 4), 8, 6 * 16, 0, 1, 1],
        ["relu1_1", "relu", (2, 4, 4), 0, 0, 4 * 32, 1, 1],
        ["pool1", "pool", (2, 2, 2), 0, 0, (4 + 8) * 8, 2, 2],
        ["flatten", "flatten", (8,), 0, 0, 0, 2, 2],
        ["fc2", "fc", (3,), 27, 24, 0, 4, 2],
    ]
