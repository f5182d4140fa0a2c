"""Table 1 as data: its layers, Table 2's parameter counts, and what a Config refuses."""

import dataclasses

import pytest
import torch
from refusing import refuses

from vgglib import CONFIGS, LRN, Config, Conv, vgg
from vgglib.configs import resolve

# Convolutions per stage; exact parameters in all and of the convolutions; Table 2 in millions.
PAPER = {
    "A": ((1, 1, 2, 2, 2), 132_863_336, 9_220_480, 133),
    "A-LRN": ((1, 1, 2, 2, 2), 132_863_336, 9_220_480, 133),
    "B": ((2, 2, 2, 2, 2), 133_047_848, 9_404_992, 133),
    "C": ((2, 2, 3, 3, 3), 133_638_952, 9_996_096, 134),
    "D": ((2, 2, 3, 3, 3), 138_357_544, 14_714_688, 138),
    "E": ((2, 2, 4, 4, 4), 143_667_240, 20_024_384, 144),
}
WEIGHT_LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_six_nets_and_no_others():
    assert list(CONFIGS) == list(PAPER)
    assert all(CONFIGS[name].name == name for name in CONFIGS)
    with pytest.raises(TypeError):
        CONFIGS["F"] = CONFIGS["A"]


@pytest.mark.parametrize("name", PAPER)
def test_stages_and_weight_layers_are_those_of_table_1(name):
    config = CONFIGS[name]
    convs = [[layer for layer in stage if isinstance(layer, Conv)] for stage in config.stages]
    assert tuple(map(len, convs)) == PAPER[name][0]
    for stage, channels in zip(convs, (64, 128, 256, 512, 512), strict=True):
        assert {conv.channels for conv in stage} == {channels}
    assert config.hidden == (4096, 4096)
    assert config.weight_layers == WEIGHT_LAYERS[name] == len(config.convs) + 3


def test_kernels_are_3_except_the_last_of_cs_late_stages():
    for name in CONFIGS:
        kernels = [conv.kernel for conv in CONFIGS[name].convs]
        if name == "C":
            assert kernels == [3] * 6 + [1] + [3] * 2 + [1] + [3] * 2 + [1]
        else:
            assert set(kernels) == {3}


def test_only_a_lrn_normalises_and_only_after_its_first_conv():
    places = {
        (name, s, p)
        for name, config in CONFIGS.items()
        for s, stage in enumerate(config.stages)
        for p, layer in enumerate(stage)
        if isinstance(layer, LRN)
    }
    assert places == {("A-LRN", 0, 1)}


@pytest.mark.parametrize("name", PAPER)
def test_parameters_are_those_of_table_2(name):
    _, total, convs, millions = PAPER[name]
    with torch.device("meta"):
        net = vgg(name, init=None)
    assert count(net) == total
    assert count(net.features) == convs
    assert count(net.classifier) == 123_642_856
    assert count(net.classifier[0]) == 102_764_544
    assert round(count(net) / 1e6) == millions


def test_the_5x5_control_of_section_4_1():
    wide = [(Conv(channels, kernel=5),) for channels in (64, 128, 256, 512, 512)]
    with torch.device("meta"):
        assert count(vgg(Config("B-5x5", tuple(wide)), init=None)) == 134_503_528


def test_written_out_in_the_papers_notation():
    assert str(CONFIGS["A-LRN"]) == (
        "A-LRN: conv3-64 LRN | conv3-128 | conv3-256 conv3-256 | conv3-512 conv3-512 | "
        "conv3-512 conv3-512 | FC-4096 FC-4096"
    )
    assert "conv3-256 conv3-256 conv1-256 |" in str(CONFIGS["C"])
    assert str(Config("bare", ((Conv(8),),), hidden=())) == "bare: conv3-8"


def test_configs_are_frozen_and_hashable():
    assert len(set(CONFIGS.values())) == 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIGS["A"].hidden = ()


TUPLES = ("(4096, 4096)", "()")


@pytest.mark.parametrize(
    ("make", "error", "got", "accepts"),
    [
        (lambda: Conv(0), ValueError, ("channels", 0), "integer"),
        (lambda: Conv("64"), ValueError, ("channels", "'64'"), "integer"),
        (lambda: Conv(64, kernel=2), ValueError, ("kernel", 2), (1, 3, 5)),
        (lambda: Conv(64, kernel=-1), ValueError, ("kernel", -1), (1, 3, 5)),
        (lambda: Config("x", ()), ValueError, ("stages", "()"), "((Conv(64),), (Conv(128),))"),
        (lambda: Config("x", [[Conv(8)]]), ValueError, ("stages", f"[[{Conv(8)!r}]]"), "tuple"),
        (lambda: Config("x", ((Conv(8),), ())), ValueError, ("stage 2", "()"), "(Conv(64),)"),
        (lambda: Config("x", ((64,),)), TypeError, ("stage 1", 64), ("Conv(64)", "LRN()")),
        (
            lambda: Config("x", ((Conv(8), LRN),)),
            TypeError,
            ("stage 1", LRN),
            ("Conv(64)", "LRN()"),
        ),
        (lambda: Config("x", ((LRN(),),)), ValueError, ("stage 1", "LRN()"), "Conv(…)"),
        (
            lambda: Config("x", ((Conv(8), LRN(), LRN()),)),
            ValueError,
            ("stage 1", "LRN()", str(LRN())),
            "Conv(…)",
        ),
        (lambda: Config("x", ((Conv(8),),), hidden=[8]), ValueError, ("hidden", "[8]"), TUPLES),
        (lambda: Config("x", ((Conv(8),),), hidden=8), ValueError, ("hidden", 8), TUPLES),
        (lambda: Config("x", ((Conv(8),),), hidden=(0,)), ValueError, ("hidden", "(0,)"), TUPLES),
    ],
)
def test_what_is_refused_and_why(make, error, got, accepts):
    with refuses(error, got=got, accepts=accepts):
        make()


def test_one_channel_and_one_unit_are_enough():
    smallest = Config("smallest", ((Conv(1, kernel=1),),), hidden=(1,))
    net = vgg(smallest, num_classes=1, image_size=2)
    assert [tuple(p.shape) for p in net.parameters()] == [
        *((1, 3, 1, 1), (1,)),
        *((1, 1), (1,)),
        *((1, 1), (1,)),
    ]


def test_lrn_is_frozen_and_has_alexnets_constants():
    """§3.3 of Krizhevsky et al. (2012): k = 2, n = 5, α = 10⁻⁴, β = 0.75."""
    lrn = LRN()
    assert (lrn.k, lrn.size, lrn.alpha, lrn.beta) == (2, 5, 1e-4, 0.75)
    with pytest.raises(dataclasses.FrozenInstanceError):
        lrn.size = 3


@pytest.mark.parametrize("name", ["D", "vgg16", CONFIGS["D"]])
def test_a_name_means_a_net_without_batch_norm_unless_it_says_so(name):
    assert resolve(name) == (CONFIGS["D"], False)
    assert resolve(name, batch_norm=True) == (CONFIGS["D"], True)
    assert resolve("vgg16_bn") == (CONFIGS["D"], True)
