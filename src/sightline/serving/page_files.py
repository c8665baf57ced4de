"""The page for people: its files, as a server gives them out."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("page")
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Nothing from outside, nothing inline, no frame around it; a new version is seen at once."""


@cache
def page_names() -> tuple[str, ...]:
    """The names of the page's files, each below `/`; `index.html` is `/` itself."""
    return tuple(sorted(path.name for path in FOLDER.iterdir() if path.suffix in TYPES))


@cache
def page_response(name: str) -> tuple[bytes, str, dict[str, str]]:
    """A file's bytes, content type and headers; an empty name is that of the page itself.

    Raises: KeyError for what is no file of the page.
    """
    name = name or INDEX
    if name not in page_names():
        raise KeyError(name)
    path = FOLDER / name
    return path.read_bytes(), TYPES[path.suffix], HEADERS
