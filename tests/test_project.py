"""What carries the project on: workflows, hooks, versions, and the scripts that they run."""

import ast
import json
import os
import re
import subprocess

import pytest
import screenshots
import yaml

import vgglib
from conftest import CHAPTERS, ROOT, project

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
USES = re.compile(r"uses: +[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# What a job may do beyond reading the repository.
MORE = {
    ("publish.yml", "deploy"): {"pages": "write", "id-token": "write"},
    ("release.yml", "publish"): {"contents": "write"},
    ("weekly.yml", "report"): {"issues": "write"},
}


def jobs(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def step(workflow, job, name):
    """The script of a workflow's step."""
    found = jobs(ROOT / ".github" / "workflows" / f"{workflow}.yml")[job]["steps"]
    return next(s["run"] for s in found if s.get("name") == name)


def bash(script, folder, **env):
    """Run a script as a workflow's step does."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def worded(text):
    """Lines of a test file that hold the wording of a message: raises and warns with match=."""
    return [
        call.lineno
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", getattr(call.func, "id", "")) in ("raises", "warns")
        and any(word.arg == "match" for word in call.keywords)
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=lambda path: path.stem)
def test_no_test_holds_a_message_to_its_wording(path):
    """Use ``refuses(error, got=…, accepts=…, remedy=…)`` or ``warns`` of `refusing.py` instead.

    A sentence may get better at any time; what it names is what helps its reader.
    """
    lines = worded(path.read_text(encoding="utf-8"))
    assert not lines, f"{path.name}: match= in lines {lines}; say what is named by refusing.refuses"


def test_a_message_held_to_its_wording_would_be_found():
    call = 'with pytest.{}(ValueError, match="must be"):\n    pass'
    assert worded(call.format("raises")) == worded(call.format("warns")) == [1]
    assert worded("with raises(ValueError, match=words): pass") == [1]
    assert not worded("with pytest.raises(ValueError): re.match('a', b)")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_pinned_and_may_do_little(path):
    text = path.read_text(encoding="utf-8")
    loose = [line for line in text.splitlines() if "uses:" in line and not USES.search(line)]
    assert not loose, f"pin each action by the hash of a release: {loose}"
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        assert job.get("permissions", {}) == MORE.get((path.name, name), {}), name
        for one in job["steps"]:
            if "actions/checkout" in one.get("uses", ""):
                assert one["with"]["persist-credentials"] is False
            if "run" in one:
                # What others can name (branches, titles) reaches a script as a variable alone.
                assert "${{" not in one["run"], one["run"]
                assert not bash('bash -n <<< "$SCRIPT"', ROOT, SCRIPT=one["run"]).stderr


def test_a_release_has_the_words_of_its_version(tmp_path):
    script = step("release", "build", "Words of this version")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n- c\n\n## 0.2.0 – 2027-01-01\n\n- b\n\n## 0.2\n\n- a\n"
    )
    (tmp_path / "dist").mkdir()
    assert bash(script, tmp_path, TAG="v0.2.0").returncode == 0
    assert (tmp_path / "dist" / "notes.md").read_text().split() == ["-", "b"]
    assert bash(script, tmp_path, TAG="v0.3.0").returncode != 0, "a version without words"


def test_a_release_is_of_the_version_that_the_package_has():
    script = step("release", "build", "The tag is the version that the package has")
    assert bash(script, ROOT, TAG=f"v{vgglib.__version__}").returncode == 0
    assert bash(script, ROOT, TAG="v9.9.9").returncode != 0


def test_the_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == vgglib.__version__, "run `make address`"
    assert project()["tool"]["hatch"]["version"]["path"] == "vgglib/__init__.py"
    assert {"title", "authors", "license", "abstract", "keywords"} <= set(citation)


def test_every_notebook_is_tried_and_those_that_fail_are_named(tmp_path):
    for folder in (".ci", "tools", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".ci" / "notebooks").write_bytes((ROOT / ".ci" / "notebooks").read_bytes())
    for name in ("01_a", "02_b", "03_c"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$2" >> tried\ncase "$2" in *02*|*03*) exit 1;; esac\n')
    python.chmod(0o755)
    done = bash(f'bash .ci/notebooks "{python}"', tmp_path, GITHUB_OUTPUT=str(tmp_path / "said"))
    assert done.returncode == 1
    assert (tmp_path / "said").read_text() == "failed=02_b.ipynb 03_c.ipynb\n"
    assert len((tmp_path / "tried").read_text().split()) == 3


def test_the_report_says_what_failed(tmp_path):
    """The weekly report's text, with a ``gh`` that writes down what it is told."""
    needs = {
        "newest": {"result": "failure", "outputs": {"environment": "failure", "failed": ""}},
        "colab": {
            "result": "failure",
            "outputs": {"environment": "success", "failed": "02_design.ipynb"},
        },
        "links": {"result": "success", "outputs": {"environment": "success"}},
        "audit": {"result": "failure", "outputs": {"environment": "success"}},
    }
    weekly = jobs(ROOT / ".github" / "workflows" / "weekly.yml")
    assert {*weekly["report"]["needs"], "report"} == set(weekly), "it tells of every job"
    tool = tmp_path / "gh"
    tool.write_text('#!/bin/sh\necho "$@" >> told\n[ "$2" = list ] && echo "$OPEN"\nexit 0\n')
    tool.chmod(0o755)
    script = step("weekly", "report", "Open an issue, or add to the one that is open")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUN": "https://example.org/run"}
    for opened, expected in (("", "issue create"), ("7", "issue comment 7")):
        done = bash(script, tmp_path, NEEDS=json.dumps(needs), OPEN=opened, **env)
        assert done.returncode == 0, done.stderr
        assert expected in (tmp_path / "told").read_text()
    body = (tmp_path / "body.md").read_text().splitlines()
    assert "newest" in body[0] and "environment could not be made" in body[0]
    assert "colab" in body[1] and "these notebooks failed: 02_design.ipynb" in body[1]
    assert "audit" in body[2] and "advisories" in body[2]
    assert "links" not in "".join(body) and env["RUN"] in body[-1]


def test_what_needs_a_control_group_is_tested_in_one(tmp_path):
    script = step("weekly", "everything", "What only the kernel bounds, in a control group")
    files = {
        "sudo": 'exec "$@"',
        "systemd-run": 'echo "$@" > asked\nwhile [ "$1" != env ]; do shift; done\nexec "$@"',
        ".venv/bin/python": 'echo "$CONTROL_GROUP $*" > ran',
    }
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name, lines in files.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    done = bash(script, tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert {"--scope", "Delegate=yes"} <= set((tmp_path / "asked").read_text().split())
    ran = (tmp_path / "ran").read_text().split()
    assert ran[0] == "asked" and (ROOT / ran[-1]).name == "test_limits.py"


def test_hooks_need_no_network():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in config["repos"][0]["hooks"]}
    assert all(hook["language"] == "system" for hook in hooks.values())
    watched = re.compile(hooks["notebooks"]["files"])
    assert all(watched.match(f"notebooks/{chapter.path.name}") for chapter in CHAPTERS)
    assert not watched.match("notebooks/assignments/01_architecture.ipynb")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (["README.md", "vgglib/model.py", "notebooks/assignments/01_architecture.ipynb"], []),
        (
            ["book/glossary.md", "notebooks/02_design.ipynb"],
            ["notebooks/02_design", "book/glossary"],
        ),
        (["book/_static/book.css"], ["book/index", "notebooks/01_architecture"]),
    ],
)
def test_the_pages_that_a_change_concerns(changed, expected):
    assert screenshots.pages(changed) == expected


def test_pictures_of_a_page(book, tmp_path):
    from PIL import Image

    written = screenshots.main(tmp_path, ["book/cite.md"])
    assert [path.name for path in written] == [
        "book-cite-wide-light.png",
        "book-cite-narrow-dark.png",
    ]
    light, dark = (Image.open(path).convert("L") for path in written)
    assert (light.width, dark.width) == (1440, 360)
    assert light.resize((1, 1)).getpixel((0, 0)) > 200 > 80 > dark.resize((1, 1)).getpixel((0, 0))


def test_the_report_says_that_the_tests_let_too_much_pass(tmp_path):
    needs = {"mutants": {"result": "failure", "outputs": {"environment": "success"}}}
    (tmp_path / "gh").write_text("#!/bin/sh\n")
    (tmp_path / "gh").chmod(0o755)
    script = step("weekly", "report", "Open an issue, or add to the one that is open")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUN": "https://example.org/run"}
    done = bash(script, tmp_path, NEEDS=json.dumps(needs), **env)
    assert done.returncode == 0, done.stderr
    line = (tmp_path / "body.md").read_text().splitlines()[0]
    assert "mutants" in line and "tests" in line and "notebook" not in line
