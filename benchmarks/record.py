"""Shared by the commands of this folder: run a list of trainings and write them down.

A file in ``recorded/`` is written whole or not at all, after every run, so that an interrupted
command keeps what it had and goes on from there when it is started again.

The trainings that decide the course's claims form one queue. Whoever has a core to spare starts

    python benchmarks/record.py            # or `make records`; --list shows what is missing

as often as there are cores: each process takes the next run that nobody is at, those first whose
comparison is decided soonest. A training that is cut off goes on from its last checkpoint. A run
that fails is told, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
import torchvision
from filelock import FileLock, Timeout

import vgglib
from vgglib.precision import has_bf16

FOLDER = Path(__file__).parent / "recorded"
RUNS = Path(__file__).resolve().parent.parent / "runs" / "records"
#: The modules of the queue; ``plans()`` of each says which runs it wants.
QUEUED = (
    "localisation",
    "testing",
    "generalisation",
    "ablation",
    "depth_converged",
    "from_a",
    "caltech",
    "photos",
)
#: Floating-point operations a second of one core in fp32, to guess how long a run will take: of the
#: training of a narrow net (as in ``depth_converged``), and of a full-width net's forward pass.
RATE, FORWARD_RATE = 45e9, 150e9
#: Seconds until a process looks again whether what its runs wait for has been made by another.
PATIENCE = 60.0


class Failed(Exception):
    """A run that ended with an error, which is its cause."""


@dataclass(frozen=True)
class Job:
    """One run: what it is called, and the function that makes it.

    ``run`` gets a folder of its own for checkpoints and returns what came out, as plain numbers and
    lists. ``part`` names the comparison that it belongs to, ``minutes`` guesses its time on one
    core, and ``ready`` says whether the runs that it builds on are there.
    """

    label: str
    seed: int
    run: Callable[[Path], dict]
    part: str = ""
    minutes: float = 1.0
    ready: Callable[[], bool] = lambda: True

    @staticmethod
    def guess(flops: float, rate: float = RATE) -> float:
        """Minutes of so many operations."""
        return flops / rate / 60


@dataclass(frozen=True)
class Plan:
    """All runs of one record, ``recorded/NAME.json``.

    Where no time is compared (``timed=False``), the runs may be made on several machines, and each
    names its own.
    """

    name: str
    settings: dict
    jobs: Sequence[Job]
    timed: bool = False

    def __post_init__(self):
        folders = Counter(map(self.folder, self.jobs))
        if same := [folder.name for folder, count in folders.items() if count > 1]:
            raise ValueError(f"{self.name}: several runs would share the folders {same}")

    def folder(self, job: Job) -> Path:
        """Where a run keeps its checkpoints."""
        label = re.sub(r"[^\w.-]+", "_", job.label)
        return RUNS / self.name / f"{label}-{job.seed}"

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.json"

    def recorded(self) -> dict:
        """What the file holds; refuses one that was made with other settings.

        Settings that it does not have were noted later, and are taken as they are now.
        """
        settings = json.loads(json.dumps(self.settings))  # as a file holds them: lists, no tuples
        if not self.path.exists():
            return {"settings": settings, "runs": []}
        run = json.loads(self.path.read_text(encoding="utf-8"))
        other = {
            key: (value, settings.get(key))
            for key, value in run["settings"].items()
            if value != settings.get(key)
        }
        if other:
            raise SystemExit(
                f"{self.path} was made with other settings; move it away to record anew:\n"
                + "\n".join(
                    f"  {key}: {old!r} there, {new!r} now" for key, (old, new) in other.items()
                )
            )
        run["settings"] = settings
        there, here = run["machine"], machine()
        # Files from before this was noted were made where bf16 is computed.
        if self.timed and (there["cpu"], there["gpu"], there.get("bf16", True)) != (
            here["cpu"], here["gpu"], here["bf16"]
        ):  # fmt: skip
            raise SystemExit(
                f"{self.path} was made on another machine; move it away to record anew"
            )
        return run

    def done(self) -> set[tuple[str, int]]:
        return {(run["label"], run["seed"]) for run in self.recorded()["runs"]}

    def missing(self) -> list[Job]:
        done = self.done()
        return [job for job in self.jobs if (job.label, job.seed) not in done]

    def make(self, job: Job) -> None:
        """Make one run, or go on with it, and write it down.

        Raises
        ------
        filelock.Timeout
            If another process is at it, or at what it builds on.
        Failed
            If it ends with an error, or not with plain and finite numbers.
        """
        folder = self.folder(job)
        with alone(folder):
            if (job.label, job.seed) in self.done():
                return  # somebody else made it in the meantime
            try:
                outcome = json.loads(json.dumps(job.run(folder), default=plain))
                wrong = [
                    k for k, v in outcome.items() if isinstance(v, float) and not math.isfinite(v)
                ]
                if wrong:
                    raise ValueError(f"{', '.join(wrong)} must be finite, got {outcome}")
            except Timeout:
                raise
            except Exception as error:
                raise Failed(f"{self.name}: {job.label}, seed {job.seed}") from error
            print(
                f"{self.name}: {job.label:28s} seed {job.seed}  "
                + "  ".join(f"{k} {v:.4f}" for k, v in outcome.items() if isinstance(v, float)),
                flush=True,
            )
            with FileLock(folder.parent / "file.lock"):
                self._write({"label": job.label, "seed": job.seed, **outcome})
        shutil.rmtree(folder, ignore_errors=True)

    def _write(self, outcome: dict) -> None:
        run = self.recorded()
        if (outcome["label"], outcome["seed"]) in self.done():
            return
        command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        earlier = [c for c in run.get("command", "").split(" && ") if c not in ("", command)]
        here = {
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "versions": versions(),
            "commit": commit(),
        }
        if not self.timed:
            for one in run["runs"]:  # of a file from before each run named its own
                one |= {key: one.get(key, run[key]) for key in here}
            outcome |= here
        head = {"name": self.name, "command": " && ".join([*earlier, command]), **here}
        runs = [*run["runs"], outcome]
        FOLDER.mkdir(exist_ok=True)
        partial = self.path.with_suffix(".partial")
        text = json.dumps({**head, "settings": run["settings"], "runs": runs}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, self.path)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from what is made in a folder: they get a Timeout, and go elsewhere.

    For runs, and for what several runs build on. The lock ends with the process.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_of(folder), timeout=0):
        yield


def lock_of(folder: Path) -> Path:
    """Beside it; a label may hold a point, which is no suffix."""
    return folder.with_name(f"{folder.name}.lock")


def plain(value):
    """A number or an array of NumPy or torch as JSON has it."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"a run gives numbers and lists of them, got {type(value).__name__}")
    return value.tolist()


def queue(only: str = "") -> Iterator[tuple[Plan, Job]]:
    """The runs that are missing, those of the comparison that is decided soonest first.

    Of records without a run whose "record: label" contains ``only`` nothing is looked at.
    """
    parts = defaultdict(list)
    for plan in plans():
        if any(only in f"{plan.name}: {job.label}" for job in plan.jobs):
            for job in plan.missing():
                parts[job.part or plan.name].append((plan, job))
    for part in sorted(parts.values(), key=lambda part: sum(job.minutes for _, job in part)):
        for plan, job in sorted(part, key=lambda found: found[1].seed):
            if only in f"{plan.name}: {job.label}":
                yield plan, job


def plans() -> list[Plan]:
    """What every module of the queue wants."""
    return [plan for name in QUEUED for plan in importlib.import_module(name).plans()]


def work(only: str = "") -> list[str]:
    """Make what is missing, run by run, beside other processes that do the same.

    While others make what the rest builds on, it waits for them.

    Returns
    -------
    list of str
        What is left that no other process is at, and why.
    """
    failed: set[tuple[str, str, int]] = set()
    while True:
        made, busy, waiting = False, False, []
        for plan, job in queue(only):
            key = plan.name, job.label, job.seed
            name = f"{plan.name}: {job.label}, seed {job.seed}"
            if key in failed:
                continue
            if not job.ready():
                waiting.append(f"{name} waits for other runs or for its data")
                continue
            try:
                plan.make(job)
            except Timeout as taken:
                busy = True
                if Path(taken.lock_file) != lock_of(plan.folder(job)):
                    waiting.append(f"{name} builds on what another process is at")
                continue
            except Failed:
                traceback.print_exc()
                failed.add(key)
            made = True
            break  # the queue may be another one now
        if made:
            continue
        if not (busy and waiting):
            return [
                f"{name}: {label}, seed {seed} failed" for name, label, seed in failed
            ] + waiting
        time.sleep(PATIENCE)


def outlook() -> list[tuple[str, int, int, float]]:
    """Of each record: its name, the runs that are done and that are planned, core-hours left."""
    found = []
    for plan in plans():
        left = plan.missing()
        hours = sum(job.minutes for job in left) / 60
        found.append((plan.name, len(plan.jobs) - len(left), len(plan.jobs), hours))
    return found


def trained(net, data, recipe, folder: Path, callbacks: Sequence = ()) -> dict:
    """Train a net on ``data`` and test it after every epoch; or go on with it from ``folder``.

    A net whose loss stops being finite counts as one that guesses.

    Returns
    -------
    dict
        ``test_accuracy`` and ``train_accuracy`` after the last epoch (the latter on augmented crops
        while they were learned), ``test_loss``, ``seconds`` of training, ``flops`` (three forward
        passes' worth a step: the gradient costs two), why it ``stopped``, and the curves,
        ``history``.

    Raises
    ------
    ValueError
        If the recipe's schedule looks at the validation images: they are the test set.
    """
    if recipe.schedule == "plateau":
        raise ValueError("schedule='plateau' would look at the test set; take step or one-cycle")
    history = vgglib.train(
        net, data, recipe, callbacks=callbacks, out=folder, resume=True, progress=False
    )
    last = history.iloc[-1]
    lost = "finite" in history.attrs["stopped"]
    return {
        "test_accuracy": 1 / len(data.classes) if lost else float(last.val_accuracy),
        "test_loss": None if lost else float(last.val_loss),
        "train_accuracy": float(last.train_accuracy),
        "seconds": round(float(history.seconds.sum()), 1),
        "flops": flops(net, len(data.train), len(history)),
        "stopped": history.attrs["stopped"],
        "history": columns(history),
    }


def flops(net, images: int, epochs: int) -> float:
    """Floating-point operations of a training: two a multiply-add, three passes an image."""
    return 6.0 * int(vgglib.anatomy(net).macs.sum()) * images * epochs


def machine() -> dict:
    """What a reader needs to judge a timing: processor, cores, threads, memory, GPU."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((s.split(":", 1)[1].strip() for s in lines if s.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "gpu": gpu,
        "bf16": has_bf16("cuda" if gpu else "cpu"),
    }


def versions() -> dict:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "vgglib": vgglib.__version__,
    }


@cache
def commit() -> str | None:
    """The commit that this process began with; with + where vgglib or benchmarks were changed."""
    here = Path(__file__).parent

    def git(*words):
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True)

    head = git("rev-parse", "--short", "HEAD")
    if head.returncode:
        return None
    changed = git("status", "--porcelain", "--", "../vgglib", ".").stdout
    changed = [line for line in changed.splitlines() if line.endswith(".py")]
    return head.stdout.strip() + ("+" if changed else "")


def arguments(description: str, seeds: int) -> argparse.Namespace:
    """The options that all commands share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=seeds, help=f"runs of each (default {seeds})")
    parser.add_argument("--only", help="only the runs whose label contains this")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    return chosen


def record(
    name: str,
    jobs: Iterable[tuple[str, int, Callable[[], dict]]],
    settings: dict,
    *,
    only: str | None = None,
) -> None:
    """Run the jobs, (label, seed, function), that ``recorded/NAME.json`` does not hold yet.

    For what is timed: on one machine, one job after the other.
    """
    plan = Plan(name, settings, (), timed=True)
    for label, seed, job in jobs:  # one by one: a generator may make them as they end
        if (label, seed) not in plan.done() and (not only or only in label):
            plan.make(Job(label, seed, lambda _, job=job: job()))


def noted(recipe: vgglib.Recipe) -> dict:
    """A recipe as a setting of a record; its seed is that of each run."""
    return {key: value for key, value in asdict(recipe).items() if key != "seed"}


def columns(history) -> dict[str, list[float]]:
    """A training history as plain lists, rounded to what is meaningful."""
    digits = {"epoch": 0, "seconds": 2, "lr": 8}
    return {
        key: [float(f"{value:.6g}") for value in history[key].round(digits.get(key, 5))]
        for key in history.columns
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the recorded runs that are missing.")
    parser.add_argument("--only", default="", help="only runs whose 'record: label' contains this")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--list", action="store_true", help="say what is missing, and end")
    chosen = parser.parse_args()
    if chosen.list:
        for name, done, planned, hours in outlook():
            print(f"{name:20s} {done:4d} of {planned:4d} runs, {hours:6.1f} core-hours left")
        return
    planned = [f"{plan.name}: {job.label}" for plan in plans() for job in plan.jobs]
    if not any(chosen.only in name for name in planned):
        raise SystemExit(f"--only {chosen.only!r} is in none of the {len(planned)} runs' names")
    torch.set_num_threads(chosen.threads)
    commit()
    try:
        left = work(chosen.only)
    except vgglib.Interrupted as stopped:
        raise SystemExit(str(stopped)) from None
    print(*left, sep="\n")
    if any(line.endswith("failed") for line in left):
        raise SystemExit(1)


if __name__ == "__main__":
    import record as this  # the modules of the queue import it by name: one copy of the classes

    this.main()
