"""The training crop: the page's arithmetic against torchvision's, to the pixel."""

import io
import json

import numpy as np
import pytest
import torch
import traitlets
from axe_playwright_python.sync_playwright import Axe
from browsing import evaluate
from PIL import Image
from playwright.sync_api import expect
from torchvision.transforms import v2

from vgglib.augment import ColourShift, training_crop
from vgglib.widgets import TrainingCrop

SETTINGS = [
    {"photo": "coffee", "scale": 256, "x": 0.0, "y": 1.0},
    {"photo": "chelsea", "scale": 512, "x": 0.37, "y": 0.5, "flip": True},  # enlarged
    {"photo": "astronaut", "scale": 333, "x": 1.0, "y": 0.0, "alpha": [0.2, -3.0, 1.5]},
    {"photo": "rocket", "scale": 401, "subtract_mean": True, "alpha": [-0.31, 0.07, 0.002]},
]

# What the page does from decoded pixels to the net's input.
GIVEN = """async ({ pixels, sides, scale, size, x, y, flip, alpha, axes, mean }) => {
    const { resize } = await import("./resize.js");
    const crop = await import("./training_crop.js");
    const [width, height] = crop.rescaledSize(...sides, scale);
    const scaled = resize(Uint8Array.from(pixels), ...sides, width, height);
    const [left, top] = crop.corner([width, height], size, x, y);
    const added = crop.colourShift(axes, alpha).map((shift, c) => shift - mean[c]);
    const values = crop.cut(scaled, width, { left, top, size, flip, added });
    return { width, height, left, top, values: Array.from(values) };
}"""


def photo_of(widget):
    """The bytes that the front end is given for the widget's photo, decoded by Pillow."""
    files, names = widget.jpegs, list(widget.photos)
    for name in names:
        length = int.from_bytes(files[:4], "little")
        file, files = files[4 : 4 + length], files[4 + length :]
        if name == widget.photo:
            return Image.open(io.BytesIO(file))
    raise AssertionError(name)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s["photo"])
def test_the_net_is_given_what_torchvision_gives(module, setting):
    """Rescaled pixels are equal to the last bit; float32 leaves some millionths of the shift."""
    widget = TrainingCrop(**setting)
    photo = photo_of(widget)
    state = widget.page_state() | {
        "pixels": list(photo.convert("RGBA").tobytes()),
        "sides": photo.size,
        "mean": widget.mean if widget.subtract_mean else [0, 0, 0],
    }
    theirs = evaluate(module.page, GIVEN, state)
    whole = widget.rescaled()
    assert (theirs["height"], theirs["width"]) == whole.shape[1:]
    assert (theirs["top"], theirs["left"]) == widget.corner()
    values = np.array(theirs["values"]).reshape(224, 224, 3).transpose(2, 0, 1)
    np.testing.assert_allclose(values, widget.crop().numpy(), rtol=0, atol=1e-4)


def test_crop_is_the_recipes(monkeypatch):
    """The recipe's own transform, its random choices held fast, gives the widget's crop."""
    widget = TrainingCrop(
        photo="rocket", scale=300, x=0, y=0, alpha=[0.1, -0.2, 0.3], subtract_mean=True
    )
    monkeypatch.setattr(torch, "randn", lambda *size, **kwargs: torch.tensor([1.0, -2.0, 3.0]))
    monkeypatch.setattr(v2.RandomCrop, "make_params", lambda *_: fixed_crop())
    recipe = training_crop(300, flip=False, colour_shift=ColourShift(), mean=widget.mean)
    torch.testing.assert_close(widget.crop(), recipe(photo_of(widget)), atol=1e-3, rtol=0)


def fixed_crop():
    """Parameters of torchvision's RandomCrop that cut out the upper left corner."""
    return {
        "needs_crop": True,
        "top": 0,
        "left": 0,
        "height": 224,
        "width": 224,
        "needs_pad": False,
        "padding": [0, 0, 0, 0],
    }


def test_a_random_draw_is_the_recipes(module):
    drawn = evaluate(
        module.page,
        """async (n) => {
            const { sample } = await import("./training_crop.js");
            return Array.from({ length: n }, () => sample([600, 400], 224, 300, 0.1, [256, 512]));
        }""",
        20_000,
    )
    scales = np.array([one["scale"] for one in drawn])
    assert (scales.min(), scales.max()) == (256, 512) and abs(scales.mean() - 384) < 3
    for axis, long in (("x", 1.5), ("y", 1)):
        at = np.array([one[axis] for one in drawn])
        pixels = at * ((scales * long).astype(int) - 224)
        assert np.allclose(pixels, pixels.round()) and abs(at.mean() - 0.5) < 0.01
        assert at.min() == 0 and at.max() == 1
    alpha = np.array([one["alpha"] for one in drawn])
    assert np.allclose(alpha.std(axis=0), 0.1, atol=0.003)
    assert np.allclose(np.corrcoef(alpha.T), np.eye(3), atol=0.03)
    assert abs(np.mean([one["flip"] for one in drawn]) - 0.5) < 0.02
    fixed = module("training_crop.js", "sample", [600, 400], 224, 300, 0.1, False)
    assert fixed["scale"] == 300


@pytest.mark.parametrize(
    "wrong",
    [{"photo": "lena"}, {"scale": 223}, {"scale": 513}, {"x": 1.1}, {"alpha": [0.0]}, {"y": -1}],
)
def test_a_setting_out_of_range_is_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        TrainingCrop(**wrong)


def test_still_picture_says_what_it_shows():
    html = TrainingCrop(photo="chelsea", flip=True).fallback()
    assert "chelsea" in html and "mirrored" in html and "sees 51 % of" not in html
    assert "The crop sees 51% of the photo" in html


# In a page --------------------------------------------------------------------------------

INPUT = """canvas => JSON.stringify(Array.from(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data))"""


def drawn(page):
    """The picture of the net's input: (224, 224, 3)."""
    page.wait_for_timeout(300)  # a frame, and the line that is spoken
    pixels = np.array(json.loads(page.locator(".crop-input").evaluate(INPUT)))
    return pixels.reshape(224, 224, 4)[..., :3]


def assert_drawn(page, widget):
    """The page draws the widget's crop; a browser's JPEG decoder may round by a level or two."""
    crop = widget.crop()
    crop = crop / 2 + 127 if widget.subtract_mean else crop
    wanted = crop.clamp(0, 255).numpy().transpose(1, 2, 0)
    apart = abs(drawn(page) - wanted)
    assert apart.max() <= 3 and apart.mean() < 0.6


def test_the_page_draws_the_crop_that_python_cuts(mounted):
    visit = mounted(TrainingCrop(), width=1440)
    page, facts = visit.page, visit.page.get_by_role("status")
    assert_drawn(page, TrainingCrop())
    page.get_by_role("combobox", name="Photo").select_option("rocket")
    page.get_by_role("slider", name="S =").fill("300")
    page.get_by_role("slider", name="α2").fill("-2")
    page.get_by_label("mirror").check()
    page.get_by_label("subtract the mean").check()
    widget = TrainingCrop(
        photo="rocket", scale=300, alpha=[0, -2, 0], flip=True, subtract_mean=True
    )
    assert_drawn(page, widget)
    expect(facts).to_contain_text("is mirrored")
    top, left = widget.corner()
    expect(facts).to_contain_text(f"{left} from the left and {top} from the top")
    shift = [f"{value:+.1f}".replace("-", "−") for value in widget.shift().tolist()]
    shift = ["0" if value in ("+0.0", "−0.0") else value for value in shift]
    expect(facts).to_contain_text(f"green and blue: {', '.join(shift)} of 255")
    assert visit.errors == []


def test_the_frame_follows_arrow_keys_and_the_pointer(mounted):
    page = mounted(TrainingCrop(), width=360, has_touch=True).page
    frame, facts = page.get_by_role("button", name="Crop frame"), page.get_by_role("status")
    expect(facts).to_contain_text("80 from the left and 16 from the top")
    frame.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowUp")
    expect(facts).to_contain_text("88 from the left and 7 from the top")
    box = frame.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] - 300, box["y"] - 300, steps=4)
    page.mouse.up()
    expect(facts).to_contain_text("begins 0 from the left and 0 from the top")
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    expect(facts).to_contain_text("begins 0 from the left and 0 from the top")
    assert_drawn(page, TrainingCrop(x=0, y=0))


def test_a_draw_moves_the_controls(mounted):
    page = mounted(TrainingCrop()).page
    page.get_by_role("checkbox", name="from 256 to 512").uncheck()
    before = drawn(page)
    page.get_by_role("button", name="Draw one at random").click()
    assert abs(drawn(page) - before).max() > 0
    assert page.get_by_role("slider", name="S =").input_value() == "256"


def test_it_fits_a_phone_and_axe_finds_nothing(mounted):
    page = mounted(TrainingCrop(), width=360).page
    expect(page.get_by_role("status")).to_contain_text("sees 51 %")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
