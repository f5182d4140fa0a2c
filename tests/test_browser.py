"""The built book as a reader's browser sees it."""

import pytest
from test_book import toc_files


@pytest.mark.parametrize("document", toc_files())
def test_a_page_opens_without_an_error_or_a_foreign_request(open_page, document):
    visit = open_page(f"{document}.html")
    assert visit.errors == []
    assert visit.foreign == []
