"""Write a project of one's own beside Sightline."""

import importlib.util
import keyword
import os
import re
import runpy
import tempfile
from pathlib import Path

from sightline.errors import BadInput

TEMPLATE = Path(__file__).parent / "template"
SUFFIX = ".jinja"
PACKAGE = "PACKAGE"
"""In names of the template: that of the project's package."""
HIDDEN = ("gitignore",)
"""Files of the template whose names get a dot: hidden ones would be lost on the way."""


def new(name: str, into: str | Path = ".") -> Path:
    """Write the project's folder `name` below `into`, whole or not at all, and return it.

    Raises: BadInput for a name that no package can have, or a folder that is there.
    """
    package = package_name(name)
    folder = Path(into).expanduser().absolute() / name
    if os.path.lexists(folder):
        raise BadInput(f"name={name}: {folder} is there already; choose another name, or another into=…")
    if not folder.parent.is_dir():
        raise BadInput(f"into={into}: no such folder; make it first, or name one that is there")
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as place:
        made = Path(place, "project")
        values = {
            "package": package,
            "distribution": package.replace("_", "-"),
            "title": name,
            "network": "".join(part.capitalize() for part in package.split("_")) + "Net",
        }
        _write(made, values)
        data = runpy.run_path(str(made / "src" / package / "data.py"))
        data["draw_shapes"](made / "data" / "shapes")
        made.rename(folder)
    return folder


def package_name(name: str) -> str:
    """The package of a project of that name.

    Raises: BadInput where it can be none, or would hide a module that is installed.
    """
    package = name.replace("-", "_").lower()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package) or keyword.iskeyword(package):
        raise BadInput(f"name={name}: must be the name of a package: letters, digits, - and _, like my_signs")
    if importlib.util.find_spec(package) is not None:
        raise BadInput(f"name={name}: there is a module {package} already, which it would hide; choose another name")
    return package


def _write(project: Path, values: dict[str, str]) -> None:
    """Fill in every file of the template."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    for file in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
        inside = file.relative_to(TEMPLATE).as_posix().removesuffix(SUFFIX).replace(PACKAGE, values["package"])
        path = project / (f".{inside}" if inside in HIDDEN else inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.from_string(file.read_text(encoding="utf-8")).render(values), encoding="utf-8")
