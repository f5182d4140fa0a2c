"""What every chapter must be: executed, described, consistent, written in the house style.

The text of a check says what an author should do; `make notebooks` does the mechanical part.
"""

import copy
import re
import subprocess
from itertools import pairwise

import folding
import nbformat
import pytest
import set_address
import yaml
from execute import normalise
from refusing import refuses

import vgglib
from conftest import CHAPTERS, ROOT, Chapter, notebook_of, tags

SETUP = """\
# Installs vgglib where it is missing, as on Colab; elsewhere it does nothing.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("vgglib") is None:
    source = "vgglib[course] @ git+{url}@v{version}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

import vgglib"""
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{owner}/{name}/blob/{branch}/notebooks/{file})"
)
EXERCISE = re.compile(
    r"^### Exercise (\d+)\.(\d+) \((warm-up|practice|research)\): \S", re.MULTILINE
)
HEADING = re.compile(r"^(#+) +(.+?) *$", re.MULTILINE)
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/<-])/(home|root|tmp|work|Users|content|usr|mnt|var|opt)/|[A-Z]:\\"
)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def text_of(output):
    """Everything a reader can read in an output."""
    if output.output_type == "stream":
        return output.text
    texts = [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return re.sub(r'"data:[^"]+"', '""', "\n".join(texts))  # bytes of pictures are no words


def without_markup(markdown):
    """Prose as words: without code, formulas, HTML tags and the targets of links."""
    for pattern in (FENCE, r"`[^`]*`", r"\$\$.+?\$\$", r"\$[^$]+\$", r"<[^>]+>", r"\]\([^)]*\)"):
        pattern = re.compile(pattern, re.DOTALL) if isinstance(pattern, str) else pattern
        markdown = pattern.sub(" ", markdown)
    return re.sub(r"https?://\S+", " ", markdown)


def test_the_chapters_of_the_contents_are_there():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert [c.path.stem for c in CHAPTERS] == re.findall(r"file: notebooks/(\w+)", contents)


# Executed ---------------------------------------------------------------------------------


def test_executed_top_to_bottom(chapter):
    counts = [cell.execution_count for cell in chapter.of("code")]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks` on this chapter"


def test_in_the_form_that_make_notebooks_writes(chapter):
    normal = normalise(copy.deepcopy(chapter.notebook)) == chapter.notebook
    assert normal, "run `make notebooks` on this chapter"
    assert chapter.path.stat().st_size < 3e6, "a chapter stays below 3 MB"


def test_outputs_are_clean(chapter):
    for number, output in chapter.outputs:
        where = f"{chapter.path.name}, cell {number}"
        assert output.output_type != "error", f"{where}: stored error {output.get('ename')}"
        assert output.get("name") != "stderr", f"{where}: stderr output\n{output.text}"
        text = text_of(output)
        noise = re.search(r"Traceback \(|\d+%\||it/s|s/it|\r|█| at 0x[0-9a-f]{6,}", text)
        assert noise is None, f"{where}: progress bar, traceback or address {noise.group()!r}"


def test_no_path_of_one_machine(chapter):
    for number, cell in enumerate(chapter.cells):
        texts = [cell.source, *map(text_of, cell.get("outputs", []))]
        found = [m.group() for text in texts for m in ABSOLUTE_PATH.finditer(text)]
        assert not found, f"{chapter.path.name}, cell {number}: absolute path {found}"


# Figures ----------------------------------------------------------------------------------


def alts(chapter):
    """Alt text (or None) of each stored picture of a chapter."""
    for cell in chapter.of("code"):
        by_cell = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
        for output in cell.outputs:
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    yield output.metadata.get(kind, {}).get("alt") or by_cell


def test_each_figure_has_its_own_alt_text(chapter):
    texts = list(alts(chapter))
    assert texts, "a chapter has at least one figure"
    assert all(text and len(text) >= 20 for text in texts), f"show figures with alt text: {texts}"
    assert len(set(texts)) == len(texts), "two figures share an alt text"


def test_markdown_pictures_have_alt_text(chapter):
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+\")", chapter.prose)


# Address ----------------------------------------------------------------------------------


def test_badge_and_setup_cell_follow_the_configured_address(chapter):
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    owner, name = set_address.parse(config["url"])
    badge = BADGE.format(owner=owner, name=name, branch=config["branch"], file=chapter.path.name)
    head = chapter.cells[0].source.split("\n\n")
    assert re.fullmatch(rf"# {int(chapter.path.name[:2])}\. \S.*", head[0])
    assert head[1] == badge
    setup = chapter.of("code")[0]
    assert setup.source == SETUP.format(url=config["url"], version=vgglib.__version__)
    assert setup.outputs == []


# Exercises --------------------------------------------------------------------------------


def exercises(chapter):
    """``(chapter, number, grade, solution cells)`` of each exercise, in order."""
    found = []
    for cell in chapter.cells:
        if "solution" in tags(cell):
            assert found, "a solution before the first exercise"
            found[-1][3].append(cell)
        elif cell.cell_type == "markdown" and HEADING.search(cell.source):
            match = EXERCISE.match(cell.source)
            assert match or "### Exercise" not in cell.source, (
                f"write '### Exercise N.M (warm-up|practice|research): title' in {cell.source!r}"
            )
            if match:
                number, sub, grade = match.groups()
                found.append((int(number), int(sub), grade, []))
    return found


def test_at_least_four_exercises_each_with_a_solution(chapter):
    found = exercises(chapter)
    number = int(chapter.path.name[:2])
    assert [e[:2] for e in found] == [(number, i + 1) for i in range(len(found))]
    assert len(found) >= 4
    assert {grade for _, _, grade, _ in found} == {"warm-up", "practice", "research"}
    unsolved = [sub for _, sub, _, solutions in found if not solutions]
    assert not unsolved, f"exercises without a cell tagged solution: {unsolved}"


def test_solutions_fold(chapter):
    for cell in chapter.cells:
        if "solution" not in tags(cell):
            continue
        if cell.cell_type == "code":
            assert cell.source.startswith("# @title Solution"), cell.source
        else:
            assert re.fullmatch(
                r"<details>\n<summary>.+</summary>\n\n.+\n\n</details>", cell.source, re.DOTALL
            ), cell.source


# Style ------------------------------------------------------------------------------------


def test_code_cells_are_short(chapter):
    for cell in chapter.of("code"):
        lines = [line for line in folding.TITLE.sub("", cell.source).splitlines() if line.strip()]
        assert 0 < len(lines) <= 20, f"{len(lines)} lines:\n{cell.source}"


def test_prose_has_the_length_of_a_chapter(chapter):
    words = re.findall(r"[^\W\d_][\w'’-]*", without_markup(chapter.prose))
    assert 1500 <= len(words) <= 3800


def test_headings(chapter):
    found = HEADING.findall(FENCE.sub("", "\n\n".join(c.source for c in chapter.of("markdown"))))
    levels = [len(marks) for marks, _ in found]
    assert levels[0] == 1 and levels.count(1) == 1, "one title, at the top"
    assert all(after - before <= 1 for before, after in pairwise(levels))
    tail = [title for marks, title in found if len(marks) == 2][-3:]
    assert tail == ["What we saw", "Exercises", "Further reading"]


# Numbers ----------------------------------------------------------------------------------

EXACT = re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+\.\d{2,})(?!\w|[.,]\d)")
SCALES = (1, 100, 1e-2, 1e3, 1e-3, 1e-6, 1e-9, 2**-10, 2**-20, 2**-30)


def stated_numbers(markdown):
    """Exact-looking numbers of the prose: 138,357,544 or 15.47, but not those of a quotation.

    A blockquote holds what others say; numbers of claims and papers are names.
    """
    own = re.sub(r"^>.*$", "", without_markup(markdown), flags=re.MULTILINE)
    own = re.sub(r"(Claim|Verdict|error|Exercise|Solution|arXiv:?|§) ?\d+(\.\d+)+", "", own)
    return EXACT.findall(own)


def backed(number, evidence):
    """Whether some number of the evidence, perhaps in another unit, rounds to the stated one."""
    stated = float(number.replace(",", ""))
    places = len(number.partition(".")[2])
    half = 0.5 * 10**-places * (1 + 1e-6)
    return any(abs(value * scale - stated) <= half for value in evidence for scale in SCALES)


def test_exact_numbers_in_the_prose_are_computed(chapter):
    text = "\n".join(
        part for cell in chapter.of("code") for part in [cell.source, *map(text_of, cell.outputs)]
    )
    literals = re.findall(r"\d[\d,_]*\.?\d*(?:e[+-]?\d+)?", text)
    evidence = {float(re.sub("[,_]", "", literal)) for literal in literals}
    unbacked = [n for n in stated_numbers(chapter.prose) if not backed(n, evidence)]
    assert not unbacked, f"numbers that no cell computes: {unbacked}"


@pytest.mark.parametrize(
    ("number", "evidence", "expected"),
    [
        ("138,357,544", {138357544.0}, True),
        ("138,357,545", {138357544.0}, False),
        ("15.47", {15.470264}, True),
        ("15.48", {15.470264}, False),
        ("15.47", {15470264320.0}, True),
        ("89.37", {0.89366}, True),
        ("0.50", set(), False),
    ],
)
def test_a_number_is_backed_by_what_rounds_to_it(number, evidence, expected):
    assert backed(number, evidence) is expected


def test_numbers_of_quotations_and_names_need_no_cell():
    text = "> **Claim 1.2** (§2.3): 27,000 weights\n\nIn §2.30 and arXiv 1409.1556: 3.14, `9.99`."
    assert stated_numbers(text) == ["3.14"]


# The tools --------------------------------------------------------------------------------


def test_normalise_drops_what_churns_and_derives_the_rest():
    notebook = notebook_of(("1", ["widget"]), ("2", ["solution"]), ("3", ["claim-2-1"]), "text")
    notebook.metadata = {"widgets": {"state": 1}, "language_info": {"version": "3.11.7"}}
    for cell in notebook.cells[:3]:
        cell.outputs = [nbformat.v4.new_output("stream", text="out")]
        cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    done = normalise(copy.deepcopy(notebook))
    widget, solution, plain, text = done.cells
    assert "widgets" not in done.metadata and "version" not in done.metadata.language_info
    assert widget.outputs == [] and set(tags(widget)) == {"widget", "nbval-ignore-output"}
    assert solution.metadata["cellView"] == "form" and solution.outputs
    assert plain.metadata == {"tags": ["claim-2-1"]} and text.metadata == {}
    assert normalise(copy.deepcopy(done)) == done


def test_normalise_keeps_of_a_widget_what_works_in_a_page():
    notebook = notebook_of(("widget", ["widget"]))
    page = {"text/html": '<div class="vgg-widget">…</div>'}
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "0123"}}
    v4 = nbformat.v4
    notebook.cells[0].outputs = [
        v4.new_output("display_data", view),
        v4.new_output("stream", text="progress"),
        v4.new_output("execute_result", page | view | {"text/plain": "Widget()"}),
    ]
    (output,) = normalise(notebook).cells[0].outputs
    assert output.output_type == "execute_result" and output.data == page


def test_execute_writes_the_normal_form_and_twice_the_same(tmp_path):
    from execute import execute

    path = tmp_path / "a b.ipynb"
    nbformat.write(notebook_of(("print(6 * 7)", [])), path)
    execute(path)
    first = path.read_bytes()
    execute(path)
    assert path.read_bytes() == first
    cell = Chapter(path).cells[0]
    assert cell.execution_count == 1 and cell.outputs[0].text == "42\n"


def test_address_changes_everywhere_and_back(tmp_path):
    before = {}
    for path in set_address.files(ROOT):
        copied = tmp_path / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        before[copied] = path.read_bytes()
        copied.write_bytes(before[copied])
    for command in (["init", "-q"], ["add", "--all"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    handed_in = tmp_path / "inbox" / "ada_01_architecture.ipynb"
    handed_in.parent.mkdir()
    handed_in.write_bytes(CHAPTERS[0].path.read_bytes())
    owner, name = set_address.address(tmp_path)
    fork = ("someone-else", "their.fork")
    changed = set_address.main("https://github.com/" + "/".join(fork), tmp_path)
    assert {"_config.yml", "README.md", "CITATION.cff"} <= {str(path) for path in changed}
    assert {f"notebooks/{chapter.path.name}" for chapter in CHAPTERS} <= set(map(str, changed))
    assert handed_in.read_bytes() == before[tmp_path / "notebooks" / CHAPTERS[0].path.name]
    left = [path for path in before if owner.lower() in path.read_text("utf-8").lower()]
    assert not left, "the old address is still in these files"
    assert set_address.address(tmp_path) == fork
    set_address.main(f"https://github.com/{owner}/{name}", tmp_path)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_notebooks_install_the_release_that_the_package_has():
    text = "vgglib[course] @ git+https://github.com/{}/{}@v{}\nversion: {}\n"
    was = text.format("a", "b.c", "0.9.1rc2", "0.9.1rc2")
    now = set_address.change(was, ("a", "b.c"), ("a", "d"), "1.0.0")
    assert now == text.format("a", "d", "1.0.0", "1.0.0")


@pytest.mark.parametrize(
    "url", ["", "me/fork", "https://example.org/me/fork", "https://github.com/me"]
)
def test_an_address_that_is_none_is_refused(url):
    with refuses(ValueError, got=repr(url), accepts="https://github.com/OWNER/NAME"):
        set_address.parse(url)
