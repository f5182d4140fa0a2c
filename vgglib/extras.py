"""Which extra of the package brings what is not installed?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SOURCE = "git+https://github.com/very-deep-course/very-deep"


@contextmanager
def extra(name: str) -> Iterator[None]:
    """A block that imports what an extra of ``pyproject.toml`` brings, such as ``"inside"``.

    Where a module is missing, the ModuleNotFoundError names it and the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        raise ModuleNotFoundError(
            f"{module} is not installed; the extra {name!r} brings it: "
            f'pip install "vgglib[{name}] @ {SOURCE}"',
            name=error.name,
        ) from error
