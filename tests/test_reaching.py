"""Right answers in unusual forms keep their points: numbers of any kind, cells in any place.

And what a test can ask of a call: does it leave its arguments as they are, and what does it call?
"""

from decimal import Decimal
from fractions import Fraction

import assignment_fixture
import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from very_deep_grader import check, sandbox
from very_deep_grader.effects import watched
from very_deep_grader.examine import examine
from very_deep_grader.inside.channel import MalformedError
from very_deep_grader.inside.codec import Decoder, Encoder
from very_deep_grader.sandbox import Limits
from very_deep_grader.session import Session
from very_deep_grader.source import Source

pytestmark = pytest.mark.grader
LIMITS = Limits(cell=12, call=4, submission=90, memory=3 * 2**29, processes=64)
MACS = "def conv_macs(channels, filters, side, kernel=3):\n    "
MACS_RIGHT = MACS + "return channels * filters * kernel**2 * side**2"
NORMALISE_RIGHT = (
    "def normalise(batch):\n    return batch - batch.mean(dim=(0, 2, 3), keepdim=True)"
)


# Numbers ----------------------------------------------------------------------------------


class Scalar:
    """A number of a kind that nobody knows."""

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return self.value


class Complex:
    def __complex__(self):
        return 1 + 2j


def through(value):
    """A value encoded and decoded."""
    encoder = Encoder(lambda kept: 7)
    tree = encoder.encode(value)
    return Decoder([bytearray(data) for data in encoder.buffers], lambda *_: "handle").decode(tree)


def sympy(text):
    return pytest.importorskip("sympy").sympify(text)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (lambda: Fraction(65), 65),
        (lambda: Fraction(1, 3), 1 / 3),
        (lambda: Decimal("7"), 7),
        (lambda: Decimal("0.25"), 0.25),
        (lambda: sympy("5"), 5),
        (lambda: sympy("2/3"), 2 / 3),
        (lambda: sympy("sqrt(2)"), 2**0.5),
        (lambda: Scalar(0.5), 0.5),
        (Complex, 1 + 2j),
        (lambda: np.float16(0.5), 0.5),
        (lambda: np.str_("a"), "a"),
        (lambda: [Fraction(1, 2), {"a": Decimal(3)}], [0.5, {"a": 3}]),
    ],
)
def test_numbers_of_any_kind_arrive_as_numbers(made, wanted):
    got = through(made())
    assert got == wanted
    assert type(got) is type(wanted) or isinstance(got, np.floating)


def test_arrays_of_such_numbers_arrive_as_arrays():
    got = through(np.array([[Fraction(1, 2)], [Decimal(2)]], dtype=object))
    assert got.dtype.kind == "f" and got.tolist() == [[0.5], [2.0]]
    assert through(np.array([None, "a"], dtype=object)) == "handle"


@pytest.mark.parametrize(
    "value",
    [float, Scalar, Decimal, object(), Decimal("NaN")],
    ids=["float", "Scalar", "Decimal", "object", "NaN"],
)
def test_what_is_no_number_does_not_become_one(value):
    got = through(value)
    assert got == "handle" or got != got


def test_numbers_that_share_a_hash_do_not_hold_up_the_decoder():
    many = [["i", hex(n * (2**61 - 1))] for n in range(40_000)]
    for tree in (
        ["e", many],
        ["z", many],
        ["d", [[key, ["n"]] for key in many]],
        ["e", [["t", many]]],
    ):
        with pytest.raises(MalformedError):
            Decoder([], None).decode(tree)
    assert through({2**64 - 1, -5}) == {2**64 - 1, -5}


# What a call does -------------------------------------------------------------------------

STUDENT = """
import torch, torch.nn.functional as F
from torch.nn.functional import conv2d as product
from torch.nn.init import kaiming_normal_

def kind(values, net, table):
    net(torch.ones(1, 2))
    return sorted(values)

def careless(values, net, table):
    values.reverse()
    table["a"][0] = -1.0
    net[0].weight.data.zero_()
    net[1].register_forward_hook(lambda *_: None)
    net(torch.ones(1, 2)).sum().backward()
    net.eval()
    return values

def hidden_conv(x):
    return product(x, torch.ones(1, 1, 1, 1))

def drawn(x):
    return kaiming_normal_(torch.empty(3, 3))

def slope(x):
    x.requires_grad_()
    return {"a": [x * 2]}
"""


@pytest.fixture(scope="module")
def session():
    """One worker for submissions that mean no harm."""
    sandbox.check()
    with Session(LIMITS) as session:
        yield session


@pytest.fixture(params=["student", "plain"])
def function(request, session):
    """Gives a function of `STUDENT` by its name, in the sandbox and in this process."""
    if request.param == "student":
        session.reset()
        assert session.run(STUDENT) == ("", None)
        return session.get
    space = {"__name__": "__main__"}
    exec(STUDENT, space)
    return space.__getitem__


def arguments():
    return [3, 1, 2], nn.Sequential(nn.Linear(2, 2), nn.ReLU()), {"a": torch.ones(2)}


def test_arguments_that_a_call_leaves_as_they_are(function):
    seen = watched(function("kind"), *arguments())
    assert seen.result == [1, 2, 3] and seen.changed == [] and not seen.tracked


def test_all_that_a_call_changes_is_named_and_the_own_arguments_stay(function):
    values, net, table = arguments()
    seen = watched(function("careless"), values, net, table)
    assert values == [3, 1, 2] and table["a"].tolist() == [1, 1] and net[0].weight.any()
    assert set(seen.changed) == {
        "argument 1[0]",
        "argument 1[2]",
        "argument 2, 0.weight",
        "argument 2, gradient of 0.weight",
        "argument 2, gradient of 0.bias",
        "argument 2, hooks of '1'",
        "argument 2, mode of ''",
        "argument 2, mode of '0'",
        "argument 2, mode of '1'",
        "argument 3['a']",
    }


def test_what_a_call_runs_is_seen_by_whatever_name_it_was_imported(function):
    assert watched(function("hidden_conv"), torch.ones(1, 1, 2, 2)).calls("conv")
    assert watched(function("drawn"), torch.ones(1)).calls("kaiming")
    seen = watched(function("kind"), *arguments())
    assert not seen.calls("conv", "kaiming", "kind")


def test_a_result_that_carries_a_graph_is_seen(function):
    assert watched(function("slope"), torch.ones(2)).tracked


# Cells ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The small assignment."""
    path = tmp_path_factory.mktemp("sources") / "00_trial.ipynb"
    nbformat.write(assignment_fixture.assignment(), path)
    return Source(path)


def code(text):
    return nbformat.v4.new_code_cell(text)


def place(notebook, grade_id):
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    return ids.index(grade_id)


def all_in_the_first_cell(notebook):
    """Both functions in one cell, the other stub deleted."""
    notebook.cells[place(notebook, "macs")].source = f"{MACS_RIGHT}\n\n\n{NORMALISE_RIGHT}"
    del notebook.cells[place(notebook, "normalise")]


def all_in_the_last_cell(notebook):
    """Both functions in the second task's cell, the first stub left."""
    notebook.cells[place(notebook, "normalise")].source = f"{MACS_RIGHT}\n\n\n{NORMALISE_RIGHT}"


def all_in_a_cell_of_their_own(notebook):
    """Both stubs deleted, one new cell without metadata at the end."""
    for grade_id in ("macs", "normalise"):
        del notebook.cells[place(notebook, grade_id)]
    notebook.cells.append(code(f"{MACS_RIGHT}\n\n\n{NORMALISE_RIGHT}"))


def below_the_stubs(notebook):
    """Stubs left, each answer in a cell below."""
    notebook.cells.insert(place(notebook, "macs") + 1, code(MACS_RIGHT))
    notebook.cells.insert(place(notebook, "normalise") + 1, code(NORMALISE_RIGHT))


def at_the_end_with_helpers(notebook):
    """Stubs left, the answers at the end, below the helpers that they need at once."""
    notebook.cells.append(code("from functools import cache\nimport math"))
    notebook.cells.append(code("area = math.prod"))
    counted = MACS + "return area([channels, filters, kernel**2, side**2])"
    notebook.cells.append(code(f"@cache\n{counted}"))
    notebook.cells.append(code(NORMALISE_RIGHT))


LAYOUTS = [
    all_in_the_first_cell,
    all_in_the_last_cell,
    all_in_a_cell_of_their_own,
    below_the_stubs,
    at_the_end_with_helpers,
]


@pytest.mark.parametrize("lost", [False, True], ids=["metadata", "no metadata"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_functions_are_found_by_their_names(source, session, layout, lost):
    notebook = source.answered({"argue": "Each layer adds a nonlinearity."})
    layout(notebook)
    if lost:
        for cell in notebook.cells:
            cell.metadata.clear()
    result = examine(source, check.content(notebook), LIMITS, session=session)
    points = {name: entry["points"] for name, entry in result["tasks"].items()}
    assert points == {"macs": 3, "normalise": 4, "argue": None}
    lost_ids = ["metadata was lost; cells were found by their text and place"]
    assert result["remarks"] == (lost_ids if lost else [])


def test_a_name_in_passing_is_no_answer(source, session):
    notebook = source.answered({"argue": "Each layer adds a nonlinearity."})
    notebook.cells.append(code("conv_macs = None"))
    result = examine(source, check.content(notebook), LIMITS, session=session)
    assert result["tasks"]["normalise"]["empty"] and result["tasks"]["normalise"]["points"] == 0
