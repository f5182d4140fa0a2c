"""What every widget shares: its front end as one text, and its form in a page without a kernel."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import ClassVar

import anywidget
from matplotlib.figure import Figure

from .. import plots

FRONT = Path(__file__).parent / "front"

_IMPORT = re.compile(r'^import\s*\{[^}]*\}\s*from\s*"\./([\w-]+\.js)";\n', re.MULTILINE)


def joined(name: str) -> str:
    """A module of ``front/`` and the helpers that it imports, as the one text a notebook needs.

    Parameters
    ----------
    name : str
        The file's name, such as ``"network.js"``.

    Returns
    -------
    str
        An ES module without imports.
    """
    texts: dict[str, str] = {}

    def collect(name: str) -> None:
        text = (FRONT / name).read_text(encoding="utf-8")
        for helper in _IMPORT.findall(text):
            if helper not in texts:
                collect(helper)
        texts[name] = _IMPORT.sub("", text)

    collect(name)
    module = texts.pop(name)
    # Of all the exports the module's own default one is left.
    helpers = [re.sub(r"^export ", "", text, flags=re.MULTILINE) for text in texts.values()]
    return "\n".join([*helpers, module])


def picture(figure: Figure, alt: str, *, dpi: int = 80) -> str:
    """A figure as an HTML ``<img>`` that holds its own bytes.

    Parameters
    ----------
    figure : Figure
    alt : str
        As for :func:`vgglib.plots.show`.
    dpi : int
        Pixels per inch.

    Returns
    -------
    str
    """
    data = base64.b64encode(plots.png(figure, alt, dpi=dpi)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'


class PageWidget(anywidget.AnyWidget):
    """A widget for notebooks and for the book's pages; see :mod:`vgglib.widgets` for the rules.

    Parameters
    ----------
    **traits
        Values of the traits that a reader can change.

    Raises
    ------
    TypeError
        If a name is not that of such a trait.
    traitlets.TraitError
        If a value is out of its range.
    """

    front: ClassVar[str]  #: The front end is ``front/<this>.js`` with ``front/<this>.css``.

    def __init_subclass__(cls, *, front: str | None = None, **kwargs):
        super().__init_subclass__(**kwargs)
        if front is None:  # traitlets derives a class for each object that gets a trait of its own
            return
        cls.front = front
        cls._esm = joined(f"{front}.js")
        sheets = (FRONT / name for name in ("widgets.css", f"{front}.css"))
        cls._css = "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)

    def __init__(self, **traits):
        accepted = [name for name, trait in self._own_traits().items() if not trait.read_only]
        for name in traits:
            if name not in accepted:
                raise TypeError(
                    f"{type(self).__name__} has no {name!r} to set; it has {', '.join(accepted)}"
                )
        super().__init__(**traits)

    @classmethod
    def _own_traits(cls) -> dict:
        """The traits of the front end, without those that every Jupyter widget has."""
        shared = PageWidget.class_trait_names()
        own = cls.class_traits(sync=True).items()
        return {name: trait for name, trait in own if name not in shared and name[0] != "_"}

    def page_state(self) -> dict:
        """The state as the page stores it: JSON, with the names of files in place of bytes."""
        return {
            name: {"file": trait.metadata["file"]}
            if "file" in trait.metadata
            else getattr(self, name)
            for name, trait in self._own_traits().items()
        }

    def fallback(self) -> str:
        """HTML that says the same at rest, for a page whose scripts do not run."""
        raise NotImplementedError(f"{type(self).__name__} says nothing without JavaScript")

    def html(self) -> str:
        """What stands in the page: the fallback, and the state for ``book/_static/widgets.js``."""
        state = json.dumps(self.page_state(), ensure_ascii=False, separators=(",", ":"))
        state = state.replace("<", "\\u003c")  # or a "</script>" in the state would end it
        name = f"{self.front}-{hashlib.sha256(state.encode()).hexdigest()[:8]}"
        return (
            f'<div class="vgg-widget" data-widget="{self.front}" id="{name}">\n'
            f'<div class="vgg-fallback">{self.fallback()}</div>\n'
            f'<script type="application/json">{state}</script>\n'
            "</div>"
        )

    def __repr__(self) -> str:
        traits = {name: trait for name, trait in self._own_traits().items() if not trait.read_only}
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in traits)})"

    def _repr_mimebundle_(self, **kwargs):
        # ipywidgets 7, which Colab has, never asks for it: there a cell shows the view alone.
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/plain": repr(self), "text/html": self.html()}, metadata


def write_front(folder: Path) -> None:
    """Write what pages load: modules, stylesheets, bytes of file traits, the questions' names."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in FRONT.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for widget in PageWidget.__subclasses__():
        for name, trait in widget._own_traits().items():
            if "file" in trait.metadata:
                (folder / trait.metadata["file"]).write_bytes(getattr(widget(), name))
    from .predict import index  # which is a widget itself

    (folder / "questions.json").write_text(json.dumps(index()), encoding="utf-8")
