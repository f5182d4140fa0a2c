"""The tool that asks whether the tests notice wrong lines: what it changes, and what it leaves."""

import ast
from pathlib import Path

import mutants


def changes(tmp_path, monkeypatch, source):
    path = tmp_path / "module.py"
    path.write_text(source)
    monkeypatch.setattr(mutants, "path_of", lambda module: path)
    found = list(mutants.mutants("module"))
    assert ast.unparse(ast.parse(source)) == ast.unparse(ast.parse(path.read_text()))
    return {mutant.change: mutant for mutant in found}


def test_each_mutant_is_the_module_with_one_change(tmp_path, monkeypatch):
    found = changes(tmp_path, monkeypatch, "def f(a, b):\n    return round(a) < b + 1\n")
    values = {}
    for change, mutant in found.items():
        assert list(mutant.lines) == [2]
        space = {}
        exec(mutant.code, space)
        values[change.partition(" → ")[2]] = [space["f"](*pair) for pair in ((1.6, 1), (2, 1))]
    assert values == {
        "return round(a) <= b + 1": [True, True],
        "return int(a) < b + 1": [True, False],
        "return round(a) < b - 1": [False, False],
        "return round(a) < b + 2": [True, True],
    }


def test_conditions_calls_arguments_and_sums_are_left_out(tmp_path, monkeypatch):
    source = "if x and not y:\n    f(a, k=True)\nn += g(-b)\n"
    lefts = [change.partition(" → ")[2] for change in changes(tmp_path, monkeypatch, source)]
    assert sorted(lefts) == sorted(
        [
            *("if x or not y:", "if x and y:", "if True:", "if False:"),
            *("pass", "pass", "f(a)", "f(a, k=False)", "n -= g(-b)", "n += g(b)"),
        ]
    )


def test_text_annotations_errors_and_speed_are_not_changed(tmp_path, monkeypatch):
    source = '''def f(x: int | None) -> 3:
    """Words, 1."""
    a: int | str
    b = "words" if x else f"{x + 1}"
    c = (f"{x * 2}", zip(x, b, strict=True), g(x, pin_memory=True))
    raise ValueError(x + 1, max(x))
'''
    assert changes(tmp_path, monkeypatch, source) == {}


def test_what_computes_the_same_is_still_there_and_says_why():
    lines = mutants.SAME.read_text(encoding="utf-8").splitlines()
    known = {
        f"{module}: {mutant.change}"
        for module in {line.partition(":")[0] for line in lines}
        for mutant in mutants.mutants(module)
    }
    for line in lines:
        change, _, reason = line.partition("  #")
        assert change in known, f"no longer a mutant: {line}"
        assert reason.strip(), f"why? {line}"


def test_every_module_has_tests():
    for module, tests in mutants.TESTS.items():
        assert mutants.path_of(module).is_file()
        assert all(
            Path(mutants.ROOT, "tests", f"test_{name}.py").is_file() for name in tests.split()
        )
