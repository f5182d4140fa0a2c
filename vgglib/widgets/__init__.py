"""How is it touched? Widgets that work in a notebook and, without a kernel, in the book's pages.

A widget is two parts. A Python class, a subclass of :class:`~vgglib.widgets.base.PageWidget`, holds
the state as traits; a front end, one plain ES module and one stylesheet in ``front/``, shows it and
lets the reader change it. JupyterLab, Colab and VS Code keep the two in step in both directions.
In the book there is no kernel: the same module runs over the same state, stored in the page.

To write a widget called ``thing``:

1. ``thing.py``: ``class Thing(PageWidget, front="thing", to_try="...", example="net=E")``. With a
   sentence ``to_try`` it stands in the book's gallery, with a link that sets it as ``example``
   says, and what a reader sets can be copied as an address or as Python: that is all it takes.
   What the reader can change is a trait with ``.tag(sync=True)``; what the front end only reads
   (Table 1, a recorded run) is one with ``read_only=True`` besides. Bytes that would weigh on the
   page carry ``file="thing.bin"`` in their tag: the page fetches them when the widget comes into
   view. ``fallback()`` returns the HTML that stands in the page until then, and for good without
   JavaScript: a figure with alt text (:func:`~vgglib.widgets.base.picture`) or a table. Export the
   class here, in ``__all__``.
2. ``front/thing.js``: ``export default { render({ model, el }) { ...; return cleanup; } }`` with
   helpers from ``front/common.js``. ``model`` has ``get``, ``set``, ``save_changes``, ``on`` and
   ``off`` (``"change:net"``) as in anywidget; a trait of bytes arrives as a ``DataView``. Every
   view follows ``change:``, so that a trait set in Python moves the widget. Where types and limits
   do not tell all that can be wrong, ``unfit(state)`` beside ``render`` names the traits whose
   values in an address do not fit. An import is one statement of names from one file,
   ``import { a, b } from "./common.js";``: pages load the files as they are, a notebook gets them
   joined into one (:func:`~vgglib.widgets.base.joined`).
3. ``front/thing.css``: what only this widget needs; colours, type and controls are in
   ``front/widgets.css``. Every rule begins with ``.vgg``, the class of the panel.
4. In a chapter, a cell tagged ``widget`` whose last line is the widget, and a question before it.
   ``make notebooks`` stores its HTML; a test compares that with what the class gives now.
5. Tests: against Python's own numbers in a browser, and a line in ``tests/test_widgets_live.py``.
"""

from ..extras import extra

with extra("widgets"):
    from .base import PageWidget, write_front
    from .box_lab import BoxLab
    from .dense_map import DenseMap
    from .folding import BatchNormFolding
    from .live_vgg import LiveVGG
    from .neighbours import Neighbours
    from .network import NetworkExplorer
    from .predict import Predict
    from .receptive import ReceptiveFieldExplorer
    from .startup_lab import StartupLab
    from .training_crop import TrainingCrop
    from .training_replay import TrainingReplay

__all__ = [
    "BatchNormFolding",
    "BoxLab",
    "DenseMap",
    "LiveVGG",
    "Neighbours",
    "NetworkExplorer",
    "PageWidget",
    "Predict",
    "ReceptiveFieldExplorer",
    "StartupLab",
    "TrainingCrop",
    "TrainingReplay",
    "write_front",
]
