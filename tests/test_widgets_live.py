"""Each widget in a live JupyterLab: moved in the browser, read in Python, and the other way.

A new widget gets a line in `DRIVEN`.
"""

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import nbformat
import pytest
from execute import KERNEL
from jupyter_client import BlockingKernelClient

from vgglib.widgets import PageWidget


class Drive(NamedTuple):
    """How a widget is driven, in the browser and from Python; `panel` is Playwright's locator."""

    move: Callable  #: moves the widget by its keys: ``move(panel)``
    trait: str  #: what Python then reads ...
    value: object  #: ... and its value
    assign: str  #: a statement that sets another trait: ``"shown.net = 'A'"``
    follows: Callable  #: what the browser then shows: ``follows(panel)`` ...
    shows: object  #: ... and its value


# In a notebook these keys are commands (r: make the cell raw, b: a new one below); here they must
# reach the widget.
DRIVEN = {
    "BatchNormFolding": Drive(
        move=lambda panel: panel.get_by_role("checkbox", name="identity").press(" "),
        trait="used",
        value=[True, False, True],
        assign="shown.point = 2.0",
        follows=lambda panel: panel.get_by_label("weight of the 1×1").input_value(),
        shows="2",
    ),
    "BoxLab": Drive(
        move=lambda panel: panel.get_by_role("combobox", name="Scene").press("c"),
        trait="scene",
        value="Coat",
        assign="shown.guess = [0.0, 0.0, 24.0, 24.0]",
        follows=lambda panel: panel.locator(".box-corner.box-guess").evaluate("b => b.style.left"),
        shows="50%",
    ),
    "DenseMap": Drive(
        move=lambda panel: panel.get_by_role("slider", name="test scale").press("ArrowRight"),
        trait="Q",
        value=72,
        assign="shown.class_name = 'dog'",
        follows=lambda panel: panel.get_by_role("combobox", name="Map of").input_value(),
        shows="dog",
    ),
    "LiveVGG": Drive(
        move=lambda panel: panel.get_by_role("combobox", name="Picture").press("r"),
        trait="sample",
        value="rocket",
        assign="shown.layer = 'pool3'",
        follows=lambda panel: panel.get_by_role("combobox", name="Layer").input_value(),
        shows="pool3",
    ),
    "Neighbours": Drive(
        move=lambda panel: panel.get_by_role("combobox", name="Compare by").press("ArrowUp"),
        trait="layer",
        value="pool2",
        assign="shown.query = 3",
        follows=lambda panel: panel.locator("[aria-pressed=true]").get_attribute("title"),
        shows="T-shirt/top 4",
    ),
    "NetworkExplorer": Drive(
        move=lambda panel: panel.get_by_role("combobox", name="Net").press("b"),
        trait="net",
        value="B",
        assign="shown.image_size, shown.layer = 64, 'conv5_2'",
        follows=lambda panel: panel.locator("tr.chosen").first.inner_text().split("\t")[:2],
        shows=["conv5_2", "512 × 4 × 4"],
    ),
    "Predict": Drive(
        move=lambda panel: (
            panel.get_by_role("textbox").fill("27"),
            panel.get_by_role("textbox").press("Enter"),
        ),
        trait="answers",
        value={"02_design/freedom": 27},
        assign="shown.answers = {'02_design/freedom': 25}",
        follows=lambda panel: panel.locator(".predict-result").get_attribute("data-right"),
        shows="true",
    ),
    "ReceptiveFieldExplorer": Drive(
        move=lambda panel: panel.get_by_role("button", name="Add pool").press("Enter"),
        trait="layers[-1]",
        value=("pool", 2, 2),
        assign="shown.layers = shown.presets['one 7×7']",
        follows=lambda panel: panel.get_by_label("Stack").input_value(),
        shows="one 7×7",
    ),
    "StartupLab": Drive(
        move=lambda panel: panel.get_by_role("combobox", name="Net").press("a"),
        trait="net",
        value="A",
        assign="shown.scheme = 'he'",
        follows=lambda panel: panel.get_by_role("combobox", name="Start").input_value(),
        shows="he",
    ),
    "TrainingCrop": Drive(
        move=lambda panel: panel.get_by_role("combobox", name="Photo").press("c"),
        trait="photo",
        value="chelsea",
        assign="shown.flip = True",
        follows=lambda panel: panel.get_by_label("mirror").is_checked(),
        shows=True,
    ),
    "TrainingReplay": Drive(
        move=lambda panel: panel.get_by_role("slider", name="Epoch").press("ArrowRight"),
        trait="epoch",
        value=1,
        assign="shown.epoch = 3",
        follows=lambda panel: panel.get_by_role("slider", name="Epoch").input_value(),
        shows="3",
    ),
}


def wait_for(read, expected, what, seconds=30):
    """Ask again until the answer is the expected one."""
    deadline = time.monotonic() + seconds
    while (found := read()) != expected:
        assert time.monotonic() < deadline, f"{what}: {found!r}, not {expected!r}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a JupyterLab of its own, and the folder of its kernels' connection files."""
    folder = tmp_path_factory.mktemp("lab")
    cell = nbformat.v4.new_code_cell("shown", id="shown")
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": KERNEL})
    nbformat.write(notebook, folder / "live.ipynb")
    runtime = folder / "runtime"
    places = {
        "JUPYTER_RUNTIME_DIR": runtime,
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={folder}",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=",
    ]
    with (folder / "log.txt").open("w+") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | {name: str(place) for name, place in places.items()},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 60
            while not (found := list(runtime.glob("jpserver-*.json"))):
                done = running.poll() is not None or time.monotonic() > deadline
                assert not done, f"JupyterLab did not start:\n{(folder / 'log.txt').read_text()}"
                time.sleep(0.1)
            time.sleep(0.1)  # until the file is written
            yield json.loads(found[0].read_text())["url"], runtime
        finally:
            running.terminate()
            running.wait(20)


@pytest.fixture(scope="module")
def lab(server, browser):
    """A notebook in JupyterLab: its page, and a function that runs Python in its kernel."""
    url, runtime = server
    page = browser.new_page()
    page.goto(f"{url}lab/tree/live.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    wait_for(lambda: len(list(runtime.glob("kernel-*.json"))), 1, "kernels", seconds=60)
    (connection,) = runtime.glob("kernel-*.json")

    # In a thread of its own: Playwright's event loop holds this one.
    with ThreadPoolExecutor(1) as thread:
        client = BlockingKernelClient(connection_file=str(connection))

        def connect():
            client.load_connection_file()
            # A kernel that starts on a busy machine is silent for longer than the usual second.
            client.hb_channel.time_to_dead = 60
            client.start_channels()
            client.wait_for_ready(timeout=60)

        def run(code, expression="None"):
            ask = {"value": expression}
            reply = client.execute(code, user_expressions=ask, reply=True, timeout=60)
            content = reply["content"]
            assert content["status"] == "ok", content
            value = content["user_expressions"]["value"]
            assert value["status"] == "ok", value
            return ast.literal_eval(value["data"]["text/plain"])

        thread.submit(connect).result()

        def python(code, expression="None"):
            return thread.submit(run, code, expression).result()

        python("from vgglib import widgets")
        yield page, python
        thread.submit(client.stop_channels).result()
    page.close()


@pytest.mark.parametrize("name", [cls.__name__ for cls in PageWidget.__subclasses__()])
def test_a_widget_and_its_kernel_stay_in_step(lab, name):
    assert name in DRIVEN, f"say in {__name__}.DRIVEN how {name} is driven"
    page, python = lab
    drive = DRIVEN[name]
    python(f"shown = widgets.{name}()")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-cell')")
    view = page.locator(".jp-OutputArea .vgg")
    title = f"shown of {name}"
    page.wait_for_function("document.querySelectorAll('.jp-OutputArea .vgg').length === 1")
    drive.move(view)
    wait_for(lambda: python("", f"shown.{drive.trait}"), drive.value, title)
    assert page.locator(".jp-Notebook .jp-Cell").count() == 1
    python(drive.assign)
    wait_for(lambda: drive.follows(view), drive.shows, title)
    python("shown.close()")
    view.wait_for(state="detached")
