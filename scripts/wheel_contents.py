"""What a wheel holds beyond the packages: configurations and programs, beside each other as in a checkout."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # pyright: ignore[reportMissingImports]


class WheelContents(BuildHookInterface):  # pyright: ignore[reportUntypedBaseClass]
    """`sightline/runs/project.py` finds them; an editable install is the checkout itself and needs none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        project = Path(self.root)
        files = [*project.glob("src/*.py"), *project.glob("configs/**/*.yaml")]
        inside = {path: path.relative_to(project).as_posix() for path in files if path.parent.name != "local"}
        build_data["force_include"].update({str(path): f"sightline/project/{name}" for path, name in inside.items()})
