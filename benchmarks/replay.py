"""Record a training for the replay of chapter 5: every epoch's figures and first-layer filters.

A narrow VGG on part of CIFAR-10, its learning rate divided by the paper's rule (§3.1), so that the
drops come when the validation accuracy stalls and not when somebody planned them. Writes
recorded/replay.json. The filters are bytes: 0 is the negative of the epoch's largest weight, 255
that weight.

    python benchmarks/replay.py --threads 1
"""

from base64 import b64encode

import torch
from record import arguments, columns, record

import vgglib
from vgglib import Recipe
from vgglib.standin import STANDIN

IMAGES = 16_000  # of the training images, 2,000 of them held out
WIDTH = 0.5  # 16-32-64 channels
RECIPE = Recipe.small(
    epochs=40,
    lr=0.02,
    schedule="plateau",
    patience=2,
    max_drops=2,
    holdout=0.125,
    precision="fp32",
)


class Filters:
    """The first layer's filters at the start and after each epoch, and how far they went."""

    def __init__(self, net):
        self.weight = net.features[0].weight  # (16, 3, 3, 3)
        self.last = None
        self.bytes, self.largest, self.change = [], [], []
        self.note()

    def note(self, row=None):
        now = self.weight.detach().cpu().clone().contiguous()
        before = now if self.last is None else self.last
        largest = now.abs().max()
        steps = ((now / largest + 1) * 127.5).round().to(torch.uint8)
        self.bytes.append(b64encode(steps.numpy().tobytes()).decode())
        self.largest.append(round(largest.item(), 5))
        self.change.append(round(((now - before).norm() / before.norm()).item(), 5))
        self.last = now

    def recorded(self):
        """``bytes`` (base64 of uint8), ``largest`` weight and ``change`` since the epoch before,
        relative to the weights' norm; the first of each is the start."""
        return {
            "shape": list(self.weight.shape),
            "bytes": self.bytes,
            "largest": self.largest,
            "change": self.change,
        }


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=1)
    whole = vgglib.data.load("cifar10")
    data = vgglib.data.Data(
        whole.name, whole.train[:IMAGES], whole.test, whole.classes, whole.source
    )

    def run(seed):
        torch.manual_seed(seed)
        net = vgglib.vgg(
            STANDIN, num_classes=10, image_size=32, width=WIDTH, batch_norm=True, init="he"
        )
        filters = Filters(net)
        history = vgglib.train(
            net, data, RECIPE.changed(seed=seed), progress=False, on_epoch=filters.note
        )
        tested = vgglib.evaluate(net, data.test, *RECIPE.normalisation(data))
        return {
            "test_accuracy": tested["top1"],
            "stopped": history.attrs["stopped"],
            "history": columns(history),
            "filters": filters.recorded(),
        }

    jobs = [("16-32-64 channels", seed, lambda s=seed: run(s)) for seed in range(chosen.seeds)]
    settings = {
        "data": data.name,
        "images": IMAGES,
        "holdout": RECIPE.holdout,
        "batch_size": RECIPE.batch_size,
        "lr": RECIPE.lr,
        "weight_decay": RECIPE.weight_decay,
        "lr_factor": RECIPE.lr_factor,
        "patience": RECIPE.patience,
        "max_drops": RECIPE.max_drops,
        "epochs": RECIPE.epochs,
    }
    record("replay", jobs, settings)


if __name__ == "__main__":
    main()
