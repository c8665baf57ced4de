"""Pages of reports as HTML or Markdown, from Jinja templates beside the code that fills them."""

import re
from typing import Any

from sightline.runs.file_names import readable

_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~$&])")


def isolated(name: str) -> str:
    """A name for the middle of a sentence: one that is written from right to left turns nothing beside it round."""
    return name if name.isascii() else f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}"


def as_markdown(text: str) -> str:
    """A text that Markdown shows as it stands, on one line, in a sentence or in the cell of a table."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def render(package: str, template: str, **values: Any) -> str:
    """A rendered template: values are escaped, for Markdown where its name ends so, and a missing one is an error.

    In Markdown `{{ value|code }}` stands as it is, for blocks of code.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    is_markdown = template.endswith(".md.j2")
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=not is_markdown,
        finalize=(lambda value: value if isinstance(value, Markup) else as_markdown(str(value)))
        if is_markdown
        else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"isolated": isolated, "code": lambda text: Markup(" ".join(str(text).split()))}
    return readable(environment.get_template(template).render(**values))
