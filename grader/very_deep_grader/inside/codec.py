"""Values as JSON and raw buffers: the form in which results leave the sandbox, instead of pickle.

A value is a list whose first item is a tag, for example ``["i", "5"]``. `encode` runs with the
student's code and may have been tampered with, so `decode` takes nothing for granted: it builds
objects of the exact base types (an int is an int, True is a bool, a tensor is a `torch.Tensor`
without gradient) and refuses what does not fit together. What is not plain data becomes a handle,
a number by which the trusted side can call the object or read its attributes.
"""

import contextlib
import operator
import sys
from decimal import Decimal
from numbers import Rational

import numpy as np

from .channel import BUFFERS_LIMIT, HEADER_LIMIT, MalformedError

DEPTH_LIMIT = 40


class TooLargeError(Exception):
    """A value that is larger than what may leave the sandbox."""


# Untrusted side ---------------------------------------------------------------------------


class Encoder:
    """Encodes one value.

    Parameters
    ----------
    keep : callable
        Called with an object that is no plain data, returns the number of its handle.

    Attributes
    ----------
    buffers : list of bytes
        Raw contents of the arrays that `encode` has met.
    """

    def __init__(self, keep):
        self.keep = keep
        self.buffers = []
        self.size = 0
        self.nodes = 0

    def encode(self, value, depth=0):
        """The value as nested lists for JSON.

        Raises
        ------
        TooLargeError
            The value is too large, or nested too deep, perhaps in itself.
        """
        self.nodes += 1
        if depth > DEPTH_LIMIT or self.nodes > HEADER_LIMIT // 8:
            raise TooLargeError("the result is nested too deep or has too many items")
        if value is None:
            return ["n"]
        if isinstance(value, np.generic) and value.dtype.kind in "biufc":
            return ["g", *self._array(value)]
        for kind, write in _PLAIN.items():
            if isinstance(value, kind):
                return write(self, value, depth + 1)
        if isinstance(value, np.ndarray):
            value = _numeric(value)
            numbers = value.dtype.kind in "biufc"
            return ["a", *self._array(value)] if numbers else self._handle(value)
        torch, pandas = sys.modules.get("torch"), sys.modules.get("pandas")
        if torch and isinstance(value, torch.Tensor):
            return self._tensor(torch, value)
        if pandas and isinstance(value, pandas.DataFrame):
            columns = [self._column(value.iloc[:, i], depth + 1) for i in range(value.shape[1])]
            names = self.encode(list(value.columns), depth + 1)
            return ["D", names, self._column(value.index, depth + 1), columns]
        if pandas and isinstance(value, pandas.Series):
            name = self.encode(value.name, depth + 1)
            return ["P", name, self._column(value.index, depth + 1), self._column(value, depth + 1)]
        number = _number(value)
        return self._handle(value) if number is None else self.encode(number, depth + 1)

    def items(self, values, depth):
        return [self.encode(value, depth) for value in values]

    def pairs(self, mapping, depth):
        return [[self.encode(k, depth), self.encode(v, depth)] for k, v in mapping.items()]

    def buffer(self, data):
        self.size += len(data)
        if self.size > BUFFERS_LIMIT:
            raise TooLargeError(f"the result is larger than {BUFFERS_LIMIT // 2**20} MiB")
        self.buffers.append(data)
        return len(self.buffers) - 1

    def _array(self, array):
        plain = np.asarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        return plain.dtype.str, list(plain.shape), self.buffer(plain.tobytes())

    def _column(self, column, depth):
        array = np.asarray(column)
        if array.dtype.kind in "biufc":
            return ["a", *self._array(array)]
        return self.encode(array.tolist(), depth)

    def _tensor(self, torch, value):
        name, value = None, value.detach().to_dense().cpu().resolve_conj().resolve_neg()
        if value.dtype == torch.bfloat16:  # NumPy has none
            name, value = "bfloat16", value.view(torch.int16)
        try:
            array = value.numpy()
        except (TypeError, RuntimeError):  # quantised, or of another kind that NumPy lacks
            return self._handle(value)
        dtype, *where = self._array(array)
        return ["T", name or dtype, *where]

    def _handle(self, value):
        kind = type(value)
        return ["h", self.keep(value), f"{kind.__module__}.{kind.__qualname__}"]


def _number(value):
    """A number of another kind (a fraction, a decimal, one of sympy's) as Python's, or None."""
    if isinstance(value, type):  # a class has its instances' methods
        return None
    # What converts may be the student's code and raise anything.
    with contextlib.suppress(Exception):
        exact = isinstance(value, Rational | Decimal)
        if exact and (whole := int(value)) == value:
            return whole
    for convert in (operator.index, float, complex):
        with contextlib.suppress(Exception):
            return convert(value)
    return None


def _numeric(array):
    """An array of objects as one of numbers, if they are numbers."""
    if array.dtype.kind != "O" or array.size > HEADER_LIMIT // 8:
        return array
    numbers = np.array([_number(item) for item in array.flat]).reshape(array.shape)
    return array if numbers.dtype.kind == "O" else numbers


# Subclasses (an IntEnum, a Counter, a namedtuple) turn into the base type here.
_PLAIN = {
    bool: lambda self, v, depth: ["b", v],
    int: lambda self, v, depth: ["i", hex(int(v))],
    float: lambda self, v, depth: ["f", float(v).hex()],
    complex: lambda self, v, depth: ["c", v.real.hex(), v.imag.hex()],
    str: lambda self, v, depth: ["s", str(v)],
    bytes: lambda self, v, depth: ["y", self.buffer(bytes(v))],
    list: lambda self, v, depth: ["l", self.items(v, depth)],
    tuple: lambda self, v, depth: ["t", self.items(v, depth)],
    set: lambda self, v, depth: ["e", self.items(v, depth)],
    frozenset: lambda self, v, depth: ["z", self.items(v, depth)],
    dict: lambda self, v, depth: ["d", self.pairs(v, depth)],
}


# Trusted side -----------------------------------------------------------------------------


class Decoder:
    """Decodes one value of hostile origin.

    Parameters
    ----------
    buffers : list of bytearray
    handle : callable
        Called with ``(number, type name)``, returns what stands for the object.
    """

    def __init__(self, buffers, handle):
        self.buffers = buffers
        self.handle = handle

    def decode(self, tree):
        """The value that nested lists describe.

        Raises
        ------
        MalformedError
            They describe none.
        """
        try:
            return self._decode(tree, 0)
        except MalformedError:
            raise
        # Whatever goes wrong with hostile input is the input's fault.
        except Exception as error:
            raise MalformedError(f"a value that is none ({type(error).__name__})") from error

    def _decode(self, tree, depth):
        if depth > DEPTH_LIMIT or type(tree) is not list:
            raise MalformedError("a value that is none, or nested too deep")
        tag, *rest = tree
        return _READERS[tag](self, depth + 1, *rest)

    def _items(self, depth, trees):
        return [self._decode(tree, depth) for tree in _checked(trees, list)]

    def _dict(self, depth, pairs):
        return {_hashable(self._decode(k, depth)): self._decode(v, depth) for k, v in pairs}

    def _set(self, depth, trees):
        return {_hashable(item) for item in self._items(depth, trees)}

    def _buffer(self, number, count):
        if type(number) is not int or number < 0:
            raise MalformedError("a buffer without number")
        buffer = self.buffers[number]
        if count is not None and len(buffer) != count:
            raise MalformedError("an array whose shape does not fit its contents")
        return buffer

    def _array(self, depth, dtype, shape, number):
        dtype = np.dtype(_checked(dtype, str))
        if dtype.kind not in "biufc" or dtype.hasobject:
            raise MalformedError("an array of other things than numbers")
        raw = self._buffer(number, _count(shape) * dtype.itemsize)
        # A byte that is neither 0 nor 1 would be neither True nor False.
        stored = np.uint8 if dtype.kind == "b" else dtype
        return np.frombuffer(raw, stored).reshape(shape).astype(dtype.newbyteorder("="))

    def _tensor(self, depth, dtype, shape, number):
        import torch

        if dtype != "bfloat16":
            return torch.from_numpy(self._array(depth, dtype, shape, number))
        return torch.from_numpy(self._array(depth, "<i2", shape, number)).view(torch.bfloat16)

    def _frame(self, depth, names, index, columns):
        import pandas

        names, index = self._decode(names, depth), self._decode(index, depth)
        columns = dict(enumerate(self._items(depth, columns)))
        frame = pandas.DataFrame(columns, index=pandas.Index(index))
        frame.columns = names
        return frame

    def _series(self, depth, name, index, values):
        import pandas

        values, index = self._decode(values, depth), self._decode(index, depth)
        return pandas.Series(values, index=pandas.Index(index), name=self._decode(name, depth))


def _checked(value, kind):
    if type(value) is not kind:
        raise MalformedError(f"{kind.__name__} expected")
    return value


def _hashable(value):
    """A value for a set or a key of a dict, whose hash is not one of thousands that are equal."""
    if type(value) is int and value.bit_length() > 64:
        raise MalformedError("a key that is a number of more than 64 bits")
    if type(value) in (tuple, frozenset):
        for item in value:
            _hashable(item)
    return value


def _count(shape):
    count = 1
    for length in _checked(shape, list):
        if _checked(length, int) < 0 or length > 2**40:
            raise MalformedError("a shape that is none")
        count *= length
    return count


_READERS = {
    "n": lambda self, depth: None,
    "b": lambda self, depth, v: _checked(v, bool),
    "i": lambda self, depth, v: int(_checked(v, str), 16),
    "f": lambda self, depth, v: float.fromhex(v),
    "c": lambda self, depth, re, im: complex(float.fromhex(re), float.fromhex(im)),
    "s": lambda self, depth, v: _checked(v, str),
    "y": lambda self, depth, number: bytes(self._buffer(number, None)),
    "l": Decoder._items,
    "t": lambda self, depth, v: tuple(self._items(depth, v)),
    "e": Decoder._set,
    "z": lambda self, depth, v: frozenset(self._set(depth, v)),
    "d": Decoder._dict,
    "a": Decoder._array,
    "g": lambda self, *array: self._array(*array)[()],
    "T": Decoder._tensor,
    "D": Decoder._frame,
    "P": Decoder._series,
    "h": lambda self, depth, number, kind: self.handle(
        _checked(number, int), _checked(kind, str)[:100]
    ),
}
