"""The page in front of the server that it comes with."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.browser.pages import Opener, choose, expect
from tests.exported_models import export_tiny_model

from sightline.serving.contract import Answer
from sightline.serving.runtime_predictor import RuntimePredictor

pytestmark = pytest.mark.browser

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server of a model folder and returns its address; it may still be loading."""
    from tests.serving.servers import serving

    with ExitStack() as running:

        def start(folder: Path, token: str | None = None, **settings: Any) -> str:
            server = serving(lambda: RuntimePredictor.open(folder), token, waits=False, **settings)
            return f"http://{running.enter_context(server).host}/"

        yield start


def test_the_page_says_what_the_model_says(
    exported: Path, serve: Serve, open_page: Opener, photos: list[Path], tmp_path: Path
) -> None:
    (told,) = RuntimePredictor.open(exported).answer([photos[0].read_bytes()], ["id"])
    assert isinstance(told, Answer)
    page = open_page(serve(exported, output=str(tmp_path / "kept")))
    expect(page.locator("#model-state")).to_have_text("tiny")
    expect(page.locator("#model-facts")).to_contain_text("28 November 2026")
    choose(page, photos[0])
    expect(page.get_by_role("heading", name=f"{told.label} {told.probability:.1%}")).to_be_visible()
    expect(page.get_by_text("Not sure", exact=True)).to_be_visible(visible=told.unsure)
    page.get_by_role("button", name="Show the heat map").click()
    expect(page.locator(".heat figcaption")).to_contain_text("iding")
    assert page.locator(".heat img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    page.locator(".feedback summary").click()
    page.get_by_label("The right class is").fill("b")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".feedback-state")).to_have_text("Thank you: noted as “b”.")
    (kept,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert json.loads(kept.read_text())["label"] == "b"


def test_what_is_no_picture_has_the_servers_reason(
    exported: Path, serve: Serve, open_page: Opener, photos: list[Path], tmp_path: Path
) -> None:
    cut, text = tmp_path / "cut.png", tmp_path / "notes.txt"
    cut.write_bytes(photos[0].read_bytes()[:200])
    text.write_text("no picture")
    page = open_page(serve(exported))
    choose(page, cut, photos[1], text)
    expect(page.locator("#summary")).to_contain_text("2 without an answer")
    expect(page.locator(".card").nth(0).locator(".problem h3")).to_have_text("Not a picture")
    expect(page.locator(".card").nth(1).locator(".answer")).to_be_visible()
    expect(page.locator(".card").nth(2).locator(".problem")).to_contain_text("image/jpeg")
    choose(page, photos[2])
    page.locator(".feedback summary").first.click()
    page.get_by_label("The right class is").first.fill("a")
    page.get_by_role("button", name="Send").first.click()
    expect(page.locator(".feedback-state").first).to_contain_text("Not noted: ")


def test_the_servers_token_opens_the_page(exported: Path, serve: Serve, open_page: Opener, photos: list[Path]) -> None:
    page = open_page(serve(exported, token="secret"))
    page.get_by_label("Token", exact=True).fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#model-state")).to_have_text("tiny")
    choose(page, photos[0])
    expect(page.locator(".answer")).to_be_visible()


def test_arrays_of_many_bands_are_answered_and_named(serve: Serve, open_page: Opener, tmp_path: Path) -> None:
    folder = export_tiny_model(tmp_path / "model", 5, (0.0, 4000.0))
    np.save(tmp_path / "field.npy", np.random.default_rng(0).integers(0, 4000, (40, 40, 5), dtype=np.uint16))
    page = open_page(serve(folder))
    expect(page.locator("#limits")).to_contain_text("TIFF, NPY")
    assert ".npy" in page.locator("#files").get_attribute("accept")
    choose(page, tmp_path / "field.npy")
    expect(page.locator(".answer")).to_be_visible()
    expect(page.get_by_text("The browser cannot show this kind of file")).to_be_visible()
    page.get_by_role("button", name="Show the heat map").click()
    expect(page.locator(".heat")).to_be_visible()
