"""The layers of vgglib: no circle of imports, and the page that shows them is the code's."""

import graphlib

import imports
import pytest
import tables
from refusing import refuses


def test_the_page_is_what_the_code_says():
    page = imports.PAGE.read_text(encoding="utf-8")
    assert tables.filled(imports.PAGE, page, imports.TABLES) == page, "run `make claims`"


def test_parts_import_downwards():
    edges, later = imports.graphs()
    level = imports.levels(edges)
    assert all(level[below] < level[part] for part in edges for below in edges[part])
    # An import within a function would be a way around: only figures wait until they are drawn.
    assert {part: names for part, names in later.items() if names} == {"train": {"plots"}}


@pytest.fixture
def package(tmp_path):
    """A function that writes a package of the given files."""

    def package(**files):
        (tmp_path / "part").mkdir()
        for name in ("__init__.py", "part/__init__.py"):
            (tmp_path / name).write_text("from . import a\n" if name == "__init__.py" else "")
        for name, text in files.items():
            (tmp_path / f"{name.replace('__', '/')}.py").write_text(f'"""{name}?"""\n{text}\n')
        return tmp_path

    return package


def test_imports_of_every_form_are_found(package):
    root = package(
        a="from .b import x, y\nfrom . import c\nimport torch\nfrom torch import b",
        b="def f():\n    from .a import z",
        c="",
        part__inside="from ..c import u\nfrom .other import v\nfrom .. import b",
    )
    at_once, later = imports.graphs(root)
    assert at_once == {"a": {"b", "c"}, "b": set(), "c": set(), "part": {"b", "c"}}
    assert later == {"a": set(), "b": {"a"}, "c": set(), "part": set()}
    assert imports.levels(at_once) == {"a": 1, "b": 0, "c": 0, "part": 1}


def test_a_circle_and_a_strange_name_would_be_found(package):
    root = package(a="from . import b", b="from .c import x", c="from .a import y")
    with pytest.raises(graphlib.CycleError):
        imports.levels(imports.graphs(root)[0])
    (root / "c.py").write_text("from . import gone")
    with refuses(ValueError, got=("vgglib.c", "gone")):
        imports.graphs(root)


def test_an_edge_that_a_longer_way_says_too_is_not_drawn():
    edges = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert imports.direct(edges) == {"a": {"b"}, "b": {"c"}, "c": set()}
