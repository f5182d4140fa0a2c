"""How does a photo become what a net of the authors expects? (chapters 1 and 6)"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.models import VGG16_Weights

from ..augment import centre_crop

#: Mean colour in 0–255 that torchvision subtracts for the authors' weights, by its own record of
#: them; ``vgglib.data.IMAGENET_MEAN``, which was published with them, lies within 0.7 of it.
AUTHORS_MEAN = tuple(255 * m for m in VGG16_Weights.IMAGENET1K_FEATURES.transforms().mean)
IMAGENET_MEAN = AUTHORS_MEAN  # its name of earlier days


def preprocess(
    image: object,
    size: int = 224,
    *,
    mean: Sequence[float] = AUTHORS_MEAN,
    std: Sequence[float] | None = None,
) -> Tensor:
    """A photo as a net wants it: shorter side to ``size``, centre cut out, mean subtracted (§2.1).

    Parameters
    ----------
    image : PIL image or uint8 Tensor (3, H, W)
        A picture of any mode, see ``vgglib.pictures.rgb``.
    size : int
        Side of the result in pixels.
    mean, std : three floats
        Per channel, in 0–255; the defaults are those of ``weights="IMAGENET1K_FEATURES"``.

    Returns
    -------
    Tensor, (3, size, size)
    """
    return centre_crop(size, size, mean=mean, std=std)(image)
