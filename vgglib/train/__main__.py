"""The command line: ``python -m vgglib.train --net D --data cifar10 --out runs/d``."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import torch

from .. import data as datasets
from ..configs import CONFIGS
from ..devices import Place, first_to_say, processes, sum_dtype
from ..initialise import initialise
from ..model import VGG, vgg
from ..pixels import Pixels
from ..pre_initialise import pre_initialise
from ..precision import PRECISIONS, precision_on
from ..weights import HEADS, load_weights
from . import report
from .batches import check_data, pipeline, split
from .callbacks import TensorBoard
from .checkpoint import LAST, load_run
from .cpu import keep_freed_memory
from .interrupts import Interrupted
from .loop import train
from .recipe import Recipe, parsed

EXAMPLES = """\
examples:
  A VGG-16 with the paper's recipe on CIFAR-10, and going on after an interruption:
    python -m vgglib.train --net D --data cifar10 --out runs/d
    python -m vgglib.train --net D --data cifar10 --out runs/d --resume
  A quick one for two CPU cores:
    python -m vgglib.train --net A --width 0.25 --data cifar10 --recipe small --out runs/a
  Pictures of your own, in a folder a class:
    python -m vgglib.train --net A --batch-norm --data folder --root pictures --out runs/mine
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
        "--head", default="load", choices=HEADS,
        help="new: of --weights all but the last layer, for other classes (load)",
    )  # fmt: skip
    net.add_argument(
        "--pre-init", metavar="RUN",
        help="take the first four convolutions and the FC layers from this run's net (§3.1)",
    )  # fmt: skip

    data = parser.add_argument_group("the data")
    names = ", ".join(datasets.LOADERS)
    data.add_argument("--data", default="cifar10", help=f"{names} (cifar10)")
    data.add_argument("--root", metavar="DIR", help="where it lies; needed for imagenet and folder")
    data.add_argument("--limit", type=int, metavar="N", help="N training images, of all classes")
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
        help="of the products; auto: bf16 where the device has arithmetic for it, fp16 on GPUs "
        "that have it for that alone, else fp32",
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
    run.add_argument(
        "--change", action="append", default=[], metavar="KEY=VALUE",
        help="with --resume: go on with another value, as --change lr=0.001 or --change epochs=90",
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

    def load(progress: bool = False) -> datasets.Data:
        return datasets.load(options.data, root=options.root, progress=progress)

    found = place.first_does(lambda: load(progress=not options.quiet)) or load()
    return found if options.limit is None else found.limited(options.limit)


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
    if options.head == "new" and not options.weights:
        raise ValueError("--head new is about --weights, and there are none")
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
        load_weights(net, options.weights, head=options.head)
    if options.pre_init:
        pre_initialise(net, load_run(options.pre_init))
    return net


def pipeline_rate(net: VGG, data: datasets.Data, recipe: Recipe, place: Place, workers) -> float:
    """Images a second that the input pipelines of all processes make when nobody trains."""
    check_data(data, recipe, net)
    training, _ = split(data, recipe)
    pixels = net.pixels or Pixels(*recipe.normalisation(data))
    source = pipeline(training, net, recipe, pixels, place, workers)
    rate = torch.tensor(source.rate(), dtype=sum_dtype(place.device), device=place.device)
    source.close()
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
        0: trained. 1: the loss or a weight stopped being finite, memory was too small, or another
        process failed. 2: something given is wrong. 128 + n: stopped by signal n, with a checkpoint
        unless it was told twice or the training had not begun.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter shows a question mark in its place.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = parser().parse_args(arguments)
    if options.deterministic:  # read by cuBLAS once, at its first product
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    place = Place(torch.device("cpu"))  # until the devices are known
    # Errors leave by the outer way: a process that fails alone must not wait for the others.
    try:
        with processes():
            place = Place.here(options.device)
            if place.device.type == "cpu":
                keep_freed_memory()
            try:
                return run(options, place)
            except Interrupted as stop:
                say(f"\n{stop}")
                return 128 + stop.signal
    except KeyboardInterrupt:
        say("\nSIGINT: stopped without a checkpoint")
        return 128 + signal.SIGINT
    except torch.cuda.OutOfMemoryError as error:
        say(f"error: {error}")
        return 1
    except (ValueError, TypeError, OSError) as error:
        say(f"error: {told_by_worker(error)}")
        return 2
    except RuntimeError as error:
        if place.world == 1 or "by peer" not in str(error):
            raise
        say("error: another process of the run has ended, and has said why if it could")
        return 1


def told_by_worker(error: Exception) -> str:
    """The message of an error; torch puts a traceback before one from a worker process."""
    words = str(error)
    return words.strip().splitlines()[-1] if words.startswith("Caught ") else words


def say(words: str) -> None:
    """Tell the person at the terminal what a process met; what all of them meet, once."""
    if first_to_say(words):
        print(words, file=sys.stderr, flush=True)


def run(options: argparse.Namespace, place: Place) -> int:
    """One run from its options; the exit status."""
    if not options.out:
        raise ValueError("--out needs the name of a folder, got an empty one")
    recipe, change = the_recipe(options), parsed(options.change)
    out = Path(options.out).expanduser()
    callbacks = [TensorBoard(out)] if options.tensorboard else []
    data = the_data(options, place)
    net = the_net(options, data, recipe.seed)
    if place.first:
        several = f", {place.world} processes" if place.world > 1 else ""
        print(
            f"{net.config.name} on {data.name} ({len(data.train):,} images), "
            f"{place.device}, {precision_on(place.device, recipe.precision)}{several}"
        )
        print(recipe.changed_in_a_run(change), flush=True)
    net.to(place.device)
    rate = pipeline_rate(net, data, recipe, place, options.workers)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: (
            say(f"warning: {message}") if place.first else None
        )
        history = train(
            net,
            data,
            recipe,
            device=place.device,
            progress=not options.quiet,
            on_epoch=told if options.quiet else None,
            callbacks=callbacks,
            workers=options.workers,
            out=out,
            resume=options.resume,
            change=change,
            checkpoint_steps=options.checkpoint_steps,
            accumulate=options.accumulate,
            compiled=options.compile,
            deterministic=options.deterministic,
        )
    if place.first:
        files = [out / LAST, out / report.HISTORY, out / report.CONFIG]
        files += [*report.curves(out, history), *sorted(out.glob("events.out.*"))]
        print(summary(history, rate, files), flush=True)
    return 1 if "finite" in history.attrs["stopped"] else 0


def told(row: dict) -> None:
    """Say the result of an epoch, where no bar shows it."""
    print(
        f"epoch {row['epoch']}: lr {row['lr']:.0e}, training loss {row['train_loss']:.4f}, "
        f"validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.2%}, "
        f"{row['images_per_second']:,.0f} images/s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
