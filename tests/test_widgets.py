"""The widgets: what stands in a page, and the front ends' arithmetic against Python's."""

import itertools
import json
import random

import pytest
import torch
import traitlets
from bs4 import BeautifulSoup
from conftest import CHAPTERS, tags

from vgglib import CONFIGS, anatomy, receptive_field, vgg, widgets
from vgglib.widgets.base import FRONT, PageWidget, joined

CLASSES = PageWidget.__subclasses__()

# Every widget ------------------------------------------------------------------------------


def stored():
    """The HTML of each widget that a chapter stores, with the chapter's name."""
    for chapter in CHAPTERS:
        for cell in chapter.of("code"):
            if "widget" in tags(cell):
                for output in cell.outputs:
                    yield pytest.param(output.data["text/html"], id=chapter.path.stem)


def without_pictures(html):
    """Parsed HTML with the alt texts of its pictures, but without their bytes."""
    soup = BeautifulSoup(html, "html.parser")
    for image in soup.find_all("img"):
        del image["src"]
    return soup


@pytest.mark.parametrize("html", list(stored()))
def test_a_chapter_stores_what_the_class_gives_now(html):
    soup = without_pictures(html)
    (widget,) = (cls for cls in CLASSES if cls.front == soup.div["data-widget"])
    state = json.loads(soup.script.string)
    traits = widget.class_traits(sync=True)
    again = widget(**{k: v for k, v in state.items() if not traits[k].read_only})
    assert without_pictures(again.html()) == soup, "run `make notebooks` on this chapter"


def test_every_widget_has_a_chapter_and_is_public():
    shown = {
        BeautifulSoup(parameter.values[0], "html.parser").div["data-widget"]
        for parameter in stored()
    }
    assert shown == {cls.front for cls in CLASSES}
    assert {cls.__name__ for cls in CLASSES} <= set(widgets.__all__)


@pytest.mark.parametrize("widget", CLASSES)
def test_html_is_whole_without_javascript_and_always_the_same(widget):
    html = widget().html()
    soup = BeautifulSoup(html, "html.parser")
    fallback = soup.find(class_="vgg-fallback")
    assert fallback.find(["img", "table"])
    assert all(len(image["alt"]) >= 20 for image in fallback.find_all("img"))
    assert html == widget().html()
    assert len(html) < 150_000
    with pytest.raises(TypeError, match="it has"):
        widget(colour="red")


def test_a_notebook_gets_view_and_html():
    data, _ = widgets.NetworkExplorer(net="E")._repr_mimebundle_()
    assert "NetworkExplorer(" in data["text/plain"] and "net='E'" in data["text/plain"]
    assert "vgg-widget" in data["text/html"] and "application/vnd.jupyter.widget-view+json" in data


def test_a_notebook_gets_one_module_without_imports():
    text = joined("network.js")
    assert text.count("export ") == 1 and "export default" in text and "import {" not in text
    assert text.count("function receptiveField") == 1


def test_pages_get_every_file(tmp_path):
    widgets.write_front(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {path.name for path in FRONT.iterdir()} <= names
    for widget in CLASSES:
        files = [value["file"] for value in widget().page_state().values() if _is_file(value)]
        assert {f"{widget.front}.js", f"{widget.front}.css", *files} <= names


def _is_file(value):
    return isinstance(value, dict) and set(value) == {"file"}


# Network explorer --------------------------------------------------------------------------


def settings():
    """All nets at a grid of settings, and a hundred drawn at random."""
    yield from itertools.product(CONFIGS, (False, True), (32, 63, 224), (1.0, 0.0390625), (10,))
    draw = random.Random(0)
    for _ in range(100):
        width = draw.choice([draw.uniform(0.001, 8), draw.randint(1, 1024) / 128])
        size, classes = draw.randint(32, 2048), draw.randint(1, 100_000)
        yield draw.choice(list(CONFIGS)), draw.random() < 0.5, size, width, classes


def test_the_network_explorer_computes_what_anatomy_does(module):
    asked = list(settings())
    configs = widgets.NetworkExplorer().configs
    for net, batch_norm, size, width, classes in asked:
        explorer = widgets.NetworkExplorer(
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
    explorer = widgets.NetworkExplorer(width=0.5, num_classes=7, image_size=96, batch_norm=True)
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
        widgets.NetworkExplorer().configs["D"],
        good | {names[trait]: value},
    )
    assert found == {trait: str(error.value)}
    with pytest.raises(traitlets.TraitError, match=trait):
        widgets.NetworkExplorer(**{trait: value})


def test_the_network_explorer_in_python():
    explorer = widgets.NetworkExplorer(net="E", layer="conv5_4")
    explorer.net = "D"  # has no such layer
    assert explorer.layer == ""
    with pytest.raises(traitlets.TraitError, match="conv3_3, relu3_3, pool3"):
        explorer.layer = "conv3_4"
    with pytest.raises(traitlets.TraitError, match="2048 at most"):
        explorer.image_size = 4096
    with pytest.raises(traitlets.TraitError, match="A-LRN"):
        explorer.net = "F"
    assert (explorer.image_size, explorer.layer) == (224, "")


# Receptive field explorer ------------------------------------------------------------------


def stacks():
    """The presets, and stacks drawn at random that fit the photo."""
    yield from widgets.ReceptiveFieldExplorer().presets.values()
    draw = random.Random(1)
    found = 0
    while found < 25:
        kinds = draw.choices(["conv", "pool"], [3, 1], k=draw.randint(1, 7))
        kernels = [draw.choice([1, 3, 5, 7] if kind == "conv" else [2, 3]) for kind in kinds]
        layers = [
            (kind, k, draw.randint(1, min(k, 3))) for kind, k in zip(kinds, kernels, strict=True)
        ]
        try:
            widgets.ReceptiveFieldExplorer(layers=layers)
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
        explorer = widgets.ReceptiveFieldExplorer(layers=layers)
        found = module("fields.js", "geometry", layers)
        assert found["field"] == explorer.field
        assert found["field"] == receptive_field([(k, s) for _, k, s in layers])


def test_weights_are_those_of_the_modules(module):
    for layers in stacks():
        field = widgets.ReceptiveFieldExplorer(layers=layers).field
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
    with pytest.raises(traitlets.TraitError, match="does not fit into a map of 14×14") as error:
        widgets.ReceptiveFieldExplorer(layers=layers)
    assert module("fields.js", "problem", layers, 224) == str(error.value)


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        ({"layers": []}, "1 to 40 layers"),
        ({"layers": [("conv", 4, 1)]}, "odd"),
        ({"layers": [("pool", 1, 1)]}, "2 to 15"),
        ({"layers": [("conv", 3, 4)]}, "stride is 1 to the kernel's 3"),
        ({"depth": 4}, "depth must be 1 to 3"),
        ({"position": (0, 224)}, "0 to 223"),
        ({"channels": 0}, "channels"),
    ],
)
def test_a_receptive_field_explorer_is_refused(traits, message):
    with pytest.raises(traitlets.TraitError, match=message):
        widgets.ReceptiveFieldExplorer(**traits)


def test_the_depth_follows_the_stack():
    explorer = widgets.ReceptiveFieldExplorer()
    assert (explorer.depth, explorer.field) == (3, 7)
    explorer.layers = [*explorer.layers, ("pool", 2, 2)]
    assert (explorer.depth, explorer.field) == (4, 8)
    explorer.depth = 2
    explorer.layers = explorer.presets["net D to pool5"]
    assert (explorer.depth, explorer.field) == (2, 5)
    explorer.layers = explorer.presets["one 7×7"]
    assert (explorer.depth, explorer.field) == (1, 7)
