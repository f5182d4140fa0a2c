"""Recorded runs: what is committed, and what happens where nothing is."""

import contextlib
import json
import math
import re
import subprocess
import sys
from types import SimpleNamespace

import ablation
import caltech
import from_a
import profile_step
import pytest
import record
import results
import torch
from filelock import FileLock
from refusing import refuses
from torch.profiler import ProfilerActivity, profile

import vgglib
from vgglib.recorded import FOLDERS

RUNS = sorted(path.stem for path in FOLDERS[0].glob("*.json"))


def test_a_run_that_nobody_recorded_is_none():
    assert vgglib.recorded("never-recorded") is None


def test_a_name_is_no_path():
    with refuses(ValueError, got="'../README'", accepts=("_", "-")):
        vgglib.recorded("../README")


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(vgglib.recorded.__globals__, "FOLDERS", (tmp_path,))
    (tmp_path / "half.json").write_text('{"name": "half", "runs": [')
    with refuses(ValueError, got=("half.json", "line 1")):
        vgglib.recorded("half")


@pytest.mark.parametrize("name", RUNS)
def test_each_run_says_how_it_was_made(name):
    run = vgglib.recorded(name)
    assert re.match(r"python benchmarks/\w+\.py", run["command"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])
    assert run["machine"]["cpu"] and run["versions"]["torch"] and run["settings"]
    assert run["runs"], "a recorded run without runs"
    measured = {}
    for one in run["runs"]:
        assert one.keys() == measured.setdefault(one["label"], one).keys()
        assert all(0 <= one.get(measure, 0) <= 1 for measure in results.MEASURES)
        lengths = {len(column) for column in one.get("history", {}).values()}
        assert len(lengths) <= 1, "columns of a history differ in length"
    assert len({(one["label"], one["seed"]) for one in run["runs"]}) == len(run["runs"])
    assert json.dumps(run)


def test_ratios_are_those_of_what_was_measured():
    for one in vgglib.recorded("throughput")["runs"]:
        ratio = one["vgglib_images_per_second"] / one["plain_images_per_second"]
        assert one["ratio_to_plain"] == pytest.approx(ratio)
    net = vgglib.anatomy("D")
    foreseen = 32 * net.activation_bytes.sum() + 12 * net.params.sum()
    for one in vgglib.recorded("memory")["runs"]:
        assert one["ratio_to_foreseen"] == pytest.approx(one["peak_gib"] * 2**30 / foreseen)


def test_the_profile_counts_every_product_of_a_step():
    """All convolutions and FC layers are found, with the operations that anatomy foresees."""
    net = vgglib.vgg("A", num_classes=10, image_size=32, width=0.125)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as watch:
        net(torch.randn(4, 3, 32, 32)).sum().backward()
    found = [
        (profile_step.part_of(event.key, event.input_shapes), event.count)
        for event in watch.key_averages(group_by_input_shape=True)
    ]
    macs = vgglib.anatomy(net).macs
    first = macs[macs > 0].iloc[0]  # the images need no gradient
    total = sum(work * count for (_, work), count in found)
    assert total == 4 * 2 * (3 * macs.sum() - first)
    assert {part for (part, work), _ in found if work} == {*profile_step.STAGES, "FC layers"}


def test_results_page_is_what_the_runs_say():
    page = results.PAGE.read_text(encoding="utf-8")
    assert results.with_tables(page) == page, "run `make claims`"
    missing = set(RUNS) - set(results.RUN.findall(page)) - {"suite"}  # on the status page
    assert not missing, f"book/results.md does not show {missing}"


def test_a_run_nobody_made_is_called_not_yet_recorded():
    page = "<!-- run: never-recorded -->\nold\n<!-- end of run -->"
    assert "*Not yet recorded.*" in results.with_tables(page)
    assert "old" not in results.with_tables(page)


@pytest.mark.slow
def test_the_depth_line_for_a_gpu_can_be_tried_without_one():
    """One run of it, its net and its images small, in a process of its own as on a GPU."""
    command = [sys.executable, str(FOLDERS[0].parent / "gpu_depth.py"), "--tiny", "--epochs", "15"]
    done = subprocess.run(
        [*command, "--one", "A + batch norm", "0"], capture_output=True, text=True, check=True
    )
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["history"]["epoch"] == list(range(1, 16))
    rates = outcome["history"]["lr"]
    assert rates[0] / rates[-1] == pytest.approx(1000) and not outcome["stopped"].count("finite")


# The queue ------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Records and checkpoints in a folder of the test's own."""
    monkeypatch.setattr(record, "FOLDER", tmp_path / "recorded")
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    return tmp_path


def plan(*jobs, name="tried", **settings):
    return record.Plan(name, settings, [record.Job(*job) for job in jobs])


def queued(monkeypatch, *plans):
    monkeypatch.setattr(record, "plans", lambda: list(plans))


def worth(value):
    return lambda folder: {"test_accuracy": value}


def test_the_queue_makes_each_run_once_and_each_says_where(folders, monkeypatch):
    made = plan(("a", 0, worth(0.5)), ("a", 1, worth(0.7)))
    queued(monkeypatch, made)
    record.work()
    first = made.path.read_bytes()
    record.work()
    assert made.path.read_bytes() == first and not made.missing()
    runs = json.loads(first)["runs"]
    assert [(run["seed"], run["test_accuracy"]) for run in runs] == [(0, 0.5), (1, 0.7)]
    assert all(run["machine"]["cpu"] and run["versions"]["torch"] for run in runs)


def test_a_comparison_that_is_decided_soon_goes_first(folders, monkeypatch):
    long = plan(("slow", 0, worth(0), "depth", 60), ("slow", 1, worth(0), "depth", 60))
    short = plan(("b", 1, worth(0), "", 50), ("b", 0, worth(0), "", 50), name="short")
    queued(monkeypatch, long, short)
    assert [(job.label, job.seed) for _, job in record.queue()] == [
        ("b", 0),
        ("b", 1),
        ("slow", 0),
        ("slow", 1),
    ]


def test_a_run_that_another_process_is_at_is_left_to_it(folders, monkeypatch):
    made = plan(("a", 0, worth(0.5)), ("b", 0, worth(0.7)))
    queued(monkeypatch, made)
    (folders / "runs" / "tried").mkdir(parents=True)
    with FileLock(folders / "runs" / "tried" / "a-0.lock"):
        assert record.work() == []
    assert [job.label for job in made.missing()] == ["a"]


def test_a_run_waits_for_what_it_builds_on(folders, monkeypatch):
    base = plan(("base", 0, worth(0.5), "", 5), name="base")
    then = plan(("then", 0, worth(0.7), "", 1, lambda: not base.missing()))
    queued(monkeypatch, then, base)
    record.work()
    assert not base.missing() and not then.missing()


def test_labels_with_a_point_do_not_share_a_lock(folders):
    made = plan(("lr 0.05", 0, worth(0.5)), ("lr 0.1", 0, worth(0.7)))
    with record.alone(made.folder(made.jobs[0])):
        made.make(made.jobs[1])
    assert [job.label for job in made.missing()] == ["lr 0.05"]


def test_runs_that_would_share_their_checkpoints_are_refused():
    with refuses(ValueError, got=("tried", "S_16-0")):
        plan(("S = 16", 0, worth(0.5)), ("S : 16", 0, worth(0.7)))


def test_a_run_that_fails_is_told_and_the_others_go_on(folders, monkeypatch, capfd):
    def broken(folder):
        raise ValueError("no such image")

    made = plan(
        ("broken", 0, broken, "", 1),
        ("lost", 0, worth(math.nan), "", 1),
        ("wrong", 0, lambda folder: {"test_accuracy": object()}, "", 1),
        ("fine", 0, worth(torch.tensor(0.5)), "", 5),
    )
    queued(monkeypatch, made)
    left = record.work()
    assert sorted(line.split(",")[0] for line in left) == [
        "tried: broken",
        "tried: lost",
        "tried: wrong",
    ]
    assert "no such image" in capfd.readouterr().err
    assert [run["test_accuracy"] for run in made.recorded()["runs"]] == [0.5]


def test_what_a_run_builds_on_is_waited_for_while_another_makes_it(folders, monkeypatch):
    """The other process ends while this one looks at its watch."""
    shared, held = folders / "runs" / "shared", contextlib.ExitStack()

    def on_shared(folder):
        with record.alone(shared):
            return {"test_accuracy": 0.7}

    made = plan(("then", 0, on_shared), ("alone", 0, worth(0.5)))
    queued(monkeypatch, made)
    naps = []

    def nap(seconds):
        naps.append([job.label for job in made.missing()])
        held.close()

    monkeypatch.setattr(record.time, "sleep", nap)
    held.enter_context(record.alone(shared))
    assert record.work() == []
    assert naps == [["then"]] and not made.missing()


def test_a_run_that_can_never_be_made_does_not_keep_the_process(folders, monkeypatch):
    queued(monkeypatch, plan(("then", 0, worth(0.7), "", 1, lambda: False)))
    (left,) = record.work()
    assert "tried: then, seed 0 waits" in left


def test_only_leaves_other_records_alone(folders, monkeypatch):
    """Also one that is refused."""
    plan(("a", 0, worth(0.5)), epochs=3).make(record.Job("a", 0, worth(0.5)))
    other = plan(("b", 0, worth(0.5)), name="other")
    queued(monkeypatch, plan(("a", 0, worth(0.5)), epochs=4), other)
    record.work("other: b")
    assert not other.missing()
    monkeypatch.setattr(record.sys, "argv", ["record.py", "--only", "no such run"])
    with refuses(SystemExit, got="no such run"):
        record.main()


def test_a_run_is_written_once(folders):
    made = plan(("a", 0, worth(0.5)))
    made.make(made.jobs[0])
    made._write({"label": "a", "seed": 0, "test_accuracy": 0.9})
    assert [run["test_accuracy"] for run in made.recorded()["runs"]] == [0.5]


def test_a_training_that_explodes_counts_as_guessing(folders):
    data = vgglib.data.load("fashion-mnist-mini")
    few = vgglib.data.Data("few", data.train[:64], data.test[:32], data.classes, "test")
    net = vgglib.vgg(vgglib.STANDIN, num_classes=10, image_size=32, width=0.125)
    recipe = vgglib.Recipe.small(epochs=1, batch_size=32, lr=1e20)
    with pytest.warns(RuntimeWarning):
        outcome = record.trained(net, few, recipe, folders / "run")
    assert outcome["test_accuracy"] == 0.1 and "finite" in outcome["stopped"]


def test_a_schedule_that_looks_at_the_test_set_is_refused(folders):
    with refuses(ValueError, got="plateau", accepts="one-cycle"):
        record.trained(None, None, vgglib.Recipe.paper(), folders / "run")


def test_a_training_that_was_cut_off_goes_on(folders, monkeypatch):
    data = vgglib.data.load("fashion-mnist-mini")
    few = vgglib.data.Data("few", data.train[:64], data.test[:32], data.classes, "test")
    recipe = vgglib.Recipe.small(epochs=3, batch_size=32)
    begun = []

    def run(folder):
        def stop(row):
            begun.append(row["epoch"])
            if len(begun) == 2:
                raise KeyboardInterrupt

        net = vgglib.vgg(vgglib.STANDIN, num_classes=10, image_size=32, width=0.125)
        return record.trained(net, few, recipe, folder, [stop])

    made = plan(("a", 0, run))
    with pytest.raises(KeyboardInterrupt):
        made.make(made.jobs[0])
    assert made.missing()
    made.make(made.jobs[0])
    (done,) = json.loads(made.path.read_text())["runs"]
    assert begun[:2] == [1, 2] and begun.count(1) == 1, "the first epoch was made again"
    assert done["history"]["epoch"] == [1, 2, 3] and done["flops"] > 0
    assert not list((folders / "runs" / "tried").glob("a-0/*")), "checkpoints are cleared away"


def test_a_setting_that_was_noted_later_is_added(folders):
    plan(("a", 0, worth(0.5)), epochs=3).make(record.Job("a", 0, worth(0.5)))
    made = plan(("a", 0, worth(0.5)), ("b", 0, worth(0.5)), epochs=3, lr=0.1)
    made.make(made.jobs[1])
    assert json.loads(made.path.read_text())["settings"] == {"epochs": 3, "lr": 0.1}
    with refuses(SystemExit, got=("lr", 0.1), accepts=0.2):
        plan(("a", 0, worth(0.5)), epochs=3, lr=0.2).missing()
    with refuses(SystemExit, got="lr"):
        plan(("a", 0, worth(0.5)), epochs=3).missing()


def test_a_record_of_other_settings_is_refused(folders):
    plan(("a", 0, worth(0.5)), epochs=3).make(record.Job("a", 0, worth(0.5)))
    with refuses(SystemExit, got="tried.json", remedy="move it away"):
        plan(("a", 0, worth(0.5)), epochs=4).missing()


def test_decoupled_decay_is_as_strong_as_the_penalty():
    """Without a gradient both shrink a weight alike: the penalty's share of momentum is paid."""
    left = []
    for penalty in (ablation.BASE.weight_decay, 0.0):
        weight = torch.nn.Parameter(torch.ones(1))
        optimiser = torch.optim.SGD([weight], lr=0.01, momentum=0.9, weight_decay=penalty)
        for _ in range(2000):
            weight.grad = torch.zeros(1)
            optimiser.step()
            if not penalty:
                ablation.Decoupled(ablation.AS_STRONG).on_step(SimpleNamespace(optimiser=optimiser))
        left.append(weight.item())
    assert left[0] == pytest.approx(left[1], rel=0.002) and left[0] < 0.95


def test_a_changed_recipe_is_another_record(folders, monkeypatch):
    before = [plan.settings for plan in ablation.plans()]
    monkeypatch.setattr(ablation, "BASE", ablation.BASE.changed(milestones=(6, 9, 11)))
    assert all(plan.settings != old for plan, old in zip(ablation.plans(), before, strict=True))


def test_a_start_is_given_up_after_a_quarter_of_its_own_epochs():
    stuck = [{"epoch": epoch, "train_loss": 2.3026} for epoch in range(1, 37)]
    for epochs, first in ((24, 6), (37, 10)):
        assert [from_a.hopeless(epochs)(row) for row in stuck].index(True) == first - 1
    assert not from_a.hopeless(24)({"epoch": 24, "train_loss": 2.2})


def test_half_unpacked_pictures_are_waited_for(folders, monkeypatch):
    monkeypatch.setattr(caltech, "cache", lambda _: folders)
    monkeypatch.setattr(caltech, "ALL_PICTURES", 101 * 31)
    assert not caltech.complete()
    for number in range(101):
        path = caltech.folder() / f"class_{number}"
        path.mkdir(parents=True)
        for picture in range(31 if number < 100 else 30):
            (path / f"image_{picture:04d}.jpg").touch()
    assert not caltech.complete()
    (path / "image_0030.jpg").touch()
    assert caltech.complete()


def test_scales_are_joined_once_each_is_recorded_even_without_its_files(folders, monkeypatch):
    monkeypatch.setattr(caltech, "complete", lambda: True)
    (plan,) = caltech.plans()
    joined = [job for job in plan.jobs if job.label.startswith("three scales")]
    single = [job for job in plan.jobs if job not in joined]
    assert len(joined) == 6 and all(job.ready() for job in single)
    for job in single:
        assert not any(other.ready() for other in joined)
        plan._write({"label": job.label, "seed": job.seed, "test_accuracy": 0.9})
    assert all(job.ready() for job in joined)


def test_the_modules_of_the_queue_say_what_they_want(folders):
    """Every plan can be made, names no run twice, and guesses its time."""
    for wanted in record.plans():
        runs = [(job.label, job.seed) for job in wanted.jobs]
        assert len(set(runs)) == len(runs)
        assert all(0 < job.minutes < 24 * 60 for job in wanted.jobs)
