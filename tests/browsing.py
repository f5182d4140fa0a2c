"""The built book in a real browser: a server like the published one's, and pages that keep a log.

Test modules use the fixtures ``browser``, ``served`` and ``open_page`` of `conftest.py`.
"""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FLAGS = [
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Another host would be an error of the page's; make sure that none answers.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


class PagesHandler(SimpleHTTPRequestHandler):
    """Serves a folder below a path as GitHub Pages does: right types, and its own 404 page."""

    extensions_map = {  # noqa: RUF012 (the base class's own attribute)
        **SimpleHTTPRequestHandler.extensions_map,
        ".css": "text/css",
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".svg": "image/svg+xml",
        ".woff2": "font/woff2",
        ".xml": "application/xml",
    }

    def __init__(self, *args, below, **kwargs):
        self.below = below
        super().__init__(*args, **kwargs)

    def translate_path(self, path):
        """The file of a URL; a URL outside of the book's path has none."""
        if not path.startswith(self.below):
            return self.directory + "/no such file"
        return super().translate_path(path[len(self.below) - 1 :])

    def send_error(self, code, message=None, explain=None):
        """The book's 404 page for what is not there, whatever its depth."""
        page = super().translate_path("/404.html")
        try:
            with open(page, "rb") as file:
                body = file.read()
        except OSError:
            return super().send_error(code, message, explain)
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing: the tests' output is pytest's."""


@contextmanager
def serve(folder, below="/"):
    """Serve a folder on a free port; gives the URL of its top, without a slash at the end.

    Parameters
    ----------
    folder : path-like
        What to serve.
    below : str
        Path of the URL under which it lies, from slash to slash: the published book is a
        project's site, ``https://OWNER.github.io/NAME/``.
    """
    handler = partial(PagesHandler, directory=str(folder), below=below)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{below}".rstrip("/")
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Visit:
    """An open page of the book with the log of what happened in it.

    Attributes
    ----------
    page : playwright.sync_api.Page
        The page itself.
    errors : list of str
        Errors on the console, exceptions that nothing caught, answers of 400 and above.
    requests : list of str
        Every URL asked for, in order.
    responses : list of playwright.sync_api.Response
        Every answer, with its ``body()``.
    """

    page: object
    host: str
    errors: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    responses: list = field(default_factory=list)

    def __post_init__(self):
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", self._response)

    def _console(self, message):
        if message.type == "error":
            self.errors.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _response(self, response):
        self.responses.append(response)
        if response.status >= 400:
            self.errors.append(f"{response.status}: {response.url}")

    @property
    def foreign(self):
        """Requests that went to another host."""
        here = ("data", "blob", "about")
        parts = [(url, urlsplit(url)) for url in self.requests]
        return [url for url, at in parts if at.scheme not in here and at.netloc != self.host]

    def resize(self, width, height=900):
        """Give the window another size and wait until the page has settled: the theme moves its
        columns, and renews what is reached by keyboard, a third of a second after a change."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_timeout(400)

    def theme(self, name):
        """Change to the theme "light" or "dark" as a reader's system does, without loading anew."""
        self.page.emulate_media(color_scheme=name)
        self.page.wait_for_function(f"document.documentElement.dataset.theme === '{name}'")


def open_visit(browser, top, path, width=1440, height=900, theme="light", **options):
    """Open a page of the book in a context of its own; gives its `Visit`.

    Parameters
    ----------
    browser : playwright.sync_api.Browser
    top, path : str
        Address of the served book's top, and the page below it.
    width, height : int
        Of the window, in CSS pixels.
    theme : {"light", "dark"}
        What the reader's system prefers.
    **options
        Go to Playwright's ``new_context``: ``java_script_enabled=False``, ``has_touch=True`` ...
    """
    options = {"reduced_motion": "reduce", **options}
    viewport = {"width": width, "height": height}
    context = browser.new_context(viewport=viewport, color_scheme=theme, **options)
    visit = Visit(context.new_page(), urlsplit(top).netloc)
    visit.page.goto(f"{top}/{path}", wait_until="networkidle")
    return visit


def evaluate(page, function, argument=None):
    """Call a JavaScript function in a page; argument and answer travel as JSON text.

    Playwright's own way wraps every number of a list, which takes seconds for an image.
    """
    text = page.evaluate(
        f"""async (text) => JSON.stringify(
            (await ({function})(JSON.parse(text))) ?? null,
            (name, value) => ArrayBuffer.isView(value) ? Array.from(value) : value,
        )""",
        json.dumps(argument),
    )
    return json.loads(text)
