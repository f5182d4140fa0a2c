"""How does a photo become what a net of the authors expects? (chapters 1 and 6)"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..augment import centre_crop

#: Mean colour in 0–255 that torchvision subtracts for the authors' weights (IMAGENET1K_FEATURES):
#: 123, 117, 104, the published one (:data:`vgglib.data.IMAGENET_MEAN`) in whole numbers.
IMAGENET_MEAN = (0.48235 * 255, 0.45882 * 255, 0.40784 * 255)


def preprocess(
    image: object,
    size: int = 224,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] | None = None,
) -> Tensor:
    """A photo as a net wants it: shorter side to ``size``, centre cut out, mean subtracted (§2.1).

    Parameters
    ----------
    image : PIL image or uint8 Tensor (3, H, W)
    size : int
        Side of the result in pixels.
    mean, std : three floats
        Per channel, in 0–255; the defaults are those of ``weights="IMAGENET1K_FEATURES"``.

    Returns
    -------
    Tensor, (3, size, size)
    """
    return centre_crop(size, size, mean=mean, std=std)(image)
