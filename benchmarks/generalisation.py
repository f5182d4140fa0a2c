"""What are ImageNet's features worth on other images? Appendix B at reduced scale (chapter 8).

The paper's convolutions of net D, fixed, on 200 training and 200 test images of CIFAR-10 and of
Fashion-MNIST, drawn anew for each seed. A linear SVM on the descriptors of each block, at several
sizes Q; the same with random weights; a small net trained from scratch on the same images. Scales
averaged and stacked, on images that their object fills and on the same at a random size and place
(the paper's explanation of why stacking helps on Caltech and not on VOC). Two nets fine-tuned
with one rate for all stages, with smaller ones for early stages, and with none but the
classifier's: net D from ImageNet to CIFAR-10, the stand-in from CIFAR-10 to Fashion-MNIST.

    python benchmarks/record.py --only generalisation
"""

import functools

import torch
from record import Job, Plan
from torch import nn
from torchvision.transforms.v2.functional import resize

import vgglib
from vgglib import STANDIN, Recipe, features, transfer
from vgglib.data import Data

TRAIN, TEST, SCALES, Q = 200, 200, (32, 48, 64), 48
SETS = {"CIFAR-10": "cifar10", "Fashion-MNIST": "fashion-mnist-mini"}
POOLS = [f"pool{number}" for number in range(1, 6)]
BEST = "pool4"  # the block on which scales are compared
EPOCHS_SCRATCH, EPOCHS_TUNED, FACTORS = 25, 10, (1.0, 0.3, 0.1, 0.0)
LR_TUNED, EPOCHS_TUNED_D, LR_TUNED_D = 0.02, 6, 0.01


@functools.cache
def net(trained, seed=0):
    """Net D with the paper's convolutions, or with random ones; no fully connected layers."""
    torch.manual_seed(seed)
    weights, init = ("IMAGENET1K_FEATURES", None) if trained else (None, "he")
    made = vgglib.vgg("D", weights=weights, init=init)
    made.classifier = nn.Sequential()
    return made.to(memory_format=torch.channels_last).eval()


@functools.cache
def few(name, seed):
    """Training and test images of a seed."""
    data = vgglib.data.load(SETS[name])
    torch.manual_seed(seed)
    train = data.train[torch.randperm(len(data.train))[:TRAIN]]
    test = data.test[torch.randperm(len(data.test))[:TEST]]
    return Data(data.name, train, test, data.classes, data.source)


def scattered(images, seed):
    """Each image at 50 to 100 % of its size, somewhere on a grey ground as large as it was."""
    torch.manual_seed(seed)
    canvas = torch.full_like(images, 128)
    for ground, image in zip(canvas, images, strict=True):
        side = int(torch.randint(16, 33, ()))
        top, left = (int(torch.randint(33 - side, ())) for _ in range(2))
        ground[:, top : top + side, left : left + side] = resize(image, [side], antialias=True)
    return canvas


@functools.cache
def described(name, seed, trained, scales, scatter=False):
    """Descriptors of training and test images by layer, (scales, images, channels)."""
    data = few(name, seed)
    images = torch.cat([data.train.images, data.test.images])
    images = scattered(images, seed) if scatter else images
    model = net(trained, 0 if trained else seed)
    return transfer.descriptors(
        model, images, features.IMAGENET_MEAN, scales=scales, layers=POOLS, mirror=False
    )


def probe(name, seed, descriptor):
    """Test accuracy of a linear SVM."""
    data = few(name, seed)
    machine = transfer.linear_classifier(descriptor[:TRAIN], data.train.labels)
    return {"test_accuracy": machine.score(descriptor[TRAIN:], data.test.labels)}


def block(name, seed, trained, layer, scale=Q, length=True):
    """One block at one scale; ``length=False`` leaves out the L2-normalisation."""
    scales = SCALES if trained and name == "CIFAR-10" else (Q,)
    one = described(name, seed, trained, scales)[layer][scales.index(scale)]
    return probe(name, seed, transfer.aggregate(one[None]) if length else one)


def joined(seed, scatter, how, box=False):
    """Several scales as one descriptor; ``box`` adds that of the object alone, enlarged to Q."""
    by_scale = described("CIFAR-10", seed, True, SCALES, scatter)[BEST]
    if how in SCALES:
        by_scale, how = by_scale[SCALES.index(how)][None], "average"
    descriptor = transfer.aggregate(by_scale, how)
    if box:
        alone = described("CIFAR-10", seed, True, SCALES)[BEST][SCALES.index(Q)][None]
        descriptor = torch.cat([descriptor, transfer.aggregate(alone)], dim=1)
    return probe("CIFAR-10", seed, descriptor)


def scratch(name, seed):
    """A small net with batch norm that sees nothing but the training images."""
    torch.manual_seed(seed)
    made = vgglib.vgg(STANDIN, num_classes=10, image_size=32, batch_norm=True, init="he")
    recipe = Recipe.small(epochs=EPOCHS_SCRATCH, batch_size=20, seed=seed)
    history = vgglib.train(made, few(name, seed), recipe, progress=False)
    return {"test_accuracy": history.val_accuracy.iloc[-1]}


def tuned(seed, factor):
    """The stand-in with a new linear layer, trained on."""
    made, data = vgglib.standin(), few("Fashion-MNIST", seed)
    own = made.training_data
    torch.manual_seed(seed)
    made.classifier[-1].reset_parameters()
    settings = {"lr": LR_TUNED, "factor": factor, "epochs": EPOCHS_TUNED, "seed": seed}
    transfer.fine_tune(made, data.train, own["mean"], own["std"], **settings)
    return {"test_accuracy": vgglib.evaluate(made, data.test, own["mean"], own["std"])["top1"]}


def tuned_d(seed, factor, rate=LR_TUNED_D):
    """Net D of 32-pixel images, behind the last pool a normalisation and a linear layer."""
    data = few("CIFAR-10", seed)
    made = vgglib.vgg("D", image_size=32, weights="IMAGENET1K_FEATURES", init=None)
    torch.manual_seed(seed)
    made.classifier = nn.Sequential(
        nn.Flatten(),
        # The maps have values in the tens, each channel its own: the new layer starts from equals.
        nn.BatchNorm1d(512, affine=False),
        nn.Linear(512, 10),
    )
    settings = {"lr": rate, "factor": factor, "epochs": EPOCHS_TUNED_D, "seed": seed}
    transfer.fine_tune(made, data.train, features.IMAGENET_MEAN, **settings)
    return {"test_accuracy": vgglib.evaluate(made, data.test, features.IMAGENET_MEAN)["top1"]}


def plans(seeds=8):
    jobs = []

    def job(label, function, *details):
        for seed in range(seeds):
            jobs.append(Job(label, seed, lambda _, s=seed: function(s, *details), minutes=0.5))

    def on(name, function):
        return lambda seed, *details: function(name, seed, *details)

    for name in SETS:
        for trained in (True, False):
            weights = "trained" if trained else "random"
            for number, layer in enumerate(POOLS, start=1):
                job(f"{name}, {weights}, block {number}", on(name, block), trained, layer)
    for scale in (SCALES[0], SCALES[-1]):
        for number, layer in enumerate(POOLS, start=1):
            label = f"CIFAR-10, trained, block {number}, {scale} px"
            job(label, on("CIFAR-10", block), True, layer, scale)
    job("not normalised", on("CIFAR-10", block), True, BEST, Q, False)
    for scatter, where in ((False, "fills the image"), (True, "any size")):
        for how in (*SCALES, "average", "stack"):
            job(f"{where}: {f'{how} px' if how in SCALES else how}", joined, scatter, how)
    job("any size: average and box", joined, True, "average", True)
    for factor in FACTORS:
        job(f"fine-tuned, factor {factor:g}", tuned, factor)
    for factor in FACTORS:
        job(f"net D, fine-tuned, factor {factor:g}", tuned_d, factor)
    # One rate for all that is small enough for trained layers; the others' is one for new layers.
    job("net D, fine-tuned, factor 1, a tenth of the rate", tuned_d, 1.0, LR_TUNED_D / 10)
    for name in SETS:
        job(f"{name}, from scratch", on(name, scratch))
    settings = {
        "training images": TRAIN,
        "test images": TEST,
        "Q": Q,
        "scales": list(SCALES),
        "epochs from scratch": EPOCHS_SCRATCH,
        "epochs of fine-tuning": EPOCHS_TUNED,
        "rate of fine-tuning": LR_TUNED,
        "epochs of fine-tuning net D": EPOCHS_TUNED_D,
        "rate of fine-tuning net D": LR_TUNED_D,
    }
    return [Plan("generalisation", settings, jobs)]
