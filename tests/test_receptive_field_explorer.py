"""The receptive field explorer: its boxes against gradients, and the page itself."""

import random
import re

import pytest
import torch
import traitlets
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from refusing import refuses

from vgglib import receptive_field
from vgglib.widgets import ReceptiveFieldExplorer


def stacks():
    """The presets, and stacks drawn at random that fit the photo."""
    yield from ReceptiveFieldExplorer().presets.values()
    draw = random.Random(1)
    found = 0
    while found < 25:
        kinds = draw.choices(["conv", "pool"], [3, 1], k=draw.randint(1, 7))
        kernels = [draw.choice([1, 3, 5, 7] if kind == "conv" else [2, 3]) for kind in kinds]
        layers = [
            (kind, k, draw.randint(1, min(k, 3))) for kind, k in zip(kinds, kernels, strict=True)
        ]
        try:
            ReceptiveFieldExplorer(layers=layers)
        except traitlets.TraitError:
            continue
        found += 1
        yield layers


def seen_in_torch(layers, side, units):
    """First and last pixel of a row that each unit's derivative touches; the map's length.

    Along one axis, for windows are the same along the other; all weights are positive, so that no
    two paths cancel, and pools average, or only the largest pixel would count.
    """
    image = torch.ones(1, 1, side, dtype=torch.float64, requires_grad=True)
    x = image
    for kind, kernel, stride in layers:
        ones = torch.ones(1, 1, kernel, dtype=torch.float64)
        padding = kernel // 2 if kind == "conv" else 0
        x = torch.nn.functional.conv1d(x, ones, stride=stride, padding=padding) / kernel
    found = []
    for unit in units(x.shape[-1]):
        (slope,) = torch.autograd.grad(x[0, 0, unit], image, retain_graph=True)
        touched = slope[0, 0].nonzero().flatten().tolist()
        assert touched == list(range(touched[0], touched[-1] + 1))  # no pixel is skipped
        found.append((unit, [touched[0], touched[-1]]))
    return found, x.shape[-1]


def corners_and_middle(length):
    return sorted({0, min(1, length - 1), length // 3, length // 2, length - 1})


def test_the_box_is_where_the_gradient_is(module):
    for layers in stacks():
        expected, length = seen_in_torch(layers, 224, corners_and_middle)
        assert module("fields.js", "sidesOf", layers, 224)[-1] == length, layers
        for unit, pixels in expected:
            assert module("fields.js", "seenBy", layers, 224, unit) == pixels, (layers, unit)
            pixel = module("fields.js", "pixelOf", layers, 224, unit)
            assert module("fields.js", "unitAt", layers, 224, pixel) == unit, (layers, unit)
        explorer = ReceptiveFieldExplorer(layers=layers)
        found = module("fields.js", "geometry", layers)
        assert found["field"] == explorer.field
        assert found["field"] == receptive_field([(k, s) for _, k, s in layers])


def test_weights_are_those_of_the_modules(module):
    for layers in stacks():
        field = ReceptiveFieldExplorer(layers=layers).field
        with torch.device("meta"):
            convs = [
                torch.nn.Conv2d(3, 3, k, bias=False) for kind, k, _ in layers if kind == "conv"
            ]
            single = torch.nn.Conv2d(3, 3, field, bias=False)
        found = module("fields.js", "weights", layers)
        assert found["stack"] * 9 == sum(conv.weight.numel() for conv in convs)
        assert found["single"] * 9 == single.weight.numel()


def test_a_stack_that_reads_nothing_is_refused_in_the_same_words(module):
    layers = [("pool", 15, 15), ("pool", 15, 1)]
    with refuses(traitlets.TraitError, got=("layer 2", "15×15"), accepts="14×14") as error:
        ReceptiveFieldExplorer(layers=layers)
    assert module("fields.js", "problem", layers, 224) == str(error.value)


@pytest.mark.parametrize(
    ("traits", "got", "accepts"),
    [
        ({"layers": []}, ("layers", 0), (1, 40)),
        ({"layers": [("conv", 4, 1)]}, ("layer 1", "kernel", "conv", 4), 15),
        ({"layers": [("pool", 1, 1)]}, ("layer 1", "kernel", "pool", 1), (2, 15)),
        ({"layers": [("conv", 3, 4)]}, ("layer 1", "stride", 4), (1, 3)),
        ({"depth": 4}, ("depth", 4), (1, 3)),
        ({"position": (0, 224)}, ("position", "(0, 224)"), (0, 223)),
        ({"channels": 0}, ("channels", 0), 1),
    ],
)
def test_a_receptive_field_explorer_is_refused(traits, got, accepts):
    with refuses(traitlets.TraitError, got=got, accepts=accepts):
        ReceptiveFieldExplorer(**traits)


def test_the_depth_follows_the_stack():
    explorer = ReceptiveFieldExplorer()
    assert (explorer.depth, explorer.field) == (3, 7)
    explorer.layers = [*explorer.layers, ("pool", 2, 2)]
    assert (explorer.depth, explorer.field) == (4, 8)
    explorer.depth = 2
    explorer.layers = explorer.presets["net D to pool5"]
    assert (explorer.depth, explorer.field) == (2, 5)
    explorer.layers = explorer.presets["one 7×7"]
    assert (explorer.depth, explorer.field) == (1, 7)


def box(page, name):
    """Left, upper, right and lower edge of a square that is drawn on the photo."""
    edges = ("x", "y", "width", "height")
    x, y, width, height = (
        float(page.locator(f"rect.{name}").get_attribute(edge)) for edge in edges
    )
    return x, y, x + width, y + height


def test_mouse_and_keyboard_walk_over_the_photo(mounted):
    visit = mounted(ReceptiveFieldExplorer(layers=[("conv", 3, 1), ("pool", 2, 2)]))
    page = visit.page
    units, facts = page.get_by_role("application"), page.locator(".vgg-live")
    units.hover(position={"x": 1, "y": 1})
    (_, [first, last]), *_ = seen_in_torch([("conv", 3, 1), ("pool", 2, 2)], 224, lambda _: [0])[0]
    assert box(page, "field") == (-1, -1, 3, 3)
    assert box(page, "seen") == (first, first, last + 1, last + 1)
    expect(facts).to_contain_text("row 0, column 0 sees 4×4 px: rows 0 to 2, columns 0 to 2")
    expect(facts).to_contain_text("the rest is padding")
    units.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(facts).to_contain_text("row 2, column 1 sees 4×4 px: rows 3 to 6, columns 1 to 4")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # there is no unit further left
    expect(facts).to_contain_text("row 2, column 0")
    assert visit.errors == []


def test_a_stack_is_built_and_compared(mounted):
    visit = mounted(ReceptiveFieldExplorer())
    page = visit.page
    weights, stack = page.locator(".vgg-rf-weights"), page.get_by_role("combobox", name="Stack")
    expect(weights).to_contain_text("27 C² = 110,592 weights")
    expect(weights).to_contain_text("one 7×7: 49 C² = 200,704 weights")
    expect(weights).to_contain_text("81 % more")
    page.get_by_role("combobox", name="Channels").select_option("512")
    expect(weights).to_contain_text("12,845,056 weights")
    page.get_by_role("button", name="Add pool").click()
    page.get_by_role("button", name="Add convolution").click()
    expect(stack).to_have_value("your own")
    up = page.get_by_role("button", name="move up layer 5")
    up.focus()
    page.keyboard.press("Enter")  # before the pool: four 3×3, then the pool
    expect(page.locator("tbody tr").nth(3)).to_contain_text(re.compile("4 conv.*9×9"))
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"  # the focus is not lost
    page.get_by_role("radio", name="look from behind layer 4").check()
    expect(weights).to_contain_text("one 9×9: 81 C²")
    page.get_by_label("kernel of layer 1").select_option("5")
    expect(weights).to_contain_text("one 11×11: 121 C²")
    page.get_by_role("button", name="remove layer 1").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    for name, layers in ReceptiveFieldExplorer().presets.items():
        stack.select_option(name)
        field = ReceptiveFieldExplorer(layers=layers).field
        expect(page.locator("tbody tr").last).to_contain_text(f"{field}×{field}")
    for _ in range(3):
        page.get_by_role("button", name="Add pool").click()
    expect(page.locator(".vgg-error")).to_contain_text("pool does not fit into a map of 1×1")
    assert visit.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_axe_finds_nothing(mounted, theme):
    page = mounted(ReceptiveFieldExplorer(), width=360, theme=theme).page
    expect(page.locator(".vgg-live")).to_contain_text("7×7")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
