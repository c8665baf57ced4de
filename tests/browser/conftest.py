"""A real browser; without one nothing here can run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.pages import Opener, find_browser, why_no_browser
from tests.browser.stand_in import StandIn, stand_in
from tests.conftest import write_image

ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
"""The camera shows a test picture; a root user, as in a container, has no sandbox."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if (why := why_no_browser()) is not None:
        pytest.skip(why)
    from playwright.sync_api import expect, sync_playwright  # pyright: ignore[reportMissingImports]

    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Opener]:
    """Opens an address; at the end, nothing was asked of anybody else and no script has failed."""
    opened: list[tuple[Any, str]] = []
    asked: list[tuple[str, str]] = []
    failed: list[str] = []

    def open_at(address: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append((request.url, address)))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda message: note(message))
        opened.append((context, address))
        page.goto(address)
        return page

    def note(message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            failed.append(message.text)  # a status above 400 is no failure of the page, a refusal of its policy is

    yield open_at
    for context, _ in opened:
        context.close()
    assert [url for url, address in asked if not url.startswith((address, "blob:", "data:"))] == []
    assert failed == []


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Nine small pictures."""
    paths = [tmp_path / "photos" / f"photo {number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        write_image(path, (40 + 20 * number, 90, 160), seed=number, size=(64, 48))
    return paths
