"""How does a run survive being killed?

A checkpoint is one safetensors file: every tensor of the run (weights, momentum, random number
generators), the rest of its state as JSON, and a digest over both. Nothing in it is code, so
nothing in it can run when it is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor, nn

from ..configs import LRN, Config, Conv
from ..model import VGG
from ..weights import LAST, another_net, digest, read_tensors, told_of, write_tensors

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

PREVIOUS = "previous.safetensors"
LOCK = ".lock"
FORMAT = "vgglib checkpoint 1"
#: What a VGG is built with, beside its Config and its dropout.
OPTIONS = ("num_classes", "image_size", "width", "batch_norm", "in_channels")


class CheckpointError(ValueError):
    """A file that is no sound checkpoint, or not one of this run; the message says which."""


@dataclass
class Checkpoint:
    """What a file holds."""

    state: dict  # as JSON: net, recipe, data, position, history and schedule
    tensors: dict[str, Tensor]  # model.*, optimiser.*, rng.* and running sums
    path: Path | None = None

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix.``, without it."""
        start = len(prefix) + 1
        return {k[start:]: t for k, t in self.tensors.items() if k.startswith(f"{prefix}.")}

    def net(self) -> VGG:
        """The network, built anew with these weights, as of :func:`load_run`."""
        if "stages" not in self.state["net"]:
            raise CheckpointError(another_net(self.path, [self.state["net"]["name"]]))
        net = build_net(self.state["net"])
        changed = list(self.state["net"].get("changed", []))
        try:
            net.load_state_dict(self.part("model"))
        except RuntimeError as error:  # an older checkpoint does not say what was changed
            changed = changed or [line.strip() for line in str(error).splitlines()[1:]]
        if changed:
            raise CheckpointError(another_net(self.path, changed))
        net.pixels, net.classes = told_of(self.state) or (None, None)
        return net.eval()


def load_run(path: str | os.PathLike) -> VGG:
    """The network that a run has trained.

    Parameters
    ----------
    path : path
        A run's folder (its last checkpoint is read), or a checkpoint.

    Returns
    -------
    VGG
        On the CPU, in evaluation mode.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    CheckpointError
        If it is damaged or something else, or the net that was trained had been changed after
        :func:`vgglib.vgg` built it (another layer added or put in place of one).
    """
    path = Path(path).expanduser()
    return read(path / LAST if path.is_dir() else path).net()


def describe_net(model: nn.Module) -> dict:
    """All that ``build_net`` needs, as JSON; of a net that is no VGG its name and its layers."""
    if not isinstance(model, VGG):
        return {"name": type(model).__qualname__, "layers": _layers(model)}
    config = model.config
    stages = [
        [{"lrn": asdict(layer)} if isinstance(layer, LRN) else asdict(layer) for layer in stage]
        for stage in config.stages
    ]
    dropout = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    net: dict[str, Any] = {"name": config.name, "stages": stages, "hidden": list(config.hidden)}
    net |= {name: getattr(model, name) for name in OPTIONS}
    net["dropout"] = dropout[0] if dropout else 0.5
    with torch.device("meta"):
        anew = build_net(net)
    changed = [
        f"{name or 'the net'}: {ours or 'nothing'} in place of {theirs or 'nothing'}"
        for name, (ours, theirs) in unequal(_layers(model), _layers(anew)).items()
    ]
    return net | ({"changed": changed} if changed else {})


def _layers(model: nn.Module) -> dict[str, str]:
    """What each module is, by name: a layer with its settings, of what holds layers the class."""
    return {
        name: type(module).__name__ if next(module.children(), None) else repr(module)
        for name, module in model.named_modules()
    }


def build_net(net: dict) -> VGG:
    """The inverse of ``describe_net``; weights are not drawn."""
    stages = tuple(
        tuple(LRN(**layer["lrn"]) if "lrn" in layer else Conv(**layer) for layer in stage)
        for stage in net["stages"]
    )
    options = {name: net[name] for name in (*OPTIONS, "dropout") if name in net}
    return VGG(Config(net["name"], stages, tuple(net["hidden"])), **options)


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Make this the last checkpoint of a folder, and the last one the previous.

    The new file gets its name only when it is on the disk and has been read back; whatever happens
    before, the last good checkpoint is where it was. An OSError says that it cannot be written.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    fresh = folder / f"{LAST}.new"
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    state = json.dumps(checkpoint.state, default=float)  # of NumPy and torch, too
    header = {"format": FORMAT, "state": state, "sha256": digest(state, tensors)}
    try:
        write_tensors(tensors, fresh, header)
        with open(fresh, "rb+") as file:
            os.fsync(file.fileno())
        read(fresh)
        if last.exists():
            _second_name(last, previous)
        os.replace(fresh, last)
    except (OSError, SafetensorError, CheckpointError) as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        kept = f"; the checkpoint before it is still there: {last}" if last.exists() else ""
        raise OSError(
            f"the checkpoint could not be written to {folder} ({error}); is the disk full? It has "
            f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB free{kept}"
        ) from error
    _flush_folder(folder)
    return last


def read(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint and check its digest.

    Raises
    ------
    FileNotFoundError
        If there is none.
    CheckpointError
        If it is truncated, changed since it was written, or another kind of file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        header, tensors = read_tensors(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated, or not a checkpoint of vgglib at all ({error}){_other(path)}"
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds tensors but not the state of a run ({FORMAT!r} is what can be resumed); "
            "to start from its weights, give it as the weights of a new run (--weights)"
        )
    state = header.get("state", "")
    if digest(state, tensors) != header.get("sha256"):
        raise CheckpointError(
            f"{path} has changed since it was written: its sha256 does not fit{_other(path)}"
        )
    return Checkpoint(json.loads(state), tensors, path)


def _other(path: Path) -> str:
    """Names the checkpoint before a damaged one, if there is one."""
    if path.name != LAST or not path.with_name(PREVIOUS).is_file():
        return ""
    return f"; {PREVIOUS} may be whole: resume='previous' (--resume previous) goes on from it"


def unequal(there: dict, here: dict) -> dict[str, list]:
    """Key → both values, for those that differ."""
    pairs = {key: [there.get(key), here.get(key)] for key in there | here}
    pairs = json.loads(json.dumps(pairs))  # a checkpoint has lists where a run has tuples
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def differences(there: dict, here: dict) -> Iterator[str]:
    """Lines that say what differs between the settings of a checkpoint and those of a run."""
    for part in ("net", "recipe", "data"):
        for key, (old, new) in unequal(there[part], here[part]).items():
            yield f"{part}, {key}: {old!r} in the checkpoint, {new!r} now"


def room_for(folder: Path, size: int) -> None:
    """Raise an OSError now if the folder can't be written or can't hold checkpoints of a size."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise type(error)(
            f"cannot write into {folder} ({error}); choose another folder for the run"
        ) from error
    # Three at a time: the last, the previous, and the one being written.
    need = 3 * size
    free = shutil.disk_usage(folder).free
    present = sum(
        (folder / name).stat().st_size for name in (LAST, PREVIOUS) if (folder / name).exists()
    )
    if free + present < need:
        raise OSError(
            f"{folder} has {free / 2**30:.2f} GiB free, and the run's checkpoints take "
            f"{need / 2**30:.2f} GiB; make room or choose another folder (out=, --out)"
        )


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, or raise an OSError if one is in it.

    The lock ends with the process, however that ends.
    """
    with contextlib.ExitStack() as held:
        try:
            if fcntl:
                file = held.enter_context(open(folder / LOCK, "w"))
                # Not flock: after a kill, processes that read images would hold its lock.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                held.enter_context(FileLock(folder / LOCK, timeout=0))
        except (BlockingIOError, PermissionError, Timeout):  # systems differ in which they raise
            raise OSError(
                f"another run is writing into {folder}; wait for its end, or choose another folder "
                "(out=, --out)"
            ) from None
        except OSError:  # a file system without locks: go on as without one
            pass
        yield


def _second_name(file: Path, name: Path) -> None:
    """Give a file a second name, replacing what had it, so that it never lacks its first."""
    spare = name.with_name(f"{name.name}.new")
    spare.unlink(missing_ok=True)
    try:
        os.link(file, spare)
    except OSError:  # a file system without hard links, such as a mounted drive
        shutil.copyfile(file, spare)
    os.replace(spare, name)


def _flush_folder(folder: Path) -> None:
    """Put the new names on the disk, where the system can do that for folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
