"""With what weights does a network start?

Three ways to draw them (§3.1, chapter 4): a normal distribution, Glorot & Bengio's "Xavier", and
He's. The paper's other answer is :func:`vgglib.pre_initialise`.
"""

from __future__ import annotations

from torch import nn

from . import checks

SCHEMES = ("normal", "xavier", "he")


def initialise(model: nn.Module, scheme: str, std: float = 0.01) -> nn.Module:
    """Draw new weights for every convolution and fully connected layer, in place; biases are 0.

    Parameters
    ----------
    model : nn.Module
    scheme : {"normal", "xavier", "he"}
        ``"normal"``: N(0, std²), as in §3.1. ``"xavier"``: uniform with variance
        2 / (fan_in + fan_out) (Glorot & Bengio, 2010). ``"he"``: normal with variance 2 / fan_in
        (He et al., 2015).
    std : float
        Standard deviation for ``"normal"``. The paper says "variance 10⁻²", which read to the
        letter is std 0.1; the default follows the reading under which its nets train.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        For an unknown scheme or a std that is not positive.
    """
    checks.choice("scheme", scheme, SCHEMES)
    std = checks.real("std", std, "(0, ∞)", such_as="0.01")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if scheme == "normal":
                nn.init.normal_(module.weight, std=std)
            elif scheme == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.reset_running_stats()
        elif hasattr(module, "pixels"):  # of the weights that are gone
            module.pixels = module.classes = None  # type: ignore[assignment]
    return model
