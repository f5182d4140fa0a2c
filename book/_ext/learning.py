"""What catalogues of teaching material read: each page of the course as a schema.org resource.

JSON-LD of schema.org's LearningResource, with what the profile TrainingMaterial of Bioschemas asks
for (https://bioschemas.org/profiles/TrainingMaterial/1.0-RELEASE): the whole book on the landing
page, a part of it in each chapter. All of it is taken from the pages: aims and hours from the
instructors' table, keywords from the glossary, the description that `published` found.
"""

import json
import re
from functools import cache
from pathlib import PurePosixPath

import yaml
from docutils import nodes

from vgglib import __version__

LICENCE = "https://creativecommons.org/licenses/by/4.0/"
PROFILE = "https://bioschemas.org/profiles/TrainingMaterial/1.0-RELEASE"
PAPER = "https://arxiv.org/abs/1409.1556"
LEVEL = ("advanced undergraduate", "graduate")
LANDING, TABLE, GLOSSARY = "book/index", "book/instructors", "book/glossary"
HOURS = re.compile(r"(?:\d–)?(\d+) h")


def chapter_of(node):
    """The chapter that a part of a page links to, by its document's name; None without one."""
    for link in node.findall(lambda n: isinstance(n, nodes.Element)):
        target = link.get("refuri") or link.get("reftarget") or ""
        found = re.search(r"notebooks/(\w+)", target)
        if found:
            return f"notebooks/{found[1]}"
    return None


def aims(guide):
    """Each chapter → what it teaches, and hours at most, of the instructors' table."""
    rows = (row for row in guide.findall(nodes.row) if len(row) == 4 and chapter_of(row[0]))
    return {
        chapter_of(row[0]): (row[1].astext(), int(HOURS.match(row[2].astext())[1])) for row in rows
    }


def keywords(glossary):
    """Each chapter → the terms that it explains first."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        terms = [term.astext() for term in item.children if isinstance(term, nodes.term)]
        found.setdefault(chapter_of(item[-1]), []).extend(terms)
    return found


def section(page, title):
    """The section of a page under a heading."""
    return next(s for s in page.findall(nodes.section) if s[0].astext() == title)


class Course:
    """What the pages say of the course."""

    def __init__(self, app):
        self.app, self.site = app, app.config.html_baseurl
        landing, guide, glossary = map(app.env.get_doctree, (LANDING, TABLE, GLOSSARY))
        self.aims, self.keywords = aims(guide), keywords(glossary)
        able = next(section(landing, "After it you will be able to").findall(nodes.bullet_list))
        self.teaches = [" ".join(item.astext().split()) for item in able.children]
        knowledge = section(guide, "Who can follow")[1].astext()
        self.needs = " ".join(knowledge.partition(":")[2].partition(". ")[0].split())
        self.citation = yaml.safe_load((app.srcdir / "CITATION.cff").read_text(encoding="utf-8"))

    def url(self, document):
        return f"{self.site}{document}.html"

    def resource(self, document, name, description, teaches, hours, words):
        """What the whole and each chapter have in common."""
        return {
            "@context": "https://schema.org/",
            "@type": "LearningResource",
            "http://purl.org/dc/terms/conformsTo": {"@type": "CreativeWork", "@id": PROFILE},
            "@id": self.url(document),
            "url": self.url(document),
            "name": name,
            "description": description,
            "teaches": teaches,
            "timeRequired": f"PT{hours}H",
            "educationalLevel": LEVEL,
            "learningResourceType": ["notebook", "exercise"],
            "keywords": words,
            "inLanguage": "en-GB",
            "license": LICENCE,
            "isAccessibleForFree": True,
        }

    def whole(self, description):
        """The book."""
        hours = sum(hours for _, hours in self.aims.values())
        words = self.citation["keywords"]
        one = self.resource(
            LANDING, self.citation["title"], description, self.teaches, hours, words
        )
        known = self.citation.get("identifiers", [])
        dois = [f"https://doi.org/{i['value']}" for i in known if i["type"] == "doi"]
        return (
            one
            | ({"identifier": dois} if dois else {})
            | {
                "abstract": self.citation["abstract"],
                "author": [
                    {"@type": "Person", "name": f"{a['given-names']} {a['family-names']}"}
                    if "family-names" in a
                    else {"@type": "Organization", "name": a["name"]}
                    for a in self.citation["authors"]
                ],
                "version": __version__,
                "audience": {
                    "@type": "EducationalAudience",
                    "educationalRole": ["student", "teacher"],
                },
                "competencyRequired": self.needs,
                "about": {"@type": "ScholarlyArticle", "@id": PAPER},
                "hasPart": [{"@id": self.url(chapter)} for chapter in self.aims],
            }
        )

    def chapter(self, document, title, description):
        """A chapter."""
        teaches, hours = self.aims[document]
        number = int(PurePosixPath(document).name.partition("_")[0])
        one = self.resource(
            document, title, description, [teaches], hours, self.keywords.get(document, [])
        )
        return one | {"position": number, "isPartOf": {"@id": self.url(LANDING)}}


def describe(app, pagename, templatename, context, doctree):
    """Give a page's template its JSON-LD (``html-page-context`` event, after `published`)."""
    context["learning"] = None
    if app.builder.name != "html" or TABLE not in app.env.all_docs:
        return
    course = course_of(app)
    if pagename == LANDING:
        known = course.whole(context["description"])
    elif pagename in course.aims:
        known = course.chapter(pagename, app.env.titles[pagename].astext(), context["description"])
    else:
        return
    # Within a page's script: no text may end it.
    context["learning"] = json.dumps(known, ensure_ascii=False).replace("<", "\\u003c")


@cache
def course_of(app):
    """The same for all pages."""
    return Course(app)


def setup(app):
    app.connect("html-page-context", describe, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
