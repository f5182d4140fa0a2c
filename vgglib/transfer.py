"""What is a trained net worth on other images?

The protocol of appendix B (chapter 8): the net, its weights fixed, turns an image of any size into
a *descriptor*, and a linear classifier is trained on the descriptors of another set. Also the other
way to go on from trained weights, fine-tuning, with smaller rates for early stages (Howard & Ruder,
2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import checks
from .data import ImageSet
from .devices import Place
from .evaluate import check_labels
from .evaluate.views import Images, check_scales, rescaled
from .extras import extra
from .features import activations
from .model import VGG
from .modes import frozen
from .pixels import pixels_of
from .precision import autocast
from .train.batches import DeviceBatches, check_size
from .train.loop import fit
from .train.recipe import Recipe

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

#: Values of the SVM's C, times the descriptors' variance, that :func:`linear_classifier` tries.
STRENGTHS = (0.1, 1.0, 10.0)


def descriptors(
    net: VGG,
    images: Images,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    scales: int | Sequence[int],
    layers: Sequence[str] | None = None,
    mirror: bool = True,
    batch_size: int = 64,
    precision: str = "fp32",
) -> dict[str, Tensor]:
    """Feature maps averaged over all places of an image, by layer and scale (appendix B).

    Parameters
    ----------
    net : VGG
        Left as it was; only the part up to the last layer asked for is run.
    images : uint8 Tensor (N, 3, H, W), or sequence of PIL images or uint8 tensors (3, H, W)
        Of any sizes.
    mean, std : a float a channel, optional
        In 0–255 units; the net's own (``net.pixels``) if they are left out.
    scales : int or sequence of int
        Q, the shorter side in pixels that each image is rescaled to, or several of them.
    layers : sequence of str, optional
        Convolutional layers by the names of :func:`vgglib.features.activations`; default: the pool
        at the end of each stage.
    mirror : bool
        Average the descriptors of each image and of its mirror image, as the paper does.
    batch_size : int
        Images that go through the net at a time.
    precision : {"fp32", "bf16", "auto"}

    Returns
    -------
    dict
        Layer → Tensor (scales, N, channels), fp32 on the CPU. Not normalised: see
        :func:`aggregate`.

    Raises
    ------
    ValueError, TypeError
        If there is no image, a layer is unknown or has no places to average over, Q is too small
        for the deepest layer, or images are of another type.
    """
    names = net.layer_names
    layers = [name for name in names if name.startswith("pool")] if layers is None else layers
    convolutional = [name for name, path in names.items() if path.startswith("features.")]
    for layer in layers:
        if not names.get(layer, layer).startswith("features."):
            raise ValueError(
                f"descriptors averages over the places of a feature map; {layer!r} is no layer of "
                f"the convolutional part, which has {', '.join(convolutional)}"
            )
    stages = sum(isinstance(module, nn.MaxPool2d) for module in net.features)
    why = f"which {stages} pools halve to one place"
    scales = check_scales(scales, 2**stages, why)
    checks.whole("batch_size", batch_size)
    if not len(images):
        raise ValueError("descriptors needs at least 1 image, got 0")
    device = next(net.parameters()).device
    pixels_for = pixels_of(net, mean, std)
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for scale in scales:
        order = []
        rows: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        for indices, same in rescaled(images, scale):
            order.append(indices)
            for part in same.split(batch_size):
                pixels = pixels_for(part.to(device))
                with autocast(device, precision):
                    views = [pixels, pixels.flip(-1)] if mirror else [pixels]
                    maps = [activations(net, view, layers) for view in views]
                for layer in layers:
                    means = [view[layer].float().mean((2, 3)).cpu() for view in maps]
                    rows[layer].append(torch.stack(means).mean(0))  # (images, channels)
        back = torch.cat(order).argsort()
        for layer in layers:
            found[layer].append(torch.cat(rows[layer])[back])
    return {layer: torch.stack(by_scale) for layer, by_scale in found.items()}


def aggregate(by_scale: Tensor, how: str = "average") -> Tensor:
    """One descriptor an image, of length 1, from those of several scales (appendix B).

    Parameters
    ----------
    by_scale : Tensor, (scales, N, channels)
        A layer's, from :func:`descriptors`.
    how : {"average", "stack"}
        The mean over the scales; or all of them side by side, which lets a classifier weigh each
        by itself and makes the descriptor longer.

    Returns
    -------
    Tensor, (N, channels) or (N, scales · channels)
        Each row divided by its Euclidean length (L2-normalised); a row of zeros stays.

    Raises
    ------
    ValueError
        For another ``how`` or another shape.
    """
    if by_scale.ndim != 3:
        raise ValueError(
            f"aggregate takes one layer's descriptors, (scales, N, channels), got "
            f"{tuple(by_scale.shape)}"
        )
    checks.choice("how", how, ("average", "stack"))
    stacked = by_scale.movedim(0, 1).flatten(1)  # (N, scales · channels)
    return F.normalize(by_scale.mean(0) if how == "average" else stacked, dim=1)


def linear_classifier(
    descriptors: Tensor,
    labels: Tensor,
    *,
    strengths: Sequence[float] = STRENGTHS,
    holdout: float = 0.2,
    splits: int = 3,
    seed: int = 0,
) -> Pipeline:
    """A linear support vector machine on descriptors (appendix B).

    C says how much an error costs beside the length of the weights. It is the one of ``strengths``
    that does best on a fifth of the images, kept aside as in the paper, on average over some
    choices of that fifth; then all images are used. Strengths are in units of the descriptors'
    variance, so that the same ones suit any net: descriptors of a random net are nearly parallel,
    and want a larger C.

    Parameters
    ----------
    descriptors : Tensor, (N, channels)
    labels : Tensor, (N,)
        At least two images of each class.
    strengths : sequence of float
        Values of C, times the variance summed over the channels, to choose from; with a single
        one nothing is kept aside.
    holdout : float
        The share that is kept aside for the choice, the same of every class.
    splits : int
        How many times; the paper's 1 is little for a few hundred images.
    seed : int
        Which images those are.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Subtracts the mean descriptor, then a LinearSVC. It is fitted: its accuracy is
        ``score(descriptors, labels)``.

    Raises
    ------
    ValueError
        If the numbers of descriptors and labels differ, a descriptor is not finite, or all are
        the same.
    """
    with extra("inside"):  # scikit-learn is slow to import, and only classifiers need it
        from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

    if descriptors.ndim != 2 or labels.shape != descriptors.shape[:1]:
        raise ValueError(
            f"descriptors (N, channels) need labels (N,), got {tuple(descriptors.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if not torch.isfinite(descriptors).all():
        raise ValueError(
            f"descriptors must be finite, {int((~descriptors.isfinite()).any(1).sum())} of "
            f"{len(descriptors)} are not; were the net's weights loaded (load_weights)?"
        )
    x, y = descriptors.numpy().astype(np.float64), labels.numpy()
    variance = x.var(axis=0).sum()
    if not variance:
        raise ValueError(
            f"the {len(descriptors)} descriptors are all the same, so that nothing tells the "
            "classes apart; were the net's weights loaded (load_weights)?"
        )
    costs = [strength / variance for strength in strengths]
    machine = make_pipeline(
        StandardScaler(with_std=False), LinearSVC(C=costs[0], dual=False, random_state=seed)
    )
    if len(strengths) > 1:
        aside = StratifiedShuffleSplit(splits, test_size=holdout, random_state=seed)
        grid = {"linearsvc__C": costs}
        machine.set_params(**GridSearchCV(machine, grid, cv=aside).fit(x, y).best_params_)
    return machine.fit(x, y)


def nearest(queries: Tensor, gallery: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """The most similar descriptors of a gallery, by the cosine of the angle between them.

    Parameters
    ----------
    queries : Tensor, (M, channels)
    gallery : Tensor, (N, channels)
    k : int

    Returns
    -------
    (Tensor, Tensor), both (M, k)
        Cosines, the largest first, and the places in the gallery.

    Raises
    ------
    ValueError
        If the two differ in their channels, or the gallery has fewer than k.
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries and gallery must be (M, channels) and (N, channels), got "
            f"{tuple(queries.shape)} and {tuple(gallery.shape)}"
        )
    if not 1 <= checks.whole("k", k) <= len(gallery):
        raise ValueError(f"k must be from 1 to {len(gallery)}, the size of the gallery; got {k!r}")
    cosines = F.normalize(queries, dim=1) @ F.normalize(gallery, dim=1).T  # (M, N)
    values, places = cosines.topk(k, dim=1)
    return values, places


def rate_groups(net: VGG, lr: float, factor: float) -> list[dict]:
    """Parameter groups for an optimiser: the earlier the stage, the smaller its learning rate.

    Parameters
    ----------
    net : VGG
    lr : float
        Rate of the classifier.
    factor : float
        Each stage's rate is so many times that of the one behind it: 1 gives one rate to all; with
        0.3 the first of five stages learns at 0.3⁵, a quarter of a percent, of the classifier's
        rate; 0 trains the classifier alone.

    Returns
    -------
    list of dict
        From the first stage to the classifier: ``name``, ``lr`` and ``params``. Groups whose rate
        is 0 are left out.

    Raises
    ------
    ValueError
        If lr is not positive or the factor not in [0, 1].
    """
    if not lr > 0 or not 0 <= factor <= 1:
        raise ValueError(f"lr must be positive and factor from 0 to 1, got {lr!r} and {factor!r}")
    stages: list[list[nn.Parameter]] = [[]]
    for module in net.features:
        stages[-1] += module.parameters()
        if isinstance(module, nn.MaxPool2d):
            stages.append([])
    stages.pop()  # behind the last pool
    groups: list[dict] = [
        {"name": f"stage {number}", "lr": lr * factor ** (len(stages) - number + 1), "params": own}
        for number, own in enumerate(stages, start=1)
    ]
    groups.append({"name": "classifier", "lr": lr, "params": list(net.classifier.parameters())})
    return [group for group in groups if group["lr"] > 0]


def fine_tune(
    net: VGG,
    images: ImageSet,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    lr: float,
    factor: float,
    epochs: int = 10,
    batch_size: int = 50,
    seed: int = 0,
) -> VGG:
    """Train on from the weights that a net has, each stage at its own rate.

    The loop of :func:`vgglib.train`, with the paper's momentum and L2 (§3.1), on the images and
    their mirror images. The rates of :func:`rate_groups` rise and fall again within the run
    (one-cycle), so that a new classifier's first gradients do little harm.

    Parameters
    ----------
    net : VGG
        Trained in place, on the device where it is. Its classifier must have the new classes.
    images : ImageSet
        Of the net's size.
    mean, std : a float a channel, optional
        In 0–255 units; the net's own (``net.pixels``) if they are left out.
    lr, factor : float
        See :func:`rate_groups`; with factor 0 the convolutional part stays as it is, the
        statistics of batch norm included.
    epochs, batch_size : int
    seed : int
        Of the order of the images, the mirroring and dropout; torch's own random numbers go on
        afterwards as if nothing had been drawn.

    Returns
    -------
    VGG
        The net, in evaluation mode. Parameters that took no gradient before were not trained and
        take none now.

    Raises
    ------
    TypeError
        If the images are no ImageSet.
    ValueError
        If there is no image or none of the net's size, a label is no class of the net, a number is
        out of its range, or nothing is left to train.
    """
    if not isinstance(images, ImageSet):
        raise TypeError(
            f"fine_tune takes an ImageSet, such as data.train of a set in memory, got "
            f"{type(images).__name__}; vgglib.train trains on folders of photos"
        )
    if not len(images):
        raise ValueError("fine_tune needs at least 1 image, got 0")
    check_labels(images.labels, net.num_classes)
    place = Place(next(net.parameters()).device)
    known = pixels_of(net, mean, std)
    recipe = Recipe(
        batch_size=batch_size, epochs=epochs, lr=lr, dropout=None, schedule="one-cycle",
        scale=None, colour_shift=False, seed=seed,
    )  # fmt: skip
    check_size(images, net)
    with frozen(net.features.parameters() if factor == 0 else ()):
        groups = [
            group | {"params": learning}
            for group in rate_groups(net, lr, factor)
            if (learning := [weight for weight in group["params"] if weight.requires_grad])
        ]
        if not groups:
            raise ValueError(
                f"fine_tune has nothing to train: with factor={factor} all parameters that are "
                "left have requires_grad=False; give those that are to learn requires_grad=True"
            )
        source = DeviceBatches(images, net, recipe, known.mean, known.std, place, whole=False)
        fit(net, source, recipe, parameters=groups)
    net.pixels = known
    return net
