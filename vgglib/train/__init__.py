"""Training: the recipe, the loop, and a run that can be stopped, resumed and shared by GPUs.

``python -m vgglib.train --help`` is the same as a command.
"""

from ..devices import processes
from .checkpoint import CheckpointError, load_run
from .loop import Interrupted, StalledWarning, train
from .recipe import Recipe

__all__ = [
    "CheckpointError",
    "Interrupted",
    "Recipe",
    "StalledWarning",
    "load_run",
    "processes",
    "train",
]
