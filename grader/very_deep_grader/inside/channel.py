"""Frames over a socket: a JSON header and raw buffers, every length stated and limited.

4 bytes   length of the header, big-endian
header    JSON object; "sizes" lists the lengths of the buffers that follow
buffers   raw bytes, one after the other
"""

import json
import struct
import time

HEADER_LIMIT = 8 * 2**20
BUFFERS_LIMIT = 256 * 2**20
BUFFERS_COUNT = 10_000


class MalformedError(Exception):
    """The other side sent bytes that are no message."""


class ClosedError(Exception):
    """The other side is gone."""


def send(connection, header, buffers=()):
    """Send one frame.

    Parameters
    ----------
    connection : socket.socket
    header : dict
        What JSON can hold; "sizes" is added.
    buffers : sequence of bytes-like
    """
    buffers = [memoryview(buffer).cast("B") for buffer in buffers]
    text = json.dumps({**header, "sizes": [len(b) for b in buffers]}).encode("ascii")
    try:
        connection.sendall(struct.pack(">I", len(text)) + text)
        for buffer in buffers:
            connection.sendall(buffer)
    except (BrokenPipeError, ConnectionError, TimeoutError) as error:
        raise ClosedError("the other side does not listen") from error


def receive(connection, deadline=None):
    """Receive one frame as ``(header, buffers)``.

    Parameters
    ----------
    connection : socket.socket
    deadline : float, optional
        Moment of `time.monotonic` at which waiting ends.

    Raises
    ------
    MalformedError
        The bytes are no frame, or one beyond the limits.
    ClosedError
        The connection ended.
    TimeoutError
        The deadline passed, perhaps in the middle of a frame: the connection is of no use then.
    """
    (length,) = struct.unpack(">I", _exactly(connection, 4, deadline))
    if length > HEADER_LIMIT:
        raise MalformedError(f"a header of {length} bytes")
    try:
        header = json.loads(_exactly(connection, length, deadline))
    except (ValueError, RecursionError) as error:
        raise MalformedError("a header that is no JSON") from error
    if not isinstance(header, dict):
        raise MalformedError("a header that is no object")
    sizes = header.get("sizes")
    if not (
        isinstance(sizes, list)
        and len(sizes) <= BUFFERS_COUNT
        and all(type(size) is int and size >= 0 for size in sizes)
        and sum(sizes) <= BUFFERS_LIMIT
    ):
        raise MalformedError("buffers that are too large or have no size")
    return header, [_exactly(connection, size, deadline) for size in sizes]


def _exactly(connection, count, deadline):
    buffer = bytearray(count)
    view, got = memoryview(buffer), 0
    while got < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            connection.settimeout(left)
        try:
            read = connection.recv_into(view[got:])
        except TimeoutError:
            raise TimeoutError("no answer in time") from None
        except OSError as error:
            raise ClosedError("the connection broke") from error
        if not read:
            raise ClosedError("the connection ended")
        got += read
    return buffer
