"""What a test can ask of a call besides its result: what it changes, what it calls.

The arguments of a call reach the student's function as copies, so that no submission touches a
test's own values. A test that holds "left as it is" or "without a convolution" asks:

    from very_deep_grader.effects import watched

    seen = watched(window, [(3, 1, 1)], 0)
    assert not seen.changed, f"leave what you are given as it is: {seen.changed}"

`watched` takes any function, so that a source's tests also run in a notebook.
"""

import copy
from dataclasses import dataclass

import torch

from .inside import effects


@dataclass(frozen=True)
class Seen:
    """What a call did."""

    result: object
    # Parts of the arguments that are not what they were: "argument 1[0]", "argument 1, 0.weight",
    # "argument 1, gradient of 0.weight", "argument 1, mode of '3'", "argument 1, hooks of '3.0'";
    # "something was added".
    changed: list[str]
    called: frozenset[str]  # functions that ran, each with its module ("C" where it has none)
    tracked: bool  # whether a tensor of the result carries a graph for gradients

    def calls(self, *names):
        """Those of the functions that ran whose name, without the module, starts like one of these.

        Returns
        -------
        list of str
        """
        return sorted(c for c in self.called if c.rpartition(".")[2].startswith(names))


def watched(function, *args, **kwargs):
    """Call a function with copies of the arguments, and see what it does to them.

    Parameters
    ----------
    function : callable
        A student's, or any other.

    Returns
    -------
    Seen
    """
    before = effects.parts(args, kwargs)
    ask = getattr(function, "_watch", None)
    if ask is None:
        args, kwargs = copy.deepcopy((args, kwargs))
        result, after, called, tracked = effects.watch(function, args, kwargs)
    else:
        result, after, called, tracked = ask(*args, **kwargs)
    changed = [name for name in before if not _same(before, after, name)]
    if after.keys() - before.keys():  # names that a student's code could choose are not repeated
        changed.append("something was added")
    return Seen(result, changed, frozenset(called), tracked)


def _same(before, after, name):
    if name not in after or type(before[name]) is not type(after[name]):
        return False
    one, other = before[name], after[name]
    if not hasattr(one, "dtype"):
        return one == other or (one != one and other != other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    one, other = torch.as_tensor(one), torch.as_tensor(other)
    return bool(((one == other) | (one.isnan() & other.isnan())).all())
