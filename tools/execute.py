"""Re-execute chapters in place and write them so that only real changes show in a diff.

    python tools/execute.py notebooks/01_architecture.ipynb ...

Besides executing, it derives what follows from a cell's tags, so that authors tag little:

- ``solution``: a code cell is folded in Colab and JupyterLab (the book folds it by itself), and so
  is one that only installs, imports, draws or checks (`folding.py`);
- ``widget``: of its output the HTML of a page widget is kept (see ``vgglib.widgets``), which works
  without a kernel; views that need one are dropped. nbval does not compare it, a test does;
- ``predict``: a widget whose code is folded everywhere.
"""

import sys
import time
from pathlib import Path

import folding
import nbformat
from nbclient import NotebookClient

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"}
# Colab reads these to choose the machine; everything else a front end adds is dropped.
KEPT_METADATA = ("accelerator", "colab")
KEPT_CELL_METADATA = ("tags", "mystnb")


def normalise(notebook):
    """Bring an executed notebook, in place, to the one form that is committed; return it."""
    kept = {key: notebook.metadata[key] for key in KEPT_METADATA if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict(
        {**kept, "kernelspec": KERNEL, "language_info": LANGUAGE}
    )
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        metadata = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        tags = metadata.get("tags", [])
        if cell.cell_type == "code":
            if "predict" in tags:
                tags = metadata["tags"] = [*{*tags, "widget"}]
            if "widget" in tags:
                metadata["tags"] = sorted({*tags, "nbval-ignore-output"}, key=_widget_first)
                cell.outputs = [o for o in cell.outputs if _is_page_widget(o)]
                for output in cell.outputs:
                    output.data = {"text/html": output.data["text/html"]}
            if "solution" in tags:
                metadata["cellView"] = "form"
                metadata["jupyter"] = {"source_hidden": True}
        cell.metadata = nbformat.from_dict(metadata)
        if cell.cell_type == "code":
            folding.fold(cell)
    return notebook


def _is_page_widget(output):
    return 'class="vgg-widget"' in output.get("data", {}).get("text/html", "")


def _widget_first(tag):
    return (tag != "widget", tag)


def client(notebook, folder):
    """What executes a notebook top to bottom with this folder as the current one."""
    return NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )


def execute(path):
    """Run a notebook top to bottom in its own folder and write it back, normalised."""
    notebook = nbformat.read(path, as_version=4)
    client(notebook, path.parent).execute()
    nbformat.write(normalise(notebook), path)


def main(paths):
    """Execute each notebook; say how long it took."""
    if not paths:
        sys.exit("execute.py: name at least one notebook, for example notebooks/01*.ipynb")
    for path in map(Path, paths):
        start = time.perf_counter()
        execute(path)
        print(f"{path}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
