"""What happens in a training, epoch by epoch? A recorded run to scrub through; see chapter 5."""

from __future__ import annotations

import traitlets

from .. import plots
from ..recorded import recorded
from .base import PageWidget, picture

#: Of a run's history, what the front end draws.
COLUMNS = ("lr", "train_loss", "val_loss", "train_accuracy", "val_accuracy")


class TrainingReplay(
    PageWidget,
    front="training_replay",
    to_try="Move through a training epoch by epoch: what does the first smaller rate buy?",
    example="epoch=20",
):
    """Loss, accuracy, learning rate and first-layer filters of ``recorded("replay")``.

    Parameters
    ----------
    epoch : int
        Which epoch's end is shown; 0 is before the training.

    Attributes
    ----------
    run : dict
        ``history`` (columns, an entry an epoch) and ``filters``: their ``shape``, and from before
        the training on the ``bytes`` (base64; 0 is the negative of the ``largest`` weight, 255 that
        weight), ``largest``, and the ``change`` in that epoch relative to their length.
    """

    epoch = traitlets.Int(0, min=0).tag(sync=True)
    run = traitlets.Dict(read_only=True).tag(sync=True)

    @traitlets.default("run")
    def _default_run(self):
        found = recorded("replay")
        if found is None:
            raise FileNotFoundError(
                "no training to replay: benchmarks/recorded/replay.json is missing; "
                "python benchmarks/replay.py makes it"
            )
        one = found["runs"][0]
        history = {name: one["history"][name] for name in COLUMNS}
        return {"history": history, "filters": one["filters"]}

    @property
    def epochs(self) -> int:
        """Number of epochs of the run."""
        return len(self.run["history"]["lr"])

    @traitlets.validate("epoch")
    def _recorded_epoch(self, proposal):
        if proposal.value > self.epochs:
            raise traitlets.TraitError(
                f"epoch must be 0 (before the training) to {self.epochs}, got {proposal.value}"
            )
        return proposal.value

    def fallback(self) -> str:
        """The curves of the whole run."""
        history = self.run["history"]
        numbers = range(1, self.epochs + 1)
        lines = {
            label: {"epoch": numbers, "accuracy": history[name]}
            for label, name in (("training", "train_accuracy"), ("held out", "val_accuracy"))
        }
        figure = plots.curves(lines, y="accuracy", y_label="accuracy", percent=True)
        rates = history["lr"]
        drops = [e for e in numbers[1:] if rates[e - 1] < rates[e - 2]]
        best = max(history["val_accuracy"])
        return picture(
            figure,
            f"Accuracy over {self.epochs} epochs of a recorded training, on training crops and on "
            f"held-out images. The learning rate is divided by ten before the epochs "
            f"{' and '.join(map(str, drops))}; best held out {best:.1%}.",
        )
