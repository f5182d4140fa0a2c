"""The files of a run: what is written comes back, and nothing else is taken for it."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vgglib import LRN, Config, Conv, load_run, vgg
from vgglib.train import checkpoint
from vgglib.train.checkpoint import (
    LAST,
    LOCK,
    PREVIOUS,
    Checkpoint,
    CheckpointError,
    build_net,
    describe_net,
    differences,
    only_run_in,
    read,
    room_for,
    write,
)

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows forks no process")

OWN = Config("own", ((Conv(3, 1), LRN(size=3, k=1.5)), (Conv(4), Conv(5, 5))), hidden=(7, 6))


def net(**options):
    return vgg(OWN, **({"num_classes": 3, "image_size": 9, "width": 2} | options))


def made(model=None, **state):
    model = model or net()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    return Checkpoint({"net": describe_net(model), **state}, tensors)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_net_comes_back_from_its_description_as_json(batch_norm):
    model = net(batch_norm=batch_norm)
    again = build_net(json.loads(json.dumps(describe_net(model))))
    assert again.config == OWN
    for name in ("num_classes", "image_size", "width", "batch_norm"):
        assert getattr(again, name) == getattr(model, name)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


def test_what_is_written_is_read(tmp_path):
    tensors = {
        "model.a": torch.arange(6.0).view(2, 3).T,  # not contiguous
        "model.b.c": torch.tensor(3, dtype=torch.int64),
        "rng.cpu": torch.get_rng_state(),
        "optimiser.a": torch.randn(2, 2, requires_grad=True),
        "half": torch.ones(0, 3, dtype=torch.bfloat16),
    }
    assert write(tmp_path, Checkpoint({"epoch": 3, "é": [1, None]}, tensors)) == tmp_path / LAST
    found = read(str(tmp_path / LAST))
    assert found.state == {"epoch": 3, "é": [1, None]}
    assert found.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found.tensors[name].dtype == value.dtype and torch.equal(found.tensors[name], value)
    assert found.part("model").keys() == {"a", "b.c"}
    assert found.part("mod") == found.part("half") == {}
    assert os.listdir(tmp_path) == [LAST]
    assert (tmp_path / LAST).stat().st_mode & 0o777 == 0o644


def test_the_one_before_the_last_is_kept(tmp_path):
    for epoch in range(1, 4):
        write(tmp_path, Checkpoint({"epoch": epoch}, {"x": torch.full((2,), epoch)}))
    assert sorted(os.listdir(tmp_path)) == [LAST, PREVIOUS]
    assert read(tmp_path / LAST).state == {"epoch": 3}
    assert read(tmp_path / PREVIOUS).state == {"epoch": 2}
    assert read(tmp_path / PREVIOUS).tensors["x"].tolist() == [2, 2]


def test_a_disk_without_hard_links_keeps_the_one_before_as_well(tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / f"{PREVIOUS}.new").write_bytes(b"left by a run that was killed")
    for epoch in (1, 2):
        write(tmp_path, Checkpoint({"epoch": epoch}, {}))
    assert [read(tmp_path / name).state["epoch"] for name in (LAST, PREVIOUS)] == [2, 1]
    assert len(os.listdir(tmp_path)) == 2


def test_a_disk_that_refuses_modes_takes_checkpoints(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    assert read(write(tmp_path, Checkpoint({"epoch": 1}, {}))).state == {"epoch": 1}


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    for name in (LAST, PREVIOUS):
        (tmp_path / f"{name}.new").write_bytes(b"half of a checkpoint")
    for epoch in (1, 2):
        write(tmp_path, Checkpoint({"epoch": epoch}, {}))
    assert sorted(os.listdir(tmp_path)) == [LAST, PREVIOUS]


@pytest.mark.parametrize("there", [False, True])
def test_a_checkpoint_that_is_read_back_otherwise_never_gets_the_name(tmp_path, monkeypatch, there):
    if there:
        write(tmp_path, Checkpoint({"epoch": 1}, {}))
    with monkeypatch.context() as patched:

        def spoilt(tensors, path, metadata):
            save_file(tensors, path, metadata=metadata | {"state": "{}"})

        patched.setattr("vgglib.weights.save_file", spoilt)
        with pytest.raises(OSError) as caught:
            write(tmp_path, Checkpoint({"epoch": 2}, {"x": torch.zeros(1)}))
    assert str(tmp_path) in str(caught.value)
    said = str(caught.value).replace(f"{LAST}.new", "")
    assert (str(tmp_path / LAST) in said) == there  # the one before is still there
    assert os.listdir(tmp_path) == [LAST] * there
    assert not there or read(tmp_path / LAST).state == {"epoch": 1}


def test_it_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    """What survives a power cut: file synced, renamed, folder synced, in this order."""
    done, sync, replace = [], os.fsync, os.replace

    def fsync(handle):
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    def moved(source, target):
        done.append(f"{Path(source).name} → {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", moved)
    handles = len(os.listdir("/proc/self/fd"))
    write(tmp_path, Checkpoint({}, {}))
    assert done == [f"{LAST}.new", f"{LAST}.new → {LAST}", tmp_path.name]
    assert len(os.listdir("/proc/self/fd")) == handles, "every file is closed again"


def test_load_run_takes_a_folder_or_a_file(tmp_path):
    model = net(batch_norm=True, dropout=0.9)
    write(tmp_path, made(model))
    for path in (tmp_path, str(tmp_path), tmp_path / LAST):
        found = load_run(path)
        assert not any(module.training for module in found.modules())
        assert found.config == OWN
        for name, value in model.state_dict().items():
            assert torch.equal(found.state_dict()[name], value)
    for path in (tmp_path / "none", tmp_path / PREVIOUS):
        with pytest.raises(FileNotFoundError) as caught:
            load_run(path)
        assert str(path) in str(caught.value)


def changed_header(path, **values):
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(load_file(path), path, metadata=header | values)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: changed_header(path, state='{"epoch": 2}'),
        lambda path: changed_header(path, format="vgglib checkpoint 2"),
        lambda path: changed_header(path, sha256="0" * 64),
        lambda path: save_file(load_file(path), path),  # without a header
        lambda path: save_file(load_file(path), path, metadata={"format": checkpoint.FORMAT}),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused(tmp_path, change):
    path = write(tmp_path, Checkpoint({"epoch": 1}, {"x": torch.arange(3.0)}))
    assert read(path).state == {"epoch": 1}
    change(path)
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        {"x": torch.tensor([1.0, 2.0, 4.0, 3.0])},
        {"x": torch.tensor([[1.0, 2.0], [3.0, 4.0]])},
        {"x": torch.tensor([1.0, 2.0, 3.0, 4.0]).view(torch.int32)},
        {"y": torch.tensor([1.0, 2.0, 3.0, 4.0])},
        {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([3.0, 4.0])},
    ],
)
def test_the_digest_is_of_names_kinds_shapes_and_values(tmp_path, other):
    path = write(tmp_path, Checkpoint({}, {"x": torch.tensor([1.0, 2.0, 3.0, 4.0])}))
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(other, path, metadata=header)
    with pytest.raises(CheckpointError):
        read(path)


def test_the_order_of_the_tensors_is_none_of_the_digests_business(tmp_path):
    a, b = torch.ones(2), torch.zeros(3)
    digests = []
    for tensors in ({"a": a, "b": b}, {"b": b, "a": a}):
        with safe_open(write(tmp_path, Checkpoint({}, tensors)), framework="pt") as file:
            digests.append(file.metadata()["sha256"])
    assert digests[0] == digests[1]


def test_differences_name_part_key_and_both_values():
    there = {
        "net": {"width": 1, "stages": [[1]]},
        "recipe": {"scale": [256, 512]},
        "data": {"n": 3},
    }
    here = {"net": {"width": 2, "stages": [[1]]}, "recipe": {"scale": (256, 512)}, "data": {"m": 4}}
    assert list(differences(there, there)) == list(differences(here, here)) == []
    said = sorted(differences(there, here))
    assert len(said) == 3
    for line, words in zip(
        said, (("m", "None", "4"), ("n", "3", "None"), ("width", "1", "2")), strict=True
    ):
        assert all(word in line for word in words)
        assert line.index(f"{words[1]} ") < line.rindex(words[2])  # the old one first


def test_room_is_for_three_checkpoints_and_counts_those_that_are_there(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b"
    free = lambda size: monkeypatch.setattr(  # noqa: E731
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, size)
    )
    free(3000)
    room_for(folder, 1000)
    room_for(folder, 1000)  # the folder is there by now
    assert os.listdir(folder) == []
    free(2999)
    with pytest.raises(OSError) as caught:
        room_for(folder, 1000)
    assert str(folder) in str(caught.value)
    (folder / LAST).write_bytes(b"x")
    room_for(folder, 1000)
    free(1000)
    (folder / PREVIOUS).write_bytes(b"x" * 1999)
    room_for(folder, 1000)
    (folder / PREVIOUS).write_bytes(b"x" * 1998)
    with pytest.raises(OSError):
        room_for(folder, 1000)


def test_a_folder_that_can_not_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as caught:
        room_for(tmp_path / "file" / "run", 1)
    assert isinstance(caught.value, NotADirectoryError) and "file/run" in str(caught.value)


@FORKS
def test_one_run_a_folder(tmp_path):
    """The lock is a process's own: another process, forked here, does not get it."""

    def another():
        pid = os.fork()
        if not pid:
            try:
                with only_run_in(tmp_path):
                    os._exit(0)
            except OSError as error:
                os._exit(7 if str(tmp_path) in str(error) else 8)
            finally:
                os._exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    with only_run_in(tmp_path):
        assert another() == 7
    assert another() == 0
    assert os.listdir(tmp_path) == [LOCK]


@pytest.mark.parametrize("error", [BlockingIOError, PermissionError])
def test_a_lock_that_another_holds_is_an_error_and_none_at_all_is_not(tmp_path, monkeypatch, error):
    def refuse(kind):
        def lockf(file, how):
            assert how == fcntl.LOCK_EX | fcntl.LOCK_NB
            raise kind("refused")

        monkeypatch.setattr(fcntl, "lockf", lockf)

    refuse(error)
    with pytest.raises(OSError), only_run_in(tmp_path):
        pytest.fail("it got in")
    refuse(OSError)
    with only_run_in(tmp_path):
        entered = True
    assert entered
