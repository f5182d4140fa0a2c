"""Where do weights come from, and under which names?

Files, runs, torchvision's and timm's weights, and state_dicts that other programs wrote: each
becomes tensors under this package's names, which are torchvision's. What fits is loaded as a
whole; what does not leaves the net as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pooch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import checks
from .configs import ALIASES, CONFIGS, Config
from .pixels import Pixels, inside

#: The key of a net's normalisation in the metadata of a state_dict or of a .safetensors file.
KEY = "vgglib.pixels"
#: A run's latest checkpoint.
LAST = "last.safetensors"
HEADS = ("load", "new")
_PARTS: tuple[str, ...] = ("features", "classifier")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_PUBLISHED = re.compile(
    r"(?:(?P<net>vgg\d+(?:_bn)?)(?:_weights)?\.)?"
    r"(?P<weights>IMAGENET1K_V1|IMAGENET1K_FEATURES|DEFAULT|tv_in1k)",
    re.IGNORECASE,
)


class Net(Protocol):
    """A net that knows its layout and its pixels: a VGG, which is built on this module."""

    config: Config
    layer_names: dict[str, str]
    image_size: int
    num_classes: int
    in_channels: int
    width: float
    batch_norm: bool
    pixels: Pixels | None
    classes: tuple[str, ...] | None

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> Any: ...


AnyNet = TypeVar("AnyNet", bound=Net)


def load_weights(
    model: AnyNet,
    weights: str | os.PathLike | Enum | Mapping[str, Tensor],
    *,
    head: str = "load",
) -> AnyNet:
    """Load weights into a network, in place; either all of them fit or nothing is changed.

    The net learns from them how its images are normalised (``net.pixels``) and what its classes
    are called (``net.classes``), where they say so; else both are None.

    Parameters
    ----------
    model : VGG
    weights : str, path, enum or mapping
        As ``weights`` of :func:`vgg`, or a ``state_dict``. Names of torchvision, of timm
        (``head.fc.weight``), of Caffe and the paper (``conv1_1.weight``, ``fc6.bias``), and those
        that a wrapper or an average has put something before (``module.``) are understood.
    head : {"load", "new"}
        ``"new"``: leave the last layer as it is in the net, for another number of classes.

    Returns
    -------
    VGG
        The same model.

    Raises
    ------
    ValueError
        If names or shapes differ from the model's (the first differences are listed), a value is
        not finite, torchvision has no such weights for this net, or the file can not be read as
        weights. Files are never unpickled into code.
    TypeError
        If ``weights`` is a net.
    FileNotFoundError
        If the path does not exist.
    OSError
        If torchvision's weights can not be fetched, or are damaged where they are kept.
    """
    checks.choice("head", head, HEADS)
    if isinstance(weights, nn.Module):
        raise TypeError(
            f"load_weights takes a net's weights, got a {type(weights).__name__} itself; give its "
            "state_dict()"
        )
    parts, known = _PARTS, None
    published = _PUBLISHED.fullmatch(str(weights)) if isinstance(weights, (str, Enum)) else None
    if isinstance(weights, Mapping):
        state, source = weights, "the given state_dict"
        known = _metadata(weights)
    elif isinstance(weights, Enum) and not published:
        raise ValueError(
            f"{weights} are weights of another net than a VGG; take VGG16_Weights.IMAGENET1K_V1 or "
            "the like, or its name"
        )
    elif published:
        source, offered = _offered(model, published)
        parts = ("features",) if source.endswith("FEATURES") else parts
        state, known = _fetched(model, offered, source, parts, head), _published_pixels(offered)
    else:
        source = str(weights)
        state, known = _read(Path(cast(str, weights)).expanduser())
    state = _fitting(model, _renamed(model, state, source), source, parts, head)
    broken = [k for k, v in state.items() if not torch.isfinite(v).all()]
    if broken:
        raise ValueError(f"{source} holds values that are not finite in {', '.join(broken[:3])}")
    model.pixels, model.classes = known or (None, None)  # first, as it refuses other channels
    model.load_state_dict({**model.state_dict(), **state})
    if head == "new":
        model.classes = None
    return model


def save_weights(model: Net, path: str | os.PathLike) -> Path:
    """Write a net's weights with its normalisation and its classes' names, for any program.

    Parameters
    ----------
    model : VGG
    path : path
        ``.safetensors``, whose metadata say how images are normalised (``"vgglib.pixels"``, JSON);
        or ``.pth``, which ``torch.load`` gives back as a ``state_dict``.

    Returns
    -------
    Path
        ``path``, written as a whole or not at all.

    Raises
    ------
    ValueError
        For another suffix, or a .safetensors of a net whose state is not tensors alone.
    OSError
        If it cannot be written; what was there before is untouched.
    """
    path = Path(path).expanduser()
    if path.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"weights are written as .safetensors or .pth, got {path.name!r}")
    model = inside(model)
    fresh, state = path.with_name(f"{path.name}.new"), model.state_dict()
    if path.suffix == ".safetensors" and (extra := no_tensors(state)):
        raise ValueError(f"{path.name} can hold tensors only, and {extra}; write a .pth")
    try:
        if path.suffix == ".pth":
            torch.save(state, fresh)
        else:
            text = state._metadata[""].get(KEY)
            write_tensors(state, fresh, {"format": "pt"} | ({KEY: text} if text else {}))
        os.replace(fresh, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise OSError(f"the weights could not be written to {path}: {error}") from error
    return path


def for_timm(model: Net) -> dict[str, Tensor]:
    """The weights under timm's names and in its shapes, for its ``load_state_dict``.

    The inverse, timm's weights in a net of this package, is :func:`load_weights`.
    """
    names, side = _timms(model), model.image_size // 2 ** len(model.config.stages)
    state = {}
    for key, value in model.state_dict().items():
        layer, _, kind = key.rpartition(".")
        theirs = names.get(layer, layer)
        if kind == "weight" and theirs.startswith("pre_logits"):  # convolutions there
            value = value.unflatten(1, (-1, side, side))
            side = 1
        state[f"{theirs}.{kind}"] = value
    return state


def _timms(model: Net) -> dict[str, str]:
    """Module names of the fully connected layers → timm's names for them."""
    linear = [path for name, path in model.layer_names.items() if name.startswith("fc")]
    theirs = [f"pre_logits.fc{number}" for number in range(1, len(linear))]
    return dict(zip(linear, [*theirs, "head.fc"], strict=True))


def _metadata(state: Mapping[str, Tensor]) -> tuple[Pixels, tuple[str, ...] | None] | None:
    """Pixels and classes that travel with a state_dict of this package."""
    for mapping in (state, *state.values()):  # a wrapper holds it under a key of its own
        for about in getattr(mapping, "_metadata", {}).values():
            if KEY in about:
                return Pixels.from_json(about[KEY])
    return None


# ---- names


def _renamed(model: Net, state: Mapping, source: str) -> Mapping[str, Tensor]:
    """A state_dict under this net's names, if it is of a well-known form."""
    held = [
        key
        for key, value in state.items()
        if isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values())
    ]
    # A training keeps more than the net: its state, and perhaps that of an average.
    nested = next((key for key in _WRAPPERS if key in held), held[0] if len(held) == 1 else None)
    state = {
        str(key).replace("features.module.", "features."): value
        for key, value in (state if nested is None else state[nested]).items()
    }
    own = model.state_dict().keys()
    firsts = [next(iter(own)), f"{next(iter(model.layer_names))}.weight"]
    before = {k.removesuffix(first) for k in state for first in firsts if k.endswith(f".{first}")}
    if len(before) == 1 and not state.keys() & {*own, *firsts}:
        # What DataParallel, torch.compile, an average of weights or an outer module put before.
        (start,) = before
        others = [key for key in state if not key.startswith(start)]
        also = f", and so is {', '.join(others[:3])}{' …' * (len(others) > 3)}" * bool(others)
        warnings.warn(
            f"the names in {source} begin with {start[:-1]!r}, which is left out{also}",
            stacklevel=4,
        )
        state = {key.removeprefix(start): state[key] for key in state if key not in others}
    # Caffe's names are the paper's.
    layers = model.layer_names | {theirs: ours for ours, theirs in _timms(model).items()}
    renamed = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        name = f"{layers[layer]}.{kind}" if layer in layers else key
        if name != key and isinstance(value, Tensor) and value.ndim == 4 and "classifier" in name:
            value = value.flatten(1)  # timm and Caffe keep the fully connected layers as kernels
        renamed[name] = value
    return renamed


def _fitting(
    model: Net, state: Mapping[str, Tensor], source: str, parts: tuple[str, ...], head: str
) -> dict[str, Tensor]:
    """What ``state`` holds for these parts of the model, if names and shapes are the model's."""
    last = [f"{list(model.layer_names.values())[-1]}.{kind}" for kind in ("weight", "bias")]
    skipped = last if head == "new" else []

    def wanted(key: str) -> bool:
        return (key.split(".")[0] in parts or len(parts) == 2) and key not in skipped

    own = {k: v for k, v in model.state_dict().items() if wanted(k)}
    given = {k: v for k, v in state.items() if wanted(k)}
    foreign = [k for k, v in given.items() if not isinstance(v, Tensor)]
    if foreign:
        raise ValueError(
            f"{source} holds {foreign[0]!r} of type {type(given[foreign[0]]).__name__} where a "
            "state_dict has tensors; a checkpoint often holds the state_dict under a key of its "
            "own: give load_weights that part"
        )
    # Batch norm of before 2018 did not count its batches, torchvision's weights among them.
    uncounted = {k for k in own if k.endswith(".num_batches_tracked")} - given.keys()
    wrong = [f"{k} is missing" for k in own if k not in given and k not in uncounted]
    wrong += [f"{k} has no place in the net" for k in given if k not in own]
    wrong += [
        f"{k} has shape {tuple(given[k].shape)} where the net has {tuple(own[k].shape)}"
        for k in own
        if k in given and given[k].shape != own[k].shape
    ]
    if wrong:
        extra = [line for line in wrong if "no place" in line][:1]  # both sides of a mismatch
        shown = [line for line in wrong if line not in extra][: 3 - len(extra)] + extra
        more = f" and {len(wrong) - len(shown)} more" if len(wrong) > len(shown) else ""
        remedy = "Build the net that the weights were trained in"
        if wrong and all(line.startswith(tuple(last)) for line in wrong):
            remedy += ", or give the net a classifier of its own: head='new' (--head new)"
        raise ValueError(
            f"{source} holds weights of another net than {model.config.name} "
            f"(image_size={model.image_size}, width={model.width}, in_channels="
            f"{model.in_channels}, num_classes={model.num_classes}, "
            f"batch_norm={model.batch_norm}): {'; '.join(shown)}{more}. {remedy}."
        )
    return given


# ---- torchvision's weights


def _offered(model: Net, named: re.Match) -> tuple[str, Enum]:
    """torchvision's entry for the net that ``model`` is, and its name."""
    from torchvision.models import get_model_weights

    alias = {letter: alias for alias, letter in ALIASES.items()}.get(model.config.name)
    if alias is None or model.config != CONFIGS[model.config.name]:
        net = model.config.name
        if alias is not None:
            net = f"a Config that is called {net} and differs from CONFIGS[{net!r}]"
        raise ValueError(
            f"torchvision has no weights for {net}; it has them for "
            f"{', '.join(f'{letter} ({alias})' for alias, letter in ALIASES.items())}"
        )
    alias += "_bn" if model.batch_norm else ""
    if named["net"] and named["net"].lower() != alias:
        raise ValueError(f"{named[0]} are weights of {named['net']}, and this net is {alias}")
    name = named["weights"].upper()
    name = "IMAGENET1K_V1" if name in ("DEFAULT", "TV_IN1K") else name  # timm's are torchvision's
    offered = get_model_weights(alias)
    if name not in offered.__members__:
        raise ValueError(
            f"torchvision has no {name} for {alias}; it has {', '.join(offered.__members__)}"
        )
    return name, offered[name]


def _published_pixels(offered) -> tuple[Pixels, tuple[str, ...] | None]:
    crop = offered.transforms()
    classes = offered.meta.get("categories")
    return Pixels.in_units(crop.mean, crop.std), classes and tuple(classes)


def _fetched(model: Net, offered, name: str, parts, head: str) -> Mapping[str, Tensor]:
    """The weights, from torch.hub's folder or fetched into it and checked against their hash."""
    from torchvision.models import get_model

    alias = offered.url.rpartition("/")[2]
    built = next(a for a in (f"{x}{bn}" for x in ALIASES for bn in ("_bn", "")) if a in alias)
    with torch.device("meta"):  # does it fit? Better known before half a gigabyte is fetched
        _fitting(model, get_model(built).state_dict(), name, parts, head)
    kept = Path(torch.hub.get_dir(), "checkpoints", alias)
    try:
        state = offered.get_state_dict(
            progress=True, check_hash=True, map_location="cpu", weights_only=True
        )
        _fitting(model, state, name, parts, head)
        return state
    except Exception as error:  # of urllib, http.client, ssl, torch, pickle …: it is not here
        # torch.hub compares the hash of what it fetches, not of what it keeps.
        found, wanted = kept.is_file() and pooch.file_hash(kept), kept.stem.rpartition("-")[2]
        if found and not found.startswith(wanted):
            raise OSError(
                f"{kept} is damaged (its sha256 begins with {found[: len(wanted)]}, not {wanted}): "
                "delete it, and it is fetched anew"
            ) from None  # what unpickling made of it says nothing
        raise OSError(
            f"{name} of {built} can not be had from {offered.url}: {error}. Put the file "
            f"into {kept.parent} by other means, or go on without"
        ) from error


# ---- files


def _read(path: Path) -> tuple[Mapping[str, Tensor], tuple | None]:
    """Tensors by name from a run, a .safetensors or a torch file, without unpickling code."""
    path = path / LAST if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}; accepted are IMAGENET1K_V1, IMAGENET1K_FEATURES, the folder "
            "of a run, or the path of a .pth or .safetensors file"
        )
    try:
        if path.suffix == ".safetensors":
            about, tensors = read_tensors(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load without the check, which may run the file's code.
        raise ValueError(
            f"{path} can not be read as weights: it is damaged, or holds Python objects besides "
            "tensors, which could run code when loaded; accepted is torch.save(net.state_dict(), …)"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{path} can not be read as weights, it is damaged or not what torch.save(…) or "
            f"safetensors.torch.save_file(…) wrote: {error!r}"
        ) from error
    if path.suffix == ".safetensors":
        if {"sha256", "state"} <= about.keys():  # a run's checkpoint
            return _of_a_run(path, about, tensors)
        return tensors, Pixels.from_json(about[KEY]) if KEY in about else None
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{path} holds no state_dict (names → tensors) but {type(state).__name__}; "
            "torch.save(net.state_dict(), …) writes one"
        )
    return state, _metadata(state)


def no_tensors(state: Mapping[str, Any]) -> str:
    """What of a state_dict is no tensor, as a layer's get_extra_state may give; "" if all are."""
    found = (f"{k} is a {type(v).__name__}" for k, v in state.items() if not isinstance(v, Tensor))
    return next(found, "")


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a .safetensors file says about itself, and its tensors by name."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write_tensors(tensors: Mapping[str, Tensor], path: Path, about: dict[str, str]) -> None:
    """Write a .safetensors file; tied weights, which share their memory, are written one by one."""
    own, taken = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in taken else tensor
        taken.add(place)
    save_file(own, path, metadata=about)
    with contextlib.suppress(OSError):  # not every file system knows modes
        path.chmod(0o644)  # safetensors writes files that only their owner can read


def digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of a run's checkpoint: of its state, and of every tensor by name."""
    found = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _of_a_run(path: Path, about: dict, tensors: dict[str, Tensor]) -> tuple[dict, tuple | None]:
    """The net's weights in a run's checkpoint, and what it says of them."""
    if digest(about["state"], tensors) != about["sha256"]:
        raise ValueError(f"{path} has changed since it was written: its sha256 does not fit")
    state, start = json.loads(about["state"]), len("model.")
    if changed := state["net"].get("changed"):
        raise ValueError(another_net(path, changed))
    weights = {name[start:]: t for name, t in tensors.items() if name.startswith("model.")}
    return weights, told_of(state)


def told_of(state: dict) -> tuple[Pixels, tuple[str, ...] | None] | None:
    """Pixels and classes that a run's state tells of its net."""
    known = state.get("normalisation")
    return known and (Pixels(**known), tuple(state.get("classes") or ()) or None)


def another_net(path: Path | None, differences: Sequence[str]) -> str:
    """What helps where a checkpoint's net is not what ``vgglib.vgg`` builds."""
    more = f"\n  and {len(differences) - 5} more" if len(differences) > 5 else ""
    return (
        f"{path} holds another net than vgglib.vgg builds:\n  "
        + "\n  ".join(differences[:5])
        + f"{more}\nBuild it as it was for the training; with "
        "from vgglib.train import checkpoint, "
        f"net.load_state_dict(checkpoint.read({str(path)!r}).part('model')) gives it the weights"
    )
