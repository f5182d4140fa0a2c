"""Why does a training step on a CPU ask the system for the same memory again and again?

A C library that frees a block of tens of megabytes gives it back to the system, and the next step's
map of that size arrives page by page anew, each filled with zeros first. For VGG-16 at 32 px and
batch 128 these are 150,000 page faults a step.
"""

from __future__ import annotations

import ctypes

# Options of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for its own next use, until it ends.

    The process's memory then stays at its peak, where every step takes it anyway. It is for a
    process of vgglib's own; a caller's notebook may want its memory back.

    Returns
    -------
    bool
        Whether it is so now: glibc takes the options, other C libraries do not have them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (TypeError, OSError, AttributeError):  # Windows; macOS and musl
        return False
    # No block from a mapping of its own, nothing given back from the top of the heap.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
