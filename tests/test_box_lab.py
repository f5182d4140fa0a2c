"""The box laboratory: the page's arithmetic against vgglib.localise, and the widget in use."""

import pytest
import torch
import traitlets
from playwright.sync_api import expect

from vgglib import localise
from vgglib.localise.merging import match_distance
from vgglib.widgets import BoxLab
from vgglib.widgets.box_lab import SCENES, SIZE


def random_boxes(count, seed):
    """Boxes (count, 4) of all sizes, many of which overlap, in double precision."""
    draws = torch.Generator().manual_seed(seed)
    corners = 40 * torch.rand(count, 2, generator=draws, dtype=torch.double)
    sides = 0.5 + 25 * torch.rand(count, 2, generator=draws, dtype=torch.double)
    return torch.cat([corners, corners + sides], dim=1)


def test_overlap_is_pythons_iou(module):
    ours, theirs = random_boxes(300, 1), random_boxes(300, 2)
    ours[0], ours[1] = theirs[0], theirs[1] + 100  # the same, and nowhere near
    found = module.page.evaluate(
        """async ([ours, theirs]) => {
            const { overlap } = await import("./box_lab.js");
            return ours.map((box, i) => overlap(box, theirs[i]));
        }""",
        [ours.tolist(), theirs.tolist()],
    )
    ious = torch.tensor([one["iou"] for one in found], dtype=torch.double)
    torch.testing.assert_close(ious, localise.iou(ours, theirs))
    for one in found:
        assert one["width"] * one["height"] == pytest.approx(one["intersection"])
        assert one["intersection"] == pytest.approx(one["iou"] * one["union"])
    assert found[1]["intersection"] == 0 and found[0]["iou"] == 1


@pytest.mark.parametrize(("count", "limit"), [(1, 0.75), (2, 2), (12, 0.75), (36, 0.4), (36, 1.2)])
def test_merging_is_pythons_step_by_step(module, count, limit):
    boxes = random_boxes(count, count)
    draws = torch.Generator().manual_seed(3)
    scores = torch.rand(count, generator=draws, dtype=torch.double)
    states = module("box_lab.js", "merging", boxes.tolist(), scores.tolist(), limit)
    for state in states:
        now = torch.tensor([one["box"] for one in state["all"]], dtype=torch.double)
        assert sum(one["members"] for one in state["all"]) == count
        if len(now) > 1:
            distances = match_distance(now).fill_diagonal_(torch.inf)
            first, second = state["next"]["pair"]
            assert state["next"]["distance"] == pytest.approx(distances[first, second].item())
            assert distances[first, second] == pytest.approx(distances.min())
    last = module("box_lab.js", "ranked", states[-1]["all"])
    found, ratings = localise.merge(boxes, scores, limit=limit)
    assert len(last) == len(found) and len(states) == 1 + count - len(found)
    torch.testing.assert_close(torch.tensor([one["box"] for one in last]).double(), found)
    torch.testing.assert_close(torch.tensor([one["score"] for one in last]).double(), ratings)


def test_the_windows_are_a_nets():
    """Probabilities, and boxes of which some are right and some are not."""
    for scene in SCENES:
        lab = BoxLab(scene=scene, part="merging")
        boxes, scores = lab.windows()
        assert boxes.shape == (36, 4) and 0 <= scores.min() <= scores.max() <= 1
        true = torch.tensor([lab.true_box], dtype=torch.double).expand(36, 4)
        overlaps = localise.iou(boxes, true)
        assert overlaps.min() < 0.5 < overlaps.max()
        assert 1 < len(lab.merged()[0]) < 36


def test_python_refuses_what_is_no_box():
    lab = BoxLab()
    for name, value in {
        "guess": [10.0, 0.0, 11.0, 20.0],  # too narrow
        "true_box": [0.0, 0.0, 10.0, SIZE + 1.0],
        "scene": "Hat",
        "limit": -0.1,
        "merges": -1,
    }.items():
        with pytest.raises(traitlets.TraitError):
            setattr(lab, name, value)
    lab.guess = [0.0, 0.0, 20.0, 20.0]
    lab.scene = SCENES[1]
    assert lab.guess == BoxLab(scene=SCENES[1]).guess != [0.0, 0.0, 20.0, 20.0]


# In a page --------------------------------------------------------------------------------


def shown_iou(page):
    return float(page.locator("tr").nth(2).locator("td").nth(1).inner_text())


def test_keys_and_the_pointer_move_the_boxes(mounted):
    lab = BoxLab(true_box=[10.0, 10.0, 30.0, 30.0], guess=[10.0, 10.0, 30.0, 30.0])
    visit = mounted(lab, width=360, has_touch=True)
    page = visit.page
    assert shown_iou(page) == 1
    page.get_by_role("button", name="Place of the predicted box").focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    lab.guess = [17.0, 10.0, 37.0, 30.0]
    assert shown_iou(page) == pytest.approx(lab.iou(), abs=5e-4)
    expect(page.get_by_role("status")).to_contain_text("counts as wrong")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    lab.guess = [16.6, 10.0, 36.6, 30.0]
    assert shown_iou(page) == pytest.approx(lab.iou(), abs=5e-4)
    expect(page.get_by_role("status")).to_contain_text("counts as right")

    corner = page.get_by_role("button", name="Size of the true box").bounding_box()
    x, y = (corner[a] + corner[side] / 2 for a, side in (("x", "width"), ("y", "height")))
    pixel = page.locator(".box-stage").bounding_box()["width"] / SIZE
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 5 * pixel, y + 500 * pixel, steps=3)  # far below the scene
    page.mouse.up()
    lab.true_box = [10.0, 10.0, 35.0, float(SIZE)]
    assert shown_iou(page) == pytest.approx(lab.iou(), abs=5e-3)
    assert visit.errors == []


def test_the_merging_ends_where_python_ends(mounted):
    lab = BoxLab(part="merging")
    visit = mounted(lab)
    page, done = visit.page, visit.page.get_by_role("slider", name="merges done")
    boxes, _ = lab.windows()
    expect(page.get_by_role("status")).to_contain_text(f"{len(boxes)} boxes")
    page.get_by_role("button", name="Merge the closest two").click()
    expect(page.get_by_role("status")).to_contain_text(f"{len(boxes) - 1} boxes")
    page.get_by_role("button", name="Back").click()
    for limit in (0.75, 1.5):
        lab.limit = limit
        page.get_by_role("slider", name="largest match distance").fill(str(limit))
        page.get_by_role("button", name="Merge all").click()
        found, ratings = lab.merged()
        assert done.input_value() == done.get_attribute("max") == str(len(boxes) - len(found))
        best = localise.iou(found[:1], torch.tensor([lab.true_box]).double()).item()
        expect(page.get_by_role("status")).to_contain_text(f"an IoU of {best:.2f}")
        row = page.locator("tbody tr").first.locator("td").all_inner_texts()
        assert row[2:] == [f"{ratings[0]:.2f}", f"{best:.2f}"]
    page.get_by_role("combobox", name="Scene").select_option(SCENES[2])
    assert done.input_value() == "0"
    assert visit.errors == []
