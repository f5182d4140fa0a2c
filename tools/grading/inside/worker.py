"""The worker: executes a student's cells in an IPython shell and answers for what they define.

    python -m inside.worker FD '{"limits": ...}'

Everything it says may be a lie told by the student's code; see `grading.session` for the side that
knows that. Requests come one at a time over the socket FD, each is answered with one frame.
"""

import contextlib
import io
import itertools
import json
import os
import pickle
import resource
import signal
import socket
import sys

from . import channel
from .codec import Encoder, TooLargeError

TEXT_LIMIT = 20_000  # characters of a cell's output that are reported
MESSAGE_LIMIT = 1_000
LIST_LIMIT = 100_000


class TimeUp(BaseException):
    """Raised in the student's code when its time is over; no `except Exception` catches it."""


def limit_resources(limits):
    """Lower this process's limits; a system that lacks one goes without."""
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))


def drop_privileges(uid):
    """Become an unprivileged user for good, if this process is root."""
    if os.geteuid() != 0 or uid is None:
        return
    os.setgroups([])
    for candidate in (uid, 65534):  # some containers know few user numbers
        try:
            os.setgid(candidate)
            os.setuid(candidate)
            break
        except OSError:
            continue
    if os.geteuid() == 0:
        sys.exit("can not give up root")


class Tail(io.StringIO):
    """A text stream that keeps the first `TEXT_LIMIT` characters and forgets the rest."""

    def write(self, text):
        room = TEXT_LIMIT - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


class Unpickler(pickle.Unpickler):
    """Unpickles the arguments of a call; handles become the objects that they stand for."""

    def __init__(self, file, objects):
        super().__init__(file)
        self.objects = objects

    def persistent_load(self, number):
        return self.objects[number]


def make_shell():
    """An IPython shell without history or terminal, in which magics work as in a notebook."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def enable_gui(self, gui=None):
            """There is no window system."""

        def enable_matplotlib(self, gui=None):
            """Figures are drawn into memory, whichever window or widget is asked for."""
            return super().enable_matplotlib("inline")

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Minimal"
    return Shell.instance(config=config)


class Worker:
    """Answers requests until the connection ends."""

    def __init__(self, connection):
        self.connection = connection
        self.shell = make_shell()
        self.objects = []

    def serve(self):
        while True:
            try:
                header, buffers = channel.receive(self.connection)
            except channel.ClosedError:
                return
            reply, encoder = {"id": header["id"]}, Encoder(self.keep)
            try:
                with self.time_limit(header["seconds"], header["clock"]):
                    value = getattr(self, "do_" + header["op"])(header, buffers)
                    reply["value"] = encoder.encode(value)
            except TimeUp as error:
                reply["error"] = {"name": "TimeUp", "message": str(error)}
            except TooLargeError as error:
                reply["error"] = {"name": "TooLarge", "message": str(error)}
            except BaseException as error:
                reply["error"] = described(error)
            if "error" in reply:
                encoder.buffers = []
            channel.send(self.connection, reply, encoder.buffers)

    def keep(self, value):
        self.objects.append(value)
        return len(self.objects) - 1

    @contextlib.contextmanager
    def time_limit(self, seconds, clock):
        """End the student's code after seconds of this process's time, or by the clock."""

        def stop(number, frame):
            raise TimeUp("processor" if number == signal.SIGPROF else "clock")

        signal.signal(signal.SIGPROF, stop)
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, clock)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def do_run(self, header, buffers):
        """Execute a cell; returns ``(text, error or None)``."""
        text = Tail()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            result = self.shell.run_cell(header["source"], store_history=False, silent=False)
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, TimeUp):
            raise error
        return text.getvalue(), error and described(error)

    def do_reset(self, header, buffers):
        self.shell.reset(new_session=False)
        self.objects.clear()

    def do_get(self, header, buffers):
        """The value of a name; ``(False, None)`` if it is not defined."""
        space = self.shell.user_ns
        name = header["name"]
        return (True, space[name]) if name in space else (False, None)

    def do_call(self, header, buffers):
        if len(buffers) > 1:
            self.set_random_state(buffers[1])
        args, kwargs = Unpickler(io.BytesIO(buffers[0]), self.objects).load()
        with contextlib.redirect_stdout(Tail()), contextlib.redirect_stderr(Tail()):
            return self.objects[header["target"]](*args, **kwargs)

    def do_attribute(self, header, buffers):
        return getattr(self.objects[header["target"]], header["name"])

    def do_item(self, header, buffers):
        key = Unpickler(io.BytesIO(buffers[0]), self.objects).load()
        return self.objects[header["target"]][key]

    def do_length(self, header, buffers):
        return len(self.objects[header["target"]])

    def do_list(self, header, buffers):
        """An iterable's items."""
        return list(itertools.islice(self.objects[header["target"]], LIST_LIMIT))

    @staticmethod
    def set_random_state(buffer):
        import random

        import numpy
        import torch

        python, legacy, state = pickle.loads(buffer)
        random.setstate(python)
        numpy.random.set_state(legacy)
        torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def described(error):
    """An exception's class and message, shortened, whatever its ``__str__`` does."""
    try:
        message = str(error)[:MESSAGE_LIMIT]
    except Exception:
        message = "(a message that can not be shown)"
    names = [kind.__name__ for kind in type(error).__mro__]
    return {"name": names[0][:100], "bases": names[:20], "message": message}


def main():
    connection = socket.socket(fileno=int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    drop_privileges(options["uid"])
    limit_resources(options["limits"])
    import matplotlib

    matplotlib.use("agg")
    matplotlib.use = lambda *_, **__: None  # a window that a cell asks for is not there
    import torch

    torch.set_num_threads(options["threads"])
    worker = Worker(connection)
    # What native code and shell commands write goes nowhere.
    sink = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(sink, number)
    channel.send(connection, {"id": 0, "value": ["n"]})
    worker.serve()


if __name__ == "__main__":
    main()
