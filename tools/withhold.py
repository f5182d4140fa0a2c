"""The course without its answers: a book for a class, and a repository for it to work in.

    python tools/withhold.py FOLDER
    python tools/withhold.py FOLDER --address OWNER/NAME [--colab-ai off]

The first is what `make book SOLUTIONS=none` builds: it copies what the book is made of into FOLDER;
cells tagged `solution` stay behind. FOLDER/notebooks are the students' notebooks.

The second, `make students`, writes a repository that can be published: the same without the pages
about this one, with the package, the recorded runs and the assignments' student versions. Badges
and install cells lead to the address given, which must not be that of the answers. Before anything
reaches FOLDER, all of it is searched for lines of answers and hidden tests. Another call renews
what the last one wrote; what you have added to FOLDER, and its history, stay.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import assignments
import nbformat
import set_address
from set_address import ROOT

import vgglib

TEMPLATES = ROOT / "tools" / "students"
# What goes into the students' repository of what git tracks here. All else stays behind.
TAKEN = re.compile(
    r"(book|vgglib|benchmarks)/|notebooks/[^/]+\.ipynb$|\.devcontainer/|\.gitignore$"
    r"|\.github/workflows/publish\.yml$|(LICENSE|LICENSE-TEXT|CHANGELOG\.md|CITATION\.cff)$"
    r"|(_config|_toc)\.yml$|pyproject\.toml$|requirements\.(txt|lock)$"
)
# Pages about this repository: how to teach from it, how it is tested, how it is made.
PAGES = ("instructors", "status", "architecture")
LEFT = {*(f"book/{page}.md" for page in PAGES)}
LEFT |= {"benchmarks/suite.py", "benchmarks/recorded/suite.json"}  # seconds of its tests
# What only a page for instructors says, also one that PAGES should have named.
TEACHERS = ("instructors.md", "instructors.html", "make grade")
WRITTEN = ".course-files"  # in the copy: what the next call may replace
SECRET = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS|MARK SCHEME)\n(.*?)### END \1", re.DOTALL)
DISTINCT = 25  # characters from which on a line of an answer is searched for


def is_solution(cell):
    """Is it a chapter's answer to an exercise?"""
    return "solution" in cell.metadata.get("tags", [])


def without_solutions(notebook):
    """A notebook's cells but for those tagged ``solution``."""
    notebook.cells = [cell for cell in notebook.cells if not is_solution(cell)]
    return notebook


def withhold(folder, root=ROOT):
    """Write the book's sources into a folder, which is emptied first."""
    folder = Path(folder)
    # Only a folder that an earlier call made is emptied.
    if folder.exists() and any(folder.iterdir()) and not (folder / "_toc.yml").exists():
        raise SystemExit(f"{folder} holds something else; name an empty or a new folder")
    if folder.resolve() == root.resolve() or (folder / ".git").exists():
        raise SystemExit(f"{folder} is a repository, or the course itself; name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "notebooks").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(root / name, folder)
    shutil.copytree(root / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = without_solutions(nbformat.read(path, 4))
        nbformat.write(notebook, folder / "notebooks" / path.name)


# The students' repository --------------------------------------------------------------------


def students(folder, url, colab_ai=True):
    """Write the repository for a class; returns the names of its files.

    Parameters
    ----------
    folder : path-like
        New, empty, an empty clone, or what an earlier call wrote.
    url : str
        Where it will lie: ``OWNER/NAME``, or https://github.com/OWNER/NAME.
    colab_ai : bool
        False: the notebooks ask Colab to offer no generated code.

    Raises
    ------
    ValueError
        The address or the folder leads to answers, or the folder holds something else.
    """
    folder, new = Path(folder), address_for_students(url)
    check_folder(folder)
    with tempfile.TemporaryDirectory() as made:
        made = Path(made)
        copy_course(made)
        lead_to(made, set_address.address(), new)
        if not colab_ai:
            for path in made.rglob("*.ipynb"):
                notebook = nbformat.read(path, 4)
                notebook.metadata.setdefault("colab", {})["generative_ai_disabled"] = True
                nbformat.write(notebook, path)
        if found := leaks(made):
            raise ValueError(
                "answers would be given away, nothing is written:\n" + "\n".join(found)
            )
        return replace(folder, made)


def address_for_students(url, root=ROOT):
    """``(owner, repository)`` of an address; ValueError where this repository lies itself."""
    new = set_address.parse(url if "//" in url else f"https://github.com/{url}")
    known = {"the address in _config.yml": set_address.address(root)}
    listed = subprocess.run(
        ["git", "-C", root, "remote", "--verbose"], capture_output=True, text=True
    )
    for name, where in re.findall(r"^(\S+)\t(\S+)", listed.stdout, re.MULTILINE):
        if found := re.search(r"github\.com[:/]([\w-]+)/([\w.-]+?)(\.git)?/?$", where):
            known[f"the remote {name!r} of this clone"] = found.groups()[:2]
    for what, (owner, name) in known.items():
        if (owner.lower(), name.lower()) == tuple(part.lower() for part in new):
            raise ValueError(f"{'/'.join(new)} is {what}, where the answers lie; {REMEDY}")
    return new


REMEDY = (
    "make an empty repository for the class (not a fork, whose history holds the answers) and give "
    "its address: make students OUT=../my-course ADDRESS=me/my-course"
)


def check_published(owner, name):
    """ValueError if GitHub has a course with answers at an address; nothing without a network."""
    sign = f"https://raw.githubusercontent.com/{owner}/{name}/HEAD/tools/withhold.py"
    try:
        urllib.request.urlopen(urllib.request.Request(sign, method="HEAD"), timeout=5).close()
    except OSError:  # it has no such file, is private, not there yet, or cannot be asked
        return
    raise ValueError(f"{owner}/{name} on GitHub holds a course with its answers; {REMEDY}")


def check_folder(folder):
    """ValueError if a folder should not become the students' repository."""
    if ROOT in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(f"{folder} lies within the course; name a folder beside it (OUT=../…)")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a new or an empty folder")
    within = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if within - {".git"} and WRITTEN not in within:
        raise ValueError(f"{folder} holds something else; name a new or an empty folder")
    if ".git" in within:
        answers = ("notebooks/assignments", "tests/wrong_answers", "tools/withhold.py")
        command = ["git", "-C", folder, "rev-list", "--all", "--max-count=1", "--", *answers]
        told = subprocess.run(command, capture_output=True, text=True)
        if told.returncode or told.stdout:
            raise ValueError(
                told.stderr.strip() or f"the history of {folder} holds the answers; {REMEDY}"
            )


def copy_course(folder):
    """Copy what students get into an empty folder, still with the old address."""
    command = ["git", "-C", ROOT, "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        raise ValueError(f"git does not list the course's files: {listed.stderr.strip()}")
    tracked = listed.stdout.split("\0")[:-1]
    for name in tracked:
        source, target = ROOT / name, folder / name
        if not TAKEN.match(name) or name in LEFT or not source.is_file():
            continue
        command = name.startswith("benchmarks/") and source.suffix == ".py"
        if command and "assignment" in source.read_text(encoding="utf-8"):
            continue  # what made an assignment's material tells its answer
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb":
            nbformat.write(without_solutions(nbformat.read(source, 4)), target)
        elif source.suffix == ".md" and name.startswith("book/"):
            target.write_text(for_students(source.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copy(source, target)
    handed_out = assignments.main(folder / "assignments")
    for path in [p for p in handed_out if f"notebooks/assignments/{p.name}" not in tracked]:
        path.unlink()
        handed_out.remove(path)
    own_files(folder, handed_out)
    contents = (folder / "_toc.yml").read_text(encoding="utf-8")
    for name in re.findall(r"(?:file|root): (\S+)", contents):
        if not any((folder / name).with_suffix(end).exists() for end in (".md", ".ipynb")):
            raise ValueError(f"git does not track {name}, which _toc.yml lists: git add it")


def for_students(page):
    """A page without the cards and paragraphs that link to pages about this repository."""
    pages = "|".join(PAGES)
    card = (TEMPLATES / "card.md").read_text(encoding="utf-8")
    page = re.sub(
        rf"^:::\{{grid-item-card\}}[^\n]*\n:link: (?:{pages})\n.*?^:::\n",
        lambda _: card,
        page,
        flags=re.MULTILINE | re.DOTALL,
    )
    link = re.compile(rf"\]\((?:{pages})\.md")
    return "\n\n".join(part for part in page.split("\n\n") if not link.search(part))


def own_files(folder, handed_out):
    """Write what is other than here: README, Makefile, contents, settings of the tools."""
    chapters = re.search(
        r"^\| chapter .*?\n\n", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
    )
    owner, name = set_address.address()
    colab = f"https://colab.research.google.com/github/{owner}/{name}/blob/main"
    rows = []
    for path in handed_out:
        title = nbformat.read(path, 4).cells[0].source.splitlines()[0].lstrip("# ")
        where = path.relative_to(folder).as_posix()
        rows.append(f"| [{title}]({where}) | [open in Colab]({colab}/{where}) |")
    readme = (TEMPLATES / "README.md").read_text(encoding="utf-8")
    for place, text in (
        ("{chapters}", chapters[0].strip()),
        ("{assignments}", "\n".join(["| assignment | |", "|---|---|", *rows])),
        ("{version}", vgglib.__version__),
    ):
        readme = readme.replace(place, text)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    shutil.copy(TEMPLATES / "Makefile", folder)

    def edit(name, pattern, new):
        path = folder / name
        text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if not count:
            raise ValueError(f"{name} has no {pattern!r} any more; mend own_files in withhold.py")
        path.write_text(text, encoding="utf-8")

    edit("_toc.yml", rf" +- file: book/(?:{'|'.join(PAGES)})\n", "")
    edit("_config.yml", r" Every URL of this repository derives from [^.]*\.url`:\n#[^\n]*\n", "\n")
    edit("pyproject.toml", r"\n\[tool\.pytest\.ini_options\]\n(?:[^[\n].*\n?)+", "")
    edit(".devcontainer/devcontainer.json", "make machine setup hooks", "make setup")
    edit(".devcontainer/devcontainer.json", r' +"runArgs": .*\n', "")  # for the grader's sandbox


def lead_to(folder, old, new):
    """Put the class's address for the course's, and its main branch for the course's release."""
    for path in folder.rglob("*"):
        try:
            before = path.read_text(encoding="utf-8")
        except (IsADirectoryError, UnicodeDecodeError):
            continue
        after = set_address.change(before, old, new, vgglib.__version__)
        installed = rf"(git\+https://github\.com/{re.escape('/'.join(new))})@v[\d.]+\w*"
        after = re.sub(installed, r"\1@main", after)
        if after != before:
            path.write_text(after, encoding="utf-8")


def replace(folder, made):
    """Move what was made into the folder, in place of what an earlier call has written."""
    written = folder / WRITTEN
    before = written.read_text(encoding="utf-8").splitlines()[1:] if written.exists() else []
    for name in before:
        (folder / name).unlink(missing_ok=True)
    names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / name, folder / name)
    head = f"# Written by the course, version {vgglib.__version__}, which replaces these files."
    written.write_text("\n".join([head, *names, ""]), encoding="utf-8")
    return names


# What must not be in it -----------------------------------------------------------------------


def answers(root=ROOT):
    """Lines of answers and hidden tests → the notebook that they are of.

    Short lines are left out, and those that chapters, tasks and the package show anyway.
    """
    hidden, shown = {}, []
    for path in sorted((root / "notebooks").rglob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            parts = [part for _, part in SECRET.findall(cell.source)]
            answer = is_solution(cell) or cell.metadata.get("nbgrader", {}).get("solution")
            whole = answer and not parts  # as nbgrader takes it
            parts = [cell.source] if whole else parts
            shown += [] if whole else [SECRET.sub("", cell.source)]
            lines = (line for part in parts for line in spaced(part).splitlines())
            hidden.update({line: path.name for line in lines if len(line) >= DISTINCT})
    shown += [path.read_text(encoding="utf-8") for path in (root / "vgglib").rglob("*.py")]
    shown = spaced("\n".join(shown))
    return {line: name for line, name in hidden.items() if line not in shown}


def leaks(folder, root=ROOT):
    """What a folder gives away, a line a find: answers, the answers' address, a page that is none.

    Texts are searched as people would read them: notebooks and records string by string.
    """
    hidden, found = answers(root), []
    owner, name = (part.lower() for part in set_address.address(root))
    places = [f"{owner}/{name}", f"{owner}.github.io/{name}", *TEACHERS]
    for path in sorted(Path(folder).rglob("*")):
        where = path.relative_to(folder).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except (IsADirectoryError, UnicodeDecodeError):
            continue
        if path.suffix in (".ipynb", ".json"):
            text = "\n".join(strings(json.loads(text)))
        found += [f"{where}: leads to {place}" for place in places if place in text.lower()]
        text = spaced(text)
        found += [f"{where}: {name}: {line}" for line, name in hidden.items() if line in text]
    return found


def spaced(text):
    """Text whose lines have no blanks but single ones within."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def strings(value):
    """Every text within parsed JSON, but for pictures; lists of lines as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            if not key.startswith("image/"):
                yield key
                yield from strings(part)
    elif isinstance(value, list):
        if all(isinstance(part, str) for part in value):
            yield "".join(value)
        for part in value:
            yield from strings(part)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="a new folder, or one that an earlier call has written")
    parser.add_argument("--address", help="OWNER/NAME on GitHub of the repository for the class")
    parser.add_argument("--colab-ai", choices=("on", "off"), default="on")
    given = parser.parse_args(arguments)
    if given.address is None:
        withhold(given.folder)
        print(f"The notebooks for students: {given.folder}/notebooks")
        where = "/".join(set_address.address())
        print(f"Their badges open {where}, answers included; those of `make students` do not.")
        return
    try:
        if not given.folder or not given.address:
            raise ValueError(
                "say where it goes: make students OUT=../my-course ADDRESS=me/my-course"
            )
        new = address_for_students(given.address)
        check_published(*new)
        names = students(given.folder, given.address, colab_ai=given.colab_ai == "on")
    except (ValueError, OSError) as error:
        sys.exit(f"make students: {error}")
    print(f"{len(names)} files without an answer in them: {given.folder}\nTo publish them:")
    print(f'  cd "{given.folder}"')
    if not Path(given.folder, ".git").exists():
        print("  git init -b main")
        print(f"  git remote add origin https://github.com/{'/'.join(new)}")
    print('  git add -A && git commit -m "The course, for students" && git push -u origin main')


if __name__ == "__main__":
    main()
