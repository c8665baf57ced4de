"""The pages of reports, from templates that lie beside the code that fills them."""

from typing import Any


def render(package: str, template: str, **values: Any) -> str:
    """A page of HTML; what is put in is escaped, and a value that the template names must be there."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**values)
    return page.encode("utf-8", "replace").decode("utf-8")  # names of files may hold bytes that are no text
