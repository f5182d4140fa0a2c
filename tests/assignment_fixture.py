"""A small assignment made in code, for tests of the grader that need no real one."""

import nbformat

v4 = nbformat.v4


def cell(kind, source, grade_id=None, points=None, **flags):
    """A cell with nbgrader's metadata."""
    new = v4.new_markdown_cell(source) if kind == "markdown" else v4.new_code_cell(source)
    if grade_id:
        new.metadata["nbgrader"] = {
            "grade_id": grade_id,
            "grade": flags.get("grade", False),
            "solution": flags.get("solution", False),
            "locked": flags.get("locked", False),
            "task": False,
            "schema_version": 3,
            "cell_type": kind,
        }
        if points is not None:
            new.metadata["nbgrader"]["points"] = points
    return new


def solution(name, source):
    return cell("code", source, name, solution=True)


def test_cell(name, points, source):
    return cell("code", source, name, points, grade=True, locked=True)


SETUP = "import torch"
MACS = '''\
def conv_macs(channels, filters, side, kernel=3):
    """Multiplications of a convolution."""
    ### BEGIN SOLUTION
    return channels * filters * kernel**2 * side**2
    ### END SOLUTION'''
NORMALISE = '''\
def normalise(batch):
    """Subtract each channel's mean; batch: (N, C, H, W)."""
    ### BEGIN SOLUTION
    return batch - batch.mean(dim=(0, 2, 3), keepdim=True)
    ### END SOLUTION'''


def assignment():
    """Two tasks with tests, one for a person; 10 points."""
    return v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}},
        cells=[
            cell("markdown", "# Assignment 0. A trial\n\nTwo tasks and a question."),
            cell("code", SETUP, "setup", locked=True),
            cell("markdown", "## Task 1 (warm-up, 3 points): count\n\nWrite `conv_macs`."),
            solution("macs", MACS),
            test_cell(
                "macs-three",
                1,
                "value = conv_macs(3, 64, 224)\n"
                "assert isinstance(value, int), 'give a whole number'\n"
                "assert value == 86704128, f'{value} is not the count for conv1_1'",
            ),
            test_cell(
                "macs-kernel",
                2,
                "assert conv_macs(1, 1, 8) == 576, 'wrong for one channel'\n"
                "### BEGIN HIDDEN TESTS\n"
                "assert conv_macs(2, 5, 7, kernel=5) == 12250, 'the kernel is not used'\n"
                "### END HIDDEN TESTS",
            ),
            cell("markdown", "## Task 2 (practice, 4 points): normalise\n\nWrite `normalise`."),
            solution("normalise", NORMALISE),
            test_cell(
                "normalise-mean",
                2,
                "import torch\n"
                "batch = torch.rand(4, 3, 8, 8)\n"
                "done = normalise(batch)\n"
                "assert done.shape == batch.shape, f'shape {tuple(done.shape)}'\n"
                "means = done.mean(dim=(0, 2, 3))\n"
                "assert torch.allclose(means, torch.zeros(3), atol=1e-6), f'means {means}'",
            ),
            test_cell(
                "normalise-values",
                2,
                "import torch\n"
                "batch = torch.arange(48.0).reshape(2, 3, 2, 4)\n"
                "### BEGIN HIDDEN TESTS\n"
                "wanted = batch - batch.mean(dim=(0, 2, 3), keepdim=True)\n"
                "done = normalise(batch)\n"
                "assert done.shape == wanted.shape and torch.allclose(done, wanted), 'values'\n"
                "### END HIDDEN TESTS",
            ),
            cell("markdown", "## Task 3 (research, 3 points): argue\n\nWhy does depth help?"),
            cell("markdown", "Because.", "argue", 3, grade=True, solution=True),
        ],
    )


def result():
    """What `examine` could say of a submission to it, hostile in what a person sees."""
    test = {"id": "macs-three", "points": 0.0, "max": 1.0, "passed": False, "hidden": True}
    test |= {"message": "=<script>alert(1)</script> 3 64", "shown": "</pre><script>"}
    entry = {"title": "Task 1", "manual": False, "max": 3, "points": 0.0, "error": "<b>"}
    entry |= {"answer": "</pre><img src=x onerror=alert(1)>", "empty": False, "output": ""}
    entry |= {"tests": [test], "comment": "", "figures": []}
    manual = {**entry, "manual": True, "points": None, "answer": "so", "tests": []}
    return {"problem": None, "remarks": [], "tasks": {"macs": entry, "argue": manual}}
