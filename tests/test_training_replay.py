"""The training that chapter 5 replays: what was recorded, and the widget in use."""

import base64

import numpy as np
import pytest
import traitlets
from refusing import refuses

import vgglib
from vgglib import widgets


@pytest.fixture(scope="module")
def run():
    return vgglib.recorded("replay")["runs"][0]


def filters(run, epoch):
    """The first layer's weights after an epoch, as far as bytes tell them, (16, 3, 3, 3)."""
    recorded = run["filters"]
    steps = np.frombuffer(base64.b64decode(recorded["bytes"][epoch]), np.uint8)
    return ((steps / 127.5 - 1) * recorded["largest"][epoch]).reshape(recorded["shape"])


def test_every_epoch_has_its_filters_and_they_change_as_recorded(run):
    epochs = len(run["history"]["lr"])
    recorded = run["filters"]
    lengths = {len(recorded[name]) for name in ("bytes", "largest", "change")}
    assert lengths == {epochs + 1}
    for epoch in range(1, epochs + 1):
        before, after = filters(run, epoch - 1), filters(run, epoch)
        change = np.linalg.norm(after - before) / np.linalg.norm(before)
        rounding = 2 / 127.5 * recorded["largest"][epoch] * np.sqrt(before.size / 12)
        assert change == pytest.approx(
            recorded["change"][epoch], abs=rounding / np.linalg.norm(before)
        )


def test_the_rate_drops_and_the_first_drop_helps(run):
    rates, accuracy = run["history"]["lr"], run["history"]["val_accuracy"]
    drops = [e for e in range(1, len(rates)) if rates[e] < rates[e - 1]]
    assert len(drops) == 2
    first, second = (max(accuracy[d:]) - max(accuracy[:d]) for d in drops)
    assert first > 0.05 > second


@pytest.fixture
def replay(browser, module):
    """The widget in an empty page, without the book's script: the contract is `render` alone."""
    page = module.page
    page.goto(page.url)
    page.set_viewport_size({"width": 360, "height": 1500})
    page.evaluate(
        """async ([url, state]) => {
          const { default: front } = await import(url);
          const listeners = [];
          const model = {
            get: (name) => state[name],
            set: (name, value) => {
              state[name] = value;
              listeners.forEach(([event, act]) => event === `change:${name}` && act());
            },
            save_changes() {},
            on: (event, act) => listeners.push([event, act]),
            off() {},
          };
          window.state = state;
          window.model = model;
          front.render({ model, el: document.body });
        }""",
        [
            page.url.rsplit("/", 1)[0] + "/training_replay.js",
            widgets.TrainingReplay().page_state(),
        ],
    )
    return page


def test_slider_keys_charts_and_play_move_the_epoch(replay, run):
    history = run["history"]
    slider = replay.get_by_role("slider", name="Epoch")
    line = replay.get_by_role("status")
    slider.focus()
    replay.keyboard.press("End")
    last = len(history["lr"])
    replay.wait_for_timeout(400)
    assert replay.evaluate("state.epoch") == last
    told = line.inner_text()
    assert f"Epoch {last} of {last}: learning rate {history['lr'][-1]:g}." in told
    assert f"{100 * history['train_accuracy'][-1]:.1f} %" in told
    assert f"{history['val_loss'][-1]:.2f} held out" in told

    replay.keyboard.press("ArrowLeft")
    assert replay.evaluate("state.epoch") == last - 1

    # Play starts anew at the end, and only when pressed.
    replay.keyboard.press("End")
    replay.get_by_role("button", name="Play").click()
    replay.wait_for_timeout(1500)
    assert 1 <= replay.evaluate("state.epoch") <= 3
    replay.get_by_role("button", name="Pause").click()

    # A press in the middle of a chart goes there.
    box = replay.locator("svg").first.bounding_box()
    replay.mouse.click(box["x"] + box["width"] * 193 / 340, box["y"] + box["height"] / 2)
    assert replay.evaluate("state.epoch") == pytest.approx(last / 2, abs=1)

    replay.evaluate("model.set('epoch', 17)")  # as Python does
    assert slider.input_value() == "17"


def test_the_curves_reach_as_far_as_the_reader_has_been(replay):
    """What comes next is to be predicted; what was seen once stays."""

    def shown(epoch):
        replay.evaluate(f"model.set('epoch', {epoch})")
        return replay.evaluate(
            """() => {
              const lines = [...document.querySelectorAll("polyline")];
              const points = lines.map((line) => line.getAttribute("points").split(" "));
              const drops = [...document.querySelectorAll(".vgg-drop")];
              const seen = drops.filter((drop) => drop.style.display !== "none");
              return [...new Set(points.map((of) => of.filter(Boolean).length)), seen.length];
            }"""
        )

    charts = replay.locator("svg").count()
    assert shown(0) == [0, 0]
    assert shown(16) == [16, 0]
    assert shown(17) == [17, charts]  # the first division
    assert shown(3) == [17, charts]


def test_the_drawn_filters_are_the_recorded_bytes(replay, run):
    for epoch in (0, 17):
        replay.evaluate(f"model.set('epoch', {epoch})")
        drawn = replay.evaluate(
            """() => [...document.querySelectorAll(".vgg-filters canvas")].map((canvas) =>
              [...canvas.getContext("2d").getImageData(0, 0, 3, 3).data])"""
        )
        steps = np.frombuffer(base64.b64decode(run["filters"]["bytes"][epoch]), np.uint8)
        colours = steps.reshape(run["filters"]["shape"]).transpose(0, 2, 3, 1)
        assert (np.array(drawn).reshape(-1, 3, 3, 4)[..., :3] == colours).all()
    assert replay.evaluate("document.documentElement.scrollWidth") <= 360


def test_python_refuses_an_epoch_that_was_not_recorded(run):
    replay = widgets.TrainingReplay(epoch=3)
    accepts = (0, len(run["history"]["lr"]))
    with refuses(traitlets.TraitError, got=("epoch", 99), accepts=accepts):
        replay.epoch = 99
    assert replay.epoch == 3
