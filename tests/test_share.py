"""A widget's settings as an address and as Python: there and back, and what does not fit."""

import json

import pytest
from browsing import evaluate

import vgglib.widgets
from vgglib.widgets.base import explorers

# Settings far from those that a widget has by itself.
SETTINGS = {
    "LiveVGG": {"sample": "moose", "layer": "conv3_2", "channel": 127, "covered": True},
    "NetworkExplorer": {"net": "A-LRN", "batch_norm": True, "image_size": 64, "width": 0.25},
    "ReceptiveFieldExplorer": {
        "layers": [("conv", 11, 4), ("pool", 3, 2), ("conv", 5, 1)],
        "depth": 2,
        "position": (3, 200),
        "channels": 96,
    },
    "StartupLab": {"net": "E", "scheme": "he", "unit_variance": True, "seed": 12},
    "TrainingCrop": {"photo": "rocket", "scale": 300, "x": 0.25, "alpha": [0.1, -3.0, 0.0]},
    "TrainingReplay": {"epoch": 7},
}
THERE_AND_BACK = """async ([url, front, state]) => {
  const share = await import(`${url}/share.js`);
  const { [front]: widget } = await (await fetch(`${url}/shared.json`)).json();
  const get = (name) => state[name];
  const text = share.fragment(widget, get);
  const { state: back, ignored } = share.restored(widget, {}, share.parse(text).settings);
  return { text, code: share.call(widget, get), back, ignored };
}"""


@pytest.fixture
def there_and_back(module):
    """A function from a widget to its address, its Python, and the settings that come back."""
    base = module.page.url.rsplit("/", 1)[0]

    def run(widget):
        return evaluate(module.page, THERE_AND_BACK, [base, widget.front, widget.page_state()])

    return run


def settings(widget):
    """What a reader can change, as JSON has it."""
    state = json.loads(json.dumps(widget.page_state()))
    return {name: state[name] for name in type(widget).shared()["traits"]}


@pytest.mark.parametrize("widget", explorers())
@pytest.mark.parametrize("own", [False, True], ids=["by itself", "changed"])
def test_an_address_and_python_give_the_same_widget(there_and_back, widget, own):
    shown = widget(**(SETTINGS.get(widget.__name__, {}) if own else {}))
    found = there_and_back(shown)
    assert found["back"] == settings(shown) and found["ignored"] == []
    assert found["text"].startswith(f"#{widget.title().lower().replace(' ', '-')}:")
    assert len(found["text"]) < 150
    lines = found["code"].splitlines()
    assert lines[0] == "import vgglib.widgets"
    again = eval(lines[-1], {"vgglib": vgglib})
    assert isinstance(again, widget) and settings(again) == settings(shown)


def test_only_what_is_changed_is_said(there_and_back):
    explorer = vgglib.widgets.NetworkExplorer(net="E", image_size=64)
    assert there_and_back(explorer)["text"] == "#network-explorer:net=E,image_size=64"


def test_a_picture_of_the_readers_own_is_not_shared(there_and_back):
    yours = vgglib.widgets.LiveVGG(sample="your own picture", layer="pool3")
    assert there_and_back(yours)["text"] == "#live-vgg:layer=pool3"


NONSENSE = {
    "LiveVGG": ["sample=dog", "layer=conv9_9", "cover_x=99", "covered=yes"],
    "NetworkExplorer": ["net=Z", "image_size=5", "width=1e9", "layer=no%20such", "colour=red"],
    "ReceptiveFieldExplorer": ["layers=conv_4_1", "depth=9", "position=1;999", "channels=0"],
    "StartupLab": ["sigma=nan", "seed=-1", "scheme=", "constructor=1"],
    "TrainingCrop": ["alpha=1;2", "scale=9", "flip=%", "x=2"],
    "TrainingReplay": ["epoch=9999", "run=1", "=", "epoch"],
}


@pytest.mark.parametrize("widget", explorers())
def test_what_a_widget_does_not_have_is_left_out_and_named(mounted, widget):
    visit = mounted(widget())
    page, (name, wrong) = visit.page, (widget.title().lower().replace(" ", "-"), "")
    right = page.url
    for wrong in NONSENSE.get(widget.__name__, ["no=1"]):
        page.goto(f"{right}#{name}:{wrong}")  # within the page: nothing is loaded anew
        page.wait_for_selector(".vgg-share .vgg-error")
        assert wrong.replace("%20", " ") in page.locator(".vgg-share .vgg-error").inner_text()
        assert page.locator(".vgg").count() == 1
        page.goto(f"{right}#{name}:")
        page.wait_for_selector(".vgg-share .vgg-error", state="detached")
    page.goto("about:blank")
    page.goto(f"{right}#{name}:{','.join(NONSENSE.get(widget.__name__, ['no=1']))}")
    page.wait_for_selector(".vgg-share .vgg-error")
    assert page.locator(".vgg").count() == 1
    assert visit.errors == []


def test_what_fits_is_kept_beside_what_does_not(mounted):
    page = mounted(vgglib.widgets.NetworkExplorer(layer="conv3_2")).page
    page.goto(f"{page.url}#network-explorer:net=A,layer=conv3_3,image_size=64")
    page.wait_for_selector(".vgg-share .vgg-error")
    said = page.locator(".vgg-share .vgg-error").inner_text()
    assert "layer=conv3_3" in said and "net=A" not in said  # A's third stage has two
    assert page.get_by_role("combobox", name="Net").input_value() == "A"
    assert page.get_by_label("Image side").input_value() == "64"


def test_a_copied_link_opens_what_was_set(mounted):
    visit = mounted(
        vgglib.widgets.TrainingCrop(), permissions=["clipboard-read", "clipboard-write"]
    )
    page = visit.page
    page.get_by_role("combobox", name="Photo").select_option("chelsea")
    page.get_by_label("mirror").check()
    page.get_by_role("button", name="Copy link").press("Enter")
    page.wait_for_function("document.querySelector('.vgg-said').textContent.includes('copied')")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url and link.endswith("#training-crop:photo=chelsea,flip=true")
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("[data-ready]")
    assert page.get_by_role("combobox", name="Photo").input_value() == "chelsea"
    assert page.get_by_label("mirror").is_checked()
    assert visit.errors == []


def test_without_a_clipboard_the_text_is_there_to_take(mounted):
    page = mounted(vgglib.widgets.StartupLab(), width=360).page
    page.evaluate(
        "() => Object.defineProperty(navigator, 'clipboard', { value: { writeText: async () => {"
        " throw new DOMException('', 'NotAllowedError'); } } })"
    )
    page.get_by_role("button", name="Copy as Python").click()
    page.wait_for_function("getSelection().toString()")
    text = page.locator(".vgg-shared").inner_text()
    assert page.evaluate("getSelection().toString()").strip() == text.strip()
    assert text.endswith("vgglib.widgets.StartupLab()")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
