"""Shared by the commands of this folder: run a list of trainings and write them down.

A file in ``recorded/`` is written whole or not at all, after every run, so that an interrupted
command keeps what it had and goes on from there when it is started again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torchvision

import vgglib
from vgglib.precision import has_bf16

FOLDER = Path(__file__).parent / "recorded"


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


def commit() -> str | None:
    """The commit that ran, marked with + when vgglib or benchmarks had changes not committed."""
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
    timed: bool = True,
) -> None:
    """Run the jobs that ``recorded/NAME.json`` does not hold yet.

    ``jobs`` are (label, seed, function); the function returns what came out, as plain numbers and
    lists. A file made with other settings is refused: delete it to start anew. Where no time is
    compared (``timed=False``), the jobs may run on several machines, and each names its own.
    """
    path = FOLDER / f"{name}.json"
    settings = json.loads(json.dumps(settings))  # as the file will hold them: lists, no tuples
    run = json.loads(path.read_text()) if path.exists() else {"settings": settings, "runs": []}
    if run["settings"] != settings:
        raise SystemExit(f"{path} was made with other settings; move it away to record anew")
    there, here = run.get("machine", {}), machine()
    # Files from before this was noted were made where bf16 is computed.
    if timed and there and (there["cpu"], there["gpu"], there.get("bf16", True)) != (
        here["cpu"], here["gpu"], here["bf16"]
    ):  # fmt: skip
        raise SystemExit(f"{path} was made on another machine; move it away to record anew")
    done = {(r["label"], r["seed"]) for r in run["runs"]}
    for label, seed, job in jobs:
        if (label, seed) in done or (only and only not in label):
            continue
        outcome = job()
        print(
            f"{label:28s} seed {seed}  "
            + "  ".join(f"{k} {v:.4f}" for k, v in outcome.items() if isinstance(v, float)),
            flush=True,
        )
        where = {} if timed else {"date": datetime.date.today().isoformat(), "machine": machine()}
        run["runs"].append({"label": label, "seed": seed, **outcome, **where})
        command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        earlier = [c for c in run.get("command", "").split(" && ") if c not in ("", command)]
        run["command"] = " && ".join([*earlier, command])
        head = {
            "name": name,
            "command": run["command"],
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "versions": versions(),
            "commit": commit(),
        }
        FOLDER.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        text = json.dumps({**head, "settings": settings, "runs": run["runs"]}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, path)


def columns(history) -> dict[str, list[float]]:
    """A training history as plain lists, rounded to what is meaningful."""
    digits = {"epoch": 0, "seconds": 2, "lr": 8}
    return {
        key: [float(f"{value:.6g}") for value in history[key].round(digits.get(key, 5))]
        for key in history.columns
    }
