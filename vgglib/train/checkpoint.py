"""How does a run survive being killed?

A checkpoint is one safetensors file: every tensor of the run (weights, momentum, random number
generators), the rest of its state as JSON, and a digest over both. Nothing in it is code, so
nothing in it can run when it is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

from ..configs import LRN, Config, Conv
from ..model import VGG

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
LOCK = ".lock"
FORMAT = "vgglib checkpoint 1"


class CheckpointError(ValueError):
    """A file that is no sound checkpoint, or not one of this run; the message says which."""


@dataclass
class Checkpoint:
    """What a file holds.

    Parameters
    ----------
    state : dict
        JSON: ``net``, ``recipe``, ``data``, position, history and schedule.
    tensors : dict of str to Tensor
        ``model.*``, ``optimiser.*``, ``rng.*`` and running sums.
    """

    state: dict
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix.``, without it."""
        start = len(prefix) + 1
        return {k[start:]: t for k, t in self.tensors.items() if k.startswith(f"{prefix}.")}

    def net(self) -> VGG:
        """The network, built anew with the checkpoint's weights, in evaluation mode."""
        net = build_net(self.state["net"])
        net.load_state_dict(self.part("model"))
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
        If it is damaged or something else.
    """
    path = Path(path)
    return read(path / LAST if path.is_dir() else path).net()


def describe_net(model: VGG) -> dict:
    """All that ``build_net`` needs, as JSON."""
    config = model.config
    stages = [
        [{"lrn": asdict(layer)} if isinstance(layer, LRN) else asdict(layer) for layer in stage]
        for stage in config.stages
    ]
    return {
        "name": config.name,
        "stages": stages,
        "hidden": list(config.hidden),
        "num_classes": model.num_classes,
        "image_size": model.image_size,
        "width": model.width,
        "batch_norm": model.batch_norm,
    }


def build_net(net: dict) -> VGG:
    """The inverse of ``describe_net``; weights are not drawn."""
    stages = tuple(
        tuple(LRN(**layer["lrn"]) if "lrn" in layer else Conv(**layer) for layer in stage)
        for stage in net["stages"]
    )
    options = {k: net[k] for k in ("num_classes", "image_size", "width", "batch_norm")}
    return VGG(Config(net["name"], stages, tuple(net["hidden"])), **options)


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Make this the last checkpoint of a folder, and the last one the previous.

    The new file gets its name only when it is on the disk and has been read back; whatever happens
    before, the last good checkpoint is where it was.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is untouched.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    fresh = folder / f"{LAST}.new"
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    state = json.dumps(checkpoint.state)
    header = {"format": FORMAT, "state": state, "sha256": _digest(state, tensors)}
    try:
        save_file(tensors, fresh, metadata=header)
        fresh.chmod(0o644)  # safetensors writes files that only their owner can read
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
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
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
    if _digest(state, tensors) != header.get("sha256"):
        raise CheckpointError(
            f"{path} has changed since it was written: its sha256 does not fit{_other(path)}"
        )
    return Checkpoint(json.loads(state), tensors)


def _other(path: Path) -> str:
    """Names the checkpoint before a damaged one, if there is one."""
    if path.name != LAST or not path.with_name(PREVIOUS).is_file():
        return ""
    return f"; {PREVIOUS} may be whole: resume='previous' (--resume previous) goes on from it"


def differences(there: dict, here: dict) -> Iterator[str]:
    """Lines that say what differs between the settings of a checkpoint and those of a run."""
    for part in ("net", "recipe", "data"):
        for key in there[part].keys() | here[part].keys():
            old, new = there[part].get(key), here[part].get(key)
            old, new = (list(v) if isinstance(v, tuple) else v for v in (old, new))
            if old != new:
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
    """Keep other runs out of a folder; the lock ends with the process, however that ends.

    Raises
    ------
    OSError
        If another process trains in it.
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


def _digest(state: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


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
