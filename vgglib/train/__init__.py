"""Training: the recipe, the loop, and a run that can be stopped, resumed and shared by GPUs.

``python -m vgglib.train --help`` is the same as a command.
"""

from ..devices import processes
from .checkpoint import CheckpointError, load_run
from .loop import train
from .recipe import Recipe
from .run import StalledWarning
from .signals import Interrupted

__all__ = [
    "CheckpointError",
    "Interrupted",
    "Recipe",
    "StalledWarning",
    "load_run",
    "processes",
    "train",
]
