"""Folding of batch norm: the page's arithmetic against PyTorch's, and the widget in use."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import traitlets
from browsing import evaluate
from playwright.sync_api import expect

from vgglib.widgets import BatchNormFolding

SETTINGS = [
    {},
    {"used": [True, True, True]},
    {"used": [False, True, True], "point": -1.25},
    {"used": [True, False, True], "kernel": [float(k - 4) for k in range(9)]},
    {"used": [False, False, False]},
]

BOTH = """async ({ kernel, point, norms, used, image, side, epsilon }) => {
  const { kernels, fold, branched, convolve, apart } = await import("./folding.js");
  const all = kernels(kernel, point);
  const one = fold(all, norms, used, epsilon);
  const branches = branched(image, side, all, norms, used, epsilon);
  const single = convolve(image, side, one.kernel, one.bias);
  return { ...one, branches, single, gap: apart(branches, single) };
}"""


@pytest.mark.parametrize("setting", SETTINGS)
def test_both_ways_are_pytorchs(module, setting):
    widget = BatchNormFolding(**setting)
    state = widget.page_state() | {"image": widget.image().flatten().tolist()}
    found = evaluate(module.page, BOTH, state)
    kernel, bias = widget.folded()
    np.testing.assert_allclose(found["kernel"], kernel.flatten(), rtol=1e-6, atol=1e-6)
    assert found["bias"] == pytest.approx(bias.item(), abs=1e-6)
    branched = widget.branched()
    torch.testing.assert_close(F.conv2d(widget.image(), kernel, bias, padding=1), branched)
    for name in ("branches", "single"):
        np.testing.assert_allclose(found[name], branched.flatten(), rtol=1e-5, atol=2e-5)
    assert found["gap"] < 2e-5  # rounding of 32-bit numbers up to some ten


def test_the_identity_is_a_one_in_the_middle():
    """With a batch norm that does nothing, whatever the picture."""
    still = [1.0, 0.0, 0.0, 1 - 1e-5]
    widget = BatchNormFolding(used=[False, False, True], norms=[still] * 3)
    kernel, bias = widget.folded()
    wanted = torch.zeros(1, 1, 3, 3).double()
    wanted[0, 0, 1, 1] = 1
    torch.testing.assert_close(kernel, wanted)
    assert bias.item() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": [0.0] * 8},
        {"point": 10.0},
        {"used": [True]},
        {"norms": [[1.0, 0.0, 0.0, 0.0]] * 3},  # a variance of 0
        {"norms": [[4.0, 0.0, 0.0, 1.0]] * 3},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        BatchNormFolding(**wrong)


def test_numbers_moved_in_the_page_are_folded_as_in_python(mounted):
    visit = mounted(BatchNormFolding(), width=360)
    page = visit.page
    page.get_by_role("checkbox", name="identity").check()
    page.get_by_role("combobox", name="3×3 kernel").select_option("blur")
    weight = page.get_by_role("spinbutton", name="weight in row 0, column 2")
    weight.fill("-2.5")
    weight.press("Tab")
    page.get_by_role("combobox", name="Batch norm of").select_option("identity")
    page.get_by_role("slider", name="γ").fill("2")
    page.get_by_role("slider", name="σ²").fill("4")
    kernel = list(BatchNormFolding().presets["blur"])
    kernel[2] = -2.5
    norms = [list(norm) for norm in BatchNormFolding().norms]
    norms[2][0], norms[2][3] = 2.0, 4.0
    wanted, bias = BatchNormFolding(kernel=kernel, norms=norms, used=[True, False, True]).folded()
    cells = page.locator(".vgg table").nth(1).locator("td").all_inner_texts()
    found = [float(cell.replace("−", "-")) for cell in cells]
    assert found == pytest.approx(wanted.flatten().tolist(), abs=6e-4)
    told = page.locator(".vgg").get_by_text("Its bias")
    expect(told).to_contain_text(f"{bias.item():.3f}".replace("-", "−"))
    assert page.get_by_role("combobox", name="3×3 kernel").input_value() == "your own"
    expect(page.get_by_role("status")).to_contain_text("which is rounding")
    pictures = [
        canvas.evaluate("c => c.getContext('2d').getImageData(0, 0, 64, 64).data.join()")
        for canvas in page.locator("canvas").all()[1:]
    ]
    ours, theirs = (np.array(text.split(","), dtype=int) for text in pictures)
    assert abs(ours - theirs).max() <= 1 and ours.std() > 10
    assert visit.errors == []
