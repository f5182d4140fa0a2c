"""How does a shallow net, once trained, help a deep one to start? (§3.1, chapter 4)"""

from __future__ import annotations

import torch

from .model import VGG


def pre_initialise(deep: VGG, shallow: VGG) -> list[tuple[str, str]]:
    """Start a deep net from a trained shallow one, in place (§3.1).

    The first four convolutions and all fully connected layers of ``deep`` take the weights of
    ``shallow``; its other layers keep theirs. "First four" can not be read as "the first four of
    each": the second convolution of D has 64 input channels, A's has 64 in and 128 out. The
    convolutions are matched by stage and place within the stage, which fits B, D and E:
    A's conv1_1, conv2_1, conv3_1, conv3_2 go to the layers of the same names. ``pixels`` and
    ``classes`` go along where ``deep`` does not know its own.

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
        got = " and ".join(f"{type(x).__module__}.{type(x).__name__}" for x in (deep, shallow))
        raise TypeError(f"pre_initialise(deep, shallow) takes nets built by vgglib.vgg, got {got}")
    source, target = shallow.layer_names, deep.layer_names
    convs = [name for name in source if name.startswith("conv")][:4]
    fcs = [name for name in source if name.startswith("fc")]
    others = [name for name in target if name.startswith("fc")]
    if fcs != others:
        raise ValueError(
            f"{shallow.config.name} has the fully connected layers {', '.join(fcs)}, and "
            f"{deep.config.name} has {', '.join(others)}; build both nets of a Config with as many "
            "stages and as many layers in hidden="
        )
    wanted = convs + fcs
    if shallow.batch_norm:
        wanted += [name.replace("conv", "bn") for name in convs]
    pairs = []
    for name in wanted:
        if name not in target:
            remedy = "the deeper net comes first: pre_initialise(deep, shallow)"
            if name.startswith("bn"):
                remedy = "build both nets with the same batch_norm="
            raise ValueError(
                f"{shallow.config.name}'s {name} has no counterpart in {deep.config.name}; {remedy}"
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
        for origin, place in pairs:
            deep.get_submodule(place).load_state_dict(shallow.get_submodule(origin).state_dict())
    deep.pixels, deep.classes = deep.pixels or shallow.pixels, deep.classes or shallow.classes
    return pairs
