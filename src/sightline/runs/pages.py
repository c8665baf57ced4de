"""HTML pages of reports, from Jinja templates beside the code that fills them."""

from typing import Any

from sightline.runs.file_names import readable


def isolated(name: str) -> str:
    """A name for the middle of a sentence: one that is written from right to left turns nothing beside it round."""
    return name if name.isascii() else f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}"


def render(package: str, template: str, **values: Any) -> str:
    """A rendered template: values are escaped, and a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return readable(environment.get_template(template).render(**values))
