"""What a person does on the page, against a server that is told what to answer."""

import csv
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.browser.pages import Opener, choose, expect
from tests.browser.stand_in import Asked, Reply, StandIn, answer, problem, say_owl

pytestmark = pytest.mark.browser


def test_a_picture_gets_its_ranked_classes(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    page = open_page(server.address)
    expect(page.locator("#model")).to_contain_text("93.1% of 1,200 test images (95% interval 91.8% to 94.2%)")
    expect(page.locator("#model")).to_contain_text("28 November 2026")
    choose(page, photos[0])
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()
    assert page.locator(".bars li").all_inner_texts()[0].split() == ["owl", "95.5%"]
    expect(page.locator(".bars li")).to_have_count(5)
    expect(page.locator("#announcement")).to_have_text("photo 0.png: owl, 95.5%")
    expect(page.get_by_text("Not sure", exact=True)).to_be_hidden()
    (asked,) = [each for each in server.asked if each.path == "/invocations"]
    assert (asked.body, asked.headers["Content-Type"]) == (photos[0].read_bytes(), "image/png")


def test_below_the_threshold_it_says_why_it_is_not_sure(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    server.replies["/invocations"] = lambda *_: (200, {}, answer("id-1", fox=0.541, dog=0.459))
    page = open_page(server.address)
    choose(page, photos[0])
    expect(page.get_by_text("Not sure", exact=True)).to_be_visible()
    expect(page.locator(".why-unsure")).to_contain_text("54.1%; this model's answers can be relied on from 80.0% on")
    expect(page.locator("#summary")).to_have_text("1 picture · 1 not sure")


def test_a_wrong_file_gets_the_servers_reason(server: StandIn, open_page: Opener, tmp_path: Path) -> None:
    reason = "text/plain is not taken; send image/jpeg or image/png"
    server.replies["/invocations"] = lambda *_: problem(415, "Unsupported media type", reason)
    page = open_page(server.address)
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    choose(page, notes)
    expect(page.locator(".problem")).to_contain_text(reason)
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    expect(page.get_by_text("The browser cannot show this kind of file")).to_be_visible()
    assert server.asked[-1].headers["Content-Type"] == "text/plain"


def test_a_file_above_the_limit_is_not_sent(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    server.model["max_bytes"] = 1000
    page = open_page(server.address)
    choose(page, photos[0])
    expect(page.locator(".problem")).to_contain_text("the server takes up to 0.0 MB")
    assert server.bodies("/invocations") == []


def test_a_slow_answer_shows_progress_and_can_be_cancelled(
    server: StandIn, open_page: Opener, photos: list[Path]
) -> None:
    go_on = threading.Event()

    def slow_at_first(running: StandIn, asked: Asked) -> Reply:
        if asked.number == 1:
            go_on.wait(60)
        return say_owl(running, asked)

    server.replies["/invocations"] = slow_at_first
    page = open_page(server.address)
    choose(page, photos[0])
    expect(page.get_by_role("progressbar", name="Waiting for the answer")).to_be_visible()
    expect(page.locator("#summary")).to_have_text("0 of 1 picture")
    page.get_by_role("button", name="Cancel: photo 0.png").click()
    expect(page.locator(".problem")).to_contain_text("Cancelled")
    page.get_by_role("button", name="Try again: photo 0.png").click()
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()
    go_on.set()


def test_a_busy_server_is_asked_again_when_it_says(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    replies = {1: ("429", "the queue is full"), 2: ("503", "the model is being loaded")}

    def busy_at_first(running: StandIn, asked: Asked) -> Reply:
        if asked.number in replies:
            status, reason = replies[asked.number]
            return problem(int(status), "Busy", reason, **{"Retry-After": "20"})
        return say_owl(running, asked)

    server.replies["/invocations"] = busy_at_first
    page = open_page(server.address)
    page.clock.install()
    choose(page, photos[0])
    for _, reason in replies.values():
        expect(page.locator(".doing")).to_contain_text(f"{reason}; trying again in 20 s")
        page.clock.fast_forward(20_000)
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()
    assert server.bodies("/invocations") == [photos[0].read_bytes()] * 3


def test_several_pictures_go_three_at_a_time_and_end_in_a_table(
    server: StandIn, open_page: Opener, photos: list[Path]
) -> None:
    together, inside, most = threading.Barrier(3), [0], [0]
    formula, broken = photos[3].rename(photos[3].with_name("=SUM(A1).png")), photos[5]
    files = [*photos[:3], formula, *photos[4:]]
    texts = {formula.read_bytes(): {"+fox, or not": 0.9, "hen": 0.1}}

    def by_picture(running: StandIn, asked: Asked) -> Reply:
        with running.lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        together.wait(60)  # nine pictures: three at a time, or never
        with running.lock:
            inside[0] -= 1
        if asked.body == broken.read_bytes():
            return problem(400, "Not a picture", "image is cut off")
        return 200, {}, answer(f"id-{asked.number}", **texts.get(asked.body, {"owl": 0.955, "hen": 0.045}))

    server.replies["/invocations"] = by_picture
    page = open_page(server.address)
    choose(page, *files)
    expect(page.locator("#summary")).to_have_text("9 pictures · 1 without an answer")
    expect(page.locator("#announcement")).to_have_text("Done: 9 pictures, 1 without an answer")
    assert most == [3]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["file"] for row in rows] == [path.name.replace("=", "'=") for path in files]
    assert (rows[3]["class"], rows[3]["probability"]) == ("'+fox, or not", "0.900000")
    assert (rows[5]["class"], rows[5]["error"]) == ("", "Not a picture: image is cut off")
    assert (rows[0]["class_2"], rows[0]["unsure"], rows[0]["version"]) == ("hen", "false", "7")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".card")).to_have_count(0)


def test_cancelling_all_leaves_what_is_answered(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    def first_alone(running: StandIn, asked: Asked) -> Reply:
        if asked.body != photos[0].read_bytes():
            running.closing.wait(60)
        return say_owl(running, asked)

    server.replies["/invocations"] = first_alone
    page = open_page(server.address)
    choose(page, *photos)
    expect(page.locator("#summary")).to_have_text("1 of 9 pictures")
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator("#summary")).to_have_text("9 pictures · 8 without an answer")
    assert len(server.bodies("/invocations")) < 9


def test_a_token_is_asked_for_and_kept_for_the_tab(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    replies = dict(server.replies)
    for path, reply in replies.items():

        def guarded(running: StandIn, asked: Asked, reply: Any = reply) -> Reply:
            if asked.headers.get("Authorization") != "Bearer secret":
                return problem(401, "Unauthorized", "the header Authorization must be Bearer and the token")
            return reply(running, asked)

        server.replies[path] = guarded
    page = open_page(server.address)
    field = page.get_by_label("Token", exact=True)
    field.fill("guess")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The server does not take this token.")
    field.fill("secret")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#model-state")).to_have_text("animals")
    choose(page, photos[0])
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()
    page.reload()
    expect(page.locator("#model-state")).to_have_text("animals")
    assert "secret" not in page.url
    page.get_by_role("button", name="Forget the token").click()
    expect(field).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#model-state")).to_contain_text("No model: the header Authorization must be")


def test_who_has_no_token_is_asked_once_for_all_pictures(
    server: StandIn, open_page: Opener, photos: list[Path]
) -> None:
    server.replies["/invocations"] = lambda *_: problem(401, "Unauthorized", "the token has changed")
    page = open_page(server.address)
    choose(page, *photos)
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator("#summary")).to_have_text("9 pictures · 9 without an answer")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("heading", name="Cancelled")).to_have_count(9)


def test_the_right_class_goes_back_with_the_answers_id(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    page = open_page(server.address)
    choose(page, photos[0])
    page.get_by_text("Wrong?").click()
    field = page.get_by_label("The right class is")
    assert page.locator(f"#{field.get_attribute('list')} option").evaluate_all("all => all.map(one => one.value)") == [
        *("cat", "dog", "fox", "hen", "owl", "yak")
    ]
    field.fill("yak")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".feedback-state")).to_have_text("Thank you: noted as “yak”.")
    assert server.bodies("/feedback") == [b'{"id":"id-1","label":"yak"}']
    server.replies["/feedback"] = lambda *_: problem(422, "Unknown class", "no class yeti; did you mean yak?")
    page.get_by_text("Wrong?").click()
    field.fill("yeti")
    field.press("Enter")
    expect(page.locator(".feedback-state")).to_have_text("Not noted: no class yeti; did you mean yak?")


def test_a_heat_map_comes_with_its_number(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    page = open_page(server.address)
    choose(page, photos[0])
    page.get_by_role("button", name="Show the heat map").click()
    caption = "Hiding the framed region lowers “owl” by 0.31, from 95.5% to 64.5%."
    expect(page.get_by_role("img", name=caption)).to_be_visible()
    assert server.bodies("/explain") == [photos[0].read_bytes()]
    page.get_by_role("button", name="Hide the heat map").click()
    expect(page.locator(".heat")).to_be_hidden()
    page.get_by_role("button", name="Show the heat map").click()
    expect(page.locator(".heat")).to_be_visible()
    assert len(server.bodies("/explain")) == 1


def test_without_heat_maps_the_reason_is_said(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    server.replies["/explain"] = lambda *_: problem(501, "Not implemented", "this endpoint draws none")
    page = open_page(server.address)
    choose(page, photos[0])
    page.get_by_role("button", name="Show the heat map").click()
    expect(page.locator(".explain-state")).to_have_text("No heat map: this endpoint draws none")


def test_names_are_text_whatever_they_hold(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    trap = "<img src=x onerror=alert(1)>"
    server.model |= {"name": trap, "classes": [trap, "b"]}
    server.replies["/invocations"] = lambda *_: (200, {}, answer("id-1", **{trap: 0.9, "b": 0.1}))
    page = open_page(server.address)
    choose(page, photos[0].rename(photos[0].with_name("<b>photo.png")))
    expect(page.locator(".label")).to_have_text(trap)
    expect(page.locator("#model-state")).to_have_text(trap)
    expect(page.locator(".file")).to_have_text("<b>photo.png")


def test_a_model_that_is_being_loaded_is_waited_for(server: StandIn, open_page: Opener, photos: list[Path]) -> None:
    loaded = threading.Event()

    def loading(running: StandIn, asked: Asked) -> Reply:
        if loaded.is_set():
            return 200, {}, running.model
        return problem(503, "Not ready", "the model is being loaded", **{"Retry-After": "0"})

    server.replies["/model"] = loading
    page = open_page(server.address)
    choose(page, photos[0])
    expect(page.locator("#model-state")).to_have_text("the model is being loaded")
    expect(page.locator(".doing")).to_contain_text("In the queue")
    loaded.set()
    expect(page.get_by_role("heading", name="owl 95.5%")).to_be_visible()


def test_a_server_without_a_model_says_why_and_can_be_asked_again(server: StandIn, open_page: Opener) -> None:
    server.replies["/model"] = lambda running, asked: (
        problem(500, "Broken", "no such file") if asked.number == 1 else (200, {}, running.model)
    )
    page = open_page(server.address)
    expect(page.locator("#model-state")).to_have_text("No model: no such file")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#model-state")).to_have_text("animals")
