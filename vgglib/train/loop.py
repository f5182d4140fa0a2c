"""How is a network trained?

The function of chapters 3 and 5; what happens in it, :mod:`vgglib.train.run` says.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch

from ..data import Data
from ..devices import Place
from ..model import VGG
from .recipe import Recipe
from .run import Run


def train(
    model: VGG,
    data: Data,
    recipe: Recipe,
    *,
    device: str | torch.device | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict], object] | None = None,
    workers: int = 4,
    out: str | os.PathLike | None = None,
    resume: bool | str = False,
    checkpoint_steps: int | None = None,
    accumulate: int = 1,
    compiled: bool = False,
    deterministic: bool = False,
) -> pd.DataFrame:
    """Train a network, in place (§3.1).

    In-memory sets are moved to the device once, as uint8, and their crops are made there in
    batches; datasets of PIL images go through ``training_crop`` in worker processes. Inside
    ``torchrun`` (see ``vgglib.train.processes``) the processes share each batch.

    Parameters
    ----------
    model : VGG
        Moved to ``device`` and left there, in evaluation mode.
    data : Data
        From ``vgglib.data.load``.
    recipe : Recipe
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
        net's weights are the checkpoint's then.
    checkpoint_steps : int, optional
        Write a checkpoint after so many steps within an epoch, too.
    accumulate : int
        Make each batch in so many parts, one after the other, and add their gradients: the same
        step in less memory. Batch norm sees the parts.
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
        If the data does not suit the net or the recipe, or the run to be resumed is another one;
        the message says what to change.
    FileExistsError
        If ``out`` holds a run and ``resume`` is not asked for.
    CheckpointError
        If the checkpoint is damaged.
    OSError
        If ``out`` can't be written or is too small, before the training starts.
    torch.cuda.OutOfMemoryError
        If a batch is too large for the GPU; the message says which would fit.
    Interrupted
        After Ctrl-C or SIGTERM, with ``out``: the checkpoint is written.

    Warns
    -----
    RuntimeWarning
        If the loss stops being finite, which ends the training.
    StalledWarning
        If the loss of a whole epoch is that of guessing.
    """
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(f"accumulate must be a positive integer, got {accumulate!r}")
    if resume not in (True, False, "last", "previous"):
        raise ValueError(f"resume must be True, False, 'last' or 'previous', got {resume!r}")
    if out is None and (resume or checkpoint_steps):
        raise ValueError("resume and checkpoint_steps need out=…, the folder of the run")
    if checkpoint_steps is not None and checkpoint_steps < 1:
        raise ValueError(f"checkpoint_steps must be at least 1, got {checkpoint_steps}")
    with _deterministic(deterministic), contextlib.ExitStack() as held:
        run = Run(model, data, recipe, Place.here(device), workers, accumulate, compiled)
        if out is not None:
            run.open(Path(out), resume, checkpoint_steps, held)
        return run.go(progress, on_epoch)


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
