"""The contract around a model, without transport."""

import base64
import csv
import io
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.exported_models import export_tiny_model
from tests.serving.made_pictures import (
    bmp_bomb,
    noise,
    npy,
    picture,
    png_bomb,
    png_with_large_text,
    webp_bomb,
)

from sightline.finished_run import FinishedRun
from sightline.models.exported import FILES, ExportedModel
from sightline.serve_settings import ServeSettings
from sightline.serving.contract import MAX_PICTURES, Answer, Request, Response
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.service import Service


@pytest.fixture(scope="module")
def service(exported: Path) -> Service:
    return Service(RuntimePredictor.open(exported), ServeSettings())


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service of five bands of 12 bits."""
    model = export_tiny_model(tmp_path_factory.mktemp("deep") / "model", 5, (0, 4095))
    return Service(RuntimePredictor.open(model), ServeSettings())


def ask(service: Service, body: bytes, content_type: str | None = None, **headers: str) -> Response:
    """Headers in Python's names: `x_request_id`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.invoke(Request(body, named if content_type is None else {**named, "content-type": content_type}))


def ask_json(service: Service, value: Any, **headers: str) -> Response:
    return ask(service, json.dumps(value).encode(), "application/json", **headers)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def without_times(response: Response) -> dict[str, Any]:
    found = json.loads(response.body)
    return {name: value for name, value in found.items() if name not in ("timings", "id")}


def problem(response: Response) -> tuple[int, str, str]:
    """Status, field and detail, once it is seen that they are problem details."""
    found = json.loads(response.body)
    assert response.content_type == "application/problem+json"
    assert found["status"] == response.status
    assert found["type"].startswith("urn:sightline:")
    return response.status, found["field"], found["detail"]


def test_a_picture_is_answered(service: Service) -> None:
    response = ask(service, picture(), "image/png", x_request_id="mine")
    answer = json.loads(response.body)
    assert response.status == 200
    assert response.headers["X-Request-Id"] == answer["id"] == "mine"
    assert list(answer) == "id label probability probabilities unsure threshold model timings".split()
    assert answer["probabilities"][answer["label"]] == answer["probability"] == max(answer["probabilities"].values())
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (answer["threshold"], answer["unsure"]) == (0.6, answer["probability"] < 0.6)
    assert answer["model"]["name"] == "tiny"
    assert 0 < answer["timings"]["decode"] < answer["timings"]["total"]


def test_the_facts_for_capture_come_with_the_answer_and_are_not_sent(service: Service, exported: Path) -> None:
    (answer,) = ask(service, picture()).answers
    assert isinstance(answer, Answer)
    model = ExportedModel.open(exported / FILES["fp32"])
    features = model.run(RuntimePredictor.open(exported).prepare(picture())[None])[1][0]
    np.testing.assert_array_equal(np.frombuffer(answer.features or b"", "<f2"), features.astype("<f2"))
    assert len(answer.picture_sha256) == 64
    assert "features" not in answer.to_dict()


def test_the_same_numbers_from_torch_and_from_the_service(service: Service, exported: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.{kind.lower()}" for number, kind in enumerate(("JPEG", "PNG", "WEBP", "BMP"))]
    for number, file in enumerate(files):
        file.write_bytes(noise(number, file.suffix[1:].upper()))
    expected = FinishedRun.open(exported, "cpu", "32-true").predict(files).probabilities
    names = service.answerer.spec.class_names
    together = ask_json(service, {"images": [base64_of(file.read_bytes()) for file in files]})
    for file, row, answer in zip(files, expected, json.loads(together.body)["predictions"], strict=True):
        alone = json.loads(ask(service, file.read_bytes()).body)
        for found in (alone, answer):
            values = [found["probabilities"][name] for name in names]
            np.testing.assert_allclose(values, row, atol=1e-4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_every_door_gives_the_same_answer(service: Service, kind: str) -> None:
    data, content_type = noise(3, kind), f"image/{kind.lower()}"
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + data + b"\r\n--x--\r\n"
    answers = [
        ask(service, data, content_type),
        ask(service, data, f"{content_type.title()}; charset=binary"),
        ask(service, data, "application/x-image"),
        ask(service, data, "application/octet-stream"),
        ask(service, data),
        ask_json(service, {"image": base64_of(data)}),
        ask_json(service, {"image": "\n".join([base64_of(data)[:76], base64_of(data)[76:]])}),
        ask_json(service, {"image": f"data:{content_type};base64,{base64_of(data)}"}),
        ask(service, json.dumps({"image": base64_of(data)}).encode("utf-16"), "application/json; charset=utf-16"),
        ask(service, form, 'multipart/form-data; boundary="x"'),
    ]
    assert [answer.status for answer in answers] == [200] * len(answers), [answer.body for answer in answers]
    found = [without_times(answer) for answer in answers]
    assert found == [found[0]] * len(found)


def test_several_pictures_are_answered_in_order_and_a_broken_one_in_its_place(service: Service) -> None:
    images = [base64_of(noise(0)), "no base64!", base64_of(b"no picture"), base64_of(noise(1)), base64_of(png_bomb())]
    response = ask_json(service, {"images": images, "id": "all"})
    found = json.loads(response.body)["predictions"]
    assert response.status == 200
    assert [each["id"] for each in found] == [f"all-{number}" for number in range(5)]
    assert [each.get("status") for each in found] == [None, 400, 400, None, 413]
    assert [each["field"] for each in found if "field" in each] == ["images[1]", "images[2]", "images[4]"]
    for number in (0, 3):
        alone = ask_json(service, {"image": images[number]})
        assert found[number]["probability"] == pytest.approx(json.loads(alone.body)["probability"], abs=1e-6)
    assert len(response.answers) == 5


def test_many_pictures_are_answered_as_one_by_one(service: Service) -> None:
    images = [base64_of(noise(number)) for number in range(MAX_PICTURES)]
    found = json.loads(ask_json(service, {"images": images}).body)["predictions"]
    single = [json.loads(ask_json(service, {"image": image}).body) for image in images]
    assert [each["label"] for each in found] == [each["label"] for each in single]
    several = [each["probability"] for each in found]
    np.testing.assert_allclose(several, [each["probability"] for each in single], atol=1e-6)
    status, field, detail = problem(ask_json(service, {"images": [*images, images[0]]}))
    assert (status, field) == (422, "images")
    assert f"65 pictures; a request has 1 to {MAX_PICTURES}" in detail


def test_a_form_of_several_files(service: Service) -> None:
    def part(name: str, content: bytes, file: str = "") -> bytes:
        named = f'; filename="{file}"' if file else ""
        return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"

    form = part("image", noise(0), "a.jpg") + part("image", b"text", "b.txt") + part("id", b"two") + b"--b--\r\n"
    found = json.loads(ask(service, form, "multipart/form-data; boundary=b").body)["predictions"]
    assert [each["id"] for each in found] == ["two-0", "two-1"]
    assert (found[1]["status"], found[1]["field"]) == (400, "image[1]")
    one = part("images", noise(0), "a.jpg") + b"--b--\r\n"
    assert len(json.loads(ask(service, one, "multipart/form-data; boundary=b").body)["predictions"]) == 1
    unknown = part("imgae", b"text") + b"--b--\r\n"
    assert problem(ask(service, unknown, "multipart/form-data; boundary=b"))[:2] == (422, "imgae")


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"{}", "multipart/form-data; boundary=b", "is no multipart/form-data"),
        (
            b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nhalf',
            "multipart/form-data; boundary=b",
            "truncated",
        ),
        (b"--b--\r\n", "multipart/form-data", "needs its boundary"),
        (b"{", "application/json", "line 1, column 2"),
        (b'{"image": "\xff"}', "application/json", "cannot be read as JSON"),
        (b"[" * 100_000, "application/json", "cannot be read as JSON"),
        (b'{"image": ' + b"1" * 5000 + b"}", "application/json", "cannot be read as JSON"),
        (b'{"image": "data:image/png,abc"}', "application/json", "must say ;base64"),
        (b'{"image": "a"}', "application/json", "neither base64 nor a data URL"),
        (b'{"image": ""}', "application/json", "empty"),
        (b"", None, "empty"),
        (b"no picture", None, "its first bytes are of no picture"),
        (noise()[:900], None, "truncated"),
        (noise(kind="PNG")[:900], None, "truncated"),
        (noise(kind="BMP")[:900], None, "truncated"),
        (noise(kind="WEBP")[:900], "image/webp", "image/webp and is damaged"),
        (webp_bomb(), None, "damaged"),
        (b"\xff\xd8\xff" + bytes(1000), "image/jpeg", "image/jpeg and is damaged"),
    ],
)
def test_what_is_broken_is_a_problem(service: Service, body: bytes, content_type: str | None, said: str) -> None:
    response = ask(service, body, content_type)
    status, field, detail = problem(response)
    assert status == 400
    assert said in detail
    assert field in ("image", "body", "Content-Type")
    assert not [word for word in ("0x", "/src/", "Traceback", "data.max_pixels") if word in detail]


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ([], "body", "must be an object"),
        ({}, "image", "image is missing"),
        ({"imge": "x"}, "imge", "did you mean image?"),
        ({"image": "x", "images": []}, "images", "one of the two"),
        ({"image": 1}, "image", "must be a text"),
        ({"images": "x"}, "images", "must be a list"),
        ({"images": []}, "images", "1 to 64"),
        ({"images": ["x", 1]}, "images[1]", "must be a text"),
        ({"image": "x", "id": ""}, "id", "1 to 128"),
        ({"image": "x", "id": "\ud800"}, "id", "visible characters"),
        ({"image": "https://example.org/a.png"}, "image", "not fetched"),
        ({"image": "file:///etc/passwd"}, "image", "not fetched"),
        ({"image": "s3://bucket/a.png"}, "image", "serve.s3_prefixes is empty"),
    ],
)
def test_json_of_another_schema_names_the_field(service: Service, value: Any, field: str, said: str) -> None:
    status, named, detail = problem(ask_json(service, value))
    assert (status, named) == (422, field)
    assert said in detail


def test_other_content_types_are_refused_with_those_that_are_taken(service: Service, deep: Service) -> None:
    status, field, detail = problem(ask(service, picture(), "application/x-www-form-urlencoded"))
    assert (status, field) == (415, "Content-Type")
    assert "curl" in detail
    assert "image/jpeg, image/png, image/webp, image/bmp" in detail
    assert "image/tiff" not in detail
    assert "image/tiff" in problem(ask(deep, picture(), "text/html"))[2]
    assert problem(ask(service, picture(kind="GIF")))[0] == 415
    assert "image/tiff" in problem(ask(service, picture(kind="TIFF")))[2]
    assert problem(ask(service, picture(), content_encoding="gzip"))[:2] == (415, "Content-Encoding")
    assert ask(service, picture(), "image/jpg").status == 200


def test_size_is_refused_by_the_header(service: Service, exported: Path) -> None:
    for bomb in (png_bomb(), bmp_bomb()):
        status, field, detail = problem(ask(service, bomb))
        assert (status, field) == (413, "image")
        assert "50,000,000" in detail
    assert ask(service, png_with_large_text()).status == 200  # what is not of the pixels is not unpacked
    small = Service(RuntimePredictor.open(exported, max_pixels=1200), ServeSettings(max_bytes=2000))
    assert ask(small, picture(size=(40, 30))).status == 200
    assert problem(ask(small, picture(size=(40, 31))))[0] == 413
    assert problem(ask(small, noise(kind="PNG")))[:2] == (413, "body")


def test_bands_and_depths(deep: Service) -> None:
    assert ask(deep, npy((40, 30, 5)), "application/x-npy").status == 200
    assert ask(deep, npy((5, 40, 30), "float32")).status == 200
    status, field, detail = problem(ask(deep, npy((40, 30, 4))))
    assert (status, field) == (422, "image")
    assert "4 channel(s), and the model takes 5" in detail
    assert problem(ask(deep, npy((100_000, 100_000, 5), is_whole=False)))[0] == 400
    assert problem(ask(deep, npy((40, 30, 5), "complex64")))[0] == 400
    tight = Service(RuntimePredictor(deep.answerer.exported, deep.answerer.model, 1200), ServeSettings())  # pyright: ignore
    assert ask(tight, npy((20, 20, 5))).status == 200
    assert "of 10 bytes" in problem(ask(tight, npy((40, 30, 5))))[2]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/*;q=0.1, text/plain", "application/json"),
        ("text/csv", "text/csv"),
        ("Text/CSV; q=0.9, application/json;q=0.2", "text/csv"),
        ("text/csv;q=0.1, application/json;q=0.2", "application/json"),
        ("text/html, text/*;q=0.5, */*;q=0.1", "text/csv"),
        ("text/csv;q=0, */*", "application/json"),
    ],
)
def test_accept_chooses(service: Service, accept: str | None, expected: str) -> None:
    response = ask(service, picture(), **({} if accept is None else {"accept": accept}))
    assert response.status == 200
    assert response.content_type.split(";")[0] == expected


def test_accept_of_nothing_that_there_is(service: Service) -> None:
    assert problem(ask(service, picture(), accept="application/xml"))[:2] == (406, "Accept")


def test_csv_has_a_row_for_each_picture(service: Service) -> None:
    images = [base64_of(noise(0)), "broken!", base64_of(noise(1))]
    response = ask_json(service, {"images": images, "id": "x"}, accept="text/csv")
    rows = list(csv.DictReader(io.StringIO(response.body.decode())))
    found = json.loads(ask_json(service, {"images": images, "id": "x"}).body)["predictions"]
    assert [row["id"] for row in rows] == ["x-0", "x-1", "x-2"]
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    for row, answer in zip(rows, found, strict=True):
        if not row["error"]:
            assert (row["label"], float(row["probability"])) == (answer["label"], answer["probability"])
            assert {row["label"], row["label_2"]} == {"a", "b"}
            assert row["unsure"] == str(answer["unsure"]).lower()
    bare = ask(service, picture(), accept="text/csv; header=absent")
    assert bare.body.count(b"\r\n") == 1


def test_the_id_is_the_senders_or_is_made(service: Service) -> None:
    def id_of(**headers: str) -> str:
        return json.loads(ask(service, picture(), **headers).body)["id"]

    assert id_of(x_request_id="a", x_amzn_sagemaker_inference_id="b") == "a"
    assert id_of(x_amzn_sagemaker_inference_id="b") == "b"
    assert id_of(x_amzn_sagemaker_custom_attributes="from=test;id=c") == "c"
    assert json.loads(ask_json(service, {"image": base64_of(picture()), "id": "d"}).body)["id"] == "d"
    assert uuid.UUID(id_of())
    assert id_of() != id_of()
    for bad in ("x" * 129, "a\nb", "é"):
        assert problem(ask(service, picture(), x_request_id=bad))[:2] == (422, "x-request-id")
    assert ask(service, b"no picture", x_request_id="mine").headers["X-Request-Id"] == "mine"


def test_what_a_model_says_of_itself(service: Service, deep: Service) -> None:
    found = json.loads(service.describe_model().body)
    assert found["classes"] == ["a", "b"]
    assert (found["max_bytes"], found["max_pixels"], found["accuracy"]) == (4_000_000, 50_000_000, None)
    assert "image/tiff" not in found["content_types"]
    assert "image/tiff" in json.loads(deep.describe_model().body)["content_types"]
