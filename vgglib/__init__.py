"""The VGG paper as code: the six networks, their recipe, and the tools to look inside them.

Simonyan & Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, ICLR
2015 (arXiv 1409.1556). The modules read in the order in which an image travels: ``configs``,
``initialise``, ``model``, ``anatomy``, ``signal``, ``pre_initialise``, ``fetch``, ``data``,
``augment``, ``evaluate``, ``train``, ``features``, ``transfer``, ``localise``, ``plots``;
``widgets`` is imported when it is first used.
"""

import importlib

from . import augment, data, features, localise, plots, transfer
from .anatomy import anatomy, receptive_field
from .configs import CONFIGS, LRN, Config, Conv
from .evaluate import dense, evaluate, top_k_error
from .initialise import initialise
from .model import VGG, load_weights, vgg
from .pre_initialise import pre_initialise
from .pretrained import pretrained
from .recorded import recorded
from .signal import signal
from .standin import STANDIN, standin
from .train import Recipe, load_run, train

__version__ = "0.1.0"


def __getattr__(name):
    if name == "widgets":  # only notebooks and the book need it, and what Jupyter brings along
        return importlib.import_module(".widgets", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CONFIGS",
    "LRN",
    "STANDIN",
    "VGG",
    "Config",
    "Conv",
    "Recipe",
    "anatomy",
    "augment",
    "data",
    "dense",
    "evaluate",
    "features",
    "initialise",
    "load_run",
    "load_weights",
    "localise",
    "plots",
    "pre_initialise",
    "pretrained",
    "receptive_field",
    "recorded",
    "signal",
    "standin",
    "top_k_error",
    "train",
    "transfer",
    "vgg",
    "widgets",
]
