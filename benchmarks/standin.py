"""Train the small VGG that the package carries (vgglib.standin), on all of CIFAR-10.

Writes the weights in half precision to vgglib/assets/standin_cifar10.safetensors, and the run to
recorded/standin.json; the accuracy that both state is the half-precision net's.

    python benchmarks/standin.py
"""

import json

import torch
from record import arguments, columns, record
from safetensors.torch import save_file

import vgglib
from vgglib import Recipe
from vgglib.standin import STANDIN, WEIGHTS

RECIPE = Recipe.small(epochs=10, lr=0.1, holdout=0.02, precision="bf16")


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=1)
    data = vgglib.data.load("cifar10")

    def run(seed):
        torch.manual_seed(seed)
        net = vgglib.vgg(STANDIN, num_classes=10, image_size=32, batch_norm=True, init="he")
        history = vgglib.train(net, data, RECIPE.changed(seed=seed), progress=False)
        net.half().float()  # what the file can hold
        mean, std = RECIPE.normalisation(data)
        tested = vgglib.evaluate(net, data.test, mean, std)
        training_data = {
            "name": data.name,
            "mean": mean,
            "std": std,
            "classes": data.classes,
            "test_accuracy": tested["top1"],
        }
        state = {
            name: value.half().contiguous()
            for name, value in net.state_dict().items()
            if value.is_floating_point()
        }
        save_file(state, WEIGHTS, metadata={"training_data": json.dumps(training_data)})
        return {"test_accuracy": tested["top1"], "history": columns(history)}

    jobs = [(STANDIN.name, seed, lambda s=seed: run(s)) for seed in range(chosen.seeds)]
    record("standin", jobs, {"epochs": RECIPE.epochs, "lr": RECIPE.lr, "data": data.name})


if __name__ == "__main__":
    main()
