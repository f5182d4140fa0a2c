"""With what weights does a network start?

Four answers (§3.1, chapter 4): a normal distribution, Glorot & Bengio's "Xavier", He's, and the
paper's pre-initialisation from a shallower net. :func:`signal` shows what each does to the
activations and the gradients.
"""

from __future__ import annotations

from numbers import Real

import pandas as pd
import torch
from torch import Tensor, nn

from .model import VGG

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


def pre_initialise(deep: VGG, shallow: VGG) -> list[tuple[str, str]]:
    """Start a deep net from a trained shallow one, in place (§3.1).

    The first four convolutions and all fully connected layers of ``deep`` take the weights of
    ``shallow``; its other layers keep theirs. "First four" can not be read as "the first four of
    each": the second convolution of D has 64 input channels, A's has 64 in and 128 out. The
    convolutions are matched by stage and place within the stage, which fits B, D and E:
    A's conv1_1, conv2_1, conv3_1, conv3_2 go to the layers of the same names.

    Parameters
    ----------
    deep, shallow : VGG
        Same width, image size, classes and hidden layers. With batch norm in both, the layer that
        follows each copied convolution is copied as well.

    Returns
    -------
    list of (str, str)
        Pairs (name in ``shallow``, name in ``deep``) of the modules that were copied.

    Raises
    ------
    ValueError, TypeError
        If a layer has no counterpart of the same shape, or an argument is no VGG; nothing is
        changed then.
    """
    if not isinstance(deep, VGG) or not isinstance(shallow, VGG):
        raise TypeError("pre_initialise takes two nets built by vgglib.vgg: (deep, shallow)")
    source, target = shallow.layer_names, deep.layer_names
    convs = [name for name in source if name.startswith("conv")][:4]
    fcs = [name for name in source if name.startswith("fc")]
    if fcs != [name for name in target if name.startswith("fc")]:
        raise ValueError(
            f"{shallow.config.name} and {deep.config.name} differ in their fully connected layers; "
            "build both nets with the same number of stages and of hidden layers"
        )
    wanted = convs + fcs
    if shallow.batch_norm:
        wanted += [name.replace("conv", "bn") for name in convs]
    pairs = []
    for name in wanted:
        if name not in target:
            raise ValueError(
                f"{shallow.config.name}'s {name} has no counterpart in {deep.config.name}"
                + ("; build both nets with or without batch norm" if name[0] == "b" else "")
            )
        ours = shallow.get_submodule(source[name]).state_dict()
        theirs = deep.get_submodule(target[name]).state_dict()
        for key, value in ours.items():
            if key not in theirs or value.shape != theirs[key].shape:
                found = tuple(theirs[key].shape) if key in theirs else "nothing"
                raise ValueError(
                    f"{name}.{key} has shape {tuple(value.shape)} in {shallow.config.name} and "
                    f"{found} in {deep.config.name}; build both nets with the same width, "
                    "image_size, num_classes and hidden layers"
                )
        pairs.append((source[name], target[name]))
    with torch.no_grad():
        for ours, theirs in pairs:
            deep.get_submodule(theirs).load_state_dict(shallow.get_submodule(ours).state_dict())
    return pairs


def signal(model: VGG, batch: Tensor, labels: Tensor | None = None) -> pd.DataFrame:
    """How strong are the activations and the gradients, layer by layer?

    One forward and one backward pass of the cross-entropy; the model is left as it was.
    Dropout is off, so that the result is the net's and not the mask's.

    Parameters
    ----------
    model : VGG
    batch : Tensor, (N, 3, image_size, image_size)
        Normalised images.
    labels : Tensor, (N,), optional
        Class of each image; without them class 0 is assumed, which shows the same scales.

    Returns
    -------
    DataFrame
        A row a weight layer: ``layer``, ``activation_std`` (of its output before the ReLU) and
        ``gradient_std`` (of the loss with respect to its weights). ``attrs["loss"]`` is the loss.

    Raises
    ------
    TypeError
        If ``model`` is no VGG.
    ValueError
        If the images or the number of labels do not fit.
    """
    if not isinstance(model, VGG):
        raise TypeError(f"signal takes a net built by vgglib.vgg, got {type(model).__name__}")
    if labels is None:
        labels = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
    names = {v: k for k, v in model.layer_names.items() if k.startswith(("conv", "fc"))}
    layers = {name: model.get_submodule(name) for name in names}
    spread: dict[str, float] = {}

    def keep(name):
        return lambda module, inputs, output: spread.update({name: output.std().item()})

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    training = {module: module.training for module in model.modules()}
    trainable = {layer.weight: layer.weight.requires_grad for layer in layers.values()}
    buffers = {k: v.clone() for k, v in model.named_buffers()}
    try:
        model.train()  # batch norm uses the batch, as it will in training
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        for weight in trainable:
            weight.requires_grad_(True)  # frozen layers have a gradient to look at, too
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(model(batch), labels)
            gradients = torch.autograd.grad(loss, list(trainable))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
        for weight, wanted in trainable.items():
            weight.requires_grad_(wanted)
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    table = pd.DataFrame(
        {
            "layer": [names[name] for name in layers],
            "activation_std": [spread[name] for name in layers],
            "gradient_std": [gradient.std().item() for gradient in gradients],
        }
    )
    table.attrs["loss"] = loss.item()
    return table
