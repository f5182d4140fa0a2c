"""On which device does this process work, and which part of the work is its own?

One process a GPU, started by ``torchrun``; torch.distributed does the rest (§3.3: the gradients of
a batch are averaged over the GPUs, so the result is that of one GPU). Training and testing both
build on it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")

#: Kinds of devices that have no 64-bit floats.
NO_FLOAT64 = {"mps"}


@dataclass(frozen=True)
class Place:
    """One process of a run.

    Parameters
    ----------
    device : torch.device
    rank, world : int
        This process's number, and how many there are.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls, device: str | torch.device | None = None) -> Place:
        """The place of the calling process; without a device its GPU where there is one.

        Raises
        ------
        ValueError
            If there is no such device here.
        """
        several = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
        if device is None:
            device = "cpu"
            if torch.cuda.is_available() and not (several and dist.get_backend() == "gloo"):
                device = f"cuda:{torch.cuda.current_device()}"
        return cls(_usable(device), rank, world)

    @property
    def first(self) -> bool:
        """Does this process do the talking and the writing?"""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes, in place; returns ``values``."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: int) -> int:
        """The largest of the processes' flags."""
        if self.world == 1:
            return flag
        value = torch.tensor(flag, device=self.device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def share(self, value: Value) -> Value:
        """What the first process holds."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def first_does(self, action: Callable[[], Value]) -> Value | None:
        """What ``action`` gives in the first process, which alone does it; if it fails, all fail.

        They raise its OSError or ValueError, instead of waiting for the first.
        """
        error, found = None, None
        if self.first:
            try:
                found = action()
            except (OSError, ValueError) as caught:
                error = caught
        error = self.share(error)
        if error is not None:
            raise error
        return found

    def gather(self, value: object) -> list:
        """What every process holds, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def sum_dtype(device: torch.device) -> torch.dtype:
    """The floats in which many numbers are added up on a device: 64 bits where it has them."""
    return torch.float32 if device.type in NO_FLOAT64 else torch.float64


def generators(device: torch.device) -> dict[str, torch.Generator]:
    """torch's own generators from which a net on a device draws, in dropout above all, by kind."""
    found = {"cpu": torch.default_generator}
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        found["cuda"] = torch.cuda.default_generators[index]
    elif device.type == "mps":
        found["mps"] = torch.mps._get_default_mps_generator()
    return found


@contextlib.contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """At its end a caller's random numbers go on as if nothing had been drawn on the device."""
    before = {generator: generator.get_state() for generator in generators(device).values()}
    try:
        yield
    finally:
        for generator, state in before.items():
            generator.set_state(state)


def _usable(device: str | torch.device) -> torch.device:
    """A device that can train; a ValueError where there is none of this name."""
    here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    here += ["mps"] if torch.backends.mps.is_available() else []
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    named = str(found)
    if found is None or (named not in here and f"{named}:0" not in here):
        raise ValueError(f"there is no device {str(device)!r} here; there is {', '.join(here)}")
    return found


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Join the other processes that ``torchrun`` started, and leave them in good order.

    Outside ``torchrun`` it does nothing. All wait for each other before they part: a process that
    leaves while another still talks to it makes that one fail.
    """
    if "LOCAL_RANK" not in os.environ or dist.is_initialized():
        yield
        return
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    enough = torch.cuda.device_count() >= max(here, local + 1)  # the same answer in all processes
    if enough:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if enough else "gloo")
    yield  # after an error this ends here, without waiting for processes that may never come
    dist.barrier()
    dist.destroy_process_group()


def first_to_say(words: str) -> bool:
    """Has no other process of the run said this yet? What all meet is to be told once.

    It needs no answer from the others, which may be waiting for this one in vain, or be gone.
    """
    if "LOCAL_RANK" not in os.environ or not dist.is_available():
        return True
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = dist.TCPStore(host, port, timeout=timedelta(seconds=20))
        return store.add(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT')} {words}", 1) == 1
    except RuntimeError:  # rather twice than never
        return True
