"""Change the course's address, and the release that its notebooks install, wherever they stand.

    python tools/set_address.py [https://github.com/me/fork]

`_config.yml` holds the address; the Colab badges, the chapters' set-up cells, README.md,
CITATION.cff and the links to the published book follow from it. `vgglib/__init__.py` holds the
version; the tag in the set-up cells and in README.md and the version in CITATION.cff follow from
it. Only files that git tracks change: submissions, grades and notes that lie in the clone are not
the course's.
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".cff", ".ipynb", ".json", ".md", ".py", ".toml", ".yml"}
ADDRESS = re.compile(r"https://github\.com/([\w-]+)/([\w.-]*[\w-])/?")
VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
# An installation at a release, and the version that is cited.
RELEASED = re.compile(
    r"(git\+https://github\.com/[\w-]+/[\w.-]+@v|^version: )\d+\.[\w.]+", re.MULTILINE
)


def address(root=ROOT):
    """``(owner, repository)`` as `_config.yml` gives them."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return parse(config["repository"]["url"])


def parse(url):
    """Split a repository's URL into owner and name; ValueError when it is not one."""
    match = ADDRESS.fullmatch(url.strip().removesuffix(".git"))
    if match is None:
        raise ValueError(f"{url!r} is no repository address; write https://github.com/OWNER/NAME")
    return match.groups()


def files(root=ROOT):
    """Every tracked text file that may hold the address; ValueError outside of a git clone."""
    command = ["git", "-C", root, "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        raise ValueError(
            f"git does not list the files of {root}; run this in a clone ({listed.stderr.strip()})"
        )
    for name in listed.stdout.split("\0")[:-1]:
        path = Path(root, name)
        if path.suffix in SUFFIXES and path.is_file() and not path.is_symlink():
            yield path


def change(text, old, new, version):
    """Put the new ``(owner, repository)`` for the old one: on GitHub, Colab and the book's site.

    And the version for the released one that is installed or cited.
    """
    entered = (
        rf"(git clone https://github\.com/{old[0]}/{re.escape(old[1])}\n\s*cd ){re.escape(old[1])}$"
    )
    text = re.sub(entered, rf"\g<1>{new[1]}", text, flags=re.MULTILINE)
    repository = rf"(github(?:usercontent)?(?:\.com)?/){old[0]}/{re.escape(old[1])}(?![\w-])"
    text = re.sub(repository, rf"\g<1>{new[0]}/{new[1]}", text)
    site = rf"https://{old[0].lower()}\.github\.io/{re.escape(old[1])}(?![\w-])"
    text = re.sub(site, f"https://{new[0].lower()}.github.io/{new[1]}", text)
    return RELEASED.sub(rf"\g<1>{version}", text)


def main(url, root=ROOT):
    """Change address (unless "") and release in every file; return the files that changed."""
    old = address(root)
    new = parse(url) if url else old
    version = VERSION.search((root / "vgglib" / "__init__.py").read_text(encoding="utf-8"))[1]
    changed = []
    for path in files(root):
        before = path.read_text(encoding="utf-8")
        after = change(before, old, new, version)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path.relative_to(root))
    return changed


if __name__ == "__main__":
    try:
        written = main("".join(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"set_address.py: {error}")
    print("\n".join(map(str, written)) or "nothing to change")
