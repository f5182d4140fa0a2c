"""A student's code as the trusted side sees it: a session, and proxies of what its cells define.

A proxy sends the arguments of a call to the worker and gives back a copy of the result. The
student's code is never in this process. It may end or hang at any moment: then the call raises,
and the next request meets a new worker in which the cells that had worked have been run again.
"""

import contextlib
import functools
import io
import operator
import pickle
import random
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy

from . import bounds
from .inside import channel
from .inside.codec import Decoder
from .inside.time_limit import time_limit
from .sandbox import Limits, Process

START_SECONDS = 180
TICK = 0.01  # seconds, the unit of processor time as the system tells it
GRACE = 3  # seconds of processor time in which a worker may end a request itself
RESTARTS = 8


class StudentError(Exception):
    """The student's code raised, ended, hung or returned what can not be used.

    ``brief`` says so in words that are not the student's.
    """

    brief = "did not work"


class StudentTimeout(StudentError):
    """The student's code took too long."""

    brief = "took too long"


class StudentCrash(StudentError):
    """The student's process ended, or said what makes no sense."""

    brief = "ended its process"


class OutOfTime(Exception):
    """The time of the whole submission is over."""


# A student's ValueError is a ValueError in the test as well, so that a test can ask for one.
_BROAD = (ArithmeticError, LookupError, NameError, RuntimeError, TypeError, ValueError)
_NARROW = (AttributeError, IndexError, KeyError, NotImplementedError, OverflowError)
_SAME = {
    kind.__name__: type(kind.__name__, (StudentError, kind), {})
    for kind in (*_BROAD, *_NARROW, ZeroDivisionError)
}


class Session(contextlib.AbstractContextManager):
    """One submission's worker, which does not see what lies in hidden folders."""

    def __init__(self, limits: Limits, sandboxed=True, hidden: Sequence[str | Path] = ()):
        self.limits = limits
        self.sandboxed = sandboxed
        self.hidden = hidden
        self.generation = 0
        self.process = None
        self.done = []  # sources of the cells that have worked
        self._begin()

    def _begin(self):
        """Start to count the submission's time."""
        self.deadline = time.monotonic() + self.limits.clock(self.limits.submission)
        self.spent = 0.0  # seconds of processor time in workers that have ended
        self.since = 0.0 if self.process is None else self.process.seconds

    def used(self):
        """Seconds of processor time that the submission has used so far."""
        return self.spent + (0.0 if self.process is None else self.process.seconds - self.since)

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the worker."""
        if self.process is not None:
            self.process.stop()
            self.spent = self.used()
            self.connection.close()
            self.process = None

    def start(self):
        """Start a worker if none is running, and bring it to where the last one was."""
        if self.process is not None:
            return
        if self.generation > RESTARTS:
            raise OutOfTime(f"the submission's process has ended more than {RESTARTS} times")
        self.connection, theirs = socket.socketpair()
        self.process = Process(theirs, self.limits, self.sandboxed, self.hidden)
        self.generation += 1
        self.number = 0
        self.random_state = None
        try:
            channel.receive(self.connection, time.monotonic() + START_SECONDS)
        except (channel.ClosedError, channel.MalformedError, TimeoutError) as error:
            said = self.process.errors.decode("utf-8", "replace")
            self.close()
            raise RuntimeError(f"the worker does not start: {said}") from error
        self.process.usage()
        self.since = self.process.seconds  # the worker's own start is not the student's
        for source in self.done:
            self.request({"op": "run", "source": source}, self.limits.cell)

    def reset(self):
        """Forget all cells, for another submission that is trusted not to disturb the worker."""
        self._begin()
        self.done = []
        self.request({"op": "reset"}, self.limits.call)

    def request(self, message, seconds, buffers=()):
        """Send a request and return the decoded answer.

        Raises
        ------
        StudentError
            There is no good answer.
        OutOfTime
            The time of the submission is over.
        """
        self.start()
        limits = self.limits
        left = limits.submission - self.used()
        # The system counts in hundredths of a second; less than one is left by rounding alone.
        if left < TICK / 2:
            raise OutOfTime(f"the submission {_late(limits.submission)}")
        seconds = min(seconds, left)
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime(f"the submission {_late(None, limits.clock(limits.submission))}")
        clock = min(limits.clock(seconds), left)
        self.number += 1
        message = {**message, "id": self.number, "seconds": seconds, "clock": clock}
        patience = clock + limits.clock(GRACE)
        late = f"{_late(seconds)} and was ended"
        self.process.allowed = (seconds + GRACE, late)
        try:
            self.connection.settimeout(patience)
            deadline = time.monotonic() + patience
            channel.send(self.connection, message, buffers)
            reply, raw = channel.receive(self.connection, deadline)
            self.process.allowed = None
            return self._read(reply, raw, seconds, clock)
        except TimeoutError:
            self.close()
            raise StudentTimeout(f"{_late(seconds, clock)} and was ended") from None
        except channel.ClosedError:
            time.sleep(0.2)  # the watchdog may be about to say why
            cause = self.process.cause or "ended its own process"
            self.close()
            raise (StudentTimeout if cause == late else StudentCrash)(cause) from None
        except channel.MalformedError as error:
            self.close()
            raise StudentCrash(f"sent what is no answer: {error}") from None

    def _read(self, reply, raw, seconds, clock):
        if reply.get("id") != self.number or type(reply.get("id")) is not int:
            raise channel.MalformedError("an answer to another question")
        if "error" in reply:
            raise _error(reply["error"], seconds, clock)
        with time_limit(bounds.TooLongError, user=self.limits.call):
            return Decoder(raw, functools.partial(Remote, self)).decode(reply.get("value"))

    def run(self, source):
        """Execute a cell; returns its output and the error that ended it, or None.

        Returns
        -------
        text : str
        error : str or None
        """
        try:
            answer = self.request({"op": "run", "source": source}, self.limits.cell)
            text, error = _parts(answer, str, dict | None)
        except StudentError as error:
            return "", str(error)
        # A cell that raised may have defined something first, as in a notebook.
        self.done.append(source)
        return text[: bounds.TEXT], None if error is None else str(_error(error))

    def figures(self):
        """What the cells have drawn since the last call, as PNG in base64."""
        found = []
        if self.process is not None:
            with contextlib.suppress(StudentError, OutOfTime):
                found = self.request({"op": "figures"}, self.limits.call)
        return bounds.pictures(found)

    def get(self, name):
        """The value or proxy of a name; raises `KeyError` if the student does not define it."""
        answer = self.request({"op": "get", "name": name}, self.limits.call)
        there, value = _parts(answer, bool, object)
        if not there:
            raise KeyError(name)
        if isinstance(value, Remote):
            value._name = name
        return value

    def states(self):
        """The test's random state, if it has changed since the last call, for the student's side.

        So a test's ``torch.manual_seed`` holds for the student's code as well.
        """
        import torch

        state = pickle.dumps(
            (random.getstate(), numpy.random.get_state(), torch.get_rng_state().numpy().tobytes())
        )
        if state == self.random_state:
            return []
        self.random_state = state
        return [state]


@functools.cache
def _data_names():
    """Attributes by which tests ask tensors, such as ``shape`` or ``mean``."""
    import torch

    return frozenset(dir(torch.Tensor)) - frozenset(dir(torch.nn.Module))


class Remote:
    """An object in the worker that is no plain data, most often a function.

    It goes with its worker, but for one that was asked for by its name: that is found again.
    """

    def __init__(self, session, number, kind):
        self._session = session
        self._generation = session.generation
        self._number = number
        self._kind = kind
        self._name = None

    def __repr__(self):
        return f"<the student's {self._name or self._kind}>"

    def _current(self):
        """The object's number in the worker that runs."""
        if self._generation != self._session.generation:
            found = None
            if self._name is not None:
                with contextlib.suppress(KeyError):
                    found = self._session.get(self._name)
            if not isinstance(found, Remote):
                raise StudentCrash("the process that held this object has ended")
            self._generation, self._number = found._generation, found._number
        return self._number

    def _ask(self, function, args, kwargs=None, watch=False):
        """Have the worker call a function, which may be this object."""
        self._session.start()
        file = io.BytesIO()
        _Pickler(file).dump((function, args, kwargs or {}))
        buffers = [file.getvalue(), *self._session.states()]
        message = {"op": "call", "watch": watch}
        return self._session.request(message, self._session.limits.call, buffers)

    def __call__(self, *args, **kwargs):
        return self._ask(self, args, kwargs)

    def _watch(self, *args, **kwargs):
        """What `inside.effects.watch` says of a call."""
        return _parts(self._ask(self, args, kwargs, watch=True), object, dict, list, bool)

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if name in _data_names():
            # An object of the student's own could say of itself whatever a test wants to hear.
            raise StudentError(f"returned a {self._kind}, where numbers or a tensor are expected")
        return self._ask(getattr, (self, name))

    def __getitem__(self, key):
        return self._ask(operator.getitem, (self, key))

    def __len__(self):
        (length,) = _parts((self._ask(len, (self,)),), int)
        return length

    def __bool__(self):
        return True

    def __iter__(self):
        (items,) = _parts((self._ask(iter, (self,)),), list)
        return iter(items)


class _Pickler(pickle.Pickler):
    """Sends a proxy as the number of its object."""

    def persistent_id(self, value):
        return value._current() if isinstance(value, Remote) else None


def _parts(answer, *kinds):
    """An answer that has to be a tuple of these kinds."""
    if type(answer) is tuple and len(answer) == len(kinds) and all(map(isinstance, answer, kinds)):
        return answer
    raise StudentCrash("sent what is no answer")


def _late(seconds, clock=None):
    """Says that a limit was passed, of processor time or, if given, by the clock."""
    if clock is None:
        return f"took more than {round(seconds, 1):g} s of processor time"
    return f"took more than {round(clock, 1):g} s by the clock"


def _error(described, seconds=None, clock=None):
    """The exception that stands for a worker's description of one."""
    described = described if type(described) is dict else {}
    name, message = (str(described.get(key, ""))[:1000] for key in ("name", "message"))
    if name == "TimeUp" and seconds is not None:
        return StudentTimeout(_late(seconds, clock if message == "clock" else None))
    if name == "TooLargeError":
        return StudentError(message)
    bases = described.get("bases")
    bases = bases if type(bases) is list else []
    known = next(
        (_SAME[base] for base in bases if type(base) is str and base in _SAME), StudentError
    )
    error = known(f"raised {name}: {message}" if message else f"raised {name}")
    error.brief = f"raised {known.__name__ if known is not StudentError else 'an exception'}"
    return error


def seed_everything():
    """Start a test from one random state, whatever ran before it."""
    random.seed(0)
    numpy.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
