"""What looks on while a net trains, or has a hand in it?

The progress bar and TensorBoard are callbacks, and so is whatever a reader adds: a moving average
of the weights, a picture an epoch, an early end.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from .run import Run


class Callback:
    """What :func:`vgglib.train` calls; override what you need.

    Each method gets the run: its ``model``, ``optimiser``, ``recipe``, ``epoch`` (from 1), ``step``
    (of the epoch), ``rows`` (of the history), ``folder`` and ``place`` (``place.first`` is true in
    the one process that writes). Every process of ``torchrun`` calls its own callbacks. What a
    callback holds is not in the run's checkpoints.
    """

    def on_start(self, run: Run) -> None:
        """Before the first step, also of a run that goes on."""

    def on_step(self, run: Run) -> None:
        """After each step."""

    def on_epoch(self, run: Run, row: dict) -> object:
        """After an epoch's validation, with its row of the history; True ends the training."""

    def on_end(self, run: Run, history: pd.DataFrame) -> None:
        """After the last epoch, and where an error or a signal ends the training before it."""


class OnEpoch(Callback):
    """A function of the row alone, which the first process calls."""

    def __init__(self, function: Callable[[dict], object]):
        self.function = function

    def on_epoch(self, run: Run, row: dict) -> object:
        return self.function(row) if run.place.first else None


class Progress(Callback):
    """A bar that counts steps and shows the latest results."""

    def on_start(self, run: Run) -> None:
        steps = len(run.source)
        self.bar = tqdm(
            total=run.recipe.epochs * steps,
            initial=(run.epoch - 1) * steps + run.step,
            desc=run.name,
            disable=not run.place.first,
        )

    def on_step(self, run: Run) -> None:
        self.bar.update()

    def on_epoch(self, run: Run, row: dict) -> None:
        shown = {"loss": f"{row['train_loss']:.3f}", "lr": f"{row['lr']:.0e}"}
        if row["val_accuracy"] == row["val_accuracy"]:  # not NaN: there is a validation
            shown["val"] = f"{row['val_accuracy']:.1%}"
        self.bar.set_postfix(shown)

    def on_end(self, run: Run, history: pd.DataFrame) -> None:
        self.bar.close()


class TensorBoard(Callback):
    """TensorBoard's events, in a file that is opened with the first epoch.

    Parameters
    ----------
    folder : path
        So that a refused run leaves none.

    Raises
    ------
    ValueError
        If the package tensorboard is missing.
    """

    def __init__(self, folder: Path):
        if importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "events for TensorBoard (--tensorboard) need the package tensorboard: pip install "
                "'vgglib[tensorboard]', or leave it out"
            )
        self.folder = folder
        self.writer: SummaryWriter | None = None

    def on_epoch(self, run: Run, row: dict) -> None:
        if not run.place.first:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a run that was cut off noted of this epoch and of later ones is dropped.
            self.writer = SummaryWriter(self.folder, purge_step=row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])

    def on_end(self, run: Run, history: pd.DataFrame) -> None:
        if self.writer is not None:
            self.writer.close()
