"""What an error or a warning has to name: the wrong value, what is accepted, and the remedy.

Sentences may change and get better. A test asks for the numbers, names, types and files in them,
so that it fails when the message no longer helps, and when another error comes in its place:

    with refuses(ValueError, got=31, accepts=32, remedy="image_size"):
        vgg("D", image_size=31)
"""

import re
from contextlib import contextmanager

import pytest


@contextmanager
def refuses(error, *, got=(), accepts=(), remedy=()):
    """A block that has to raise an error whose message names these things.

    Parameters
    ----------
    error : type
        Class of the error.
    got : object or tuple
        What is wrong: the value, or the name of the thing. A tuple gives several, so that a shape
        is written as text: ``got="(3, 5)"``.
    accepts : object or tuple
        What is accepted: values, limits, names, types.
    remedy : object or tuple
        What mends it: a parameter (``"image_size="``), function, flag, command, setting or file.

    Yields
    ------
    pytest.ExceptionInfo
        As of `pytest.raises`.

    Raises
    ------
    AssertionError
        If the message lacks one of them as a whole word.
    ValueError
        If none of the three is given, or one is empty.
    """
    __tracebackhide__ = True
    tokens = _tokens(got, accepts, remedy)
    with pytest.raises(error) as raised:
        yield raised
    message = str(raised.value)
    assert not lacks(message, tokens), f"the message lacks {lacks(message, tokens)}:\n{message}"


@contextmanager
def warns(warning, *, got=(), accepts=(), remedy=()):
    """The same for a warning: a block that has to give one that names all of these things.

    Yields the `pytest.WarningsRecorder` of `pytest.warns`.
    """
    __tracebackhide__ = True
    tokens = _tokens(got, accepts, remedy)
    with pytest.warns(warning) as caught:
        yield caught
    said = [str(one.message) for one in caught if issubclass(one.category, warning)]
    best = min(said, key=lambda message: len(lacks(message, tokens)))
    assert not lacks(best, tokens), f"the warning lacks {lacks(best, tokens)}:\n{best}"


def lacks(message, tokens):
    """Those of the tokens that do not stand in a message as whole words."""
    return [token for token in tokens if not _pattern(token).search(message)]


def _tokens(*groups):
    """All tokens as text; a type is meant by its name."""
    flat = [token for group in groups for token in (group if type(group) is tuple else (group,))]
    tokens = [token.__name__ if isinstance(token, type) else str(token) for token in flat]
    if not tokens or not all(token.strip() for token in tokens):
        raise ValueError("give at least one of got, accepts and remedy, and no empty text")
    return tokens


def _pattern(token):
    """What finds a token that is not part of a longer word, number or dotted name."""
    if token[0] in "([{":  # a shape: blanks do not count
        middle = r"\s*".join(map(re.escape, re.findall(r"\w+|[^\w\s]", token)))
    else:
        middle = r"\s+".join(map(re.escape, token.split()))
    # 5 is neither in 5.0, 5,000, 2.5, 5×5 and conv5, nor A in A-LRN; "5." ends a sentence.
    before = r"(?<![\w×-])(?<!\w\.)(?<!\d,)" if re.match(r"\w|-", token) else ""
    after = r"(?![\w×]|[.-]\w|,\d)" if re.search(r"\w$", token) else ""
    # A single letter as it stands: the article "a" names no net A.
    return re.compile(before + middle + after, re.IGNORECASE if len(token) > 1 else 0)
