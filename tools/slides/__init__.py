"""Slides of the chapters, for a lecturer.

``outline`` reads a chapter's notebook into slides, ``deck`` writes them as a reveal.js page;
`make slides` does both.
"""
