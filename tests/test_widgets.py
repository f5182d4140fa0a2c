"""The widgets: what stands in a page, and the front ends' arithmetic against Python's."""

import itertools
import json
import random

import pytest
import torch
import traitlets
from bs4 import BeautifulSoup
from conftest import CHAPTERS, tags

from vgglib import CONFIGS, anatomy, vgg, widgets
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
