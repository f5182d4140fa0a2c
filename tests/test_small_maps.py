"""Convolutions of small maps as matrix products: the same function, and the same gradients."""

import pytest
import torch
from torch import nn

from vgglib.train import cpu
from vgglib.train.cpu import small_maps_as_products


@pytest.fixture
def products(monkeypatch):
    """The sizes of the matrix products that were taken."""
    taken, linear = [], cpu.F.linear
    monkeypatch.setattr(
        cpu.F, "linear", lambda *given: taken.append(given[0].shape) or linear(*given)
    )
    return taken


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (1, 0), (5, 2), ((1, 3), (0, 1)), (2, 1)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 1)])
def test_output_and_gradients_are_the_convolutions(products, size, kernel, padding, bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 7, kernel, padding=padding, bias=bias).double()
    maps = torch.randn(3, 5, *size, dtype=torch.double, requires_grad=True)
    inputs = [maps, *convolution.parameters()]
    plain = convolution(maps)
    weights = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weights).sum(), inputs)
    with small_maps_as_products(convolution):
        ours = convolution(maps)
        found = torch.autograd.grad((ours * weights).sum(), inputs)
    assert len(products) == 1
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3, dilation=2, padding=2),
        nn.Conv2d(4, 4, 3, groups=2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
    ],
    ids=["strided", "dilated", "grouped", "reflecting", "named padding"],
)
def test_other_convolutions_are_left_alone(products, convolution):
    maps = torch.randn(2, 4, 2, 2)
    with small_maps_as_products(convolution):
        found = convolution(maps)
    assert torch.equal(found, convolution(maps)) and not products


def test_large_maps_and_tests_are_left_alone(products):
    convolution = nn.Conv2d(4, 4, 3, padding=1)
    with small_maps_as_products(convolution):
        convolution(torch.randn(2, 4, 4, 4))
        with torch.no_grad():
            convolution(torch.randn(2, 4, 2, 2))
    assert not products


def test_the_net_is_as_before_even_after_an_error():
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())
    before = dict(vars(net[0]))
    with pytest.raises(RuntimeError), small_maps_as_products(net):
        net(torch.randn(1, 2, 2, 2))
    assert vars(net[0]) == before
