"""A backend that is no part of the package: one file, with settings of its own."""

from dataclasses import dataclass
from typing import ClassVar

from sightline.launch.backend import LaunchSettings
from sightline.launch.local.backend import LocalProcess


@dataclass
class BroughtSettings(LaunchSettings):
    backend: str = "brought"
    greeting: str = "hello"


class Brought(LocalProcess):
    name = "brought"
    settings_type: ClassVar[type[LaunchSettings]] = BroughtSettings
