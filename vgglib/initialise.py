"""With what weights does a network start?

Three ways to draw them (§3.1, chapter 4): a normal distribution, Glorot & Bengio's "Xavier", and
He's. The paper's other answer is :func:`vgglib.pre_initialise`.
"""

from __future__ import annotations

from numbers import Real

from torch import nn

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
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; accepted are {', '.join(SCHEMES)}")
    if not isinstance(std, Real) or not 0 < std < float("inf"):
        raise ValueError(f"std must be a positive number such as 0.01, got {std!r}")
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
    return model
