"""The command line: ``python -m vgglib.train --net D --data cifar10 --out runs/d``."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import torch

from .. import data as datasets
from ..configs import CONFIGS
from ..devices import Place, processes
from ..initialise import initialise
from ..model import VGG, load_weights, vgg
from ..pre_initialise import pre_initialise
from ..precision import PRECISIONS
from . import record
from .batches import pipeline, split
from .checkpoint import LAST, CheckpointError, load_run
from .heap import keep_freed_memory
from .loop import train
from .recipe import Recipe
from .signals import Interrupted

EXAMPLES = """\
examples:
  A VGG-16 with the paper's recipe on CIFAR-10, and going on after an interruption:
    python -m vgglib.train --net D --data cifar10 --out runs/d
    python -m vgglib.train --net D --data cifar10 --out runs/d --resume
  A quick one for two CPU cores:
    python -m vgglib.train --net A --width 0.25 --data cifar10 --recipe small --out runs/a
  ImageNet on four GPUs, net D started from a trained net A:
    torchrun --nproc-per-node 4 -m vgglib.train --net D --data imagenet --root /data/imagenet \\
        --pre-init runs/a --precision bf16 --out runs/d
"""


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m vgglib.train",
        description="Train a VGG: the nets and the recipe of Simonyan & Zisserman (2015).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    net = parser.add_argument_group("the net")
    net.add_argument("--net", default="D", help=f"{', '.join(CONFIGS)}, or vgg11 … vgg19_bn")
    net.add_argument("--width", type=float, default=1.0, help="channels times this (1)")
    net.add_argument("--image-size", type=int, metavar="PX", help="32 for small sets, else 224")
    net.add_argument("--batch-norm", action="store_true", help="which the paper did not have")
    net.add_argument(
        "--init", default="xavier", choices=["xavier", "he", "normal"],
        help="how the weights are drawn (xavier)",
    )  # fmt: skip
    net.add_argument(
        "--std", type=float, default=0.01, help="standard deviation for --init normal (0.01)"
    )
    net.add_argument("--weights", metavar="FILE", help="start from a run, a checkpoint or weights")
    net.add_argument(
        "--pre-init", metavar="RUN",
        help="take the first four convolutions and the FC layers from this run's net (§3.1)",
    )  # fmt: skip

    data = parser.add_argument_group("the data")
    data.add_argument(
        "--data", default="cifar10", help="cifar10, fashion-mnist, fashion-mnist-mini, imagenette, "
        "imagenet (cifar10)",
    )  # fmt: skip
    data.add_argument("--root", metavar="DIR", help="where it lies; needed for imagenet")
    data.add_argument("--limit", type=int, metavar="N", help="only the first N training images")
    data.add_argument("--workers", type=int, default=4, help="processes that read photos (4)")

    recipe = parser.add_argument_group("the recipe")
    recipe.add_argument(
        "--recipe", choices=["paper", "small"], default="paper",
        help="§3.1's values, or our quick ones for 32-pixel images (paper)",
    )  # fmt: skip
    recipe.add_argument("--epochs", type=int, help="at most so many passes")
    recipe.add_argument("--batch-size", type=int, help="images a step, over all GPUs together")
    recipe.add_argument("--lr", type=float, help="the learning rate to start with")
    recipe.add_argument(
        "--precision", choices=PRECISIONS,
        help="of the products; auto: bf16 where the device has arithmetic for it",
    )  # fmt: skip
    recipe.add_argument("--seed", type=int, help="also of the weights")
    recipe.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="any field: " + ", ".join(f.name for f in fields(Recipe)) + "; for example "
        "--set 'scale=(256, 512)'",
    )  # fmt: skip

    run = parser.add_argument_group("the run")
    run.add_argument("--out", required=True, metavar="DIR", help="the folder of the run")
    run.add_argument(
        "--resume", nargs="?", const="last", default=False, choices=["last", "previous"],
        help="go on where the run in --out stopped (or from the checkpoint before)",
    )  # fmt: skip
    run.add_argument("--checkpoint-steps", type=int, default=1000, metavar="N",
                     help="a checkpoint every N steps and after each epoch (1000)")  # fmt: skip
    run.add_argument("--device", help="cpu, cuda, cuda:1 … (the GPU where there is one)")
    run.add_argument("--accumulate", type=int, default=1, metavar="N",
                     help="make each batch in N parts, for less memory (1)")  # fmt: skip
    run.add_argument("--compile", action="store_true", help="translate the net by torch.compile")
    run.add_argument("--deterministic", action="store_true", help="the same bits each time")
    run.add_argument("--tensorboard", action="store_true", help="write its events into --out, too")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def the_recipe(options) -> Recipe:
    """The recipe that the options describe."""
    base = Recipe.paper() if options.recipe == "paper" else Recipe.small()
    named = {name: getattr(options, name) for name in NAMED if getattr(options, name) is not None}
    return base.changed(**named).with_settings(options.settings)


NAMED = ("epochs", "batch_size", "lr", "precision", "seed")


def the_data(options, place: Place) -> datasets.Data:
    """The data set; one process fetches it, the others wait and read."""
    error, found = None, None
    show = place.first and not options.quiet
    if place.first:
        try:
            found = datasets.load(options.data, root=options.root, progress=show)
        except (ValueError, OSError) as caught:
            error = caught
    error = place.share(error)
    if error is not None:
        raise error
    found = found or datasets.load(options.data, root=options.root, progress=False)
    if options.limit is None:
        return found
    if options.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {options.limit}")
    if isinstance(found.train, datasets.ImageSet):
        part = found.train[: options.limit]
    else:
        part = torch.utils.data.Subset(found.train, range(min(options.limit, len(found.train))))
    return datasets.Data(found.name, part, found.test, found.classes, found.source)


def the_net(options, data: datasets.Data, seed: int) -> VGG:
    """The net, with its first weights."""
    small = isinstance(data.train, datasets.ImageSet)
    if len(data.classes) < 2:
        raise ValueError(
            f"{data.name} has only the class {data.classes[0]!r}, so there is nothing to tell "
            "apart; is --root one folder too high or too low?"
        )
    if options.weights and options.pre_init:
        raise ValueError("--weights and --pre-init both say how to start; give one of them")
    torch.manual_seed(seed)
    net = vgg(
        options.net,
        num_classes=len(data.classes),
        image_size=options.image_size or (32 if small else 224),
        width=options.width,
        batch_norm=options.batch_norm,
        init=None,
    )
    initialise(net, options.init, options.std)
    if options.weights:
        weights = Path(options.weights)
        if weights.is_dir():
            load_weights(net, load_run(weights).state_dict())
        else:
            try:
                load_weights(net, load_run(weights).state_dict())
            except (CheckpointError, FileNotFoundError):  # weights alone, or torchvision's by name
                load_weights(net, options.weights)
    if options.pre_init:
        pre_initialise(net, load_run(options.pre_init))
    return net


def pipeline_rate(net: VGG, data: datasets.Data, recipe: Recipe, place: Place, workers) -> float:
    """Images a second that the input pipelines of all processes make when nobody trains."""
    training, _ = split(data, recipe)
    source = pipeline(training, net, recipe, *recipe.normalisation(data), place, workers)
    rate = torch.tensor(source.rate(), dtype=torch.double, device=place.device)
    return float(place.total(rate))


def summary(history, rate: float, files: list[Path]) -> str:
    """What a run ends with."""
    lines = [f"Stopped: {history.attrs['stopped']}."]
    tested = history.dropna(subset="val_accuracy")
    if len(tested):
        best, last = tested.loc[tested.val_accuracy.idxmax()], tested.iloc[-1]
        lines += [
            f"Validation accuracy {last.val_accuracy:.2%} after epoch {last.epoch:.0f}; the best "
            f"was {best.val_accuracy:.2%} after epoch {best.epoch:.0f}.",
            f"{tested.seconds.sum():.1f} s of training at {tested.images_per_second.median():,.0f} "
            f"images a second; the input pipeline alone makes {rate:,.0f}.",
        ]
        if tested.waiting.median() > 0.2:
            lines.append(
                f"The net waited for images {tested.waiting.median():.0%} of the time: more "
                "--workers, a faster disk, or smaller files would make the run faster."
            )
    return "\n".join([*lines, "Written:", *(f"  {file}" for file in files if file.exists())])


def main(arguments: list[str] | None = None) -> int:
    """Train as the command line says.

    Returns
    -------
    int
        0: trained. 1: the loss stopped being finite, or memory was too small. 2: something given
        is wrong. 128 + n: stopped by signal n, with a checkpoint.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter shows a question mark in its place.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = parser().parse_args(arguments)
    # Until the devices are known, so that an error before that is said once, too.
    place = Place(torch.device("cpu"), int(os.environ.get("RANK", 0)))
    # Errors leave by the outer way: a process that fails alone must not wait for the others.
    try:
        with processes():
            place = Place.here(options.device)
            if place.device.type == "cpu":
                keep_freed_memory()
            try:
                return run(options, place)
            except Interrupted as stop:
                say(place, f"\n{stop}")
                return 128 + stop.signal
    except torch.cuda.OutOfMemoryError as error:
        say(place, f"error: {error}", always=True)
        return 1
    except (ValueError, TypeError, OSError) as error:
        say(place, f"error: {told_by_worker(error)}")
        return 2


def told_by_worker(error: Exception) -> str:
    """The message of an error; torch puts a traceback before one from a worker process."""
    words = str(error)
    return words.strip().splitlines()[-1] if words.startswith("Caught ") else words


def say(place: Place, words: str, always: bool = False) -> None:
    """Tell the person at the terminal, once; ``always``: what only one process may have met."""
    if place.first or always:
        print(words, file=sys.stderr, flush=True)


def run(options: argparse.Namespace, place: Place) -> int:
    """One run from its options; the exit status."""
    if not options.out:
        raise ValueError("--out needs the name of a folder, got an empty one")
    recipe = the_recipe(options)
    events = Events(Path(options.out), wanted=options.tensorboard and place.first)
    data = the_data(options, place)
    net = the_net(options, data, recipe.seed)
    out = Path(options.out)
    if place.first:
        several = f", {place.world} processes" if place.world > 1 else ""
        print(
            f"{net.config.name} on {data.name} ({len(data.train):,} images), "
            f"{place.device}{several}"
        )
        print(recipe, flush=True)
    net.to(place.device)
    rate = pipeline_rate(net, data, recipe, place, options.workers)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: say(place, f"warning: {message}")
        history = train(
            net,
            data,
            recipe,
            device=place.device,
            progress=not options.quiet,
            on_epoch=lambda row: told(row, events, options.quiet),
            workers=options.workers,
            out=out,
            resume=options.resume,
            checkpoint_steps=options.checkpoint_steps,
            accumulate=options.accumulate,
            compiled=options.compile,
            deterministic=options.deterministic,
        )
    if place.first:
        files = [out / LAST, out / record.HISTORY, out / record.CONFIG, record.curves(out, history)]
        files += events.close()
        print(summary(history, rate, files), flush=True)
    return 1 if "finite" in history.attrs["stopped"] else 0


class Events:
    """TensorBoard's file, opened with the first epoch, so that a refused run leaves none."""

    def __init__(self, folder: Path, wanted: bool):
        self.folder, self.wanted, self.writer = folder, wanted, None
        if wanted and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "--tensorboard needs the package tensorboard: pip install tensorboard, or leave "
                "it out"
            )

    def note(self, row: dict) -> None:
        """Add an epoch; what a run that was cut off noted of it and of later ones is dropped."""
        if not self.wanted:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(self.folder, purge_step=row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])

    def close(self) -> list[Path]:
        """The files that there are."""
        if self.writer is not None:
            self.writer.close()
        return sorted(self.folder.glob("events.out.*")) if self.wanted else []


def told(row: dict, events: Events, quiet: bool) -> None:
    """Say and note the result of an epoch."""
    if quiet:
        print(
            f"epoch {row['epoch']}: lr {row['lr']:.0e}, training loss {row['train_loss']:.4f}, "
            f"validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.2%}, "
            f"{row['images_per_second']:,.0f} images/s",
            flush=True,
        )
    events.note(row)


if __name__ == "__main__":
    sys.exit(main())
