"""What is the state of a training run, and what is done with it?

The epochs and steps of §3.1 (chapters 3 and 5): mini-batch gradient descent with momentum, L2 and
dropout, and a learning rate that is divided by ten whenever the validation accuracy stops
improving. One process or several, from the start or from a checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.sets import Split, part_of
from ..devices import Place, generators, random_state_kept, sum_dtype
from ..evaluate import evaluate
from ..model import VGG
from ..pixels import Pixels
from ..precision import HALF, autocast, imitates, precision_on, products_in_tf32
from ..weights import no_tensors
from . import checkpoint, report
from .batches import Batches, size_of, told_of_shared_memory
from .callbacks import Callback
from .checkpoint import Checkpoint, CheckpointError
from .cpu import small_maps_as_products
from .interrupts import Interrupted, Signals
from .optimise import optimiser_of, scheduler_of
from .recipe import MADE_FOR_EPOCHS, Recipe

# What is known of a net since some version: where a checkpoint does not say, it is as it was.
LATER = ("dropout", "in_channels", "trained")
# Steps between two looks at the loss: each look makes a GPU wait for the CPU.
LOOK_EVERY = 20
# What a checkpoint keeps of a run as it is.
KEPT = ("epoch", "step", "drops", "rows", "stopped", "stalled", "seconds", "waited")


class StalledWarning(UserWarning):
    """After a whole epoch the loss is still that of guessing."""


class Run:
    """The state of a training run, and what is done with it."""

    def __init__(
        self,
        model: nn.Module,
        source: Batches,
        validation: Split | None,
        recipe: Recipe,
        place: Place,
        *,
        about: dict | None = None,
        classes: Sequence[str] | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        parameters: Iterable | None = None,
        callbacks: Sequence[Callback] = (),
        workers: int = 0,
        accumulate: int = 1,
        compiled: bool = False,
    ):
        if compiled:
            check_compiler(place.device)
        self.model, self.source, self.validation = model, source, validation
        self.recipe, self.place, self.about, self.classes = recipe, place, about or {}, classes
        self.callbacks, self.workers, self.accumulate = callbacks, workers, accumulate
        self.name = model.config.name if isinstance(model, VGG) else type(model).__name__
        self.folder: Path | Any = None  # who writes into it knows that there is one
        self.checkpoint_steps: int | None = None
        self.own_loss = loss is not None
        if self.own_loss and recipe.label_smoothing:
            raise ValueError(
                f"label_smoothing={recipe.label_smoothing} belongs to the recipe's cross-entropy; "
                "with loss= smooth there, and set it to 0"
            )
        self.criterion = loss or partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
        if recipe.dropout is not None:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = recipe.dropout
        self.precision = precision_on(place.device, recipe.precision)
        if imitates(place.device, self.precision) and place.first:
            warnings.warn(
                f"{place.device} has no arithmetic for {self.precision} and imitates it, which can "
                "take many times as long; precision='auto' (--precision auto) takes "
                f"{precision_on(place.device, 'auto')} there",
                RuntimeWarning,
                stacklevel=4,
            )
        self.generators = generators(place.device)
        for generator in self.generators.values():  # each process drops its own units
            generator.manual_seed(recipe.seed + place.rank)
        # In 32 bits on a CPU, channels last would slow the backward pass (at 224 px by half).
        gains = place.device.type != "cpu" or self.precision in HALF
        last = recipe.channels_last and gains
        self.layout = torch.channels_last if last else torch.contiguous_format
        model.to(place.device, memory_format=self.layout)  # type: ignore[call-overload]
        share = source.batch // place.world
        if share % accumulate:
            raise ValueError(
                f"{share} images (the batch of {source.batch} over {place.world} processes) "
                f"cannot be made in {accumulate} equal parts; accumulate must divide {share}"
            )
        groups = trained_weights(model, parameters)
        self.own_settings = {name for group in groups for name in group} - {"params", "name"}
        self.optimiser = optimiser_of(groups, recipe, place.device, self.precision)
        self.first_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.weights = [w for group in self.optimiser.param_groups for w in group["params"]]
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=self.precision == "fp16")
        self.scheduler = scheduler_of(self.optimiser, recipe, len(source))
        self.compiled = compiled
        self.forward: Any = torch.compile(model) if compiled else model
        if place.world > 1:
            gpu = [place.device] if place.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.forward, device_ids=gpu)
        self.epoch, self.step, self.drops, self.stopped = 1, 0, 0, ""
        self.rows: list[dict] = []
        self.changes: list[dict] = []
        self.sums = self.zeros(3)  # loss, hits, images
        self.bad_step = torch.full((), -1, device=place.device)
        self.seconds = self.waited = 0.0
        self.stalled = False
        self.rate: float | None = None

    def zeros(self, *shape: int) -> Tensor:
        """To add up many numbers in."""
        return torch.zeros(shape, dtype=sum_dtype(self.place.device), device=self.place.device)

    # ---- the run and its folder

    def open(self, folder, resume, checkpoint_steps, held: contextlib.ExitStack, asked=()) -> None:
        """Start or go on in a folder, which is this run's own until ``held`` is closed.

        ``asked``: the fields of the recipe that may differ from the checkpoint's.
        """
        if own := sorted(self.own_settings & set(asked)):
            raise ValueError(
                f"change cannot set {', '.join(own)} of groups that have their own; start a new "
                "run in another folder, out= (--out), from these weights"
            )
        inside = {id(weight) for weight in self.model.parameters()}
        if any(id(weight) not in inside for weight in self.weights):
            raise ValueError(
                "parameters holds weights outside of the net, which a checkpoint would lack; make "
                "them part of the net, or train without out="
            )
        if extra := no_tensors(self.model.state_dict()):
            raise ValueError(
                f"a checkpoint holds tensors only, and {extra}; let its get_extra_state give a "
                "Tensor, keep what it holds in a buffer, or train without out="
            )
        self.folder, self.checkpoint_steps = folder, checkpoint_steps
        # What keeps checkpoints from being written is known now, and not after an epoch.
        self.place.first_does(lambda: checkpoint.room_for(folder, self.checkpoint_bytes()))
        self.place.first_does(lambda: held.enter_context(checkpoint.only_run_in(folder)))
        name = checkpoint.PREVIOUS if resume == "previous" else checkpoint.LAST
        path = folder / name
        goes_on = resume and path.exists()
        if goes_on:
            self.restore(checkpoint.read(path), path, set(asked))
        elif (folder / checkpoint.LAST).exists():
            raise FileExistsError(
                f"{folder} already holds a run; go on with it (resume=True, --resume) or choose "
                "another folder (out=, --out)"
            )
        if not self.finite():
            raise CheckpointError(
                f"{path if goes_on else 'the net'} holds weights that are not finite; start from "
                "others, or from the checkpoint before it: resume='previous' (--resume previous)"
            )
        if not goes_on:
            self.save()  # before the first step, so that a run can be resumed whenever it ends

    def identity(self) -> dict:
        """What must be the same when a run goes on."""
        return {
            "net": checkpoint.describe_net(self.model) | {"trained": self.trained()},
            "recipe": asdict(self.recipe),
            "data": self.about
            | {
                "training images": self.source.count,
                "validation images": len(self.validation) if self.validation is not None else 0,
            },
        }

    def trained(self) -> list:
        """How many weights each group of the optimiser holds, and its rate if it has its own."""
        counts = [len(group["params"]) for group in self.optimiser.param_groups]
        if "lr" not in self.own_settings:
            return counts
        return [list(pair) for pair in zip(counts, self.first_rates, strict=True)]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the run."""
        tensors = {f"model.{k}": t for k, t in self.model.state_dict().items()}
        for index, slots in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": t for k, t in slots.items() if t is not None}
        return tensors | {"sums": self.sums}

    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint after the first step, when there is momentum."""
        values = sum(t.numel() * t.element_size() for t in self.model.state_dict().values())
        slots = 2 if self.recipe.optimizer == "adamw" else bool(self.recipe.momentum)
        return values + slots * sum(w.numel() * w.element_size() for w in self.weights)

    def finite(self) -> bool:
        """Are all weights, and the averages of batch norm, finite in every process?"""
        values = (t for t in self.model.state_dict().values() if isinstance(t, Tensor))
        fine = torch.stack([value.isfinite().all() for value in values]).all()
        return not self.place.any(int(not fine))

    def settings(self) -> dict:
        """What is told of the run in ``config.json``."""
        machine = {"device": str(self.place.device), "precision": self.precision}
        return self.identity() | {"machine": machine, "changes": self.changes}

    def save(self) -> None:
        """Write a checkpoint; every process takes part, the first one writes."""
        everyone = self.place.gather({k: g.get_state() for k, g in self.generators.items()})
        sums = self.place.gather(self.sums.cpu())
        tensors = self.tensors() | {"sums": torch.stack(sums)}
        for rank, states in enumerate(everyone):
            tensors |= {f"rng.{rank}.{kind}": state for kind, state in states.items()}
        groups = self.optimiser.state_dict()["param_groups"]
        state = self.settings() | {
            "normalisation": asdict(self.source.pixels),
            "classes": self.classes,
            **{name: getattr(self, name) for name in KEPT},
            "groups": [{k: v for k, v in group.items() if k != "params"} for group in groups],
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "scaler": self.scaler.state_dict(),
            "torch": torch.__version__,
            "processes": self.place.world,
            "threads": torch.get_num_threads(),
        }

        def write():
            checkpoint.write(self.folder, Checkpoint(state, tensors))
            report.write(self.folder, self.settings(), self.rows)

        self.place.first_does(write)

    def restore(self, found: Checkpoint, path: Path, asked: set[str]) -> None:
        """Put the run into a checkpoint's state; settings that were asked for are changed."""
        state, own = found.state, self.identity()
        # What an older version did not write down was as it is by default.
        there = {part: dict(state[part]) for part in own}
        there["recipe"] = asdict(Recipe()) | there["recipe"]
        there["net"] = {k: v for k, v in own["net"].items() if k in LATER} | there["net"]
        if self.recipe.schedule not in MADE_FOR_EPOCHS:
            asked = asked | {"epochs"}
        changes = checkpoint.unequal(there["recipe"], own["recipe"])
        changes = {name: pair for name, pair in changes.items() if name in asked}
        there["recipe"] |= {name: own["recipe"][name] for name in changes}
        differences = list(checkpoint.differences(there, own))
        if differences:
            raise CheckpointError(
                f"{path} is from another run:\n  " + "\n  ".join(differences) + "\nResume with the "
                "settings of the checkpoint (change= or --change lr=… changes some), or start a "
                "new run in another folder, out= (--out), from these weights if you like "
                "(--weights)"
            )
        self.model.load_state_dict(found.part("model"))
        self.source.pixels = Pixels(**state["normalisation"])
        slots: dict[int, dict] = {}
        for name, tensor in found.part("optimiser").items():
            index, key = name.split(".")
            # In the parameter's memory layout, which the fused optimiser takes for granted.
            if tensor.ndim:
                tensor = torch.empty_like(self.weights[int(index)]).copy_(tensor)
            slots.setdefault(int(index), {})[key] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        values = {k: new for k, (_, new) in changes.items() if k in state["groups"][0]}
        groups = [
            old | new | values | ({"lr": old["lr"]} if "lr" in values else {})
            for old, new in zip(groups, state["groups"], strict=True)
        ]
        rates = self.scheduler.base_lrs if hasattr(self.scheduler, "base_lrs") else None
        self.optimiser.load_state_dict({"state": slots, "param_groups": groups})
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if rates is not None and "lr" in values:
            self.scheduler.base_lrs = rates
            now = [share(self.scheduler.last_epoch) for share in self.scheduler.lr_lambdas]
            for group, rate, share in zip(self.optimiser.param_groups, rates, now, strict=True):
                group["lr"] = rate * share
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        sums = found.tensors["sums"]
        same_processes = state["processes"] == self.place.world
        if same_processes:
            self.sums.copy_(sums[self.place.rank])
            states = found.part(f"rng.{self.place.rank}")
            for kind in states.keys() & self.generators.keys():
                self.generators[kind].set_state(states[kind])
        elif self.place.first:  # the sums are added up over the processes at the end of the epoch
            self.sums.copy_(sums.sum(0))
        for name in KEPT:
            setattr(self, name, state[name])
        self.changes = state.get("changes", [])
        if changes:
            self.changes.append({"epoch": self.epoch, "step": self.step, **changes})
            self.stopped = "" if self.epoch <= self.recipe.epochs else "all epochs done"

    # ---- training

    def go(self) -> pd.DataFrame:
        """Train to the end; the history."""
        with (
            products_in_tf32() if self.precision == "tf32" else contextlib.nullcontext(),
            contextlib.closing(self.source),
            Signals(active=self.folder is not None) as signals,
            warnings.catch_warnings(),
        ):
            if self.scaler.is_enabled():  # which leaves out steps, perhaps the first
                warnings.filterwarnings("ignore", "Detected call of .lr_scheduler.step")
            started = []
            try:
                with random_state_kept(self.place.device):  # as restored from a checkpoint
                    for callback in self.callbacks:
                        callback.on_start(self)
                        started.append(callback)
                while not self.stopped:
                    self.one_epoch(signals)
                    if not self.stopped:
                        self.finish_epoch(signals)
            except RuntimeError:
                if not signals.received:
                    raise
                # The processes that read images got the signal, too, perhaps in mid-step.
                self.leave(signals.received, "without another checkpoint", save=False)
            finally:
                history = pd.DataFrame(self.rows)
                history.attrs |= {"stopped": self.stopped, "changes": self.changes}
                with contextlib.ExitStack() as ending:  # all of them, even where one fails
                    for callback in started:
                        ending.callback(callback.on_end, self, history)
        self.model.eval()
        return history

    def one_epoch(self, signals: Signals) -> None:
        """The rest of an epoch's steps."""
        self.leave_if_told(signals)
        training_mode(self.model)
        begin = time.perf_counter()
        for images, targets in self.source.epoch(self.epoch, self.step):
            self.waited += time.perf_counter() - begin
            self.one_step(images, targets)
            self.step += 1
            self.seconds += time.perf_counter() - begin
            for callback in self.callbacks:
                callback.on_step(self)
            look = self.step % LOOK_EVERY == 0
            save = self.checkpoint_steps and self.step % self.checkpoint_steps == 0
            if (look or save) and self.gone_wrong(weights=bool(save)):
                return
            if save and self.step < len(self.source):
                self.save()
            if look or self.place.world == 1:  # several have to ask each other
                self.leave_if_told(signals)
                if self.stopped:
                    return
            begin = time.perf_counter()
        self.gone_wrong(weights=True)  # waits for the GPU, which may have some steps before it
        self.seconds += time.perf_counter() - begin

    def one_step(self, images: Tensor, targets: Tensor) -> None:
        """One update of the weights, its gradients made in ``accumulate`` parts."""
        self.optimiser.zero_grad(set_to_none=True)
        share = len(targets) // self.accumulate
        parts = list(zip(images.split(share), targets.split(share), strict=True))
        loss_sum = self.zeros()
        try:
            for number, (crops, wanted) in enumerate(parts, start=1):
                # Gradients travel between processes once a step, with the last part.
                alone = self.place.world > 1 and number < len(parts)
                with self.forward.no_sync() if alone else contextlib.nullcontext():
                    loss, scores = self.loss(self.forward, crops, wanted)
                    if not isinstance(loss, Tensor) or loss.ndim:
                        raise ValueError(
                            "loss(scores, targets) must give one number, a Tensor of shape (), got "
                            f"{tuple(loss.shape) if isinstance(loss, Tensor) else loss!r}"
                        )
                    self.scaler.scale(loss / len(parts)).backward()
                loss_sum += loss.detach() * len(wanted)
                self.sums[1] += hits(scores, wanted)
            too_many = False
        except torch.cuda.OutOfMemoryError:
            too_many = True
        if too_many:  # out here: the error holds on to all that the failed pass has reserved
            raise torch.cuda.OutOfMemoryError(self.too_large(images, targets, share))
        if self.recipe.clip is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.weights, self.recipe.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.recipe.schedule != "one-cycle":
            self.rate = self.optimiser.param_groups[0]["lr"]
        if self.scheduler and self.recipe.schedule != "plateau":
            self.scheduler.step()
        # Summed on the device: reading a number each step would make the GPU wait for the CPU.
        self.sums[0] += loss_sum
        self.sums[2] += len(targets)
        bad = ~torch.isfinite(loss_sum) & (self.bad_step < 0)
        self.bad_step = torch.where(bad, self.step + 1, self.bad_step)

    def loss(self, net: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch, and what the net puts out."""
        images = images.contiguous(memory_format=self.layout)
        # For CPUs; and what torch.compile has translated keeps its own convolutions.
        wanted = self.place.device.type == "cpu" and not self.compiled
        products = small_maps_as_products(self.model) if wanted else contextlib.nullcontext()
        with autocast(self.place.device, self.precision), products:
            scores = net(images)
        return self.criterion(scores.float(), targets), scores

    def finish_epoch(self, signals: Signals) -> None:
        """Validate, note, change the learning rate, write the checkpoint."""
        lr = self.optimiser.param_groups[0]["lr"]
        used = lr if self.rate is None else self.rate  # in the last step
        row = self.row(used, self.validate(signals) if self.validation is not None else None)
        if self.validation is not None and not math.isfinite(row["val_loss"]):
            self.diverge(f"the validation loss is not finite after epoch {self.epoch}", row)
            return
        self.rows.append(row)
        self.warn_if_stalled(row)
        if self.recipe.schedule == "plateau":
            self.scheduler.step(row["val_accuracy"])
            if self.optimiser.param_groups[0]["lr"] < lr:
                self.drops += 1
                if self.drops > self.recipe.max_drops:
                    self.stopped = (
                        f"no better validation accuracy after {self.recipe.max_drops} drops"
                    )
        if self.epoch == self.recipe.epochs and not self.stopped:
            self.stopped = "all epochs done"
        answers = [callback.on_epoch(self, row) for callback in self.callbacks]
        asked = [bool(answer) for answer in answers if type(answer).__name__ in ("bool", "bool_")]
        if self.place.any(int(any(asked))) and not self.stopped:
            self.stopped = "a callback asked for it"
        self.epoch, self.step = self.epoch + 1, 0
        self.sums.zero_()
        self.seconds = self.waited = 0.0
        if self.folder is not None:
            self.save()

    def row(self, lr: float, tested: dict[str, float] | None = None) -> dict:
        """What is noted of the epoch; without a test, if it did not get to that."""
        loss, hits, images = self.place.total(self.sums.clone()).tolist()
        tested = tested or {"loss": math.nan, "top1": math.nan}
        return {
            "epoch": self.epoch,
            "lr": lr,
            "train_loss": loss / images,
            "train_accuracy": hits / images,
            "val_loss": tested["loss"],
            "val_accuracy": tested["top1"],
            "seconds": self.seconds,
            "images_per_second": images / self.seconds,
            "waiting": min(1.0, self.waited / self.seconds),
        }

    def validate(self, signals: Signals) -> dict[str, float]:
        """Loss and accuracy on the validation images, each process taking every n-th.

        A validation that a signal cuts off is made from its start when the run goes on.
        """
        place = self.place
        part: Any = self.validation
        if place.world > 1:
            for buffer in self.model.buffers():  # batch norm's averages, which differ by process
                torch.distributed.broadcast(buffer, src=0)
            part = part_of(part, range(place.rank, len(part), place.world))
        sums = self.zeros(3)

        def test() -> None:
            pixels, size = self.source.pixels, size_of(self.model, part)
            rest: dict = {"precision": self.precision, "workers": self.workers, "image_size": size}
            with told_of_shared_memory():
                tested = evaluate(self.model, part, pixels.mean, pixels.std, **rest)
            sums.add_(len(part) * torch.tensor([tested["loss"], tested["top1"], 1.0]).to(sums))

        if len(part):
            signals.cut_short(test)
        self.leave(place.any(signals.received), f"in the validation of epoch {self.epoch}")
        loss, top1, count = place.total(sums).tolist()
        return {"loss": loss / count, "top1": top1 / count}

    # ---- when something goes wrong

    def gone_wrong(self, weights: bool = False) -> bool:
        """Is the loss no longer finite, or are the weights, if they are asked for? Then end."""
        step = self.place.any(int(self.bad_step))
        if step >= 0:
            what = f"the loss stopped being finite at step {step}"
        elif weights and not self.finite():
            what = f"weights stopped being finite by step {self.step}"
        else:
            return False
        lr = self.optimiser.param_groups[0]["lr"]
        self.diverge(f"{what} of epoch {self.epoch}", self.row(lr))
        return True

    def diverge(self, reason: str, row: dict) -> None:
        """End the run; its checkpoint stays the last good one, its history shows the rest."""
        self.stopped = reason
        self.rows.append(row)
        kept = ""
        if self.folder is not None:
            files = self.folder, self.settings(), self.rows
            self.place.first_does(lambda: report.write(*files))
            kept = f" The last good checkpoint is {self.folder / checkpoint.LAST}."
        if self.place.first:
            warnings.warn(
                f"{self.name}: {reason}; the usual causes are an initialisation that "
                "lets the signal grow from layer to layer (see vgglib.signal) or a learning rate "
                f"that is too high (lr={row['lr']:g}).{kept}",
                RuntimeWarning,
                stacklevel=6,
            )

    def warn_if_stalled(self, row: dict) -> None:
        """Has the net learned nothing in an epoch? Say it once."""
        classes = len(self.classes or ())
        if self.stalled or self.own_loss or classes < 2:
            return
        guessing = math.log(classes)
        margin = 0.005 * guessing
        if abs(row["train_loss"] - guessing) > margin:
            return
        # A loss that began far above and comes down past that of guessing is on its way.
        if any(earlier["train_loss"] > row["train_loss"] + margin for earlier in self.rows[-2:-1]):
            return
        self.stalled = True
        he = "" if _drawn_by_he(self.model) else "start with init='he', "
        if self.place.first:
            warnings.warn(
                f"{self.name}: after epoch {row['epoch']} the loss is "
                f"{row['train_loss']:.3f}, that of guessing (ln {classes} = "
                f"{guessing:.3f}). In a deep plain net that is most often the initialisation: "
                f"look at vgglib.signal, {he}or pre-initialise from net A",
                StalledWarning,
                stacklevel=5,
            )

    def leave_if_told(self, signals: Signals) -> None:
        """After Ctrl-C or SIGTERM: write the checkpoint and leave."""
        number = self.place.any(signals.received)
        if not number or self.step == len(self.source) or self.gone_wrong(weights=True):
            return  # what follows is the validation, which a signal cuts off
        self.leave(number, f"after step {self.step} of epoch {self.epoch}")

    def leave(self, number: int, where: str, save: bool = True) -> None:
        """Write the checkpoint and leave, if ``number`` is a signal."""
        if not number:
            return
        if save:
            self.save()
        raise Interrupted(
            f"{signal.Signals(number).name}: the run stopped {where}; its checkpoint is "
            f"{self.folder / checkpoint.LAST}; resume=True (--resume) goes on from it",
            number,
        )

    def too_large(self, images: Tensor, targets: Tensor, tried: int) -> str:
        """Find how many images fit; the message of the error."""

        def step(count: int) -> None:
            self.optimiser.zero_grad(set_to_none=True)
            self.loss(self.model, images[:count], targets[:count])[0].backward()

        fits = how_many_fit(step, tried)
        if not fits:
            return f"not even one image of {images.shape[-1]} px fits on {self.place.device}"
        parts = -(-len(targets) // fits)
        while len(targets) % parts:
            parts += 1
        return (
            f"{tried} images at once are too many for the memory of {self.place.device}; {fits} "
            f"fit. accumulate={parts} (--accumulate {parts}) keeps the batch of "
            f"{self.source.batch} and makes it in parts"
        )


def how_many_fit(step: Callable[[int], None], tried: int) -> int:
    """The first of a half, a quarter … of the images with which a step fits into memory, or 0."""
    while tried > 1:
        tried //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            step(tried)
            return tried
    return 0


def check_compiler(device: torch.device) -> None:
    """Raise an OSError if ``torch.compile`` does not work here; its own error is a long one."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except Exception as error:
        why = str(error).strip().splitlines()[0]
        raise OSError(
            f"compiled=True (--compile) needs a compiler that works, such as g++: "
            f"{why}; install one, or leave it out"
        ) from error


def _drawn_by_he(model: nn.Module) -> bool:
    """Are the weights of the convolutions spread as ``init='he'`` spreads them, on average?"""
    weights = [m.weight.detach() for m in model.modules() if isinstance(m, nn.Conv2d)]
    ratios = [w.float().std().item() * math.sqrt(w[0].numel() / 2) for w in weights]
    return sum(ratios) > 0.85 * len(ratios)


def trained_weights(model: nn.Module, parameters: Iterable | None) -> list[dict]:
    """Groups of the weights that are to be trained; a ValueError if there is none."""
    if parameters is None:
        parameters = (weight for weight in model.parameters() if weight.requires_grad)
    given = list(parameters)
    groups = given if all(isinstance(group, dict) for group in given) else [{"params": given}]
    groups = [group | {"params": list(group["params"])} for group in groups]
    weights = [weight for group in groups for weight in group["params"]]
    inside = {id(weight) for weight in model.parameters()}
    if not any(id(weight) in inside for weight in weights):
        raise ValueError(
            f"nothing of the net is trained: {len(weights)} weights are given or not frozen, and "
            "none is the net's; parameters= takes net.parameters(), or groups of them, and "
            "requires_grad_() lets frozen ones learn"
        )
    return groups


def training_mode(model: nn.Module) -> None:
    """Training mode, but for layers whose weights are all frozen: batch norm keeps its averages."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        module.training = not own or any(weight.requires_grad for weight in own)


def hits(scores: Tensor, targets: Tensor) -> Tensor | float:
    """Images whose best score is that of their class; NaN where the targets are no classes."""
    if targets.ndim == 2 and targets.shape == scores.shape:  # shares of classes, as of mixup
        targets = targets.argmax(1)
    if targets.ndim != 1 or targets.is_floating_point():
        return math.nan
    return (scores.argmax(1) == targets).sum()
