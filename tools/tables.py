"""Tables that tools write into the book's pages, each between two comments that name it."""


def table(head, rows):
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def filled(path, page, tables):
    """The text of a page with its tables written anew.

    Parameters
    ----------
    path : pathlib.Path
        Where the page lies; for the error alone.
    page : str
        Its text, with a pair of comments for each table.
    tables : dict
        Name in the comments → function that returns the table.

    Raises
    ------
    ValueError
        If the comments that enclose a table are not there, once each.
    """
    for name, make in tables.items():
        begin, end = f"<!-- {name}: written by `make claims` -->", f"<!-- end of {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"book/{path.name} needs the lines {begin} and {end}, once each")
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{make()}\n\n{end}{rest.split(end)[1]}"
    return page


def write(path, tables):
    """Fill a page's tables in place; say so."""
    text = filled(path, path.read_text(encoding="utf-8"), tables)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path.parent.name}/{path.name}")
