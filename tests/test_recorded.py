"""Recorded runs: what is committed, and what happens where nothing is."""

import json
import re

import profile_step
import pytest
import results
import torch
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
    for one in run["runs"]:
        assert one.keys() == run["runs"][0].keys()
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
