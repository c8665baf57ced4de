"""Whoever comes to the page: by keyboard, on a phone, with a screen reader, in the dark, with a camera."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.browser.pages import Opener, choose, expect
from tests.browser.stand_in import StandIn, answer, problem

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LEAST_CONTRAST = 4.5
"""Of text, by WCAG 2.2 AA; https://www.w3.org/TR/WCAG22/#contrast-minimum."""
LOW_CONTRAST = """(least) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (color, ground) => {  // of any CSS colour, as three numbers
    canvas.fillStyle = `rgb(${ground})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  const ground = (element) => element
    ? over(getComputedStyle(element).backgroundColor, ground(element.parentElement))
    : [255, 255, 255];
  const luminance = (color) => {
    const [r, g, b] = color.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  let seen = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!own || !element.checkVisibility()) continue;
    seen += 1;
    const behind = ground(element);
    const both = [luminance(over(getComputedStyle(element).color, behind)), luminance(behind)].sort((a, b) => b - a);
    const ratio = (both[0] + 0.05) / (both[1] + 0.05);
    if (ratio < least) found.push(`${own}: ${ratio.toFixed(2)}`);
  }
  return { seen, found };
}"""


def show_everything(page: Any, server: StandIn, photos: list[Path]) -> None:
    """A sure answer with its heat map, one that is not sure, and a problem."""
    replies = {
        photos[1].read_bytes(): (200, {}, answer("id-2", fox=0.541, dog=0.459)),
        photos[2].read_bytes(): problem(400, "Not a picture", "image is cut off"),
    }
    sure = (200, {}, answer("id-1", owl=0.955, hen=0.045))
    server.replies["/invocations"] = lambda _, asked: replies.get(asked.body, sure)
    choose(page, *photos[:3])
    expect(page.locator("#summary")).to_have_text("3 pictures · 1 not sure · 1 without an answer")
    page.get_by_role("button", name="Show the heat map: photo 0.png").click()
    expect(page.locator(".heat figcaption").first).not_to_be_empty()
    page.get_by_text("Wrong?").first.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(
    server: StandIn, open_page: Opener, photos: list[Path], scheme: str
) -> None:
    page = open_page(server.address, color_scheme=scheme)
    show_everything(page, server, photos)
    measured = page.evaluate(LOW_CONTRAST, LEAST_CONTRAST)
    assert measured["seen"] > 40
    assert measured["found"] == []
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(246, 246, 243)") == (scheme == "light")


def test_a_phone_shows_everything_without_scrolling_sideways(
    server: StandIn, open_page: Opener, photos: list[Path]
) -> None:
    page = open_page(server.address, **PHONE)
    show_everything(page, server, photos)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    small = page.locator("button:visible").evaluate_all(
        "all => all.filter((one) => one.getBoundingClientRect().height < 44).map((one) => one.textContent)"
    )
    assert small == [], "a finger needs 44 px"
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("button", name="Open the camera app")).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open the camera app").click()
    assert chooser.value.element.get_attribute("capture") == "environment"


def test_the_keyboard_alone_is_enough(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    page = open_page(server.address)
    expect(page.locator("#model-state")).to_have_text("animals")

    def go_to(name: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            focus = page.evaluate(
                "() => ({ name: document.activeElement.ariaLabel ?? document.activeElement.innerText.trim(),"
                " ring: getComputedStyle(document.activeElement).outlineStyle })"
            )
            if focus["name"].startswith(name):
                assert focus["ring"] == "solid", f"nobody sees the focus on {name}"
                return
        raise AssertionError(f"Tab never comes to {name}")

    go_to("Choose pictures")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photos[0])
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()
    go_to("Show the heat map")
    page.keyboard.press("Space")
    expect(page.locator(".heat")).to_be_visible()
    go_to("Wrong?")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("hen")
    page.keyboard.press("Escape")  # closes the list of classes
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".feedback-state")).to_have_text("Thank you: noted as “hen”.")
    assert page.evaluate("() => document.activeElement.tagName") == "SUMMARY"


def test_the_focus_goes_on_where_the_progress_was(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    server.replies["/invocations"] = lambda running, _: (running.closing.wait(60), problem(503, "Stopping", "bye"))[1]
    page = open_page(server.address)
    choose(page, photos[0])
    page.get_by_role("button", name="Cancel: photo 0.png").press("Enter")
    expect(page.get_by_role("heading", name="Cancelled")).to_be_focused()


def test_a_screen_reader_is_told_what_there_is(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    page = open_page(server.address)
    choose(page, photos[0])
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()
    expect(page.get_by_role("main")).to_match_aria_snapshot("""
      - region "Pictures":
        - heading "Pictures" [level=2]
        - button "Choose pictures"
        - button "Use the camera"
      - region "Model":
        - heading "Model" [level=2]
        - status: animals
        - term: Version
        - definition: "7"
      - region "Answers":
        - heading "Answers" [level=2]
        - button "Download CSV"
        - button "Clear"
        - list:
          - listitem:
            - figure "photo 0.png":
              - img "the picture"
            - heading "owl 95.5%" [level=3]
            - list "Most probable classes":
              - listitem: owl 95.5%
              - listitem: hen 2.0%
            - 'button "Show the heat map: photo 0.png"'
            - group: Wrong?
      - status: "photo 0.png: owl, 95.5%"
    """)


def test_pictures_are_dropped_and_pasted(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    page = open_page(server.address)
    transfer = """(texts) => {
      const transfer = new DataTransfer();
      for (const [number, text] of texts.entries()) {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], `${number}.png`, { type: "image/png" }));
      }
      return transfer;
    }"""
    texts = [base64.b64encode(photo.read_bytes()).decode() for photo in photos[:3]]
    page.dispatch_event("body", "dragover", {"dataTransfer": page.evaluate_handle(transfer, texts[:2])})
    expect(page.get_by_text("Drop the pictures")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": page.evaluate_handle(transfer, texts[:2])})
    expect(page.locator("#summary")).to_have_text("2 pictures")
    expect(page.get_by_text("Drop the pictures")).to_be_hidden()
    page.evaluate(
        "(data) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))",
        page.evaluate_handle(transfer, texts[2:]),
    )
    expect(page.locator("#summary")).to_have_text("3 pictures")
    expect(page.locator("[data-state=done]")).to_have_count(3)
    assert sorted(server.bodies("/invocations")) == sorted(photo.read_bytes() for photo in photos[:3])


def test_the_camera_takes_a_still(server: StandIn, open_page: Opener) -> None:
    page = open_page(server.address)
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()
    (still,) = server.bodies("/invocations")
    with Image.open(io.BytesIO(still)) as picture:
        assert picture.format == "JPEG"
        assert min(picture.size) >= 480
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("() => document.getElementById('video').srcObject") is None, "the camera stays on"


def test_without_a_camera_the_reason_is_said(server: StandIn, open_page: Opener) -> None:
    page = open_page(server.address)
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')) }"
    )
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#camera-state")).to_contain_text("The camera is not allowed on this page")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Use the camera")).to_be_focused()
