"""The grader's tests on answers of the course's own, without a sandbox and its second process.

What a call gets and returns goes through the same codec as between the two processes, so an answer
that changes its arguments, or returns what is no plain data, fares as it does in the sandbox.
"""

from functools import partial
from types import SimpleNamespace

from very_deep_grader import session as session_of
from very_deep_grader.examine import TestTimeUp
from very_deep_grader.inside.codec import Decoder, Encoder, TooLargeError
from very_deep_grader.inside.worker import Worker, described
from very_deep_grader.session import Remote, Session, StudentError


class _Worker(Worker):
    """Executes cells as plain Python."""

    def __init__(self):
        self.shell, self.objects = SimpleNamespace(user_ns={"__name__": "__main__"}), []

    def do_run(self, header, buffers):
        try:
            exec(header["source"], self.shell.user_ns)
        except (KeyboardInterrupt, TestTimeUp):
            raise
        except BaseException as error:
            return "", described(error)
        return "", None

    def do_reset(self, header, buffers):
        self.__init__()


class InProcess(Session):
    """A session whose worker is this process."""

    def __init__(self, limits):
        super().__init__(limits, sandboxed=False)
        self.process, self.random_state, self.worker = self, None, _Worker()
        self.seconds = 0.0  # of processor time: only a test's own limit holds here

    def start(self):
        """There is nothing to start."""

    def close(self):
        """There is nothing to end."""

    def request(self, message, seconds, buffers=()):
        """Answer a request."""
        encoder = Encoder(self.worker.keep)
        try:
            value = getattr(self.worker, f"do_{message['op']}")(message, buffers)
            tree = encoder.encode(value)
        except TooLargeError as error:
            raise StudentError(str(error)) from None
        except (KeyboardInterrupt, TestTimeUp):
            raise
        except BaseException as error:
            raise session_of._error(described(error)) from None
        return Decoder(list(map(bytearray, encoder.buffers)), partial(Remote, self)).decode(tree)
