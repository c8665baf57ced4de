"""`GET /docs`: the OpenAPI document as one page of HTML, with nothing from outside and no script."""

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d5dc, #44444e); --soft: light-dark(#f4f4f7, #24242b); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font: 600 1.1rem/1.4 ui-monospace, monospace; margin: 2.2rem 0 .2rem; overflow-wrap: anywhere; }
h2 b { display: inline-block; min-width: 3.4rem; }
p { margin: .2rem 0 .6rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-top: 1px solid var(--line); }
th { font-weight: 600; width: 9rem; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; border-radius: .4rem; }
summary { cursor: pointer; }
"""


def api_page(document: dict[str, Any]) -> bytes:
    """The page of an OpenAPI document."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}: its routes</title>",
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style><main>",
        f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>",
        "<p>For programs: <a href=openapi.json>openapi.json</a>. For people: <a href=./>the page</a>.</p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><b>{method.upper()}</b> {escape(path)}</h2><p>{escape(operation['summary'])}</p>")
            rows = (f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in _rows(operation))
            parts.append(f"<table>{''.join(rows)}</table>")
    parts.append("<h2>Schemas</h2>")
    for name, schema in document["components"]["schemas"].items():
        text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
        parts.append(
            f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>"
        )
    return "".join(parts).encode()


def _rows(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and HTML of what an operation takes and gives."""
    for parameter in operation.get("parameters", ()):
        said = _prose(parameter.get("description", ""))
        yield parameter["in"], f"<code>{escape(parameter['name'])}</code> {said}"
    if body := operation.get("requestBody"):
        yield "body", _content(body["content"])
    for status, response in sorted(operation["responses"].items()):
        yield escape(status), f"{_prose(response['description'])} {_content(response.get('content', {}))}"


def _prose(text: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))


def _content(content: dict[str, Any]) -> str:
    """Content types, with links to their schemas."""
    return ", ".join(f"<code>{escape(kind)}</code>{_links(of.get('schema', {}))}" for kind, of in content.items())


def _links(schema: dict[str, Any]) -> str:
    references = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    names = [escape(each["$ref"].rpartition("/")[2]) for each in references if "$ref" in each]
    return "".join(f" <a href='#{name}'>{name}</a>" for name in names)
