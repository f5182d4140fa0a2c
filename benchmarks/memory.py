"""How much memory does a training step of VGG-16 take, and did ``anatomy`` foresee it?

A step at 224 px in fp32, batch 32, in a process of its own, whose memory before the net is built
is subtracted. Foreseen: what ``vgglib.anatomy`` says has to be kept for each image, and four bytes
for each weight, its gradient and its momentum. Peer: torchvision's VGG-16 in a plain loop.

    python benchmarks/memory.py
"""

import json
import resource
import subprocess
import sys

import torch
import torch.nn.functional as F
import torchvision
from record import arguments, record

import vgglib
from vgglib import Recipe

BATCH, SIZE = 32, 224
KIND = "cuda" if torch.cuda.is_available() else "cpu"


def main():
    if sys.argv[1:2] == ["--one"]:
        return print(json.dumps(WAYS[sys.argv[2]]()))
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    jobs = [(way, turn, lambda way=way: alone(way)) for turn in range(chosen.seeds) for way in WAYS]
    name = "memory" if KIND == "cpu" else "gpu_memory"
    record(name, jobs, {"net": "D", "image_size": SIZE, "batch_size": BATCH}, only=chosen.only)


def alone(way):
    """The peak of one way, in a process of its own, beside what was foreseen."""
    process = subprocess.run(
        [sys.executable, __file__, "--one", way], stdout=subprocess.PIPE, text=True, check=True
    )
    peak = json.loads(process.stdout.splitlines()[-1])
    expected = foreseen()
    return {"peak_gib": peak, "foreseen_gib": expected, "ratio_to_foreseen": peak / expected}


def foreseen():
    """GiB that a step needs, from the shapes alone."""
    layers = vgglib.anatomy("D", SIZE)
    kept = BATCH * int(layers.activation_bytes.sum())
    weights = 3 * 4 * int(layers.params.sum())
    return (kept + weights) / 2**30


def peak(prepare, work):
    """GiB by which ``work`` raised the process's peak over what it held before."""
    prepare()
    if KIND == "cuda":
        work()
        return torch.cuda.max_memory_allocated() / 2**30
    before = in_use()
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**30


def in_use():
    """Bytes of memory this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def warm_up():
    """What torch loads and reserves once, whatever the net: a small step on the device."""
    device = torch.device(KIND)
    net = vgglib.vgg("A", num_classes=2, image_size=32, width=0.125, init="he").to(device)
    net(torch.zeros(2, 3, 32, 32, device=device)).sum().backward()


def with_vgglib():
    """Two steps of ``vgglib.train``, its data set and its test of one image included."""
    images = torch.zeros(2 * BATCH, 3, SIZE, SIZE, dtype=torch.uint8)
    split = vgglib.data.ImageSet(images, torch.arange(2 * BATCH))
    classes = tuple(map(str, range(1000)))
    data = vgglib.data.Data("blank", split, split[:1], classes, "made here")
    recipe = Recipe.paper(
        batch_size=BATCH, epochs=1, scale=None, colour_shift=False, normalise="mean"
    )

    def work():
        net = vgglib.vgg("D", init="he")
        vgglib.train(net, data, recipe, progress=False)

    return peak(warm_up, work)


def with_torchvision():
    """Two steps as in torchvision's reference scripts."""
    device = torch.device(KIND)

    def work():
        net = torchvision.models.vgg16().to(device)
        optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        images = torch.zeros(BATCH, 3, SIZE, SIZE, device=device)
        labels = torch.arange(BATCH, device=device)
        for _ in range(2):
            optimiser.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimiser.step()

    return peak(warm_up, work)


WAYS = {"vgglib": with_vgglib, "torchvision, plain loop": with_torchvision}


if __name__ == "__main__":
    main()
