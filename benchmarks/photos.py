"""The paper's own net on photographs: what is each way of testing worth? Tables 3 to 5 (chapter 7).

The convolutions of net D, the paper's, fixed, and a small head of ours for the 101 classes of
Caltech-101: fc6 with 512 units over the map of 7×7, then the classes. Each training picture is seen
as several random crops, as in §3.1, at S = 256, at S = 384, or each at an S from [256, 512]; one
head is trained for each of the three. Then the tests of §4.1 to §4.3: at one Q and at several,
dense, 50 crops a scale, and both. Another seed draws other training and test pictures, other crops
and another head. ``wrong`` lists the test pictures that are misclassified, so that two tests of one
net can be compared picture by picture.

With a GPU it is a matter of minutes; without, of days. What has been computed is kept on disk, a
class at a time. The pictures are those of ``benchmarks/caltech.py``; without them the runs wait.

    python benchmarks/record.py --only photos
"""

import functools

import torch
from caltech import CLASSES, TRAIN, complete, files, split
from record import FORWARD_RATE, RUNS, Job, Plan, alone
from torch.nn import functional as F

import vgglib
from vgglib import Config, pictures
from vgglib.augment import training_crop
from vgglib.evaluate import Dense, MultiCrop

TEST, CROPS, HIDDEN = 10, 4, 512
EPOCHS, BATCH, LR, DECAY, DROPOUT = 10, 128, 0.02, 5e-4, 0.5
SMALL, LARGE, JITTERED = "S = 256", "S = 384", "S in [256, 512]"
TRAININGS = {SMALL: 256, LARGE: 384, JITTERED: (256, 512)}
# Label → training, scales Q, kinds of test whose probabilities are averaged.
TESTS = {
    f"{training}; Q = {', '.join(map(str, scales))}{'' if kinds == 'dense' else ', ' + kinds}": (
        training, scales, kinds.split(" + ")
    )
    for training, scales, kinds in [
        *((SMALL, (q,), "dense") for q in (224, 256, 288, 384)),
        (SMALL, (224, 256, 288), "dense"),
        *((LARGE, (q,), "dense") for q in (256, 352, 384, 416)),
        (LARGE, (352, 384, 416), "dense"),
        *((JITTERED, (q,), "dense") for q in (256, 384, 512)),
        *((JITTERED, (q,), "crops") for q in (256, 384, 512)),
        (JITTERED, (256, 384, 512), "dense"),
        (JITTERED, (256, 384, 512), "crops"),
        (JITTERED, (256, 384, 512), "dense + crops"),
    ]
}  # fmt: skip
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def net():
    """Net D with the paper's convolutions and a head of ours that has learned nothing yet."""
    config = Config("D", vgglib.CONFIGS["D"].stages, hidden=(HIDDEN,))
    made = vgglib.vgg(config, num_classes=CLASSES, dropout=DROPOUT, init="he")
    convolutions = vgglib.vgg("D", weights="IMAGENET1K_FEATURES", init=None)
    made.features.load_state_dict(convolutions.features.state_dict())
    made.pixels = convolutions.pixels
    return made.to(DEVICE).eval()


def kept(seed, training):
    """The folder of what a seed's net of one training has computed."""
    return RUNS / "photos" / f"{seed}-{training.replace(' ', '')}"


def stored(path, make):
    """What ``make`` gives, computed once; written whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make(), path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    return torch.load(path)


@torch.no_grad()
def crop_maps(model, name, seed, training):
    """The last maps of a class's training crops, (crops, 512, 7, 7)."""
    mean, std = model.pixels.mean, model.pixels.std
    crop = training_crop(TRAININGS[training], model.image_size, mean=mean, std=std)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(10_000 * seed + sorted(files()).index(name))  # whatever came before
        train, _ = split(name, seed)
        crops = [crop(pictures.read(files()[name][i])) for i in train for _ in range(CROPS)]
    parts = torch.stack(crops).split(16)
    return torch.cat([model.features(part.to(DEVICE)).half().cpu() for part in parts])


@functools.cache
def trained(seed, training):
    """A net whose head has been trained on the crops of one S."""
    torch.manual_seed(seed)
    model, folder = net(), kept(seed, training)
    head = folder / "head.pt"
    if not head.exists():
        parts = [
            stored(
                folder / "maps" / f"{name}.pt",
                functools.partial(crop_maps, model, name, seed, training),
            )
            for name in files()
        ]
        maps = torch.cat(parts)
        labels = torch.arange(len(files())).repeat_interleave(len(maps) // len(files()))
        model.classifier.train()
        fit(model.classifier, maps, labels, seed)
        stored(head, model.classifier.state_dict)
    model.classifier.load_state_dict(torch.load(head))
    return model.eval()


def fit(head, maps, labels, seed):
    """Train a head by §3.1's momentum and weight decay, with a rate that rises and falls once."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(head.parameters(), LR, momentum=0.9, weight_decay=DECAY)
    steps = EPOCHS * -(-len(maps) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(maps), generator=generator).split(BATCH):
            scores = head(maps[part].to(DEVICE).float().flatten(1))
            loss = F.cross_entropy(scores, labels[part].to(DEVICE))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def probabilities(seed, training, scale, kind):
    """Class probabilities of all test pictures, by one kind of test at one Q."""
    model, make = trained(seed, training), {"dense": Dense, "crops": MultiCrop}[kind]
    test = make(model, scales=scale, batch_size=8, precision="auto")

    def of(name):
        _, numbers = split(name, seed)
        return test([pictures.read(files()[name][i]) for i in numbers[:TEST]]).cpu()

    folder = kept(seed, training) / f"{kind}-Q-{scale}"
    return torch.cat(
        [stored(folder / f"{name}.pt", functools.partial(of, name)) for name in files()]
    )


def run(seed, training, scales, kinds, _):
    """Accuracy of one test, and which pictures it gets wrong."""
    with alone(kept(seed, training)):
        found = [probabilities(seed, training, q, kind) for kind in kinds for q in scales]
    labels = torch.cat(
        [torch.full((len(split(name, seed)[1][:TEST]),), i) for i, name in enumerate(files())]
    )
    right = torch.stack(found).mean(0).argmax(1) == labels
    return {
        "test_accuracy": right.double().mean().item(),
        "test_pictures": len(right),
        "wrong": (~right).nonzero().flatten(),
    }


def plans(seeds=3):
    def minutes(training, scales, kinds):
        """What this one computes that none before it has."""
        views = 50 if kinds == ["crops"] else 3 * scales[0] ** 2 / 224**2
        views = 0 if len(scales) > 1 else views * TEST
        first = kinds == ["dense"] and scales == (224 if training == SMALL else 256,)
        crops = TRAIN * CROPS if first else 0
        return 1 + Job.guess(2 * 15.4e9 * (views + crops) * CLASSES, FORWARD_RATE)

    jobs = [
        Job(
            label,
            seed,
            functools.partial(run, seed, training, scales, kinds),
            f"photos: {training}" + (", crops" if "crops" in kinds else ""),
            minutes(training, scales, kinds),
            complete,
        )
        for label, (training, scales, kinds) in TESTS.items()
        for seed in range(seeds)
    ]
    settings = {
        "net": "D, convolutions of the paper",
        "head": f"fc6 with {HIDDEN} units, then {CLASSES} classes",
        "training pictures a class": TRAIN,
        "crops of each": CROPS,
        "test pictures a class": TEST,
        "epochs": EPOCHS,
        "lr": LR,
        "data": "Caltech-101",
    }
    return [Plan("photos", settings, jobs)]
