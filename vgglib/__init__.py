"""The VGG paper as code: the six networks, their recipe, and the tools to look inside them.

Simonyan & Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, ICLR
2015 (arXiv 1409.1556). The modules read in the order in which an image travels: ``configs``,
``model``, ``anatomy``, ``initialise``, ``data``, ``augment``, ``evaluate``, ``train``,
``features``, ``plots``.
"""

from .configs import CONFIGS, LRN, Config, Conv
from .initialise import initialise, pre_initialise, signal
from .model import VGG, load_weights, vgg

__version__ = "0.1.0"

__all__ = [
    "CONFIGS",
    "LRN",
    "VGG",
    "Config",
    "Conv",
    "initialise",
    "load_weights",
    "pre_initialise",
    "signal",
    "vgg",
]
