"""The search finds what readers type: American spellings, and words written as one.

Sphinx compares the stems of a query's words with those of the pages. Here both sides write British
English before they stem, so that "color" finds "colour" and the index grows by nothing. Words that
are written in several ways stand in the index as one, too: "fine-tuning" is also "finetuning". And
the glossary's terms are headings there.
`book/_static/search.js` then lists sections before pages, and the package's members last.
"""

import json
import re
from pathlib import Path

from sphinx.search import SearchEnglish, js_index

# American spellings and the British ones, as regular expressions of Python and of JavaScript.
SPELLINGS = [
    ("(col|behavi|neighb|fav)or", "$1our"),
    ("^center(?:(s)|ed|ing)?$", "centre$1"),
    ("^(?!(?:re|out|over)?siz)(.{3,})iz(e[drs]?|ers|ing|ations?|able)$", "$1is$2"),
    ("^(anal|catal)yz", "$1ys"),
    ("gray", "grey"),
    ("^artifact", "artefact"),
    ("^(label|model|travel)(ed|ing)$", "$1l$2"),
]
# Words of the text, and what readers type for them.
ALSO = {
    "batch norm": "batchnorm",
    "bounding box": "bbox",
    "heat map": "heatmap",
    "learning rate": "lr",
    "MAC": "flops",
    "parameters": "params",
    "weight decay": "l2 regularisation",
}
HYPHENATED = re.compile(r"\w+(?:-\w+)+")
STEMMER = """;
(function (Porter) {
  const spellings = %s.map(([american, british]) => [new RegExp(american), british]);
  Stemmer = function () {
    const porter = new Porter();
    const british = (word, [from, to]) => word.replace(from, to);
    this.stemWord = (word) => porter.stemWord(spellings.reduce(british, word));
  };
})(Stemmer);
"""


def british(word):
    """A word in small letters, in British spelling."""
    for american, to in SPELLINGS:
        word = re.sub(american, to.replace("$", "\\"), word)
    return word


class Spelt(SearchEnglish):
    """English, in whichever spelling."""

    js_stemmer_code = SearchEnglish.js_stemmer_code + STEMMER % json.dumps(SPELLINGS)

    def split(self, text):
        words = super().split(text)
        words += [word.replace("-", "") for word in HYPHENATED.findall(text)]
        return words + [
            w for phrase, typed in ALSO.items() if phrase in text for w in typed.split()
        ]

    def stem(self, word):
        return super().stem(british(word.lower()))


def load_script(app, pagename, templatename, context, doctree):
    """Load the order of results on the search page (``html-page-context`` event)."""
    if pagename == "search":
        app.add_js_file("search.js", type="module")


def add_terms(app, exception):
    """Put the glossary's terms into the index (Sphinx's ``build-finished`` event)."""
    path = Path(app.outdir, "searchindex.js")
    if exception or app.builder.name != "html" or not path.exists():
        return
    index = js_index.loads(path.read_text(encoding="utf-8"))
    for name, _, kind, document, anchor, _ in app.env.get_domain("std").get_objects():
        if kind == "term":
            places = index["alltitles"].setdefault(name, [])
            place = [index["docnames"].index(document), anchor]
            if place not in places:  # of an earlier build
                places.append(place)
    path.write_text(js_index.dumps(index), encoding="utf-8")


def setup(app):
    app.add_search_language(Spelt)
    app.connect("html-page-context", load_script)
    app.connect("build-finished", add_terms)
    return {"version": "1", "parallel_read_safe": True}
