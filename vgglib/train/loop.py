"""How is a network trained?

The function of chapters 3 and 5: it puts the parts together, images, recipe and what looks on;
the loop itself is ``Run`` of ``run.py``, which fine-tuning and boxes use as well.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from ..checks import whole
from ..data import Data, ImageSet
from ..devices import Place, random_state_kept
from ..model import VGG
from ..modes import frozen
from ..pixels import Pixels, PixelsWarning, check_pixels, known_to
from .batches import Batches, check_data, check_size, pipeline, split
from .callbacks import Callback, OnEpoch, Progress
from .recipe import Recipe
from .run import Run, trained_weights


def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    parameters: Iterable | None = None,
    transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    callbacks: Sequence[Callback | Callable[[dict], object]] = (),
    device: str | torch.device | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict], object] | None = None,
    workers: int = 4,
    out: str | os.PathLike | None = None,
    resume: bool | str = False,
    change: Mapping[str, object] | None = None,
    checkpoint_steps: int | None = None,
    accumulate: int = 1,
    compiled: bool = False,
    deterministic: bool = False,
) -> pd.DataFrame:
    """Train a network, in place (§3.1).

    In-memory sets are moved to the device once, as uint8, and their crops are made there in
    batches; datasets of PIL images go through ``training_crop`` in worker processes. Inside
    ``torchrun`` (see :func:`vgglib.processes`) the processes share each batch.

    Parameters
    ----------
    model : nn.Module
        A VGG, or any net that maps (N, C, H, W) to class scores. Moved to ``device`` and left
        there, in evaluation mode, with ``pixels`` and ``classes`` set. A net that has ``pixels``
        already keeps them. Weights with ``requires_grad=False`` stay as they are, and so do the
        averages of batch norms whose weights do.
    data : Data
        From ``vgglib.data.load`` or ``vgglib.data.folder``. Without ``test`` (None) nothing is
        validated.
    recipe : Recipe
    loss : callable, optional
        Scores (n, classes) and targets → mean loss; the cross-entropy of §3.1 if left out, which is
        the validation's loss in any case.
    parameters : iterable of Parameter or of dict, optional
        What is trained: weights, or groups with rates of their own as torch's optimisers take
        them (:func:`vgglib.transfer.rate_groups`).
    transform : callable, optional
        Images (n, C, H, W) of 0–255 and labels (n,) → images and targets, after the crop and before
        the normalisation: mixup and the like. It may draw from torch's own generators.
    callbacks : sequence of Callback or callable
        What looks on or has a hand in it, in this order; a function is called like ``on_epoch``.
    device : str or torch.device, optional
        The GPU where there is one, else the CPU.
    progress : bool
        Show a tqdm bar.
    on_epoch : callable, optional
        Called after each epoch with the epoch's row as a dict; training ends if it returns True.
        Of several processes, the first calls it.
    workers : int
        Processes that read and crop images from disk.
    out : path, optional
        A folder for the run: ``last.safetensors`` and ``previous.safetensors`` (checkpoints, after
        each epoch), ``history.csv``, ``config.json``.
    resume : bool or "previous"
        Go on from the last (or the previous) checkpoint in ``out``; start if there is none. The
        net's weights are the checkpoint's then, and the recipe has to be its own, ``epochs`` aside
        where the schedule does not depend on them.
    change : mapping, optional
        Fields of the recipe that are to be other ones from here on, such as ``{"lr": 1e-3}``:
        ``epochs``, ``lr``, ``max_drops``, ``momentum`` or ``weight_decay``; with a one-cycle or
        cosine schedule, which is made for its epochs and its rate, the last two. Momentum and
        history go on. ``config.json`` lists what was changed, and so does ``attrs["changes"]``.
    checkpoint_steps : int, optional
        Write a checkpoint after so many steps within an epoch, too.
    accumulate : int
        Make each batch in so many parts, one after the other, and add their gradients: the same
        step in less memory. Batch norm sees the parts, and so does a loss of your own: one that
        weighs classes takes another mean of parts than of the whole.
    compiled : bool
        Let ``torch.compile`` translate the net.
    deterministic : bool
        Only algorithms that give the same bits each time. On the CPU a run that was interrupted
        and resumed then ends with exactly the weights of one that was not.

    Returns
    -------
    DataFrame
        A row an epoch: ``epoch`` (from 1), ``lr``, ``train_loss`` and ``train_accuracy`` (on the
        augmented crops, with dropout), ``val_loss``, ``val_accuracy``, ``seconds`` (of training,
        without validation), ``images_per_second`` and ``waiting`` (the fraction of those seconds
        in which the net waited for images). Accuracies are fractions. ``attrs["stopped"]`` says
        why it ended.

    Raises
    ------
    ValueError
        If the data does not suit the net or the recipe, or the run to be resumed is another one or
        cannot be changed so; the message says what to do.
    TypeError
        If the recipe, a callback or a function is something else.
    FileExistsError
        If ``out`` holds a run and ``resume`` is not asked for.
    CheckpointError
        If the checkpoint is damaged.
    OSError
        If ``out`` can't be written or is too small, or there is no compiler, before the training
        starts; if an image can't be read or processes have too little memory to hand images over.
    torch.cuda.OutOfMemoryError
        If a batch is too large for the GPU; the message says which would fit.
    Interrupted
        After Ctrl-C or SIGTERM, with ``out``: the checkpoint is written.

    Warns
    -----
    RuntimeWarning
        If the loss or a weight stops being finite, which ends the training.
    StalledWarning
        If the loss of a whole epoch is that of guessing.

    Notes
    -----
    Random numbers are drawn by ``recipe.seed``; torch's own go on afterwards as if none had been.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"train takes a vgglib.Recipe, such as Recipe.small(), got {recipe!r}")
    for name, given in {"loss": loss, "transform": transform, "on_epoch": on_epoch}.items():
        if given is not None and (isinstance(given, type) or not callable(given)):
            raise TypeError(
                f"{name} must be a function, or an object that is called, got {given!r}"
            )
    accumulate = whole("accumulate", accumulate)
    if resume not in (True, False, "last", "previous"):
        raise ValueError(f"resume must be True, False, 'last' or 'previous', got {resume!r}")
    if out is not None and not os.fspath(out):
        raise ValueError("out (--out) must be the name of a folder, got an empty one")
    if out is None and (resume or checkpoint_steps is not None):
        raise ValueError("resume and checkpoint_steps need out=…, the folder of the run")
    if checkpoint_steps is not None:
        checkpoint_steps = whole("checkpoint_steps", checkpoint_steps)
    if change and not resume:
        raise ValueError("change needs resume=True (--resume); a new run takes another recipe")
    change = change or {}
    recipe = recipe.changed_in_a_run(change)
    place = Place.here(device)
    check_data(data, recipe, model)
    training, validation = split(data, recipe)
    if isinstance(validation, ImageSet):  # it is tested as it is, after a whole epoch
        check_size(validation, model)
    pixels = the_pixels(model, data, recipe, place)
    if not isinstance(callbacks, Sequence) or not all(
        isinstance(c, Callback) or (callable(c) and not isinstance(c, type)) for c in callbacks
    ):
        raise TypeError(
            "callbacks is a list of vgglib.Callback objects or functions of an epoch's row, got "
            f"{callbacks!r}"
        )
    shown: list[Callback] = [Progress()] if progress else []
    shown += [OnEpoch(on_epoch)] if on_epoch is not None else []
    with contextlib.ExitStack() as held:
        held.enter_context(_deterministic(deterministic))
        held.enter_context(random_state_kept(place.device))
        parameters = held.enter_context(only(model, parameters))
        run = Run(
            model,
            pipeline(training, model, recipe, pixels, place, workers, transform),
            validation,
            recipe,
            place,
            about={"name": data.name},
            classes=data.classes,
            loss=loss,
            parameters=parameters,
            callbacks=[*shown, *(c if isinstance(c, Callback) else OnEpoch(c) for c in callbacks)],
            workers=workers,
            accumulate=accumulate,
            compiled=compiled,
        )
        if out is not None:
            run.open(Path(out).expanduser(), resume, checkpoint_steps, held, change)
        tell(model, run.source.pixels, tuple(data.classes))
        return run.go()


def tell(model: nn.Module, pixels: Pixels, classes: tuple[str, ...] | None) -> None:
    """Leave on a net, and on a VGG inside it, what its weights are trained with."""
    for module in model.modules():
        fits = getattr(module, "in_channels", len(pixels.mean)) == len(pixels.mean)
        if module is model or (isinstance(module, VGG) and fits):
            for name, value in {"pixels": pixels, "classes": classes}.items():
                if name not in module._modules:  # a net's own part of that name
                    setattr(module, name, value)


@contextlib.contextmanager
def only(model: nn.Module, parameters: Iterable | None) -> Iterator[list | None]:
    """While it is open, weights that are not among these are frozen; these, as a list."""
    if parameters is None:
        yield None
        return
    groups = trained_weights(model, parameters)
    named = {id(weight) for group in groups for weight in group["params"]}
    with frozen(weight for weight in model.parameters() if id(weight) not in named):
        yield groups


def fit(
    model: nn.Module,
    source: Batches,
    recipe: Recipe,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    parameters: Iterable | None = None,
) -> pd.DataFrame:
    """The loop alone, without a folder and without validation; the history."""
    with random_state_kept(source.place.device), only(model, parameters) as parameters:
        run = Run(model, source, None, recipe, source.place, loss=loss, parameters=parameters)
        return run.go()


def the_pixels(model: nn.Module, data: Data, recipe: Recipe, place: Place) -> Pixels:
    """What the net knows already, else what the recipe makes of the data."""
    wanted, own = Pixels(*recipe.normalisation(data)), known_to(model)
    if own is None:
        return check_pixels(wanted, getattr(model, "in_channels", None))
    if own.same_as(wanted):
        return own
    if place.first:
        warnings.warn(
            f"the net's weights were trained with {own}, and it goes on with that; {data.name} "
            f"would be {wanted}: net.pixels = None before the training takes that",
            PixelsWarning,
            stacklevel=3,
        )
    return own


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
