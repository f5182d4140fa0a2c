"""The built book as a reader's browser sees it."""

import gzip

import pytest
from browsing import open_visit
from test_book import toc_files

# Of a page without its pictures, before a widget is touched; and of the same, gzipped.
BUDGET, GZIPPED_BUDGET = 900_000, 300_000

# Pages that no table of contents lists.
UNLISTED = ["genindex", "py-modindex", "search"]


@pytest.fixture(scope="module", params=[*toc_files(), *UNLISTED])
def visit(request, browser, served):
    """Each page in turn, opened once for all tests of it; they put back what they change."""
    visit = open_visit(browser, served, f"{request.param}.html")
    yield visit
    visit.page.context.close()


def test_a_page_opens_without_an_error_or_a_foreign_request(visit):
    assert visit.errors == []
    assert visit.foreign == []


def test_a_page_keeps_to_the_budget(visit):
    loaded = [answer for answer in visit.responses if answer.request.resource_type != "image"]
    bodies = [answer.body() for answer in loaded]
    assert sum(map(len, bodies)) <= BUDGET
    assert sum(len(gzip.compress(body)) for body in bodies) <= GZIPPED_BUDGET
