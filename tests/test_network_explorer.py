"""The network explorer: the page's arithmetic against vgglib.anatomy, and the page itself."""

import itertools
import json
import random
from decimal import ROUND_HALF_UP, Decimal

import pytest
import torch
import traitlets
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from refusing import refuses

from vgglib import CONFIGS, anatomy, vgg
from vgglib.widgets import NetworkExplorer


def settings():
    """All nets at a grid of settings, and fifty drawn at random."""
    yield from itertools.product(CONFIGS, (False, True), (32, 63, 224), (1.0, 0.0390625), (10,))
    draw = random.Random(0)
    for _ in range(50):
        width = draw.choice([draw.uniform(0.001, 8), draw.randint(1, 1024) / 128])
        size, classes = draw.randint(32, 2048), draw.randint(1, 100_000)
        yield draw.choice(list(CONFIGS)), draw.random() < 0.5, size, width, classes


def test_the_network_explorer_computes_what_anatomy_does(module):
    asked = list(settings())
    configs = NetworkExplorer().configs
    for net, batch_norm, size, width, classes in asked:
        explorer = NetworkExplorer(
            net=net, batch_norm=batch_norm, image_size=size, width=width, num_classes=classes
        )
        expected = explorer.table()
        names = {"imageSize": size, "width": width, "batchNorm": batch_norm, "numClasses": classes}
        rows = module("anatomy.js", "anatomy", configs[net], names)
        given = [{name: row[name] for name in expected.columns} for row in rows]
        wanted = json.loads(expected.to_json(orient="records"))
        assert given == wanted, (net, batch_norm, size, width, classes)
    with torch.device("meta"):
        net = vgg("D", width=0.5, num_classes=7, image_size=96, batch_norm=True, init=None)
    explorer = NetworkExplorer(width=0.5, num_classes=7, image_size=96, batch_norm=True)
    assert explorer.table().equals(anatomy(net))


@pytest.mark.parametrize(
    ("trait", "value"),
    [
        ("image_size", 31),
        ("image_size", 0),
        ("image_size", -224),
        ("num_classes", 0),
        ("width", 0),
        ("width", -1),
    ],
)
def test_what_cannot_be_built_is_refused_in_the_same_words(module, trait, value):
    with torch.device("meta"), pytest.raises(ValueError) as error:
        vgg("D", **{trait: value}, init=None)
    names = {"image_size": "imageSize", "width": "width", "num_classes": "numClasses"}
    good = {"imageSize": 224, "width": 1, "numClasses": 1000}
    found = module(
        "anatomy.js",
        "problems",
        NetworkExplorer().configs["D"],
        good | {names[trait]: value},
    )
    assert found == {trait: str(error.value)}
    given = float(value) if trait == "width" else value
    with refuses(traitlets.TraitError, got=(trait, given)):
        NetworkExplorer(**{trait: value})


def test_the_network_explorer_in_python():
    explorer = NetworkExplorer(net="E", layer="conv5_4")
    explorer.net = "D"  # has no such layer
    assert explorer.layer == ""
    with refuses(traitlets.TraitError, got=("D", "conv3_4"), accepts=("conv3_3", "pool3", "fc8")):
        explorer.layer = "conv3_4"
    with refuses(traitlets.TraitError, got=("image_size", 4096), accepts=2048):
        explorer.image_size = 4096
    with refuses(traitlets.TraitError, got=("net", "'F'"), accepts=("A", "A-LRN", "E")):
        explorer.net = "F"
    assert (explorer.image_size, explorer.layer) == (224, "")


def shown_numbers(page):
    """The table in the page: layer → its cells as text."""
    rows = page.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return {name: cells for name, *cells in rows}


def without_zeros(text):
    """86.0 as 86, 0.010 as 0.01."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def written(row):
    """A row of the anatomy as the page writes it."""
    rounded = [
        Decimal(value).quantize(Decimal("0.1" if value >= 0.1 else "0.001"), ROUND_HALF_UP)
        for value in (row.macs / 1e6, row.activation_bytes / 2**20)
    ]
    costs = [(number, f"{number:,}") for number in (row.params, *rounded)]
    return [
        " × ".join(map(str, row.output_shape)),
        *(without_zeros(text) if number else "–" for number, text in costs),
        str(row.receptive_field),
        str(row.stride),
    ]


def expect_shown(page, explorer):
    """The page's table has to be that of the Python object."""
    expected = {row.layer: written(row) for row in explorer.table().itertuples()}
    expect(page.locator("tbody tr")).to_have_count(len(expected))
    assert shown_numbers(page) == expected
    total = f"{explorer.table()['params'].sum():,} parameters"
    expect(page.locator(".vgg-net-totals")).to_contain_text(total)


def test_mouse_and_keyboard_move_the_page(mounted):
    visit = mounted(NetworkExplorer())
    page = visit.page
    expect_shown(page, NetworkExplorer())
    page.get_by_role("combobox", name="Net").select_option("C")
    page.get_by_label("Batch norm").press("Space")
    page.get_by_label("Image side").fill("100")
    page.get_by_label("Width").fill("0.3")
    page.get_by_label("Classes").fill("17")
    explorer = NetworkExplorer(
        net="C", batch_norm=True, image_size=100, width=0.3, num_classes=17, layer="conv3_3"
    )
    expect_shown(page, explorer)

    slider, chosen = page.get_by_role("slider", name="Layer"), page.locator("tr.chosen")
    slider.focus()
    for _ in range(9):  # image, 2 + 1, 2 + 1, then the third convolution of stage 3
        page.keyboard.press("ArrowRight")
    expect(chosen.first).to_contain_text("conv3_3")
    expect(chosen).to_have_count(3)  # with its batch norm and ReLU
    assert slider.get_attribute("aria-valuetext").startswith("conv3_3: puts out 77 × 25 × 25,")

    drawing = page.locator(".vgg-net-drawing")
    box = drawing.bounding_box()
    drawing.hover(position={"x": box["width"] - 5, "y": 20})
    expect(chosen.first).to_contain_text("fc8")
    page.mouse.move(1, 1)
    expect(chosen.first).to_contain_text("conv3_3")
    drawing.click(position={"x": 3, "y": 20})
    expect(chosen.first).to_contain_text("input")
    page.locator('[data-layer="pool5"]').click()
    expect(slider).to_have_value("18")
    assert visit.errors == []


def test_a_mistake_is_explained_and_the_rest_stays(mounted):
    page = mounted(NetworkExplorer()).page
    side, error = page.get_by_label("Image side"), page.locator(".vgg-error")
    side.fill("31")
    expect(error).to_be_empty()  # one may be about to type 312
    side.press("Tab")
    expect(error).to_contain_text("from 32 to 2,048 is needed, not 31")
    expect(error).to_contain_text("Shown is still 224.")
    expect(side).to_have_attribute("aria-invalid", "true")
    expect_shown(page, NetworkExplorer())
    side.fill("4096")
    side.press("Tab")
    expect(error).to_contain_text("not 4,096")
    side.fill("")
    side.press("Tab")
    expect(error).to_contain_text("not nothing")
    side.fill("64")
    expect(error).to_be_empty()
    expect_shown(page, NetworkExplorer(image_size=64))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_axe_finds_nothing(mounted, theme):
    page = mounted(NetworkExplorer(net="A-LRN", layer="lrn1_1"), width=360, theme=theme).page
    expect(page.locator("tr.chosen")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
