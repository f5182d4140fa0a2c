"""What is said of a net that does not train?"""

from __future__ import annotations

import html
from dataclasses import dataclass

import pandas as pd

SEVERITIES = ("stops", "slows", "look")


@dataclass(frozen=True)
class Finding:
    """One cause, why it is held for one, and what mends it.

    Attributes
    ----------
    cause : str
        In a few words, such as ``"start too small"``.
    severity : {"stops", "slows", "look"}
        Nothing is learned; less than could be; perhaps meant so.
    figure : str
        What was measured.
    limit : str
        What it is compared with, and why.
    remedy : str
        A line of code.
    chapter : int
        Of the book, where it is explained.
    """

    cause: str
    severity: str
    figure: str
    limit: str
    remedy: str
    chapter: int


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What :func:`diagnose` found; printed, or the last line of a notebook's cell, it is a table.

    Attributes
    ----------
    findings : tuple of Finding
        The most severe first, of these a cause before its effects; empty if there is nothing.
    loss, chance : float
        Cross-entropy of the batch with mended images (NaN if it could not be measured), and that
        of guessing, ln K.
    layers : DataFrame
        A row a weight layer: ``layer``, ``activation_std``, ``gradient_over_decay``,
        ``relative_step`` and ``trained``; empty if nothing could be measured.
    unseen : tuple of str
        What a batch cannot show, or could not of this net.
    """

    findings: tuple[Finding, ...]
    loss: float
    chance: float
    layers: pd.DataFrame
    unseen: tuple[str, ...]

    @property
    def cause(self) -> str | None:
        """The most likely one, in a few words; None if nothing was found."""
        return self.findings[0].cause if self.findings else None

    @property
    def table(self) -> pd.DataFrame:
        """A row a finding."""
        names = [name for name in Finding.__dataclass_fields__]
        return pd.DataFrame([vars(finding) for finding in self.findings], columns=names)

    @property
    def _head(self) -> str:
        found = {0: "nothing found", 1: "1 finding"}
        count = found.get(len(self.findings), f"{len(self.findings)} findings")
        return f"{count}; loss {self.loss:.4g}, guessing has {self.chance:.4g}"

    def __repr__(self) -> str:
        lines = [self._head]
        for number, one in enumerate(self.findings, start=1):
            lines += [
                f"{number}. {one.cause} ({one.severity} the training; chapter {one.chapter})"
                if one.severity != "look"
                else f"{number}. {one.cause} (meant so? chapter {one.chapter})",
                f"   seen:   {one.figure}",
                f"   limit:  {one.limit}",
                f"   remedy: {one.remedy}",
            ]
        return "\n".join([*lines, *(f"Not seen: {text}" for text in self.unseen)])

    def _repr_html_(self) -> str:
        table = self.table.assign(
            remedy=[f"<code>{html.escape(r)}</code>" for r in self.table.remedy]
        )
        for name in ("cause", "figure", "limit"):
            table[name] = [html.escape(text) for text in table[name]]
        rows = table.to_html(index=False, escape=False, border=0) if self.findings else ""
        notes = "".join(f"<li>{html.escape(text)}</li>" for text in self.unseen)
        return f"<p>{html.escape(self._head)}</p>{rows}<p>Not seen:</p><ul>{notes}</ul>"
