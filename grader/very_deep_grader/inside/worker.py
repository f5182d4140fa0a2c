"""The worker: executes a student's cells in an IPython shell and answers for what they define.

    python -m inside.worker FD '{"limits": ...}'

Everything it says may be a lie told by the student's code; see `session` for the side that
knows that. Requests come one at a time over the socket FD, each is answered with one frame.
"""

import base64
import contextlib
import io
import itertools
import json
import os
import pickle
import resource
import socket
import sys

from . import channel, effects
from .codec import Encoder
from .time_limit import time_limit

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
        with contextlib.suppress(OSError):
            os.setgid(candidate)
            os.setuid(candidate)
            break
    if os.geteuid() == 0:
        sys.exit("can not give up root")


class Tail(io.StringIO):
    """A text stream that keeps the first `TEXT_LIMIT` characters and forgets the rest."""

    def write(self, text):
        room = TEXT_LIMIT - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


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
    shell = Shell.instance(config=config)
    shell.pictures, publish = [], shell.display_pub.publish

    def keep(data, *args, **kwargs):
        shell.pictures += [data["image/png"]] if "image/png" in data else []
        publish(data, *args, **kwargs)

    shell.display_pub.publish = keep
    return shell


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
                with time_limit(TimeUp, processor=header["seconds"], clock=header["clock"]):
                    value = getattr(self, "do_" + header["op"])(header, buffers)
                    reply["value"] = encoder.encode(value)
            except BaseException as error:
                reply["error"] = described(error)
            if "error" in reply:
                encoder.buffers = []
            channel.send(self.connection, reply, encoder.buffers)

    def keep(self, value):
        self.objects.append(value)
        return len(self.objects) - 1

    def do_run(self, header, buffers):
        """Execute a cell; returns ``(text, error or None)``."""
        text = Tail()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            result = self.shell.run_cell(header["source"], store_history=False, silent=False)
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, TimeUp):
            raise error
        return text.getvalue(), error and described(error)

    def do_figures(self, header, buffers):
        """What the cells have drawn since the last call, shown or not, as PNG."""
        pictures, self.shell.pictures[:] = self.shell.pictures[:], []
        pictures = [base64.b64decode(p) if isinstance(p, str) else p for p in pictures]
        if plt := sys.modules.get("matplotlib.pyplot"):
            for number in plt.get_fignums():
                file = io.BytesIO()
                plt.figure(number).savefig(file, format="png", dpi=80, bbox_inches="tight")
                pictures.append(file.getvalue())
            plt.close("all")
        return pictures

    def do_reset(self, header, buffers):
        self.shell.reset(new_session=False)
        self.objects.clear()

    def do_get(self, header, buffers):
        """The value of a name; ``(False, None)`` if it is not defined."""
        space, name = self.shell.user_ns, header["name"]
        return (True, space[name]) if name in space else (False, None)

    def do_call(self, header, buffers):
        """Call a function: a student's, or one that asks about an object, such as `getattr`."""
        if len(buffers) > 1:
            self.set_random_state(buffers[1])

        class Unpickler(pickle.Unpickler):
            persistent_load = staticmethod(self.objects.__getitem__)  # what a proxy stands for

        function, args, kwargs = Unpickler(io.BytesIO(buffers[0])).load()
        with contextlib.redirect_stdout(Tail()), contextlib.redirect_stderr(Tail()):
            if header["watch"]:
                return effects.watch(function, args, kwargs)
            result = function(*args, **kwargs)
        return list(itertools.islice(result, LIST_LIMIT)) if function is iter else result

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
