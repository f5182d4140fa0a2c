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
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Subset
from tqdm.auto import tqdm

from ..data import ImageSet
from ..evaluate import evaluate
from ..precision import autocast, computes_in_bf16, has_bf16
from . import checkpoint, record
from .batches import check_size, pipeline, split
from .checkpoint import Checkpoint, CheckpointError
from .recipe import Recipe
from .signals import Interrupted, Signals
from .small_maps import small_maps_as_products

# Steps between two looks at the loss: each look makes a GPU wait for the CPU.
LOOK_EVERY = 20


class StalledWarning(UserWarning):
    """After a whole epoch the loss is still that of guessing."""


class Run:
    """The state of a training run, and what is done with it."""

    def __init__(self, model, data, recipe, place, workers, accumulate, compiled):
        self.model, self.data, self.recipe, self.place = model, data, recipe, place
        self.workers, self.accumulate = workers, accumulate
        self.folder, self.checkpoint_steps = None, None
        training, self.validation = split(data, recipe)
        if isinstance(self.validation, ImageSet):  # it is tested as it is, after a whole epoch
            check_size(self.validation, model)
        self.mean, self.std = recipe.normalisation(data)
        if recipe.dropout is not None:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = recipe.dropout
        if recipe.precision == "bf16" and not has_bf16(place.device) and place.first:
            warnings.warn(
                f"{place.device} has no arithmetic for bf16 and imitates it, which can take many "
                "times as long; precision='auto' (--precision auto) takes fp32 there",
                RuntimeWarning,
                stacklevel=4,
            )
        # Each process drops its own units.
        torch.manual_seed(recipe.seed + place.rank)
        # In 32 bits on a CPU, channels last would slow the backward pass (at 224 px by half).
        gains = place.device.type != "cpu" or computes_in_bf16(place.device, recipe.precision)
        last = recipe.channels_last and gains
        self.layout = torch.channels_last if last else torch.contiguous_format
        model.to(place.device, memory_format=self.layout)
        self.source = pipeline(training, model, recipe, self.mean, self.std, place, workers)
        share = self.source.batch // place.world
        if share % accumulate:
            raise ValueError(
                f"{share} images (the batch of {self.source.batch} over {place.world} processes) "
                f"cannot be made in {accumulate} equal parts; accumulate must divide {share}"
            )
        self.optimiser = torch.optim.SGD(
            model.parameters(),
            recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=place.device.type in ("cpu", "cuda"),
        )
        self.scheduler = _scheduler(self.optimiser, recipe, len(self.source))
        self.compiled = compiled
        self.forward = torch.compile(model) if compiled else model
        if place.world > 1:
            gpu = [place.device] if place.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.forward, device_ids=gpu)
        self.epoch, self.step, self.drops, self.rows, self.stopped = 1, 0, 0, [], ""
        self.sums = torch.zeros(3, dtype=torch.double, device=place.device)  # loss, hits, images
        self.bad_step = torch.full((), -1, device=place.device)
        self.seconds = self.waited = 0.0
        self.stalled = False

    # ---- the run and its folder

    def open(self, folder: Path, resume, checkpoint_steps, held: contextlib.ExitStack) -> None:
        """Start or go on in a folder, which is this run's own until ``held`` is closed."""
        self.folder, self.checkpoint_steps = folder, checkpoint_steps
        # What keeps checkpoints from being written is known now, and not after an epoch.
        self.first_does(lambda: checkpoint.room_for(folder, self.checkpoint_bytes()))
        self.first_does(lambda: held.enter_context(checkpoint.only_run_in(folder)))
        name = checkpoint.PREVIOUS if resume == "previous" else checkpoint.LAST
        path = folder / name
        if resume and path.exists():
            self.restore(checkpoint.read(path), path)
            return
        if (folder / checkpoint.LAST).exists():
            raise FileExistsError(
                f"{folder} already holds a run; go on with it (resume=True, --resume) or choose "
                "another folder (out=, --out)"
            )
        self.save()  # before the first step, so that a run can be resumed whenever it ends

    def first_does(self, action: Callable[[], object]) -> None:
        """The first process does it; if it fails, all fail, instead of waiting for the first."""
        error = None
        if self.place.first:
            try:
                action()
            except OSError as caught:
                error = caught
        error = self.place.share(error)
        if error is not None:
            raise error

    def identity(self) -> dict:
        """What must be the same when a run goes on."""
        return {
            "net": checkpoint.describe_net(self.model),
            "recipe": asdict(self.recipe),
            "data": {
                "name": self.data.name,
                "training images": self.source.count,
                "validation images": len(self.validation),
            },
        }

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the run."""
        tensors = {f"model.{k}": t for k, t in self.model.state_dict().items()}
        for index, slots in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": t for k, t in slots.items() if t is not None}
        return tensors | {"sums": self.sums}

    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint after the first step, when there is momentum."""
        values = sum(t.numel() * t.element_size() for t in self.model.state_dict().values())
        momentum = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return values + (momentum if self.recipe.momentum else 0)

    def save(self) -> None:
        """Write a checkpoint; every process takes part, the first one writes."""
        generators = {"cpu": torch.get_rng_state()}
        if self.place.device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self.place.device)
        everyone = self.place.gather(generators)
        sums = self.place.gather(self.sums.cpu())
        tensors = self.tensors() | {"sums": torch.stack(sums)}
        for rank, states in enumerate(everyone):
            tensors |= {f"rng.{rank}.{kind}": state for kind, state in states.items()}
        groups = self.optimiser.state_dict()["param_groups"]
        state = self.identity() | {
            "normalisation": {"mean": self.mean, "std": self.std},
            "epoch": self.epoch,
            "step": self.step,
            "drops": self.drops,
            "rows": self.rows,
            "stopped": self.stopped,
            "stalled": self.stalled,
            "seconds": self.seconds,
            "waited": self.waited,
            "groups": [{k: v for k, v in group.items() if k != "params"} for group in groups],
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "torch": torch.__version__,
            "processes": self.place.world,
            "threads": torch.get_num_threads(),
        }

        def write():
            checkpoint.write(self.folder, Checkpoint(state, tensors))
            record.write(self.folder, self.identity(), self.rows)

        self.first_does(write)

    def restore(self, found: Checkpoint, path: Path) -> None:
        """Put the run into a checkpoint's state."""
        state = found.state
        differences = list(checkpoint.differences(state, self.identity()))
        if differences:
            raise CheckpointError(
                f"{path} is from another run:\n  " + "\n  ".join(differences) + "\nResume with the "
                "settings of the checkpoint, or start a new run in another folder, out= (--out), "
                "from these weights if you like (--weights)"
            )
        self.model.load_state_dict(found.part("model"))
        parameters = list(self.model.parameters())
        slots: dict[int, dict] = {}
        for name, tensor in found.part("optimiser").items():
            index, key = name.split(".")
            # In the parameter's memory layout, which the fused optimiser takes for granted.
            like = torch.empty_like(parameters[int(index)]).copy_(tensor)
            slots.setdefault(int(index), {})[key] = like
        groups = self.optimiser.state_dict()["param_groups"]
        groups = [old | new for old, new in zip(groups, state["groups"], strict=True)]
        self.optimiser.load_state_dict({"state": slots, "param_groups": groups})
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        sums = found.tensors["sums"]
        same_processes = state["processes"] == self.place.world
        if same_processes:
            self.sums.copy_(sums[self.place.rank])
            generators = found.part(f"rng.{self.place.rank}")
            torch.set_rng_state(generators["cpu"])
            if self.place.device.type == "cuda" and "cuda" in generators:
                torch.cuda.set_rng_state(generators["cuda"], self.place.device)
        elif self.place.first:  # the sums are added up over the processes at the end of the epoch
            self.sums.copy_(sums.sum(0))
        for name in ("epoch", "step", "drops", "rows", "stopped", "stalled", "seconds", "waited"):
            setattr(self, name, state[name])

    # ---- training

    def go(self, progress: bool, on_epoch) -> pd.DataFrame:
        """Train to the end; the history."""
        steps = len(self.source)
        total, done = self.recipe.epochs * steps, (self.epoch - 1) * steps + self.step
        shown = progress and self.place.first
        with (
            tqdm(total=total, initial=done, desc=self.model.config.name, disable=not shown) as bar,
            Signals(active=self.folder is not None) as signals,
        ):
            while not self.stopped:
                self.one_epoch(bar, signals)
                if not self.stopped:
                    self.finish_epoch(bar, on_epoch, signals)
        self.model.eval()
        history = pd.DataFrame(self.rows)
        history.attrs["stopped"] = self.stopped
        return history

    def one_epoch(self, bar, signals) -> None:
        """The rest of an epoch's steps."""
        self.leave_if_told(signals)
        self.model.train()
        begin = time.perf_counter()
        for images, labels in self.source.epoch(self.epoch, self.step):
            self.waited += time.perf_counter() - begin
            self.one_step(images, labels)
            self.step += 1
            self.seconds += time.perf_counter() - begin
            bar.update()
            look = self.step % LOOK_EVERY == 0
            save = self.checkpoint_steps and self.step % self.checkpoint_steps == 0
            if (look or save) and self.gone_wrong():
                return
            if save and self.step < len(self.source):
                self.save()
            if look or self.place.world == 1:  # several have to ask each other
                self.leave_if_told(signals)
                if self.stopped:
                    return
            begin = time.perf_counter()
        self.gone_wrong()

    def one_step(self, images: Tensor, labels: Tensor) -> None:
        """One update of the weights, its gradients made in ``accumulate`` parts."""
        self.optimiser.zero_grad(set_to_none=True)
        share = len(labels) // self.accumulate
        parts = list(zip(images.split(share), labels.split(share), strict=True))
        loss_sum = torch.zeros((), dtype=torch.double, device=self.place.device)
        try:
            for number, (crops, classes) in enumerate(parts, start=1):
                # Gradients travel between processes once a step, with the last part.
                alone = self.place.world > 1 and number < len(parts)
                with self.forward.no_sync() if alone else contextlib.nullcontext():
                    loss, scores = self.loss(self.forward, crops, classes)
                    (loss / len(parts)).backward()
                loss_sum += loss.detach() * len(classes)
                self.sums[1] += (scores.argmax(1) == classes).sum()
        except torch.cuda.OutOfMemoryError as error:
            raise torch.cuda.OutOfMemoryError(self.too_large(images, labels, share)) from error
        self.optimiser.step()
        if self.recipe.schedule == "one-cycle":
            self.scheduler.step()
        # Summed on the device: reading a number each step would make the GPU wait for the CPU.
        self.sums[0] += loss_sum
        self.sums[2] += len(labels)
        bad = ~torch.isfinite(loss_sum) & (self.bad_step < 0)
        self.bad_step = torch.where(bad, self.step + 1, self.bad_step)

    def loss(self, net: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of a batch, and the scores."""
        images = images.contiguous(memory_format=self.layout)
        # What torch.compile has translated keeps its own convolutions.
        products = contextlib.nullcontext() if self.compiled else small_maps_as_products(self.model)
        with autocast(self.place.device, self.recipe.precision), products:
            scores = net(images)
        return F.cross_entropy(scores.float(), labels), scores

    def finish_epoch(self, bar, on_epoch, signals) -> None:
        """Validate, note, change the learning rate, write the checkpoint."""
        lr = self.optimiser.param_groups[0]["lr"]
        loss, hits, images = self.place.total(self.sums.clone()).tolist()
        tested = self.validate(signals)
        row = {
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
        self.rows.append(row)
        bar.set_postfix(
            loss=f"{row['train_loss']:.3f}", val=f"{tested['top1']:.1%}", lr=f"{lr:.0e}"
        )
        self.warn_if_stalled(row)
        if self.recipe.schedule == "plateau":
            self.scheduler.step(tested["top1"])
            if self.optimiser.param_groups[0]["lr"] < lr:
                self.drops += 1
                if self.drops > self.recipe.max_drops:
                    self.stopped = (
                        f"no better validation accuracy after {self.recipe.max_drops} drops"
                    )
        if self.epoch == self.recipe.epochs and not self.stopped:
            self.stopped = "all epochs done"
        asked = self.place.first and on_epoch is not None and on_epoch(row) is True
        if self.place.any(int(asked)) and not self.stopped:
            self.stopped = "on_epoch asked for it"
        self.epoch, self.step = self.epoch + 1, 0
        self.sums.zero_()
        self.seconds = self.waited = 0.0
        if self.folder is not None:
            self.save()

    def validate(self, signals: Signals) -> dict[str, float]:
        """Loss and accuracy on the validation images, each process taking every n-th.

        A validation that a signal cuts off is made from its start when the run goes on.
        """
        place = self.place
        part = self.validation
        if place.world > 1:
            for buffer in self.model.buffers():  # batch norm's averages, which differ by process
                torch.distributed.broadcast(buffer, src=0)
            indices = torch.arange(place.rank, len(part), place.world)
            part = part[indices] if isinstance(part, ImageSet) else Subset(part, indices.tolist())
        sums = torch.zeros(3, dtype=torch.double, device=place.device)

        def test() -> None:
            tested = evaluate(
                self.model,
                part,
                self.mean,
                self.std,
                precision=self.recipe.precision,
                workers=self.workers,
            )
            sums.add_(len(part) * torch.tensor([tested["loss"], tested["top1"], 1.0]).to(sums))

        if len(part):
            signals.cut_short(test)
        self.leave(place.any(signals.received), f"in the validation of epoch {self.epoch}")
        loss, top1, count = place.total(sums).tolist()
        return {"loss": loss / count, "top1": top1 / count}

    # ---- when something goes wrong

    def gone_wrong(self) -> bool:
        """Has the loss stopped being finite? Then say so and end the run."""
        step = self.place.any(int(self.bad_step))
        if step < 0:
            return False
        lr = self.optimiser.param_groups[0]["lr"]
        self.stopped = f"the loss stopped being finite at step {step} of epoch {self.epoch}"
        self.rows.append(self.sums_row(lr))
        kept = ""
        if self.folder is not None:
            # The checkpoint stays the last good one; the history shows what came after it.
            self.first_does(lambda: record.write(self.folder, self.identity(), self.rows))
            kept = f" The last good checkpoint is {self.folder / checkpoint.LAST}."
        if self.place.first:
            warnings.warn(
                f"{self.model.config.name}: {self.stopped}; the usual causes are an initialisation "
                "that lets the signal grow from layer to layer (see vgglib.signal) or a learning "
                f"rate that is too high (lr={lr:g}).{kept}",
                RuntimeWarning,
                stacklevel=5,
            )
        return True

    def sums_row(self, lr: float) -> dict:
        """The row of an epoch that did not get to its validation."""
        loss, hits, images = self.place.total(self.sums.clone()).tolist()
        return {
            "epoch": self.epoch,
            "lr": lr,
            "train_loss": loss / images,
            "train_accuracy": hits / images,
            "val_loss": math.nan,
            "val_accuracy": math.nan,
            "seconds": self.seconds,
            "images_per_second": math.nan,
            "waiting": math.nan,
        }

    def warn_if_stalled(self, row: dict) -> None:
        """Has the net learned nothing in an epoch? Say it once."""
        guessing = math.log(self.model.num_classes)
        if self.stalled or self.model.num_classes < 2:
            return
        margin = 0.005 * guessing
        if abs(row["train_loss"] - guessing) > margin:
            return
        # A loss that began far above and comes down past that of guessing is on its way.
        if any(earlier["train_loss"] > row["train_loss"] + margin for earlier in self.rows[-2:-1]):
            return
        self.stalled = True
        if self.place.first:
            warnings.warn(
                f"{self.model.config.name}: after epoch {row['epoch']} the loss is "
                f"{row['train_loss']:.3f}, that of guessing (ln {self.model.num_classes} = "
                f"{guessing:.3f}). In a deep plain net that is most often the initialisation: "
                "look at vgglib.signal, start with init='he', or pre-initialise from net A",
                StalledWarning,
                stacklevel=5,
            )

    def leave_if_told(self, signals: Signals) -> None:
        """After Ctrl-C or SIGTERM: write the checkpoint and leave."""
        number = self.place.any(signals.received)
        if not number or self.step == len(self.source) or self.gone_wrong():
            return  # what follows is the validation, which a signal cuts off
        self.leave(number, f"after step {self.step} of epoch {self.epoch}")

    def leave(self, number: int, where: str) -> None:
        """Write the checkpoint and leave, if ``number`` is a signal."""
        if not number:
            return
        self.save()
        raise Interrupted(
            f"{signal.Signals(number).name}: the run stopped {where}; its checkpoint is "
            f"{self.folder / checkpoint.LAST}; resume=True (--resume) goes on from it",
            number,
        )

    def too_large(self, images: Tensor, labels: Tensor, tried: int) -> str:
        """Find how many images fit; the message of the error."""
        fits = tried
        while fits > 1:
            fits //= 2
            self.optimiser.zero_grad(set_to_none=True)
            if self.place.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                loss, _ = self.loss(self.model, images[:fits], labels[:fits])
                loss.backward()
                break
            except torch.cuda.OutOfMemoryError:
                continue
        else:
            return f"not even one image of {self.model.image_size} px fits on {self.place.device}"
        parts = -(-len(labels) // fits)
        while len(labels) % parts:
            parts += 1
        return (
            f"{tried} images at once are too many for the memory of {self.place.device}; {fits} "
            f"fit. accumulate={parts} (--accumulate {parts}) keeps the batch of "
            f"{self.source.batch} and makes it in parts"
        )


def _scheduler(optimiser, recipe: Recipe, steps: int):
    if recipe.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser,
            mode="max",
            factor=recipe.lr_factor,
            patience=recipe.patience,
            threshold=0,
            eps=0,  # torch's default leaves out drops of less than 1e-8
        )
    if recipe.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.lr, total_steps=recipe.epochs * steps, cycle_momentum=False
        )
    return None
