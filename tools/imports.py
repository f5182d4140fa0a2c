"""Which part of vgglib imports which: read from the code, written into book/architecture.md.

    python tools/imports.py

A part is a module of ``vgglib/`` or one of its folders. ``book/charts.py`` draws the same graph.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import tables

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vgglib"
PAGE = ROOT / "book" / "architecture.md"


def files_of(package=PACKAGE):
    """Name of each part → its Python files. The package's own ``__init__`` is none: it has all."""
    parts = {path.stem: [path] for path in sorted(package.glob("*.py"))}
    for init in sorted(package.glob("*/__init__.py")):
        parts[init.parent.name] = [init, *sorted(set(init.parent.glob("*.py")) - {init})]
    del parts["__init__"]
    return parts


def imported(path, package=PACKAGE):
    """What a file takes from the package: names it imports when loaded, names it imports later.

    Later means inside a function, when that is called.
    """
    depth = len(path.relative_to(package).parts)  # dots that lead to the package
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inner = {node for function in functions for node in ast.walk(function)}
    at_once, later = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [n.name for n in node.names]
            (later if node in inner else at_once).update(names)
    return at_once, later


def graphs(package=PACKAGE):
    """Each part → the parts that it imports when loaded; the same for what it imports later.

    Raises
    ------
    ValueError
        A file imports a name that is no part.
    """
    parts = files_of(package)
    at_once, later = {}, {}
    for part, files in parts.items():
        found = [imported(file, package) for file in files]
        at_once[part] = {name for names, _ in found for name in names} - {part}
        later[part] = {name for _, names in found for name in names} - {part} - at_once[part]
        strange = (at_once[part] | later[part]) - set(parts)
        if strange:
            raise ValueError(f"vgglib.{part} imports {strange}, which is no part")
    return at_once, later


def levels(edges):
    """Each part → the length of the longest way from it down to a part that imports none.

    Raises
    ------
    graphlib.CycleError
        Parts import each other in a circle.
    """
    found = {}
    for part in TopologicalSorter(edges).static_order():
        found[part] = max((found[below] + 1 for below in edges[part]), default=0)
    return found


def direct(edges):
    """The same graph without the edges that a longer way says too."""

    def reach(part):
        return {part}.union(*(reach(below) for below in edges[part]))

    return {
        part: {
            below
            for below in belows
            if not any(below in reach(other) for other in belows - {below})
        }
        for part, belows in edges.items()
    }


def question(files):
    """The first line of a part's docstring."""
    return ast.get_docstring(ast.parse(files[0].read_text(encoding="utf-8"))).splitlines()[0]


def parts_table():
    """The page's table, a row a part, those that build on nothing first."""
    (edges, _), parts = graphs(), files_of()
    level = levels(edges)
    rows = []
    for part in sorted(parts, key=lambda part: (level[part], part)):
        below = ", ".join(f"`{name}`" for name in sorted(edges[part]))
        rows.append((f"**{part}**", question(parts[part]), below or "–"))
    return tables.table(("part", "its first line", "builds on"), rows)


TABLES = {"parts": parts_table}


if __name__ == "__main__":
    tables.write(PAGE, TABLES)
