"""The VGG paper as code: the six networks, their recipe, and the tools to look inside them.

Simonyan & Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, ICLR
2015 (arXiv 1409.1556). The modules read in the order in which an image travels: ``configs``,
``initialise``, ``model``, ``anatomy``, ``signal``, ``pre_initialise``, ``pictures``, ``fetch``,
``data``, ``augment``, ``evaluate``, ``train``, ``features``, ``transfer``, ``localise``, ``plots``.

``plots`` and ``widgets`` are imported when they are first used: they need what an extra brings.
"""

import importlib
from typing import TYPE_CHECKING

from . import augment, data, features, localise, transfer, weights
from .anatomy import anatomy, receptive_field
from .configs import CONFIGS, LRN, Config, Conv
from .diagnosis import Diagnosis, Finding, diagnose
from .evaluate import Dense, DenseVGG, Fusion, MultiCrop, dense, evaluate, test_scales, top_k_error
from .evidence import compare
from .initialise import initialise
from .model import VGG, vgg
from .pixels import Pixels, PixelsWarning
from .pre_initialise import pre_initialise
from .predict import predict
from .pretrained import pretrained
from .recorded import recorded
from .signal import signal
from .standin import STANDIN, standin
from .train import (
    Callback,
    CheckpointError,
    Interrupted,
    Recipe,
    StalledWarning,
    load_run,
    processes,
    train,
)
from .weights import load_weights, save_weights

if TYPE_CHECKING:
    from . import plots, widgets

__version__ = "0.1.0"


def __getattr__(name):
    if name in ("plots", "widgets"):  # figures and Jupyter's widgets: slow, and extras
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CONFIGS", "LRN", "STANDIN", "VGG", "Callback", "CheckpointError", "Config", "Conv",
    "Dense", "DenseVGG", "Diagnosis", "Finding", "Fusion", "Interrupted", "MultiCrop", "Pixels",
    "PixelsWarning", "Recipe", "StalledWarning", "anatomy", "augment", "compare", "data",
    "dense", "diagnose", "evaluate", "features", "initialise", "load_run", "load_weights",
    "localise", "plots", "pre_initialise", "predict", "pretrained", "processes",
    "receptive_field", "recorded", "save_weights", "signal", "standin", "test_scales",
    "top_k_error", "train", "transfer", "vgg", "weights", "widgets",
]  # fmt: skip
