"""Training: the recipe, the loop, and a run that can be stopped, resumed and shared by GPUs.

``python -m vgglib.train --help`` is the same as a command.
"""

from ..devices import processes
from .callbacks import Callback, Progress, TensorBoard
from .checkpoint import CheckpointError, load_run
from .interrupts import Interrupted
from .loop import train
from .recipe import Recipe
from .run import StalledWarning

__all__ = [
    "Callback",
    "CheckpointError",
    "Interrupted",
    "Progress",
    "Recipe",
    "StalledWarning",
    "TensorBoard",
    "load_run",
    "processes",
    "train",
]
