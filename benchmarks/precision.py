"""Does a net that is trained in 16 bits become as good as one trained in 32?

The smallest net of ``time_to_accuracy.py``, whose recorded runs computed in bf16, trained once more
in fp32 with the same seeds: the same first weights, the same images in the same order. No time is
compared. Chapter 5 shows both, seed by seed.

    python benchmarks/precision.py --threads 1
"""

from dataclasses import replace

from record import Job, Plan, arguments, noted
from time_to_accuracy import GOALS, one

LABEL = "74 % in 30 s"
GOAL = GOALS["cpu"][LABEL]
FP32 = replace(GOAL, recipe=GOAL.recipe.changed(precision="fp32"))


def main():
    chosen = arguments(__doc__.splitlines()[0], seeds=3)
    jobs = [Job("fp32", seed, lambda _, s=seed: one(FP32, s)) for seed in range(chosen.seeds)]
    settings = {"data": "cifar10", "net": GOAL.net, "recipe": noted(FP32.recipe)}
    plan = Plan("precision", settings, jobs)
    for job in plan.missing():
        plan.make(job)


if __name__ == "__main__":
    main()
