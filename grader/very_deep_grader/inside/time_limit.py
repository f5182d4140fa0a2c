"""Ends a block of Python that takes too long, on either side of the sandbox."""

import contextlib
import signal

# By their names: Windows, where nothing is graded, lacks them.
TIMERS = {
    "clock": ("ITIMER_REAL", "SIGALRM"),
    "processor": ("ITIMER_PROF", "SIGPROF"),
    "user": ("ITIMER_VIRTUAL", "SIGVTALRM"),  # processor time without the system's
}


@contextlib.contextmanager
def time_limit(error, **seconds):
    """Raise an error in a block that takes more than some seconds; its text says of what.

    One call into C is not interrupted, however long it is. Only for a process's main thread.

    Parameters
    ----------
    error : type
        An exception.
    **seconds : float
        By names of `TIMERS`.
    """
    before = {}
    for name, limit in seconds.items():
        timer, number = (getattr(signal, constant) for constant in TIMERS[name])

        def stop(*_, name=name):
            raise error(name)

        before[number] = signal.signal(number, stop)
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for name in seconds:
            signal.setitimer(getattr(signal, TIMERS[name][0]), 0)
        for number, handler in before.items():
            signal.signal(number, handler)
