"""The page's files: whole, allowed nothing from outside, and no others are given out."""

import re

import pytest

from sightline.serving.page_files import page_names, page_response

NAMESPACE = "http://www.w3.org/2000/svg"


def test_every_file_that_the_page_names_is_there() -> None:
    texts = {name: page_response(name)[0].decode() for name in page_names()}
    links = re.findall(r'(?:href|src)="([^"]+)"', texts["index.html"])
    imports = [
        found for name in texts if name.endswith(".js") for found in re.findall(r'from "\./([^"]+)"', texts[name])
    ]
    assert {"page.css", "page.js", "icon.svg"} <= {*links}
    assert {*links, *imports, "index.html"} == {*page_names()}
    assert page_response("") == page_response("index.html")


def test_nothing_comes_from_outside_and_nothing_is_inline() -> None:
    for name in page_names():
        text = page_response(name)[0].decode().replace(NAMESPACE, "")
        assert not re.search(r"//\w|@import|url\(", text.replace(": //", "")), name
    html = page_response("")[0].decode()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", html)
    policy = page_response("")[2]["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "*" not in policy


@pytest.mark.parametrize(
    ("name", "content_type"), [("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")]
)
def test_each_file_has_its_type(name: str, content_type: str) -> None:
    assert page_response(name)[1].startswith(content_type)


@pytest.mark.parametrize("name", ["../page_files.py", "page/page.js", "none.js", ".", "/etc/passwd", "page.js\0"])
def test_other_files_are_not_given_out(name: str) -> None:
    with pytest.raises(KeyError):
        page_response(name)
