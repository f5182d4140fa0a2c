"""Where does the time of a training step of VGG-16 go?

torch's profiler over some steps of ``vgglib.train`` at 32 px: seconds of each part of a step, and
for what multiplies matrices (convolutions by stage, FC layers) the share of the machine's
matrix-product rate that it reaches.

    python benchmarks/profile_step.py
"""

import functools
import math
from collections import defaultdict

import torch
from record import arguments, record
from throughput import alternately, fastest_product, named, vgglib_step
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from vgglib.devices import Place
from vgglib.train.cpu import keep_freed_memory

SIZE, STEPS = 32, 4
BATCH = {"cpu": 128, "cuda": 1024}
STAGES = [f"stage {number}, {way}" for number in range(1, 6) for way in ("forward", "backward")]
COPIES, UPDATE, REST = "copies between formats and layouts", "update of the weights", "the rest"
PARTS = [*STAGES, "FC layers", "ReLU and pool", UPDATE, COPIES, REST]


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    place = Place.here()
    kind = place.device.type
    if kind == "cpu":
        keep_freed_memory()  # as `python -m vgglib.train` does
    measured = functools.cache(lambda turn: measure(place))
    jobs = [
        (part, turn, lambda turn=turn, part=part: measured(turn)[part])
        for turn in range(chosen.seeds)
        for part in PARTS
    ]
    settings = {"net": "D", "image_size": SIZE, "batch_size": BATCH[kind], "steps": STEPS}
    record(named("profile_step", place), jobs, settings)


def measure(place):
    """Milliseconds a step, share of the step and of the matrix rate, for each part."""
    batch = BATCH[place.device.type]
    images = torch.randn(batch, 3, SIZE, SIZE, device=place.device)
    labels = torch.randint(0, 1000, (batch,), device=place.device)
    step = vgglib_step(place, images, labels, training=True)
    step()
    step()
    place.synchronise()
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if place.device.type == "cuda" else []
    with profile(activities=activities, record_shapes=True) as watch:
        for _ in range(STEPS):
            step()
        place.synchronise()
    seconds, operations = defaultdict(float), defaultdict(float)
    for event in watch.key_averages(group_by_input_shape=True):
        if event.device_type != DeviceType.CPU:  # a kernel, whose time its operation has already
            continue
        part, work = part_of(event.key, event.input_shapes)
        own = event.self_device_time_total if place.device.type == "cuda" else 0
        own = own or (event.self_cpu_time_total if place.device.type == "cpu" else 0)
        seconds[part] += own / 1e6 / STEPS
        operations[part] += work * event.count / STEPS
    product, flops = fastest_product(place)
    peak = flops / alternately(place, {"product": product})["product"]
    whole = sum(seconds.values())
    return {
        part: {
            "milliseconds": 1e3 * seconds[part],
            "share_of_step": seconds[part] / whole,
            # 0 for what multiplies no matrices
            "share_of_matrix_rate": operations[part] / max(seconds[part], 1e-9) / peak,
        }
        for part in PARTS
    }


def part_of(name, shapes):
    """The part that an operation of torch belongs to, and the floating-point operations of it."""
    name = name.removeprefix("aten::")
    if name in ("mkldnn_convolution", "cudnn_convolution", "convolution_backward"):
        way = "backward" if name.endswith("backward") else "forward"
        side = shapes[0][-1]
        weight = shapes[2] if way == "backward" else shapes[1]
        products = 2 * shapes[0][0] * math.prod(weight) * side**2
        # Backwards twice, but for the first layer, whose images need no gradient.
        times = 1 if way == "forward" or weight[1] == 3 else 2
        return f"stage {int(math.log2(SIZE / side)) + 1}, {way}", times * products
    if name in ("im2col", "col2im"):
        return f"stage 5, {'forward' if name == 'im2col' else 'backward'}", 0
    if name in ("addmm", "mm", "mkldnn_linear"):
        first, second = [shape for shape in shapes if len(shape) == 2][-2:]
        # On a CPU stage 5's 2×2 maps are patches of 3·3·512 values (vgglib.train.cpu).
        patches = 9 * 512 in (*first, *second)
        part = f"stage 5, {'backward' if name == 'mm' else 'forward'}" if patches else "FC layers"
        return part, 2 * first[0] * first[1] * second[1]
    if name in ("relu", "threshold_backward", "clamp_min") or "max_pool2d" in name:
        return "ReLU and pool", 0
    if "sgd" in name.lower():
        return UPDATE, 0
    return (COPIES if name in ("copy_", "contiguous", "clone") else REST), 0


if __name__ == "__main__":
    main()
