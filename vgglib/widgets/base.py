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
import traitlets
from matplotlib.figure import Figure

from .. import plots

FRONT = Path(__file__).parent / "front"
INF = float("inf")
LONGEST = 200  # values of a list in an address

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
    to_try: ClassVar[str] = ""  #: A sentence for the book's gallery; without one it is not there.
    example: ClassVar[str] = ""  #: Settings that show it, as an address writes them.

    def __init_subclass__(
        cls, *, front: str | None = None, to_try: str = "", example: str = "", **kwargs
    ):
        super().__init_subclass__(**kwargs)
        if front is None:  # traitlets derives a class for each object that gets a trait of its own
            return
        cls.front, cls.to_try, cls.example = front, to_try, example
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

    @classmethod
    def title(cls) -> str:
        """The class's name in words: "Network explorer"."""
        first, *rest = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", cls.__name__)
        return " ".join([first, *(word if word.isupper() else word.lower() for word in rest)])

    @classmethod
    def shared(cls) -> dict:
        """What an address can say of this widget, for ``front/share.js``.

        Returns
        -------
        dict
            ``name`` in an address, ``call`` in Python, and ``traits``: for each that a reader can
            change, the values it takes (its ``kind``, and limits where it has some), its
            ``default``, and ``always`` where the others may decide the default.
        """
        made, traits = cls(), {}
        order = [name for one in cls.__mro__ for name in vars(one)]
        for name, trait in sorted(cls._own_traits().items(), key=lambda one: order.index(one[0])):
            values = None if trait.read_only else _values(trait)
            if values:
                default = getattr(made, name)
                always = default != trait.default(made)
                traits[name] = {**values, "default": default} | ({"always": True} if always else {})
        return {
            "name": cls.title().lower().replace(" ", "-"),
            "call": f"vgglib.widgets.{cls.__name__}",
            "traits": traits,
        }

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


def explorers() -> list[type[PageWidget]]:
    """The widgets of the gallery, which an address can set; in the order of their classes."""
    return [widget for widget in PageWidget.__subclasses__() if widget.to_try]


def _values(trait: traitlets.TraitType) -> dict | None:
    """The values that a trait takes, for ``read`` in ``front/share.js``; None: in no address."""
    if isinstance(trait, traitlets.Enum):
        own = trait.metadata.get("unshared", ())
        return {"kind": "choice", "of": [value for value in trait.values or () if value not in own]}
    if isinstance(trait, traitlets.Bool):
        return {"kind": "bool"}
    if isinstance(trait, (traitlets.Int, traitlets.Float)):
        kind = "int" if isinstance(trait, traitlets.Int) else "float"
        limits = {"min": trait.min, "max": trait.max}
        return {"kind": kind} | {k: v for k, v in limits.items() if v not in (None, -INF, INF)}
    if isinstance(trait, traitlets.Unicode):
        return {"kind": "text"}
    if isinstance(trait, traitlets.Tuple):
        parts = [_values(part) for part in trait._traits]
        return {"kind": "tuple", "of": parts} if parts and all(parts) else None
    if isinstance(trait, traitlets.List):
        part = _values(trait._trait) if trait._trait else None
        lengths = {"min": trait._minlen, "max": min(trait._maxlen, LONGEST)}
        return {"kind": "list", "of": part, **lengths} if part else None
    return None


def write_front(folder: Path) -> None:
    """Write what pages load: modules, stylesheets, bytes of file traits, the questions' names."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {widget.front: widget.shared() for widget in explorers()}
    (folder / "shared.json").write_text(json.dumps(shared, ensure_ascii=False), encoding="utf-8")
    for path in FRONT.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for widget in PageWidget.__subclasses__():
        for name, trait in widget._own_traits().items():
            if "file" in trait.metadata:
                (folder / trait.metadata["file"]).write_bytes(getattr(widget(), name))
    from .predict import index  # which is a widget itself

    (folder / "questions.json").write_text(json.dumps(index()), encoding="utf-8")
