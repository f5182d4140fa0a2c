"""A small VGG that is always there.

Where ImageNet's weights can not be fetched, chapters look into this net instead and say so: two
3×3 convolutions a stage as in net B, three stages, a thirty-second of its size. This project
trained it on CIFAR-10 with ``benchmarks/standin.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

from .configs import Config, Conv
from .model import VGG, vgg
from .pixels import Pixels
from .weights import read_tensors

#: 32-64-128 channels, two convolutions a stage, one linear layer on the last 4×4 map.
STANDIN = Config("stand-in", tuple((Conv(n), Conv(n)) for n in (32, 64, 128)), hidden=())
WEIGHTS = Path(__file__).parent / "assets" / "standin_cifar10.safetensors"


def standin() -> VGG:
    """The stand-in with its trained weights, in evaluation mode.

    Returns
    -------
    VGG
        For images (N, 3, 32, 32), ten classes, batch norm; it knows its ``pixels`` and
        ``classes``. Its attribute ``training_data`` holds them too, and its ``test_accuracy``.
    """
    net = vgg(STANDIN, num_classes=10, image_size=32, batch_norm=True, init=None)
    about, half = read_tensors(WEIGHTS)
    net.load_state_dict(half, strict=False)  # batch norm's counts of batches are left out
    known = net.training_data = json.loads(about["training_data"])
    net.pixels, net.classes = Pixels(known["mean"], known["std"]), tuple(known["classes"])
    return net.eval()
