"""What does a run leave behind for people to read?

Beside the checkpoints: the settings as JSON, the history as CSV, the curves as a picture.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

HISTORY, CONFIG, CURVES = "history.csv", "config.json", "curves.png"


def write(folder: Path, settings: dict, rows: list[dict]) -> None:
    """Write the settings and the history of a run so far."""
    text = json.dumps(settings, indent=2, ensure_ascii=False, default=float)
    _replace(folder / CONFIG, text + "\n")
    if rows:
        _replace(folder / HISTORY, pd.DataFrame(rows).to_csv(index=False))


def curves(folder: Path, history: pd.DataFrame) -> list[Path]:
    """Draw loss, accuracy and learning rate of a run into its folder; the file, if any.

    Without matplotlib, which the extra "plots" brings, a run has no picture.
    """
    if find_spec("matplotlib") is None:
        return []
    from ..plots import training

    fresh = folder / f"{CURVES}.new"
    training(history, rate=True).savefig(fresh, format="png", dpi=120)
    os.replace(fresh, folder / CURVES)
    return [folder / CURVES]


def _replace(path: Path, text: str) -> None:
    """Write a text file so that a reader never sees half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
