"""Which trained network can be had here?

The authors' own convolutions where they are or can be fetched; where not, the stand-in, so that a
chapter runs to its end on any machine.
"""

from __future__ import annotations

import socket
import warnings

from .model import VGG, vgg
from .standin import standin


def pretrained(patience: float = 8.0) -> VGG:
    """VGG-16 with the paper's convolutions, or the stand-in if they can't be had.

    Parameters
    ----------
    patience : float
        Seconds of silence after which a server counts as out of reach.

    Returns
    -------
    VGG
        In evaluation mode: net D with ``weights="IMAGENET1K_FEATURES"``, whose classifier is not
        trained, or :func:`~vgglib.standin`, which has three stages and takes images of 32 px.
        ``net.config == CONFIGS["D"]`` tells them apart.

    Warns
    -----
    UserWarning
        If it is the stand-in, with the reason: no network, no such server, no room on the disk.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(patience)  # torchvision's download has no limit of its own
    try:
        return vgg("D", weights="IMAGENET1K_FEATURES", init=None).eval()
    except OSError as error:
        reason = error.__cause__ or error
        warnings.warn(
            f"VGG-16's weights can't be had ({reason}); vgglib.standin() takes their place",
            stacklevel=2,
        )
        return standin()
    finally:
        socket.setdefaulttimeout(before)
