"""What did the runs that take longer than a chapter give?

A recorded run is a command of ``benchmarks/`` whose result is committed as JSON with the command,
the machine, the versions and the date. Chapters draw it beside a small part executed live.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

_PACKAGE = Path(__file__).parent
#: In a checkout the runs lie in benchmarks/, their one place; a wheel carries a copy.
FOLDERS = (_PACKAGE.parent / "benchmarks" / "recorded", _PACKAGE / "assets" / "recorded")


def recorded(name: str) -> dict | None:
    """The recorded run of that name, or None if nobody has recorded it yet.

    Parameters
    ----------
    name : str
        Of the command in ``benchmarks/`` (and a machine's suffix, if any), e.g. ``"depth"``.

    Returns
    -------
    dict or None
        ``name``, ``command``, ``date``, ``machine``, ``versions``, ``settings`` and ``runs``, a
        list of dicts with what was varied (``label``, ``seed``) and what came out
        (``test_accuracy``, ``history`` …).

    Raises
    ------
    ValueError
        If the name is not one of letters, digits, ``_`` and ``-``, or the file is damaged.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"a recorded run is named with letters, digits, _ and -, got {name!r}")
    for folder in FOLDERS:
        path = folder / f"{name}.json"
        if path.is_file():
            try:
                run = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{path.name} is damaged: {error}") from error
            if run.get("name") != name or "runs" not in run:
                raise ValueError(f"{path.name} is no recorded run called {name!r}")
            return run
    return None
