"""Nearest neighbours in the page: vectors and order against vgglib.transfer, the widget in use."""

import base64

import pytest
import torch
import traitlets
from browsing import evaluate
from playwright.sync_api import expect

from vgglib.standin import WEIGHTS
from vgglib.widgets import Neighbours
from vgglib.widgets.neighbours import LAYERS, NEAREST, SIDE

VECTORS = """async ({ base, file, pictures, side, layers }) => {
  const { mapsOf, means, unit } = await import(`${base}/neighbours.js`);
  const given = { weights: new DataView(await (await fetch(`${base}/${file}`)).arrayBuffer()) };
  const bytes = Uint8Array.from(atob(pictures), (letter) => letter.charCodeAt(0));
  const maps = mapsOf({ bytes, side }, given);
  const vectors = (layer) => maps.map((one) => unit(means(one[layer])));
  return Object.fromEntries(layers.map((layer) => [layer, vectors(layer)]));
}"""


def test_descriptors_are_pythons(module):
    widget = Neighbours()
    found = evaluate(
        module.page,
        VECTORS,
        {
            "base": module.page.url.rsplit("/", 1)[0],
            "file": WEIGHTS.name,
            "pictures": base64.b64encode(widget.pictures).decode(),
            "side": SIDE,
            "layers": LAYERS[1:],
        },
    )
    for layer, vectors in found.items():
        torch.testing.assert_close(
            torch.tensor(vectors), widget.descriptors(layer), rtol=1e-3, atol=1e-4
        )


def test_the_nearest_are_others_and_pixels_find_more_than_the_last_pool():
    widget = Neighbours(query=0)
    cosines, places = widget.found()
    assert len(places) == NEAREST and 0 not in places
    assert cosines == sorted(cosines, reverse=True) and max(cosines) <= 1
    assert all(widget.agreement(layer) > 0.3 for layer in LAYERS)  # guessing gives a tenth
    assert widget.agreement("pixels") > widget.agreement("pool3") + 0.05  # as chapter 8 says


@pytest.mark.parametrize("wrong", [{"query": 60}, {"query": -1}, {"layer": "pool4"}])
def test_a_setting_out_of_range_is_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        Neighbours(**wrong)


def test_the_page_finds_what_python_finds(mounted):
    visit = mounted(Neighbours(), width=360)
    page, said = visit.page, visit.page.get_by_role("status")
    expect(said).to_contain_text("nearest", timeout=30_000)
    page.locator(".near-thumb").nth(30).click()
    page.keyboard.press("ArrowRight")
    for layer in LAYERS:
        page.get_by_role("combobox", name="Compare by").select_option(layer)
        widget = Neighbours(query=31, layer=layer)
        cosines, places = widget.found()
        names = [widget.classes[widget.labels[place]] for place in places]
        texts = page.locator(".near-found figcaption").all_inner_texts()
        assert [text.rsplit(" ", 1)[0] for text in texts] == names
        shown = [float(text.rsplit(" ", 1)[1]) for text in texts]
        assert shown == pytest.approx(cosines, abs=1e-3)
        expect(said).to_contain_text(f"By {layer}, {names.count(widget.classes[5])} of the")
        share = f"{layer} {100 * widget.agreement(layer):.0f} %"
        expect(page.locator(".vgg").get_by_text("How often the nearest")).to_contain_text(share)
    assert page.locator(".near-thumb[aria-pressed=true]").count() == 1
    assert visit.errors == []
