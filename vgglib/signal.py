"""What becomes of the signal on its way through the layers, and back? (chapter 4)"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .model import VGG
from .modes import as_it_was, learning


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
    layers: dict[str, Any] = {name: model.get_submodule(name) for name in names}
    spread: dict[str, float] = {}

    def keep(name):
        return lambda module, inputs, output: spread.update({name: output.std().item()})

    weights = [layer.weight for layer in layers.values()]
    averages = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with as_it_was(model), learning(weights), torch.enable_grad(), ExitStack() as held:
        for name, layer in layers.items():
            held.enter_context(layer.register_forward_hook(keep(name)))
        model.train()  # batch norm uses the batch, as it will in training, and moves the copies
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        scores = torch.func.functional_call(model, averages, (batch,))
        loss = nn.functional.cross_entropy(scores, labels)
        gradients = torch.autograd.grad(loss, weights)
    table = pd.DataFrame(
        {
            "layer": [names[name] for name in layers],
            "activation_std": [spread[name] for name in layers],
            "gradient_std": [gradient.std().item() for gradient in gradients],
        }
    )
    table.attrs["loss"] = loss.item()
    return table
