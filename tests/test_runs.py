"""Runs: the command line, checkpoints, interruption, several processes, and what goes wrong."""

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import fields
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from PIL import Image
from refusing import refuses, warns
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_train import colours, fit, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.datasets import ImageFolder

import vgglib
from vgglib import Recipe, devices
from vgglib.data import Data
from vgglib.devices import Place
from vgglib.evaluate import centre
from vgglib.train import (
    CheckpointError,
    Interrupted,
    StalledWarning,
    checkpoint,
    load_run,
)
from vgglib.train.__main__ import main
from vgglib.train.batches import DeviceBatches, LoaderBatches
from vgglib.train.checkpoint import LAST, LOCK, PREVIOUS
from vgglib.train.run import Run

CPU = Place(torch.device("cpu"))
QUICK = shlex.split(
    "--net A --width 0.0625 --init he --data fashion-mnist-mini --recipe small --precision fp32 "
    "--batch-size 64 --limit 640 --epochs 2 --quiet"
)
CLOCK = ["seconds", "images_per_second", "waiting"]
# The remedies of a run that was stopped, of one whose last checkpoint is damaged, of another run's.
RESUME = ("resume=True", "--resume")
DAMAGED = ("resume='previous'", "--resume previous")
ANOTHER = ("out=", "--out", "--weights")


@pytest.fixture
def data():
    return Data("colours", colours(400, 0), colours(200, 1), tuple("rgby"), "made here")


def run(data, folder, net=None, resume=False, on_epoch=None, options=(), **changes):
    recipe = Recipe.small(**({"batch_size": 50, "epochs": 3, "precision": "fp32"} | changes))
    net = net or tiny()
    history = vgglib.train(
        net, data, recipe, device="cpu", progress=False, out=folder, resume=resume,
        on_epoch=on_epoch, **dict(options),
    )  # fmt: skip
    return net, history


def command(*more, torchrun=0):
    start = [sys.executable, "-m"]
    if torchrun:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}", "-m"]
    return [*start, "vgglib.train", *QUICK, *map(str, more)]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def call(*more, torchrun=0):
    return subprocess.run(
        command(*more, torchrun=torchrun), env=environment(), capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


@pytest.fixture
def one_thread():
    """As many as the processes of :func:`call` have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


# ---- the command line


def test_help_names_every_field_of_the_recipe(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert not [f.name for f in fields(Recipe) if f.name not in shown]


def test_command_line_trains_and_leaves_a_run(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*QUICK, "--out", str(out), "--set", "weight_decay=1e-3", "--seed", "3"]) == 0
    written = {name for name in os.listdir(out) if name != LOCK}
    assert written == {LAST, PREVIOUS, "history.csv", "config.json", "curves.png"}
    config = json.loads((out / "config.json").read_text())
    assert config["recipe"]["weight_decay"] == 1e-3 and config["recipe"]["seed"] == 3
    history = pd.read_csv(out / "history.csv")
    assert list(history.epoch) == [1, 2]
    net, data = load_run(out), vgglib.data.load("fashion-mnist-mini")
    settings = Recipe.small(seed=3).normalisation(Data(data.name, data.train[:640], *rest(data)))
    tested = vgglib.evaluate(net, data.test, *settings)
    assert tested["top1"] == pytest.approx(history.val_accuracy.iloc[-1])
    shown = capsys.readouterr().out
    assert "Stopped: all epochs done" in shown and str(out / LAST) in shown


def rest(data):
    return data.test, data.classes, data.source


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--net", "F"], "A-LRN"),
        (["--set", "lr"], "key=value"),
        (["--set", "rate=1"], "weight_decay"),
        (["--set", "scale=100"], "224"),
        (["--batch-size", "0"], "positive"),
        (["--accumulate", "7"], "divide"),
        (["--weights", "a", "--pre-init", "b"], "one of them"),
        (["--head", "new"], "--weights"),
        (["--pre-init", "nowhere"], "nowhere"),
        (["--data", "cifar"], "cifar10"),
        (["--out", "/dev/null/run"], "another folder"),
        (["--out", ""], "name of a folder"),
        (["--device", "gpu"], "there is cpu"),
        (["--device", "cuda:99"], "there is cpu"),
        (["--device", "meta"], "there is cpu"),
        (["--checkpoint-steps", "0"], "positive"),
        (["--image-size", "40"], "image_size=32"),  # would fail in the first validation
        (["--set", "lr=fast"], "lr must be a positive number"),
    ],
)
def test_command_line_says_what_is_wrong_and_writes_nothing(more, says, tmp_path, capsys):
    assert main([*QUICK, "--out", str(tmp_path / "run"), *more]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists() or not os.listdir(tmp_path / "run")


def test_tensorboard_holds_the_history(tmp_path):
    assert main([*QUICK, "--out", str(tmp_path), "--tensorboard"]) == 0
    events = EventAccumulator(str(tmp_path)).Reload()
    history = pd.read_csv(tmp_path / "history.csv").set_index("epoch")
    assert set(events.Tags()["scalars"]) == set(history)
    for name in history:
        noted = {event.step: event.value for event in events.Scalars(name)}
        assert noted == pytest.approx(history[name].to_dict(), rel=1e-6)


@pytest.mark.slow
def test_epochs_trained_again_replace_their_events(tmp_path):
    run = [*QUICK, "--out", str(tmp_path), "--tensorboard"]
    assert main(run) == 0
    assert main([*run, "--resume", "previous"]) == 0  # makes the second epoch once more
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("val_accuracy")] == [1, 2]


def test_settings_are_read_as_python_values():
    recipe = Recipe.paper().with_settings(
        ["scale=(256, 512)", "dropout=none", "flip=false", "schedule=constant", "batch-size=32"]
    )
    assert recipe == Recipe.paper(
        scale=(256, 512), dropout=None, flip=False, schedule="constant", batch_size=32
    )


@pytest.mark.slow
def test_the_schedule_of_the_paper_goes_from_one_run_to_the_next(tmp_path):
    """§3.1: D starts from A's layers, S = 384 from the net trained at S = 256."""
    assert main([*QUICK, "--out", str(tmp_path / "a")]) == 0
    start = ["--epochs", "1", "--set", "lr=1e-12", "--set", "weight_decay=0"]
    deep = [*QUICK, *start, "--net", "D", "--out", str(tmp_path / "d")]
    assert main([*deep, "--pre-init", str(tmp_path / "a")]) == 0
    shallow, deep = load_run(tmp_path / "a"), load_run(tmp_path / "d")
    for name in ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc8"):
        ours = deep.get_submodule(deep.layer_names[name]).weight
        theirs = shallow.get_submodule(shallow.layer_names[name]).weight
        torch.testing.assert_close(ours, theirs)
    vgglib.save_weights(shallow.reset_classifier(3), tmp_path / "three.pth")
    others = [*QUICK, *start, "--out", str(tmp_path / "b"), "--weights"]
    assert main([*others, str(tmp_path / "three.pth"), "--head", "new"]) == 0
    assert load_run(tmp_path / "b").num_classes != 3
    shallow = load_run(tmp_path / "a")
    again = [*QUICK, *start, "--set", "scale=384", "--out", str(tmp_path / "a384")]
    assert main([*again, "--weights", str(tmp_path / "a")]) == 0
    for ours, theirs in zip(
        load_run(tmp_path / "a384").parameters(), shallow.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


# ---- interruption


@pytest.mark.parametrize("schedule", ["one-cycle", "plateau"])
def test_resumed_run_ends_with_the_same_bits(data, tmp_path, schedule):
    changes = dict(schedule=schedule, colour_shift=True, holdout=0.25, epochs=4)
    straight, history = run(data, tmp_path / "a", net=tiny(dropout=0.5), **changes)
    run(data, tmp_path / "b", net=tiny(), on_epoch=lambda row: row["epoch"] == 2, **changes)
    forget_the_end(tmp_path / "b" / LAST)
    resumed, rest = run(data, tmp_path / "b", net=tiny(), resume=True, **changes)
    assert same_weights(straight, resumed)
    pd.testing.assert_frame_equal(history.drop(columns=CLOCK), rest.drop(columns=CLOCK))


def forget_the_end(path):
    """Rewrite a checkpoint as one of a run that was not told to stop."""
    found = checkpoint.read(path)
    found.state["stopped"] = ""
    checkpoint.write(path.parent, found)


@pytest.mark.slow
def test_killed_at_any_step_and_resumed_ends_with_the_same_bits(tmp_path, one_thread):
    """SIGKILL at three moments of one run, each time resumed, with dropout and mid-epoch saves."""
    more = ["--deterministic", "--checkpoint-steps", "2", "--set", "dropout=0.5", "--epochs", "4"]
    assert main([*QUICK, *more, "--out", str(tmp_path / "straight")]) == 0
    killed, out = 0, tmp_path / "killed"
    for number in range(20):
        process = subprocess.Popen(
            command(*more, "--out", out, "--resume"), env=environment(), stdout=subprocess.DEVNULL
        )
        written = out / LAST
        before = written.stat().st_mtime_ns if written.exists() else 0
        # Kill it some moments after it has written at least one more checkpoint.
        while process.poll() is None:
            if written.exists() and written.stat().st_mtime_ns > before:
                time.sleep(0.07 * (number + 1))
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if killed == 3:
            break
    assert killed == 3
    assert main([*QUICK, *more, "--out", str(out), "--resume"]) == 0
    assert same_weights(load_run(tmp_path / "straight"), load_run(out))
    first, second = (pd.read_csv(tmp_path / n / "history.csv") for n in ("straight", "killed"))
    pd.testing.assert_frame_equal(first.drop(columns=CLOCK), second.drop(columns=CLOCK))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_write_a_checkpoint_and_leave(data, tmp_path, number):
    def stop(row):
        if row["epoch"] == 1:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with refuses(Interrupted, got=number.name, accepts=tmp_path / LAST, remedy=RESUME) as stopped:
        run(data, tmp_path, on_epoch=stop)
    assert stopped.value.signal == number and signal.getsignal(number) == handler
    resumed, _ = run(data, tmp_path, resume=True)
    straight, _ = run(data, tmp_path / "straight")
    assert same_weights(straight, resumed)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_cuts_the_validation_off(tmp_path, monkeypatch, workers):
    """And the run that goes on makes it whole, from the same random numbers."""
    photos = photos_data(tmp_path / "photos")
    data = Data("photos", photos, photos, tuple("rgby"), "made here")
    options = {"workers": workers}
    changes = dict(batch_size=8, epochs=2, scale=256, pad=0, dropout=0.5)
    config = vgglib.Config("tiny", ((vgglib.Conv(8),), (vgglib.Conv(8),)), hidden=(16,))

    def net():
        torch.manual_seed(0)
        return vgglib.vgg(config, num_classes=4, image_size=16, init="he")

    straight, history = run(data, tmp_path / "a", net(), options=options, **changes)
    seen, check = [], centre.check_labels

    def stop(labels, model):  # called with each batch of a validation
        check(labels, model)
        if not seen:
            seen.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the validation went on")

    monkeypatch.setattr(centre, "check_labels", stop)
    with refuses(Interrupted, got=("SIGTERM", "validation", "epoch 1"), remedy=RESUME):
        run(data, tmp_path / "b", net(), options=options, **changes)
    resumed, rest = run(data, tmp_path / "b", net(), resume=True, options=options, **changes)
    assert same_weights(straight, resumed)
    pd.testing.assert_frame_equal(history.drop(columns=CLOCK), rest.drop(columns=CLOCK))


def test_a_signal_between_the_last_step_and_the_validation(data, tmp_path, monkeypatch):
    finish = Run.finish_epoch

    def signalled(*rest):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        finish(*rest)

    monkeypatch.setattr(Run, "finish_epoch", signalled)
    with refuses(Interrupted, got=("SIGINT", "validation", "epoch 1"), remedy=RESUME):
        run(data, tmp_path)
    resumed, _ = run(data, tmp_path, resume=True)
    straight, _ = run(data, tmp_path / "straight")
    assert same_weights(straight, resumed)


# The command line, its processes started in one of the three ways of Python.
STARTED = """
import multiprocessing, sys
from vgglib.train.__main__ import main
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.linux("Ctrl-C is sent to a group of processes")
@pytest.mark.parametrize(
    "start", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.long)]
)
def test_ctrl_c_saves_and_ends_however_processes_start(tmp_path, start):
    """As a terminal does it: the signal goes to the run and to the processes that read images."""
    (tmp_path / "run.py").write_text(STARTED)
    words = photos_command(tmp_path, "--epochs", 1000, "--workers", 1, "--checkpoint-steps", 1)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "run.py", start, *words], env=environment(), text=True,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while not (tmp_path / "run" / PREVIOUS).exists():  # until it has made a step
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGINT, said
    assert str(tmp_path / "run" / LAST) in said
    state = checkpoint.read(tmp_path / "run" / LAST).state
    assert (state["epoch"], state["step"]) > (1, 0)
    with pytest.raises(ProcessLookupError):  # nobody is left of the group
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def test_a_signal_that_ends_the_readers_of_images_ends_the_run(data, tmp_path, monkeypatch):
    """The error that the pipeline then raises is none of the run's."""

    def cut(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    monkeypatch.setattr(DeviceBatches, "epoch", cut)
    with refuses(Interrupted, got="SIGTERM", accepts=tmp_path / LAST, remedy=RESUME):
        run(data, tmp_path)


@pytest.mark.parametrize("kept", [True, False])
def test_training_leaves_the_callers_random_numbers_alone(data, tmp_path, kept):
    net = tiny(dropout=0.5)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run(data, tmp_path if kept else None, net, epochs=1)
    with pytest.raises(ValueError):  # also when it is refused
        run(data, None, net, options={"accumulate": 7})
    assert torch.equal(torch.get_rng_state(), before)


# ---- going on otherwise


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_more_epochs_go_on_where_the_schedule_does_not_depend_on_them(data, tmp_path, schedule):
    straight, history = run(data, tmp_path / "a", schedule=schedule, epochs=2)
    run(data, tmp_path / "b", schedule=schedule, epochs=1)
    resumed, rest = run(data, tmp_path / "b", schedule=schedule, epochs=2, resume=True)
    assert same_weights(straight, resumed)
    pd.testing.assert_frame_equal(history.drop(columns=CLOCK), rest.drop(columns=CLOCK))
    assert rest.attrs["changes"] == [{"epoch": 2, "step": 0, "epochs": [1, 2]}]


def test_a_changed_rate_keeps_momentum_and_history_and_is_told(data, tmp_path, monkeypatch):
    plain = dict(schedule="constant", epochs=2)
    run(data, tmp_path / "run", **plain)
    more = {"change": {"lr": 0.001, "epochs": 3}}
    resumed, history = run(data, tmp_path / "run", resume=True, options=more, **plain)
    assert history.lr.tolist() == [0.02, 0.02, 0.001] and list(history.epoch) == [1, 2, 3]
    told = [{"epoch": 3, "step": 0, "epochs": [2, 3], "lr": [0.02, 0.001]}]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["changes"] == history.attrs["changes"] == told
    assert (config["recipe"]["lr"], config["recipe"]["epochs"]) == (0.001, 3)
    # It may be asked for again, and a plain recipe of the new values is the run's own by now.
    run(data, tmp_path / "run", resume=True, options=more, **plain)
    run(data, tmp_path / "run", resume=True, **plain | more["change"])
    # The same as one run whose rate is lowered on its way.
    finish = Run.finish_epoch

    def lower(self, signals):
        finish(self, signals)
        self.optimiser.param_groups[0]["lr"] = 0.02 if self.epoch < 3 else 0.001

    monkeypatch.setattr(Run, "finish_epoch", lower)
    assert same_weights(run(data, None, schedule="constant", epochs=3)[0], resumed)


@pytest.mark.parametrize(
    ("schedule", "change", "got", "accepts"),
    [
        ("one-cycle", {"epochs": 4}, ("epochs", "one-cycle"), ("momentum", "weight_decay")),
        ("one-cycle", {"lr": 0.1}, ("lr", "one-cycle"), ("momentum", "weight_decay")),
        ("plateau", {"batch_size": 10}, "batch_size", ("lr", "epochs", "max_drops")),
    ],
)
def test_what_cannot_change_in_a_run_is_refused(data, tmp_path, schedule, change, got, accepts):
    with refuses(ValueError, got=got, accepts=accepts, remedy=ANOTHER):
        run(data, tmp_path, resume=True, schedule=schedule, options={"change": change})
    assert not os.listdir(tmp_path)


def test_a_change_needs_a_run_to_change(data, tmp_path, capsys):
    with refuses(ValueError, got="change", remedy=RESUME):
        run(data, tmp_path, schedule="plateau", options={"change": {"lr": 0.1}})
    assert main([*QUICK, "--out", str(tmp_path), "--change", "momentum=0"]) == 2
    assert "--resume" in capsys.readouterr().err and not os.listdir(tmp_path)


def test_momentum_and_weight_decay_change_under_any_schedule(data, tmp_path):
    run(data, tmp_path, on_epoch=lambda row: row["epoch"] == 1)
    change = {"momentum": 0.5, "weight_decay": 0.0}
    _, history = run(data, tmp_path, resume=True, options={"change": change})
    assert list(history.epoch) == [1, 2, 3]
    groups = checkpoint.read(tmp_path / LAST).state["groups"]
    assert (groups[0]["momentum"], groups[0]["weight_decay"]) == (0.5, 0.0)


def test_a_folder_below_home_is_found(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    net, _ = run(data, "~/run", epochs=1)
    assert (tmp_path / "run" / LAST).exists() and same_weights(load_run("~/run"), net)


# ---- checkpoints


OWN = vgglib.Config("own", ((vgglib.Conv(8),), (vgglib.Conv(8),)), hidden=(16,))


def own(**options):
    return vgglib.vgg(OWN, num_classes=4, image_size=16, init="he", **options)


def test_a_run_gives_its_dropout_back(data, tmp_path):
    net, _ = run(data, tmp_path, own(dropout=0.1), epochs=1)
    assert [m.p for m in load_run(tmp_path).classifier if isinstance(m, torch.nn.Dropout)] == [0.1]
    assert str(load_run(tmp_path)) == str(net)


def add_a_layer(net):
    net.features.append(torch.nn.Hardtanh())


def replace_activations(net):
    net.features[1] = torch.nn.ELU()


def replace_the_head(net):
    net.classifier[-1] = torch.nn.Sequential(torch.nn.Linear(16, 5), torch.nn.Linear(5, 4))


def drop_otherwise(net):
    net.features.append(torch.nn.Dropout(0.2))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (add_a_layer, ("features.6", "Hardtanh")),
        (replace_activations, ("features.1", "ELU", "ReLU")),
        (replace_the_head, ("classifier.3", "Linear", "Sequential")),
        (drop_otherwise, ("features.6", "Dropout")),
    ],
)
def test_another_net_than_was_trained_is_never_given_back(data, tmp_path, change, got, capsys):
    net = own()
    change(net)
    trained, _ = run(data, tmp_path, net, epochs=1)
    with refuses(CheckpointError, got=(tmp_path / LAST, *got), remedy="net.load_state_dict"):
        load_run(tmp_path)
    again = own()
    change(again)
    again.load_state_dict(checkpoint.read(tmp_path / LAST).part("model"))  # as it advises
    assert same_weights(trained, again)
    for start in ("--weights", "--pre-init"):
        assert main([*QUICK, "--out", str(tmp_path / "b"), start, str(tmp_path / LAST)]) == 2
        assert got[0] in capsys.readouterr().err and not (tmp_path / "b").exists()
    resumed, _ = run(data, tmp_path, again, epochs=1, resume=True)
    assert same_weights(trained, resumed)


def test_a_checkpoint_of_an_older_version_is_read_and_resumed(data, tmp_path):
    """Without dropout, changes and a scaler; its net changed, it is refused all the same."""
    trained, _ = run(data, tmp_path, epochs=1, schedule="constant")
    found = checkpoint.read(tmp_path / LAST)
    for name in ("machine", "changes", "scaler"):
        del found.state[name]
    del found.state["net"]["dropout"], found.state["recipe"]["channels_last"]
    checkpoint.write(tmp_path, found)
    assert same_weights(load_run(tmp_path), trained)
    run(data, tmp_path, epochs=2, schedule="constant", resume=True)
    found.tensors["model.classifier.9.weight"] = torch.zeros(1)
    checkpoint.write(tmp_path, found)
    with refuses(CheckpointError, got="classifier.9.weight", remedy="net.load_state_dict"):
        load_run(tmp_path)


def test_a_checkpoint_is_an_ordinary_safetensors_file_with_the_weights(data, tmp_path):
    net, _ = run(data, tmp_path)
    tensors = load_file(tmp_path / LAST)
    for name, value in net.state_dict().items():
        assert torch.equal(tensors[f"model.{name}"], value)


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "one bit":
        middle = len(content) - 200
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "settings":
        assert content.count(b'\\"epoch\\": 4') == 1
        path.write_bytes(content.replace(b'\\"epoch\\": 4', b'\\"epoch\\": 2'))
    elif how == "pickle":
        torch.save({"model": 1}, path)
    elif how == "weights only":
        save_file({"features.0.weight": torch.zeros(3)}, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "got", "remedy"),
    [
        ("truncated", "header", DAMAGED),
        ("empty", "header", DAMAGED),
        ("one bit", "sha256", DAMAGED),
        ("settings", "sha256", DAMAGED),
        ("pickle", "header", DAMAGED),
        ("weights only", "vgglib checkpoint 1", "--weights"),
    ],
)
def test_damaged_checkpoint_is_refused_and_the_previous_one_serves(
    data, tmp_path, how, got, remedy
):
    straight, _ = run(data, tmp_path)
    damage(tmp_path / LAST, how)
    with refuses(CheckpointError, got=(tmp_path / LAST, got), remedy=remedy):
        run(data, tmp_path, resume=True)
    with refuses(CheckpointError, got=(tmp_path / LAST, got), remedy=remedy):
        load_run(tmp_path)
    resumed, _ = run(data, tmp_path, resume="previous")
    assert same_weights(straight, resumed)


def test_changed_recipe_net_or_data_is_refused_with_the_difference(data, tmp_path):
    run(data, tmp_path)
    with refuses(CheckpointError, got=("recipe", "lr", 0.5), accepts=0.02, remedy=ANOTHER):
        run(data, tmp_path, resume=True, lr=0.5)
    with refuses(CheckpointError, got=("net", "batch_norm", True), accepts=False, remedy=ANOTHER):
        run(data, tmp_path, net=tiny(batch_norm=True), resume=True)
    fewer = Data(data.name, data.train[:200], *rest(data))
    with refuses(CheckpointError, got=("data", 200), accepts=400, remedy=ANOTHER):
        run(fewer, tmp_path, resume=True)


def test_a_folder_with_a_run_is_not_overwritten(data, tmp_path):
    run(data, tmp_path)
    before = (tmp_path / LAST).read_bytes()
    with refuses(FileExistsError, got=tmp_path, remedy=(*RESUME, "--out")):
        run(data, tmp_path)
    assert (tmp_path / LAST).read_bytes() == before


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_mix(data, tmp_path):
    """The second is refused while the first is there, and welcome once it is gone."""
    said = []
    code = (
        "import pathlib, sys\nfrom vgglib.train import checkpoint\n"
        "with checkpoint.only_run_in(pathlib.Path(sys.argv[1])): pass"
    )

    def try_another(row):
        command = [sys.executable, "-c", code, tmp_path]
        said.append(subprocess.run(command, capture_output=True, text=True).stderr)
        return True

    run(data, tmp_path, on_epoch=try_another)
    assert "another run is writing" in said[0]
    forget_the_end(tmp_path / LAST)
    run(data, tmp_path, resume=True)


def test_the_disk_has_to_hold_the_momentum_too(data, tmp_path, monkeypatch):
    """A run's first checkpoint has none yet, and is half the size of the later ones."""
    net = vgglib.vgg("A", num_classes=4, image_size=32, width=0.125)
    parameters = sum(p.numel() * p.element_size() for p in net.parameters())
    usage = shutil.disk_usage(tmp_path)._replace(free=int(3 * 1.9 * parameters))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    noise = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    blank = vgglib.data.ImageSet(noise, torch.arange(8) % 4)
    free, need = (f"{size / 2**30:.2f} GiB" for size in (usage.free, 6 * parameters))
    with refuses(OSError, got=(tmp_path, free), accepts=need, remedy=("out=", "--out")):
        run(Data("blank", blank, blank, tuple("rgby"), "made here"), tmp_path, net, batch_size=4)


def test_a_full_disk_is_reported_before_the_training(data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with refuses(OSError, got=(tmp_path / "run", "0.00 GiB"), remedy=("out=", "--out")):
        run(data, tmp_path / "run")


@pytest.mark.linux("the size of files is limited by setrlimit")
def test_a_write_that_fails_half_way_leaves_the_last_checkpoint(data, tmp_path):
    """The system refuses to let files grow: the write fails in the middle, for real."""
    import resource

    run(data, tmp_path, on_epoch=lambda row: True)
    forget_the_end(tmp_path / LAST)
    before = (tmp_path / LAST).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        with refuses(OSError, got=(tmp_path, "GiB"), remedy=tmp_path / LAST):
            run(data, tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / LAST).read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".new")]


# ---- what goes wrong in training


def test_a_loss_that_is_not_finite_leaves_a_good_checkpoint(data, tmp_path):
    remedy = ("vgglib.signal", "lr=1e+30", tmp_path / LAST)
    with warns(RuntimeWarning, got=("step 2", "epoch 1"), remedy=remedy):
        _, history = run(data, tmp_path, lr=1e30, schedule="constant")
    assert "finite" in history.attrs["stopped"]
    assert all(value.isfinite().all() for value in load_run(tmp_path).state_dict().values())
    written = pd.read_csv(tmp_path / "history.csv")
    assert len(written) == len(history) == 1 and not math.isfinite(written.train_loss[0])


@pytest.mark.parametrize("wrong", ["weights", "validation"])
def test_what_the_last_step_spoils_is_no_good_checkpoint(data, tmp_path, wrong):
    """One step an epoch: its loss is finite, what it leaves behind is not."""
    one = Data("one", data.train[:64], data.test, *rest(data)[1:])
    rate = {"weights": 1e300, "validation": 1e25}[wrong]
    changes = dict(batch_size=64, schedule="constant", epochs=3, lr=rate, weight_decay=0.0)
    with warns(RuntimeWarning, got=(wrong, "epoch 1"), remedy=("vgglib.signal", tmp_path / LAST)):
        _, history = run(one, tmp_path, **changes)
    assert "finite" in history.attrs["stopped"] and math.isfinite(history.train_loss[0])
    assert all(value.isfinite().all() for value in load_run(tmp_path).state_dict().values())
    mended = {"change": {"lr": 0.01}}
    _, history = run(one, tmp_path, resume=True, options=mended, **changes)
    assert history.attrs["stopped"] == "all epochs done" and history.val_loss.notna().all()


def test_weights_that_are_not_finite_are_no_start(data, tmp_path):
    net = tiny()
    net.features[0].weight.data[0] = math.nan
    with refuses(ValueError, got="finite"):
        run(data, tmp_path, net)
    assert LAST not in os.listdir(tmp_path)


@pytest.mark.parametrize("init", ["he", "xavier"])
def test_a_net_that_only_guesses_is_reported_once(data, init):
    net = vgglib.vgg(OWN, num_classes=4, image_size=16, init=init)
    torch.nn.init.zeros_(net.classifier[-1].weight)
    remedy = ("vgglib.signal", "pre-initialise")
    with warns(StalledWarning, got=("epoch 1", "ln 4"), remedy=remedy) as caught:
        fit(data, net, lr=1e-12, epochs=3)
    said = [str(w.message) for w in caught if w.category is StalledWarning]
    assert len(said) == 1
    assert ("init='he'" in said[0]) == (init != "he")  # what was done already is no advice


def test_a_loss_that_comes_down_past_guessing_is_not_reported():
    def reports(*losses):
        run = SimpleNamespace(
            model=tiny(), stalled=False, rows=[], place=SimpleNamespace(first=True),
            classes=("r", "g", "b", "y"), own_loss=False, name="tiny",
        )  # fmt: skip
        with warnings.catch_warnings(record=True, action="always") as caught:
            for epoch, loss in enumerate(losses, 1):
                run.rows.append({"epoch": epoch, "train_loss": loss})
                Run.warn_if_stalled(run, run.rows[-1])
        return len(caught)

    guessing = math.log(4)
    assert reports(3.7, guessing, 1.2) == 0
    assert reports(3.7, guessing, guessing, guessing) == 1
    assert reports(guessing) == 1


class SmallMemory(torch.nn.Module):
    """Behaves like a GPU that holds only so many images."""

    def __init__(self, fits):
        super().__init__()
        self.fits = fits

    def forward(self, x):
        if len(x) > self.fits and self.training:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return x


def test_out_of_memory_names_the_batch_that_fits(data):
    net = tiny()
    net.features.insert(0, SmallMemory(13))
    with refuses(
        torch.cuda.OutOfMemoryError, got=50, accepts=12, remedy=("accumulate=5", "--accumulate 5")
    ) as error:
        fit(data, net)
    # torch's own error would keep all that the failed pass has reserved, for whoever catches this.
    assert error.value.__cause__ is error.value.__context__ is None


def test_accumulated_parts_make_the_step_of_the_whole_batch(data, tmp_path):
    whole, _ = run(data, None, epochs=1, schedule="constant")
    parts, _ = run(data, None, epochs=1, schedule="constant", options={"accumulate": 5})
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# ---- what is told before the first epoch


@pytest.mark.parametrize(
    ("wrong", "got", "remedy"),
    [
        (lambda d: Data("d", d.train, d.test[:0], d.classes, ""), (0, "validation"), "holdout=0.1"),
        (lambda d: Data("d", d.train[:0], d.test, d.classes, ""), (0, "training"), "train="),
        (lambda d: Data("d", d.train, d.test, (*d.classes, "x"), ""), (5, 4), "num_classes=5"),
        (lambda d: Data("d", d.train, (d.test.images,), d.classes, ""), "tuple", "ImageSet"),
        (lambda d: d.train, "ImageSet", "Data"),
        (lambda d: mislabelled(d), "… 4", "num_classes=5"),
    ],
)
def test_data_that_cannot_train_the_net_is_refused(data, tmp_path, wrong, got, remedy):
    with refuses(ValueError, got=got, remedy=remedy):
        run(wrong(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def mislabelled(data):
    data.test.labels[7] = 4
    return data


@pytest.mark.parametrize("classes", [3, 5])
def test_a_folder_and_a_net_have_the_same_classes(tmp_path, classes):
    photos = photos_data(tmp_path / "photos")
    net = vgglib.vgg(OWN, num_classes=classes, image_size=16)
    found = Data("photos", photos, photos, tuple("rgby"), "made here")
    with refuses(ValueError, got=("photos", 4, classes), remedy="num_classes=4"):
        run(found, tmp_path / "run", net, options={"workers": 0}, scale=256, pad=0)
    photos.targets[5] = 4
    with refuses(ValueError, got="… 4", accepts="0 … 3", remedy="classes="):
        Data("photos", photos, photos, tuple("rgby"), "made here")
    assert not (tmp_path / "run").exists()


class WithoutRoom(torch.utils.data.Dataset):
    """Reading fails as it does where /dev/shm is full."""

    def __init__(self, photos):
        self.photos = photos

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        if torch.utils.data.get_worker_info() is not None:
            raise RuntimeError("unable to write to file </torch_7_1>: No space left on device (28)")
        return self.photos[index]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_too_little_shared_memory_is_told(tmp_path, split):
    photos = photos_data(tmp_path / "photos")
    sets = {"train": photos, "test": photos} | {split: WithoutRoom(photos)}
    full = Data("photos", **sets, classes=tuple("rgby"), source="made here")
    with refuses(OSError, got="/dev/shm", remedy=("workers=0", "--workers 0", "--shm-size=2g")):
        run(full, None, options={"workers": 1}, scale=256, pad=0, batch_size=8, epochs=1)


def test_without_a_compiler_it_is_said_in_a_line(tmp_path, monkeypatch, capsys):
    def compile(*_, **__):
        raise RuntimeError("No working C++ compiler found\nand a hundred lines more")

    monkeypatch.setattr(torch, "compile", compile)
    assert main([*QUICK, "--out", str(tmp_path / "run"), "--compile"]) == 2
    said = capsys.readouterr().err
    assert "No working C++ compiler found" in said and "--compile" in said
    assert len(said.strip().splitlines()) == 1 and not (tmp_path / "run").exists()


# ---- number formats


class NoFloat64(TorchDispatchMode):
    """Refuses every tensor of 64-bit floats, as Apple's GPUs do."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError(f"{function} makes float64")
        return result


def test_no_float64_is_made_on_a_device_without_it(data, tmp_path, monkeypatch):
    assert devices.sum_dtype(torch.device("mps")) == torch.float32
    assert data.mean  # which are made in 64 bits on the CPU
    expected, history = run(data, None, tiny(batch_norm=True), epochs=1)
    monkeypatch.setattr(devices, "NO_FLOAT64", {"cpu"})
    with NoFloat64():
        net, found = run(data, tmp_path, tiny(batch_norm=True), epochs=1)
    assert same_weights(net, expected)
    pd.testing.assert_frame_equal(history.drop(columns=CLOCK), found.drop(columns=CLOCK))


def test_fp16_scales_the_loss_and_goes_on_with_the_same_bits(data, tmp_path):
    changes = dict(precision="fp16", epochs=4, schedule="one-cycle")
    with warnings.catch_warnings(action="ignore"):  # of fp16 where it is imitated
        straight, history = run(data, tmp_path / "a", **changes)
        run(data, tmp_path / "b", on_epoch=lambda row: row["epoch"] == 2, **changes)
        forget_the_end(tmp_path / "b" / LAST)
        assert checkpoint.read(tmp_path / "b" / LAST).state["scaler"]["scale"] > 1
        resumed, _ = run(data, tmp_path / "b", resume=True, **changes)
    assert same_weights(straight, resumed) and history.val_accuracy.iloc[-1] > 0.95


def test_a_first_step_that_overflows_fp16_is_left_out(data, monkeypatch):
    """torch halves the scale then; the weights stay, and momentum begins with the next step."""
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**40))
    with warnings.catch_warnings(action="error"):
        warnings.filterwarnings("ignore", ".*imitates", RuntimeWarning)
        net, history = fit(data, precision="fp16", epochs=6)
    assert all(weight.isfinite().all() for weight in net.parameters())
    assert history.val_accuracy.iloc[-1] > 0.9


def test_tf32_is_a_switch_for_the_time_of_the_run(data):
    before, seen = torch.get_float32_matmul_precision(), []
    net = tiny()
    look = lambda *_: seen.append(torch.get_float32_matmul_precision())  # noqa: E731
    net.classifier[-1].register_full_backward_hook(look)
    fit(data, net, precision="tf32", epochs=1)
    assert set(seen) == {"high"} and torch.get_float32_matmul_precision() == before


# ---- input pipelines


def photos_command(folder, *more):
    """Arguments for a run on photos, made below a folder."""
    for part in ("train", "val"):
        if not (folder / "photos" / part).exists():
            photos_data(folder / "photos" / part)
    words = ["--data", "imagenet", "--root", folder / "photos", "--out", folder / "run", "--quiet"]
    words += ["--net", "A", "--width", 0.0625, "--image-size", 32, "--batch-size", 8]
    return [str(word) for word in (*words, *more)]


def photos_data(folder, count=24):
    images = colours(count, 2)
    for number, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
        place = folder / str(int(label))
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((40, 30))
        picture.save(place / f"{number}.png")
    return ImageFolder(folder)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_photos_are_cropped_the_same_whoever_crops_them_and_wherever_one_starts(tmp_path, workers):
    photos = photos_data(tmp_path)
    recipe = Recipe.paper(batch_size=8)
    means = ((0, 0, 0), None)
    alone = list(LoaderBatches(photos, tiny(), recipe, *means, CPU, 0).epoch(3))
    assert len(alone) == 3
    torch.manual_seed(5)
    later = list(LoaderBatches(photos, tiny(), recipe, *means, CPU, workers).epoch(3, start=1))
    for (ours, labels), (theirs, same) in zip(later, alone[1:], strict=True):
        assert torch.equal(ours, theirs) and torch.equal(labels, same)
    halves = [
        list(LoaderBatches(photos, tiny(), recipe, *means, Place(CPU.device, rank, 2), 0).epoch(3))
        for rank in (0, 1)
    ]
    for step, (images, _) in enumerate(alone):
        assert torch.equal(torch.cat([half[step][0] for half in halves]), images)
    other = next(LoaderBatches(photos, tiny(), recipe, *means, CPU, 0).epoch(4))[0]
    assert not torch.equal(other, alone[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_photo_is_named(tmp_path, capsys, split, workers):
    for part in ("train", "val"):
        photos_data(tmp_path / "photos" / part)
    damaged = tmp_path / "photos" / split / "1" / "5.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    more = f"--net A --width 0.0625 --image-size 32 --batch-size 8 --epochs 1 --workers {workers}"
    words = ["--data", "imagenet", "--root", str(tmp_path / "photos"), "--out", str(tmp_path / "o")]
    assert main([*more.split(), *words, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert str(damaged) in said and "replace it" in said and "Traceback" not in said


@pytest.mark.slow
def test_one_class_is_refused(tmp_path, capsys):
    for part in ("train", "val"):
        photos_data(tmp_path / part, count=1)
    words = ["--data", "imagenet", "--root", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*words, "--net", "A", "--width", "0.1", "--image-size", "32"]) == 2
    assert "nothing to tell apart" in capsys.readouterr().err


def test_reading_photos_leaves_the_generator_of_dropout_alone(tmp_path):
    source = LoaderBatches(
        photos_data(tmp_path), tiny(), Recipe.paper(batch_size=8), (0, 0, 0), None, CPU, 0
    )
    state = torch.get_rng_state()
    list(source.epoch(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_two_processes_share_the_crops_of_one(data):
    recipe = Recipe.small(batch_size=50, colour_shift=True)
    means = recipe.normalisation(data)
    whole = next(DeviceBatches(data.train, tiny(), recipe, *means, CPU).epoch(1))
    parts = [
        next(DeviceBatches(data.train, tiny(), recipe, *means, Place(CPU.device, r, 2)).epoch(1))
        for r in (0, 1)
    ]
    assert torch.equal(torch.cat([images for images, _ in parts]), whole[0])
    assert torch.equal(torch.cat([labels for _, labels in parts]), whole[1])
    assert not torch.equal(parts[0][0], parts[1][0])


def test_each_image_has_its_own_draw(data):
    one = data.train[:1]
    many = vgglib.data.ImageSet(one.images.repeat(64, 1, 1, 1), one.labels.repeat(64))
    recipe = Recipe.small(batch_size=64, colour_shift=True)
    source = DeviceBatches(many, tiny(), recipe, (0, 0, 0), None, CPU)
    crops, _ = next(source.epoch(1))
    assert len(crops.flatten(1).unique(dim=0)) > 32


# ---- several processes


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_all_processes_of_a_machine_talk_by_the_same_means(gpus, monkeypatch):
    """NCCL where each of them has a GPU; with one GPU too few, all take gloo."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", chosen.append)
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with vgglib.processes():
            pass
    assert chosen == ["nccl" if gpus == 2 else "gloo"] * 2


# Dropout off: each process drops its own units.
PLAIN = ("momentum=0", "weight_decay=0", "dropout=0", "schedule=constant", "lr=1")


def one_and_two(folder, *more):
    """Train in this process and, as torchrun starts them, in two; what the two said."""
    assert main([*QUICK, *more, "--out", str(folder / "one")]) == 0
    done = call(*more, "--out", folder / "two", torchrun=2)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tmp_path):
    """One step of plain SGD at rate 1: the weights differ as the gradients do."""
    plain = [f"--set={s}" for s in PLAIN]
    one_and_two(tmp_path, *plain, "--limit", "64", "--epochs", "1", "--init", "xavier")
    one, two = load_run(tmp_path / "one"), load_run(tmp_path / "two")
    for ours, theirs in zip(two.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.long
def test_two_processes_follow_the_loss_curve_of_one_and_leave_in_good_order(tmp_path):
    more = ["--set", "lr=0.01", "--set", "schedule=constant", "--set", "dropout=0"]
    said = one_and_two(tmp_path, *more)
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one.drop(columns=CLOCK), two.drop(columns=CLOCK), rtol=0.01)
    assert said.count("Stopped:") == 1  # only the first process talks
    # One process goes on with it.
    assert main([*QUICK, *more, "--out", str(tmp_path / "two"), "--resume"]) == 0


@pytest.mark.slow
def test_an_error_that_one_of_several_processes_meets_is_told(tmp_path):
    """A photo in the second process's part of the first batch that is read is damaged."""
    words = photos_command(tmp_path, "--epochs", 1, "--workers", 0)
    photos = ImageFolder(tmp_path / "photos" / "train")
    source = LoaderBatches(photos, tiny(), Recipe.paper(batch_size=8), (0, 0, 0), None, CPU, 0)
    damaged = photos.samples[int(source.order(0)[0][7])][0]
    with open(damaged, "w") as file:
        file.write("not an image")
    done = subprocess.run(
        [*command(torchrun=2)[: -len(QUICK)], *words], env=environment(), capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count(f"the picture {damaged}") == 1 and "replace it" in done.stderr


@pytest.mark.long
def test_an_error_that_all_processes_meet_is_told_once(tmp_path):
    done = call("--out", tmp_path, "--accumulate", 7, torchrun=2)
    assert done.returncode != 0 and done.stderr.count("must divide") == 1


def test_a_batch_that_cannot_be_shared_is_refused(data):
    with refuses(ValueError, got=(50, "3 processes"), remedy="batch_size"):
        DeviceBatches(
            data.train, tiny(), Recipe.small(batch_size=50), (0, 0, 0), None,
            Place(CPU.device, 0, 3),
        )  # fmt: skip
