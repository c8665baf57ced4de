"""A browser of this machine, and what tests do with its pages."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Opener = Callable[..., Any]
"""Opens an address and returns Playwright's page; further arguments are those of its context."""


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def why_no_browser() -> str | None:
    """What is missing here; None where nothing is."""
    if find_spec("playwright") is None:
        return "no Playwright is installed: pip install 'sightline-vision[browser]'"
    return None if find_browser() else f"no browser is on the path: {', '.join(BROWSERS)}"


def expect(what: Any) -> Any:
    """Playwright's assertions, which wait for what they expect."""
    from playwright.sync_api import expect  # pyright: ignore[reportMissingImports]

    return expect(what)


def choose(page: Any, *files: Path) -> None:
    page.set_input_files("#files", [*map(str, files)])
