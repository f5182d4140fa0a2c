"""What do you expect? A question that is answered before the chapter shows what it computes.

The questions of a chapter are one file of ``vgglib/assets/questions``, so that its cells stay
short and nobody reads an answer by accident. An entry is one question, or the list of questions of
a check; a question is one of three kinds:

=======  ===================================  ====================================================
kind     what it has besides ``"ask"``        what a near miss is told
=======  ===================================  ====================================================
number   ``"truth"``, ``"unit"``,             ``"near"``: lists of a value, or of the lower and
         ``"within"`` (of the truth's size)   upper end of a range, with a sentence
choice   ``"truth"``, one of ``"choices"``    ``"choices"``: a sentence for each of them
order    ``"truth"``, a list; ``"order"``,    ``"near"``: lists of two items that the reader may
         the list as it is first shown        have put in this order, with a sentence
=======  ===================================  ====================================================

``"because"`` says to everybody why the truth is what it is. The truth of a question that a cell
computes is held by that cell, with :meth:`Predict.see`.
"""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, List, Unicode, default

from .base import PageWidget

FOLDER = Path(__file__).parent.parent / "assets" / "questions"


def questions() -> dict[str, list[dict]]:
    """Every question of the chapters, by the name that :class:`Predict` takes.

    Returns
    -------
    dict
        ``"02_design/freedom"`` → its questions, one or, for a check, several.
    """
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        for name, entry in json.loads(path.read_text(encoding="utf-8")).items():
            found[f"{path.stem}/{name}"] = entry if isinstance(entry, list) else [entry]
    return found


def places(name: str, count: int) -> list[str]:
    """The names under which a browser keeps the answers: a check's are numbered."""
    return [name] if count == 1 else [f"{name}/{number}" for number in range(1, count + 1)]


def kind(question: dict) -> str:
    """Of which kind a question is: ``"number"``, ``"choice"`` or ``"order"``.

    Raises
    ------
    ValueError
        If the question lacks something, or has a truth that cannot be answered.
    """
    ask = question.get("ask")
    truth = question.get("truth")
    if not ask or truth is None:
        raise ValueError(f"a question needs 'ask' and 'truth'; got {question!r}")
    if "choices" in question:
        choices = question["choices"]
        if truth not in choices or len(choices) < 2 or not all(choices.values()):
            raise ValueError(
                f"{ask!r}: the truth {truth!r} has to be one of two or more 'choices', each with "
                f"its sentence; got {choices!r}"
            )
        return "choice"
    if "order" in question:
        order, pairs = question["order"], [pair[:2] for pair in question.get("near", [])]
        if sorted(order) != sorted(truth) or order == truth:
            raise ValueError(f"{ask!r}: 'order' has to be another order of {truth!r}; got {order}")
        for first, second in pairs:
            if truth.index(first) < truth.index(second):
                raise ValueError(f"{ask!r}: 'near' has {first!r} before {second!r}, which is right")
        return "order"
    if isinstance(truth, bool) or not isinstance(truth, (int, float)):
        raise ValueError(
            f"{ask!r}: a truth that is no number, {truth!r}, needs 'choices' or 'order'"
        )
    room = question.get("within", 0) * abs(truth)
    for value, _ in question.get("near", []):
        low, high = value if isinstance(value, list) else (value, value)
        if low > high or low - room <= truth <= high + room:
            raise ValueError(f"{ask!r}: the near miss {value!r} counts as the truth, {truth!r}")
    return "number"


class Predict(PageWidget, front="predict"):
    """A question before its answer: a number, a choice or an order; or the check of a chapter.

    In the book the outputs of the cells tagged ``see-freedom`` stay folded until the question
    ``freedom`` has been answered. The browser keeps the answers.

    Parameters
    ----------
    name : str
        Chapter and question, such as ``"02_design/freedom"``; :func:`questions` has them all.
    questions : list of dict
        Questions of your own, of the form that :mod:`vgglib.widgets.predict` describes.
    answers : dict
        Name → what has been answered. A check's questions are named ``"02_design/check/1"`` ...
    shown : bool
        Whether the truth stands there, answered or not.

    Raises
    ------
    ValueError
        If there is no question of this name, or one of your own lacks something.
    """

    name = Unicode("02_design/freedom").tag(sync=True)
    questions = List(Dict()).tag(sync=True)
    answers = Dict().tag(sync=True)
    shown = Bool(False).tag(sync=True)

    def __init__(self, name: str | None = None, **traits):
        super().__init__(**({} if name is None else {"name": name}), **traits)
        for question in self.questions:
            kind(question)

    @default("questions")
    def _of_the_chapter(self):
        there = questions()
        if self.name not in there:
            raise ValueError(f"no question {self.name!r}; there are {', '.join(there)}")
        return there[self.name]

    def see(self, truth: Any) -> None:
        """Show the answer, which a cell has computed.

        Parameters
        ----------
        truth : number, str or list of str
            What the chapter computes, of the question's kind.

        Raises
        ------
        AssertionError
            If the question was written with another truth.
        """
        (question,) = self.questions
        stored = question["truth"]
        if kind(question) == "number":
            same = math.isclose(truth, stored, rel_tol=max(question.get("within", 0), 1e-9))
        else:
            same = truth == stored
        if not same:
            raise AssertionError(
                f"{self.name}: the cell computes {truth!r}, the question says {stored!r}; "
                f"correct {FOLDER.name}/{self.name.partition('/')[0]}.json"
            )
        self.shown = True

    def fallback(self) -> str:
        """The questions, each with its answer folded."""
        return "\n".join(map(_plain, self.questions))

    def html(self) -> str:
        """As every widget's, in an element of the class ``predict``."""
        return f'<div class="predict">\n{super().html()}\n</div>'


def _plain(question: dict) -> str:
    """A question as HTML for a page without scripts, and for paper."""
    text, truth = html.escape, question["truth"]
    offered: list[str] = []
    wrong, because = {}, [question.get("because", "")]
    if kind(question) == "choice":
        offered = list(question["choices"])
        wrong = {choice: say for choice, say in question["choices"].items() if choice != truth}
        because.insert(0, question["choices"][truth])
    elif kind(question) == "order":
        offered, truth = question["order"], ", ".join(truth)
    else:
        truth = f"{truth:,}" if isinstance(truth, int) else f"{truth:g}"
        truth = f"{truth} {question.get('unit', '')}".strip()
    listed = "".join(f"<li>{text(one)}</li>" for one in offered)
    others = "".join(f"<li><em>{text(c)}</em> {text(say)}</li>" for c, say in wrong.items())
    return (
        f"<p>{text(question['ask'])}</p>{f'<ul>{listed}</ul>' if listed else ''}"
        f"<details><summary>The answer</summary>"
        f"<p><strong>{text(truth)}</strong>{'' if truth[-1] == '.' else '.'} "
        f"{text(' '.join(because).strip())}</p>"
        f"{f'<ul>{others}</ul>' if others else ''}</details>"
    )


def index() -> dict[str, list[str]]:
    """Chapter → the names of all its answers, for the list of chapters in the book."""
    chapters: dict[str, list[str]] = {}
    for name, asked in questions().items():
        chapters.setdefault(name.partition("/")[0], []).extend(places(name, len(asked)))
    return chapters
