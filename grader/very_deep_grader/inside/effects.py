"""What a call does besides giving a result: which arguments it changes, which functions it calls.

Runs in the worker and, for functions that are no student's, on the trusted side as well. There
`effects` compares; what is reported here is plain data that `codec` can send.
"""

import sys
from contextlib import contextmanager

import numpy as np

NAMES_LIMIT = 20_000
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def watch(function, args, kwargs):
    """Call a function and note what else it does.

    Returns
    -------
    result : object
    parts : dict
        What `parts` says of the arguments after the call.
    called : list of str
        Names of the functions that ran, with their modules; those of notebooks are left out.
    tracked : bool
        Whether a tensor of the result still carries a graph for gradients.
    """
    called = set()
    with _noting(called):
        result = function(*args, **kwargs)
    return result, parts(args, kwargs), sorted(called)[:NAMES_LIMIT], _tracked(result)


def parts(args, kwargs):
    """Arguments in parts of plain data, by a name for each ("argument 1, 0.weight")."""
    named = {f"argument {number}": value for number, value in enumerate(args, 1)} | kwargs
    return {name: part for key, value in named.items() for name, part in _parts(key, value)}


def _parts(name, value):
    torch = sys.modules.get("torch")
    if torch and isinstance(value, torch.nn.Module):
        yield from _module(name, value)
    elif torch and isinstance(value, torch.Tensor):
        yield name, value.detach().clone()
        yield f"{name}, gradient", _gradient(value)
    elif isinstance(value, np.ndarray):
        yield name, value.copy()
    elif isinstance(value, list | tuple):
        yield f"{name}, length", len(value)
        for number, item in enumerate(value):
            yield from _parts(f"{name}[{number}]", item)
    elif isinstance(value, dict):
        yield f"{name}, keys", [str(key) for key in value]
        for key, item in value.items():
            yield from _parts(f"{name}[{key!r}]", item)
    elif isinstance(value, bool | int | float | complex | str | bytes | None):
        yield name, value


def _module(name, net):
    for key, value in net.state_dict().items():
        yield f"{name}, {key}", value.detach().clone()
    for key, value in net.named_parameters():
        yield f"{name}, gradient of {key}", _gradient(value)
        yield f"{name}, requires_grad of {key}", value.requires_grad
    for key, module in net.named_modules():
        yield f"{name}, mode of {key!r}", module.training
        yield f"{name}, hooks of {key!r}", sum(len(getattr(module, kind)) for kind in HOOKS)


def _gradient(tensor):
    return tensor.grad.detach().clone() if tensor.is_leaf and tensor.grad is not None else None


@contextmanager
def _noting(called):
    """Note each function that is called, of Python and of C, whatever name it was imported by."""

    def note(frame, event, argument):
        if event == "call":
            module, name = frame.f_globals.get("__name__"), frame.f_code.co_name
        elif event == "c_call":
            module, name = getattr(argument, "__module__", None), argument.__name__
        else:
            return
        if module != "__main__" and len(called) <= NAMES_LIMIT:
            called.add(f"{module or 'C'}.{name}")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def _tracked(value):
    torch = sys.modules.get("torch")
    if torch and isinstance(value, torch.Tensor):
        return value.requires_grad
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list | tuple) and any(_tracked(item) for item in value)
