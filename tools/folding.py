"""Which code cells a reader of the book sees folded: those that install, import, draw or check.

`tools/execute.py` writes what is found here into a chapter: the tag ``hide-input`` folds a cell in
the book, ``jupyter.source_hidden`` in JupyterLab and ``cellView`` in Colab; the first line says
what is behind the fold. What computes stays in sight, and so does a cell tagged ``show-input``.
"""

import ast
import builtins
import re

from IPython.core.inputtransformer2 import TransformerManager

SETUP = 'find_spec("vgglib")'  # in the cell that installs the package; its own first line says so
IMPORTS, DRAWS, ANSWER = "Imports", "Draws the figure", "Checks your answer"
CLAIM, RESULT = "Checks the claim", "Checks the result"
TITLE = re.compile(rf"# @title (?:{'|'.join((IMPORTS, DRAWS, ANSWER, CLAIM, RESULT))})\n")
PICTURE = {"plots", "fig", "figure", "ax", "axes"}  # what statements about a figure mention
TEACHES = {"augment", "features", "nn", "torch", "transfer", "vgglib"}  # what they call to compute


def shows(node):
    """Whether a statement puts a figure into the notebook."""
    return any(
        isinstance(part, ast.Attribute) and ast.unparse(part) == "plots.show"
        for part in ast.walk(node)
    )


def checks(node):
    """Whether a statement does nothing but assert and say that it did."""
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "print"
    if isinstance(node, ast.For | ast.If | ast.With):
        return all(map(checks, [*node.body, *getattr(node, "orelse", [])]))
    return False


def computes(node):
    """Whether a statement defines a function, or calls one of the chapter's or of its subject's."""
    mentioned = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    if mentioned & PICTURE:
        return False
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return True
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            called = ast.unparse(call.func)
            root = called.partition(".")[0]
            own = called == root and not hasattr(builtins, root)
            if own or (root in TEACHES and called != "vgglib.recorded"):
                return True
    return False


def waits(node):
    """Whether a statement is a place for the reader's answer: ``my_…``, a function to be filled."""
    if isinstance(node, ast.FunctionDef):
        return all(isinstance(one, ast.Expr | ast.Pass | ast.Raise) for one in node.body)
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
    return isinstance(node, ast.Assign) and any(name.startswith("my_") for name in names)


def lines(nodes):
    """How many lines statements take."""
    return sum(node.end_lineno - node.lineno + 1 for node in nodes)


def title(cell):
    """What a code cell does, where that is a reason to fold it; else None."""
    tags = cell.metadata.get("tags", [])
    if {"solution", "show-input", "widget"} & set(tags):
        return None
    body = ast.parse(TransformerManager().transform_cell(cell.source)).body
    claim = any(tag.startswith("claim-") for tag in tags)
    if not body:
        return None
    if all(isinstance(node, ast.Import | ast.ImportFrom) for node in body):
        return IMPORTS
    if any(isinstance(node, ast.FunctionDef) and node.name.startswith("check") for node in body):
        return None if any(map(waits, body)) else ANSWER
    if all(map(checks, body)) and any(
        isinstance(part, ast.Assert) for part in ast.walk(ast.Module(body))
    ):
        return CLAIM if claim else RESULT
    shown = [node for node in body if shows(node)]
    before = [node for node in body if node not in shown]
    # Up to a quarter of its lines may compute what is drawn.
    if shown and not claim and 4 * lines(filter(computes, before)) <= lines(body):
        return DRAWS
    return None


def fold(cell):
    """Give a code cell, in place, the first line and metadata of one that folds, or take them."""
    source = TITLE.sub("", cell.source, count=1)
    cell.source = source
    found = title(cell)
    tags = [tag for tag in cell.metadata.get("tags", []) if tag != "hide-input"]
    if found or SETUP in source or "predict" in tags:  # the last two have a first line of their own
        tags.append("hide-input")
        cell.metadata.update(cellView="form", jupyter={"source_hidden": True})
    if found:
        cell.source = f"# @title {found}\n{source}"
    if tags or "tags" in cell.metadata:
        cell.metadata["tags"] = tags
