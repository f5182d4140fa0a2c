"""Dense evaluation in the page: its class map against vgglib.evaluate.dense, the widget in use."""

import base64
import io

import pytest
import torch
import traitlets
from browsing import evaluate
from PIL import Image
from playwright.sync_api import expect

from vgglib.standin import WEIGHTS, standin
from vgglib.widgets import DenseMap

# From the photo's decoded pixels to the map, as the page does it.
MAP = """async ({ base, file, pixels, side, Q }) => {
  const { resize } = await import(`${base}/resize.js`);
  const { passed } = await import(`${base}/dense_map.js`);
  const given = { weights: new DataView(await (await fetch(`${base}/${file}`)).arrayBuffer()) };
  const all = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
  const scaled = resize(all, side, side, Q, Q);
  return passed(scaled.filter((_, i) => i % 4 < 3), given);
}"""


@pytest.mark.parametrize("Q", [32, 40, 96])
def test_the_map_is_pythons(module, Q):
    widget = DenseMap(Q=Q)
    with Image.open(io.BytesIO(widget.photo)) as photo:
        pixels = base64.b64encode(photo.convert("RGBA").tobytes()).decode()
        given = {"pixels": pixels, "side": photo.width, "Q": Q, "file": WEIGHTS.name}
    found = evaluate(module.page, MAP, given | {"base": module.page.url.rsplit("/", 1)[0]})
    expected = widget.scores()
    assert found["side"] == expected.shape[1] == Q // 8 - 3
    scores = torch.tensor(found["scores"]).view_as(expected)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        torch.tensor(found["logits"]), expected.mean((1, 2)), rtol=1e-3, atol=1e-3
    )
    assert expected.std() > 1  # far more than what is allowed


@pytest.mark.parametrize(
    "wrong", [{"Q": 24}, {"Q": 60}, {"class_name": "dragon"}, {"place": (-1, 0)}]
)
def test_a_setting_out_of_range_is_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        DenseMap(**wrong)


# In a page --------------------------------------------------------------------------------


def shown(page):
    """Class → per cent of the mean, and of the chosen place, as the table has them."""
    rows = [row.split("\t") for row in page.locator("tbody").inner_text().splitlines()]
    return {name: tuple(float(cell.split()[0]) for cell in cells) for name, *cells in rows}


def settled(page, Q):
    expect(page.get_by_role("status")).to_contain_text(f"Q = {Q}:", timeout=20_000)


def test_the_map_grows_with_the_test_scale(mounted):
    """JPEG decoders differ by a level or two, which moves a probability by a point at most."""
    visit = mounted(DenseMap(), width=360)
    page = visit.page
    for Q in (64, 32, 80):
        page.get_by_role("slider", name="test scale").fill(str(Q))
        settled(page, Q)
        widget = DenseMap(Q=Q)
        assert page.locator(".dense-map svg g rect").count() == (Q // 8 - 3) ** 2
        answer = widget.answer()
        best = max(answer, key=answer.get)
        assert shown(page)[best][0] == pytest.approx(100 * answer[best], abs=2)
    page.locator(".dense-map").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    page.get_by_role("combobox", name="Map of the class").select_option("dog")
    chance = widget.scores()[:, 1, 2].softmax(0)[standin().classes.index("dog")].item()
    assert shown(page)["dog"][1] == pytest.approx(100 * chance, abs=3)
    frame = page.locator(".dense-window")
    assert (frame.get_attribute("x"), frame.get_attribute("y")) == ("16", "8")
    box = page.locator(".dense-map").bounding_box()  # a click on the lowest place at the right
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"])
    assert frame.get_attribute("x") == "48"
    assert visit.errors == []


def test_the_page_stays_quick_while_a_large_map_is_computed(mounted):
    """The worker computes: no task of the page takes a quarter of what the answer takes."""
    page = mounted(DenseMap(Q=32)).page
    settled(page, 32)
    page.evaluate(
        """() => {
          window.longest = 0;
          new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => {
            window.longest = Math.max(window.longest, duration);
          })).observe({ entryTypes: ["longtask"] });
        }"""
    )
    page.get_by_role("slider", name="test scale").fill("128")
    settled(page, 128)
    took = float(page.locator("[data-milliseconds]").get_attribute("data-milliseconds"))
    assert page.evaluate("window.longest") < max(took / 4, 100)
