"""Would the tests notice if a line of the package's core were wrong?

python tools/mutants.py [--jobs N] [--least 90] [MODULE ...]

A mutant is the package with one small change in it. The tests that reach the changed line run, the
quickest first, until one fails; a mutant that passes them all names a test that is missing.

Changed, one at a time: comparisons and their bounds, *and* and *or*, *not*, arithmetic, numbers
(one more), truth values, conditions (always, never), *break* and *continue*, a function for its
neighbour (round and int, min and max, any and all, floor and ceil). Left out, one at a time:
keyword arguments, decorators with arguments, statements that only call or add.

Not changed, by rule: text (strings, f-strings with what they show, a choice between two of them),
annotations, what ``raise`` raises, ``strict`` of ``zip``, which asserts, and the arguments that
change speed alone (pin_memory, non_blocking, persistent_workers). The single mutants that compute
the same as the original are in mutants_same.txt, each with its reason, and count as none.

Neither mutmut 3 nor cosmic-ray 8: mutmut changes nothing in decorated functions (``evaluate``,
properties), in a module's tables or a dataclass's fields, and has no switch for text; cosmic-ray
starts a process a mutant, which imports torch anew, and leaves out no argument and no statement.
"""

import argparse
import ast
import contextlib
import gc
import importlib.util
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import coverage
import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
SAME = Path(__file__).with_name("mutants_same.txt")
WRITTEN = ROOT / "_build" / "mutants.json"
OURS = (f"{ROOT}/vgglib/", f"{ROOT}/tests/test_")
SLOWEST = 1.0  # seconds; a test that takes longer is left out
TESTS = {
    "configs": "configs model",
    "model": "model configs",
    "anatomy": "anatomy",
    "initialise": "initialise",
    "pre_initialise": "initialise",
    "augment": "augment train",
    "evaluate.centre": "evaluate train",
    "evaluate.dense": "evaluate",
    "evaluate.error": "evaluate",
    "evaluate.views": "evaluate",
    "train.recipe": "train",
    "train.batches": "train",
    "train.checkpoint": "checkpoint",
}
SPEED = ("pin_memory", "non_blocking", "persistent_workers")
BOTH_WAYS = (
    (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn), (ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.Div),
    (ast.BitOr, ast.BitAnd), (ast.Break, ast.Continue), ("min", "max"), ("any", "all"),
    ("floor", "ceil"),
)  # fmt: skip
SWAPS = dict(BOTH_WAYS) | {b: a for a, b in BOTH_WAYS}
SWAPS |= {ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, "round": "int"}
TURNED = ("T", "mT", "H", "values", "indices")
COPIES = ("deepcopy", "copy", "clone")
ONE_ARGUMENT = ("abs", "bool", "float", "int", "list", "reversed", "round", "sorted", "tuple")
MODULES = ("F", "copy", "localise", "math", "nn", "np", "random", "torch", "vgglib")


@dataclass
class Mutant:
    lines: range  # of the statement that is changed
    change: str
    code: CodeType  # of the whole module
    result: str = ""


def path_of(module):
    return ROOT / "vgglib" / f"{module.replace('.', '/')}.py"


def is_text(node):
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def parts(node):
    """A node's fields that may be changed, by name."""
    if isinstance(node, ast.keyword) and node.arg in SPEED:
        return []
    zipped = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip"
    left = ("annotation", "returns", *(["keywords"] if zipped else []))
    return [(name, value) for name, value in ast.iter_fields(node) if name not in left]


def variants(node):
    """What may stand in a node's fields instead: (field, index in it or None, new value)."""
    for name, value in parts(node):
        for index, one in enumerate(value) if isinstance(value, list) else [(None, value)]:
            number = one.value if isinstance(one, ast.Constant) else None
            call = isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
            if type(one) in SWAPS:
                yield name, index, SWAPS[type(one)]()
            elif isinstance(number, int | float):
                new = not number if isinstance(number, bool) else number + 1
                yield name, index, ast.Constant(new)
            elif isinstance(one, ast.UnaryOp):
                yield name, index, one.operand
            elif name == "func" and getattr(one, "id", None) in SWAPS:
                yield name, index, ast.Name(SWAPS[one.id], ast.Load())
            elif name == "func" and getattr(one, "attr", None) in SWAPS:
                yield name, index, ast.Attribute(one.value, SWAPS[one.attr], ast.Load())
            elif call or isinstance(one, ast.AugAssign):
                yield name, index, ast.Pass()
            elif (name == "keywords" and one.arg not in SPEED) or (
                name == "decorator_list" and isinstance(one, ast.Call)
            ):
                yield name, None, [*value[:index], *value[index + 1 :]]
            if name == "test":
                yield from ((name, index, ast.Constant(always)) for always in (True, False))


def sites(node, statement=None):
    """Every node that may be changed, with the statement that it is part of."""
    choice = isinstance(node, ast.IfExp) and is_text(node.body) and is_text(node.orelse)
    if choice or isinstance(node, ast.Raise | ast.JoinedStr):
        return
    statement = node if isinstance(node, ast.stmt) else statement
    yield node, statement
    for _, value in parts(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from sites(child, statement)


def steps_left_out(node):
    """Further variants, for answers to assignments: a step of a computation is not done.

    A method's object in place of its result (``x.clone()`` → ``x``, ``x.T`` → ``x``), and the
    argument in place of a function of one argument (``reversed(x)`` → ``x``).
    """
    for name, value in parts(node):
        for index, one in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(one, ast.Attribute) and one.attr in TURNED:
                yield name, index, one.value
            elif isinstance(one, ast.Call) and getattr(one.func, "attr", None) in COPIES:
                yield name, index, one.args[0] if one.args else one.func.value
            elif isinstance(one, ast.Call) and getattr(one.func, "id", None) in ONE_ARGUMENT:
                yield name, index, one.args[0]
            elif (
                isinstance(one, ast.Call)
                and isinstance(one.func, ast.Attribute)
                and getattr(one.func.value, "id", None) not in MODULES
            ):
                yield name, index, one.func.value


def mutants(module):
    """The mutants of a module."""
    path = path_of(module)
    return mutants_of(path.read_text(encoding="utf-8"), path)


def mutants_of(source, path, kinds=(variants,)):
    """The mutants of a source text; kinds are what gives variants of a node."""
    tree = ast.parse(source)
    for node, statement in list(sites(tree)):
        for name, index, new in [variant for kind in kinds for variant in kind(node)]:
            old = getattr(node, name)
            removed = isinstance(new, ast.Pass)
            changed = old[index] if removed else statement
            before = ast.unparse(changed).splitlines()
            setattr(node, name, new if index is None else [*old[:index], new, *old[index + 1 :]])
            after = ast.unparse(new if removed else changed).splitlines()
            code = compile(ast.fix_missing_locations(tree), path, "exec")
            setattr(node, name, old)
            body = getattr(changed, "body", None)
            end = body[0].lineno - 1 if body else changed.end_lineno  # the head of a block only
            first = next(pair for pair in zip(before, after, strict=False) if pair[0] != pair[1])
            lines = range(changed.lineno, max(end, changed.lineno) + 1)
            yield Mutant(lines, " → ".join(map(str.strip, first)), code)


class Mutated(SourceFileLoader):
    """Finds and loads a module of the package as its mutant."""

    def __init__(self, module, mutant):
        super().__init__(f"vgglib.{module}", str(path_of(module)))
        self.get_code = lambda name: mutant.code

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)
        return None


class Watch:
    """Notes which lines of a module each test reaches, and how long it takes."""

    def __init__(self, module):
        self.path, self.took = str(path_of(module)), {}
        self.measured = coverage.Coverage(data_file=None, include=[self.path], config_file=False)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.measured.switch_context(item.nodeid)
        begin = time.monotonic()
        yield
        self.took[item.nodeid] = time.monotonic() - begin
        self.measured.switch_context("")


class Only:
    """Runs these tests in this order."""

    def __init__(self, tests):
        self.place = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items):
        chosen = [item for item in items if item.nodeid in self.place]
        items[:] = sorted(chosen, key=lambda item: self.place[item.nodeid])


def fork(work):
    """Do some work, which returns an exit status, in a silent process with a group of its own."""
    if pid := os.fork():
        return pid
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        os._exit(work())
    finally:
        os._exit(70)


def run(files, *plugins):
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files], plugins))


def watch(module):
    """Line → tests that reach it ("" for its import), and test → seconds, without a mutant."""
    files = [f"tests/test_{name}.py" for name in TESTS[module].split()]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told")

        def work():
            watch = Watch(module)
            with watch.measured.collect():
                status = run(files, watch)
            reached = watch.measured.get_data().contexts_by_lineno(watch.path)
            told.write_text(json.dumps([reached, watch.took]))
            return status

        if os.waitpid(fork(work), 0)[1]:
            raise SystemExit(f"these tests fail without a mutant, too: {' '.join(files)}")
        reached, took = json.loads(told.read_text())
    return {int(line): set(tests) for line, tests in reached.items()}, took


def judge(module, jobs, same):
    """Every mutant of a module, with its result."""
    reached, took = watch(module)
    quick = sorted((test for test in took if took[test] < SLOWEST), key=took.get)
    judged = list(mutants(module))
    waiting, running = judged[::-1], {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            where = set().union(*(reached.get(line, ()) for line in mutant.lines))
            tests = [test for test in quick if test in where] or (quick if "" in where else [])
            mutant.result = "same" if f"{module}: {mutant.change}" in same else "survived"
            if tests and mutant.result != "same":

                def work(mutant=mutant, tests=tests):
                    sys.meta_path.insert(0, Mutated(module, mutant))
                    return run(sorted({test.partition("::")[0] for test in tests}), Only(tests))

                limit = 20 + 5 * sum(took[test] for test in tests)
                running[fork(work)] = (mutant, time.monotonic() + limit)
        time.sleep(0.01)
        for pid, (mutant, end) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() < end:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # also what it has started itself
            if not ended:
                os.waitpid(pid, 0)
            mutant.result = "timed out" if not ended else "killed" if status else "survived"
            del running[pid]
    return judged


def row(name, judged):
    """A line of the table, and its numbers."""
    counts = Counter(mutant.result for mutant in judged)
    kinds = {kind: counts[kind] for kind in ("killed", "survived", "timed out")}
    total = sum(kinds.values())
    score = 100 * (1 - counts["survived"] / max(total, 1))
    numbers = "".join(f"{n:11}" for n in (total, *kinds.values()))
    print(f"{name:18}{numbers}{score:9.1f} %", flush=True)
    return {"mutants": total, **kinds, "score": round(score, 1)}


def write(rows, judged):
    """The numbers, and which mutants survived, as JSON."""
    survived = {
        module: [f"{m.lines.start}: {m.change}" for m in some if m.result == "survived"]
        for module, some in judged.items()
    }
    WRITTEN.parent.mkdir(exist_ok=True)
    text = json.dumps({"rows": rows, "survived": survived}, indent=1, ensure_ascii=False)
    WRITTEN.write_text(text + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help=f"all if none is named: {', '.join(TESTS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--least", type=float, default=90, help="percent; below, the status is 1")
    given = parser.parse_args()
    modules = given.modules or list(TESTS)
    if unknown := set(modules) - set(TESTS):
        parser.error(f"no {', '.join(sorted(unknown))}; there is {', '.join(TESTS)}")
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"  # a fork would lack the other threads
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # no smaller example is sought
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True, phases=phases)
    hypothesis.settings.load_profile("mutants")
    same = {line.partition("  #")[0] for line in SAME.read_text(encoding="utf-8").splitlines()}
    # Once in this process: what all tests import; but what is this repository's, anew in each fork.
    with contextlib.redirect_stdout(io.StringIO()):
        names = sorted({name for module in modules for name in TESTS[module].split()})
        run(["--collect-only", *(f"tests/test_{name}.py" for name in names)])
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(OURS):
            del sys.modules[name]
    gc.freeze()  # or each fork would go through all of it at its end
    heads = ("mutants", "killed", "survived", "timed out", "score")
    print(f"{'module':18}" + "".join(f"{head:>11}" for head in heads), flush=True)
    judged, rows = {}, {}
    for module in modules:
        judged[module] = judge(module, given.jobs, same)
        rows[module] = row(module, judged[module])
        write(rows, judged)
    rows["total"] = row("total", [mutant for some in judged.values() for mutant in some])
    write(rows, judged)
    gc.unfreeze()
    for module, some in judged.items():
        place = path_of(module).relative_to(ROOT)
        survivors = [mutant for mutant in some if mutant.result == "survived"]
        print(*(f"{place}:{m.lines.start}: {m.change}" for m in survivors), sep="\n")
    return int(rows["total"]["score"] < given.least)


if __name__ == "__main__":
    sys.exit(main())
