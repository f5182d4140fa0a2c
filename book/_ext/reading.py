"""What pages say of the chapters, read from them: how long they take, and which needs which.

- ``{reading}`01_architecture` `` is the time to read a chapter, ``{reading}`all` `` that of all.
- ``chapter-map`` lists the chapters in order, each with those to read before and its time; beside
  the list a line leads to each chapter from those that it builds on.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective, SphinxRole

# Silent reading goes at some 240 words a minute (Brysbaert, 2019); this prose wants thought.
WORDS_A_MINUTE = 200
SECONDS_A_LINE = 4  # of code that is not folded
SECONDS_A_FIGURE = 30
STEP = 5  # minutes; more would be false precision

NEEDS = re.compile(r"\bRead before: (.+?)(?:\n\n|\Z)", re.DOTALL)
LINK = re.compile(r"\]\((\d\d)_\w+\.ipynb")
TITLE = re.compile(r"# (\d+)\. ([^:\n]+)")
MARKS = re.compile(r"<[^>]+>|\]\([^)]*\)")  # of Markdown, what nobody reads


@dataclass(frozen=True)
class Chapter:
    """A chapter's number and title, the numbers of those to read before, the minutes to read it."""

    path: Path
    number: int
    title: str
    needs: tuple[int, ...]
    minutes: int


def reading_minutes(notebook):
    """Minutes to read a chapter without its solutions and exercises' work, to a step of five."""
    words = lines = figures = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "solution" in tags:
            continue
        if cell.cell_type == "markdown":
            words += len(MARKS.sub(" ", cell.source).split())
        elif not any(tag.startswith("hide-") for tag in tags):
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
        outputs = (output.get("data", {}) for output in cell.get("outputs", []))
        figures += sum("image/png" in data or "widget" in tags for data in outputs)
    minutes = words / WORDS_A_MINUTE + (lines * SECONDS_A_LINE + figures * SECONDS_A_FIGURE) / 60
    return max(STEP, STEP * round(minutes / STEP))


@cache
def _read(path, _changed):
    notebook = nbformat.read(path, as_version=4)
    head = "\n\n".join(cell.source for cell in notebook.cells[:3] if cell.cell_type == "markdown")
    title, needs = TITLE.match(head), NEEDS.search(head)
    if not title or not needs:
        raise ValueError(
            f"{path.name} does not begin as chapters do: `# 4. Title`, and in its first cells "
            "`Read before: [chapter 1](01_architecture.ipynb)` (or: nothing)"
        )
    wanted = sorted({int(number) for number in LINK.findall(needs[1])})
    minutes = reading_minutes(notebook)
    return Chapter(path, int(title[1]), title[2].strip(), tuple(wanted), minutes)


def read_chapters(folder):
    """The chapters of a folder of notebooks, in order.

    Raises
    ------
    ValueError
        If one does not say what must be read before.
    """
    paths = sorted(Path(folder).glob("[0-9]*.ipynb"))
    return [_read(path, path.stat().st_mtime_ns) for path in paths]


def about(minutes):
    """50 as "50 minutes", 560 as "9 and a half hours"."""
    if minutes < 90:
        return f"{minutes} minutes"
    halves = round(minutes / 30)
    return f"{halves // 2}{' and a half' if halves % 2 else ''} hours"


def nearest(chapters):
    """Pairs (from, to) of the map's lines: what a chapter needs, but not what that needs itself."""
    needs = {chapter.number: set(chapter.needs) for chapter in chapters}

    def below(number):
        return needs.get(number, set()).union(*map(below, needs.get(number, ())))

    return [
        (before, number)
        for number in needs
        for before in sorted(needs[number])
        if not any(before in below(other) for other in needs[number] - {before})
    ]


# ------------------------------------------------------------------------------------- the page


class Reading(SphinxRole):
    """The time to read a chapter, or all of them."""

    def run(self):
        chapters = {chapter.path.stem: chapter.minutes for chapter in chapters_of(self.env)}
        if self.text == "all":
            return [nodes.Text(about(sum(chapters.values())))], []
        if self.text not in chapters:
            known = ", ".join(["all", *chapters])
            message = self.inliner.reporter.error(f"no chapter {self.text!r} to read; {known}")
            return [], [message]
        return [nodes.Text(about(chapters[self.text]))], []


class ChapterMap(SphinxDirective):
    """The list of chapters with the lines between them."""

    def run(self):
        chapters = chapters_of(self.env)
        top = "../" * self.env.docname.count("/")
        titles = {chapter.number: chapter.path for chapter in chapters}

        def link(number, words):
            return f"[{words}]({top}notebooks/{titles[number].name})"

        lines = []
        for chapter in chapters:
            needs = " and ".join(
                filter(None, [
                    ", ".join(link(number, number) for number in chapter.needs[:-1]),
                    *(link(number, number) for number in chapter.needs[-1:]),
                ])
            )  # fmt: skip
            after = f"after {needs}" if needs else "to begin with"
            title = link(chapter.number, f"**{chapter.number} {chapter.title}**")
            lines.append(f"- {title}<br>{after} · {about(chapter.minutes)}")
        box = nodes.container(classes=["chapter-map"])
        box += nodes.raw("", drawing(chapters), format="html")
        self.state.nested_parse(StringList(lines, self.env.docname), 0, box)
        return [box]


def drawing(chapters):
    """The lines beside the list, as wide as the longest reaches; hidden from those who listen."""
    places = {chapter.number: index for index, chapter in enumerate(chapters)}
    paths = []
    for before, number in nearest(chapters):
        start, end = 10 * places[before] + 5, 10 * places[number] + 5
        out = 100 - 95 * math.sqrt((places[number] - places[before]) / (len(chapters) - 1))
        paths.append(f'<path d="M100 {start}C{out:.0f} {start} {out:.0f} {end} 100 {end}"/>')
    return (
        f'<svg viewBox="0 0 100 {10 * len(chapters)}" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(paths)}</svg>'
    )


def chapters_of(env):
    """The book's chapters; a page that shows something of them is made anew when they change."""
    chapters = read_chapters(Path(env.srcdir) / "notebooks")
    for chapter in chapters:
        env.note_dependency(str(chapter.path))
    return chapters


def setup(app):
    app.add_role("reading", Reading())
    app.add_directive("chapter-map", ChapterMap)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
