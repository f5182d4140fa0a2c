"""How fast is a training step of VGG-16, and inference, against what people use?

Three ways with the same net and the same batch, in turn within each round: vgglib's training step
in bf16; (a) a plain loop as in torchvision's reference scripts (fp32, NCHW, torchvision's net);
(b) timm's VGG-16 with autocast and channels_last. At 32 px the peers' classifier is given one map
position instead of 49, as vgglib's has, so that all three do the same arithmetic. The machine's
own limit is the rate of its best large matrix product.

On a device without arithmetic for bf16 all three compute in fp32.

On a CPU also the nets that chapters and records train, a quarter as wide, on one thread and on two:
epochs of vgglib's loop, crops, checks and all, against a bare loop that takes the same step on one
batch made beforehand. What lies between the two is the price of the loop.

    python benchmarks/throughput.py
"""

import time
from statistics import median

import timm
import torch
import torch.nn.functional as F
import torchvision
from record import arguments, record
from torch import nn

import vgglib
from vgglib import Recipe
from vgglib.devices import Place
from vgglib.pixels import Pixels
from vgglib.precision import autocast, has_bf16
from vgglib.train.batches import pipeline
from vgglib.train.cpu import keep_freed_memory
from vgglib.train.interrupts import Signals
from vgglib.train.run import Run

# What is measured: image size, batch, training or inference.
SETTINGS = {
    "cpu": {
        "training, 32 px": (32, 128, True),
        "inference, 32 px": (32, 128, False),
        "training, 224 px": (224, 4, True),
        "inference, 224 px": (224, 4, False),
    },
    "cuda": {
        "training, 32 px": (32, 1024, True),
        "inference, 32 px": (32, 4096, False),
        "training, 224 px": (224, 256, True),
        "inference, 224 px": (224, 512, False),
    },
}


#: What chapters and records train.
NARROW = ("A", "D + batch norm")


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    place = Place.here()
    kind = place.device.type
    if kind == "cpu":
        keep_freed_memory()  # as `python -m vgglib.train` does; it helps all three
    jobs = [
        (label, turn, lambda s=setting: compare(place, *s))
        for turn in range(chosen.seeds)
        for label, setting in SETTINGS[kind].items()
    ]
    if kind == "cpu":
        jobs += [
            (f"a quarter of {net}, {threads} thread{'s' * (threads > 1)}", turn,
             lambda n=net, t=threads: beside_a_bare_loop(place, n, t))
            for turn in range(chosen.seeds) for net in NARROW for threads in (1, 2)
        ]  # fmt: skip
    batches = {f"batch of {label}": setting[1] for label, setting in SETTINGS[kind].items()}
    record(named("throughput", place), jobs, batches, only=chosen.only)


def named(run, place):
    """What the record is called: one for GPUs, one for CPUs with bf16, one for those without."""
    if place.device.type != "cpu":
        return f"gpu_{run}"
    return run if has_bf16(place.device) else f"{run}_fp32"


def compare(place, size, batch, training):
    """Images a second of each, the ratios, and vgglib's share of the matrix rate."""
    images = torch.randn(batch, 3, size, size, device=place.device)
    labels = torch.randint(0, 1000, (batch,), device=place.device)
    steps = {
        "vgglib": vgglib_step(place, images, labels, training),
        "plain": peer_step(torchvision_net(size), images, labels, training, fast=False),
        "timm": peer_step(timm_net(size), images, labels, training, fast=True),
    }
    product, flops = fastest_product(place)
    seconds = alternately(place, {**steps, "product": product})
    peak = flops / seconds["product"]
    rates = {name: batch / seconds[name] for name in steps}
    # A training step multiplies three times: forwards, for the maps' and the weights' gradients.
    operations = 2 * int(vgglib.anatomy("D", size).macs.sum()) * (3 if training else 1)
    return {
        **{f"{name}_images_per_second": rate for name, rate in rates.items()},
        "ratio_to_plain": rates["vgglib"] / rates["plain"],
        "ratio_to_timm": rates["vgglib"] / rates["timm"],
        "matrix_tflops": peak / 1e12,
        "share_of_matrix_rate": rates["vgglib"] * operations / peak,
    }


def beside_a_bare_loop(place, name, threads, steps=20, batch=128):
    """Images a second of vgglib's loop and of a bare one, for a net of a quarter of the width."""
    letter, _, batch_norm = name.partition(" + ")
    images = torch.randint(256, (steps * batch, 3, 32, 32), dtype=torch.uint8)
    split = vgglib.data.ImageSet(images, torch.arange(len(images)) % 10)
    recipe = Recipe.small(batch_size=batch, epochs=1000)
    runs = []
    for _ in range(2):
        net = vgglib.vgg(
            letter,
            num_classes=10,
            image_size=32,
            width=0.25,
            batch_norm=bool(batch_norm),
            init="he",
        )
        source = pipeline(split, net, recipe, Pixels((128,) * 3, (64,) * 3), place, workers=0)
        runs.append(Run(net, source, None, recipe, place))
    ours, bare = runs
    fixed = next(bare.source.epoch(1))
    bare.model.train()

    def epoch():
        ours.step = 0
        ours.one_epoch(Signals(active=False))

    def bare_epoch():
        for _ in range(steps):
            with autocast(place.device, "auto"):
                scores = bare.model(fixed[0].contiguous(memory_format=bare.layout))
            loss = F.cross_entropy(scores.float(), fixed[1])
            bare.optimiser.zero_grad()
            loss.backward()
            bare.optimiser.step()

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = alternately(place, {"vgglib": epoch, "bare": bare_epoch})
    finally:
        torch.set_num_threads(before)
    rates = {name: steps * batch / value for name, value in seconds.items()}
    return {
        **{f"{name}_images_per_second": rate for name, rate in rates.items()},
        "ratio_to_bare": rates["vgglib"] / rates["bare"],
    }


def alternately(place, steps, turns=5, least=1.0):
    """Median seconds a step of each, measured in turn so that a slow moment hits them all."""
    seconds = {name: [] for name in steps}
    least = least if place.device.type == "cpu" else least / 3  # steps of milliseconds
    for step in steps.values():  # memory is reserved, kernels are chosen
        step()
        step()
    for _ in range(turns):
        for name, step in steps.items():
            place.synchronise()
            begin, count = time.perf_counter(), 0
            while time.perf_counter() - begin < least:
                step()
                place.synchronise()
                count += 1
            seconds[name].append((time.perf_counter() - begin) / count)
    return {name: median(values) for name, values in seconds.items()}


def vgglib_step(place, images, labels, training):
    """The step of ``vgglib.train`` itself."""
    size = images.shape[-1]
    net = vgglib.vgg("D", image_size=size, init="he")
    if not training:
        net.to(place.device, memory_format=torch.channels_last).eval()
        return inference(net, images.contiguous(memory_format=torch.channels_last), fast=True)
    blank = torch.zeros(len(images), 3, size, size, dtype=torch.uint8)
    split = vgglib.data.ImageSet(blank, labels.cpu())
    recipe = Recipe.paper(batch_size=len(images), precision="auto", scale=None, colour_shift=False)
    source = pipeline(split, net, recipe, Pixels((0, 0, 0)), place, workers=0)
    run = Run(net, source, None, recipe, place)
    net.train()
    return lambda: run.one_step(images, labels)


def torchvision_net(size):
    """torchvision's VGG-16, its classifier fitted to small images."""
    net = torchvision.models.vgg16()
    if size == 32:
        net.avgpool, net.classifier[0] = nn.Identity(), nn.Linear(512, 4096)
    return net


def timm_net(size):
    """timm's VGG-16, likewise."""
    net = timm.create_model("vgg16")
    if size == 32:
        net.pre_logits.fc1 = nn.Conv2d(512, 4096, 1)
        net.pre_logits.input_kernel_size = 1
    return net


def peer_step(net, images, labels, training, fast):
    """A step as peers write it; ``fast``: autocast to bf16 and channels_last."""
    layout = torch.channels_last if fast else torch.contiguous_format
    net.to(images.device, memory_format=layout)
    images = images.contiguous(memory_format=layout)
    if not training:
        return inference(net.eval(), images, fast)
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)

    def step():
        with autocast(images.device, "auto" if fast else "fp32"):
            loss = F.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def inference(net, images, fast):
    """A forward pass without gradients."""

    @torch.inference_mode()
    def step():
        with autocast(images.device, "auto" if fast else "fp32"):
            net(images)

    return step


def fastest_product(place):
    """The machine's own limit: of several large matrix products the one with the highest rate.

    fp32 is tried as well; it is the only one on a device that would imitate bf16.

    Returns
    -------
    product : callable
        Computes it once.
    operations : int
        Floating-point operations of one product.
    """
    found = {}
    dtypes = [torch.float32, *([torch.bfloat16] if has_bf16(place.device) else [])]
    for side in (1024, 2048, 4096) if place.device.type == "cpu" else (4096, 8192, 16384):
        for dtype in dtypes:
            a, b = (torch.randn(side, side, device=place.device, dtype=dtype) for _ in range(2))
            product = {"product": lambda a=a, b=b: a @ b}
            seconds = alternately(place, product, turns=3, least=0.5)["product"]
            found[2 * side**3 / seconds] = product["product"], 2 * side**3
    return found[max(found)]


if __name__ == "__main__":
    main()
