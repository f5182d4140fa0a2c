"""The stand-in net that the package carries."""

import pytest
import torch

import vgglib


def test_the_weights_are_those_of_the_recorded_run():
    net, run = vgglib.standin(), vgglib.recorded("standin")
    assert net.training_data["test_accuracy"] == run["runs"][0]["test_accuracy"]
    assert not net.training and all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.slow
def test_it_knows_cifar10():
    """On the real test images where they can be had; the untrained net beside it as control."""
    net = vgglib.standin()
    try:
        images = vgglib.data.load("cifar10", progress=False).test[:1000]
    except vgglib.data.DataUnavailableError as error:
        assert "cifar10" in str(error)  # without images there is nothing more to compare
        return
    mean, std = net.training_data["mean"], net.training_data["std"]
    tested = vgglib.evaluate(net, images, mean, std)
    assert tested["top1"] == pytest.approx(net.training_data["test_accuracy"], abs=0.04)
    torch.manual_seed(0)
    untrained = vgglib.initialise(vgglib.standin(), "he")
    assert vgglib.evaluate(untrained, images, mean, std)["top1"] < 0.25


def test_it_is_small_enough_to_ship():
    from vgglib.standin import WEIGHTS

    assert WEIGHTS.stat().st_size < 700_000
