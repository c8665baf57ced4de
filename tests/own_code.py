"""A folder of own code for tests: a tiny network and its configuration."""

from pathlib import Path

NETWORK = '''"""A small network."""

from torch import nn


class SmallNet(nn.Sequential):
    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, num_classes),
        )
'''
TARGET = "my_nets.SmallNet"


def write_code(folder: Path, text: str = NETWORK) -> Path:
    """A folder with the module `my_nets`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_nets.py").write_text(text, encoding="utf-8")
    return folder


def with_network(folder: Path) -> list[str]:
    """The overrides of a training of that network."""
    return [f"model._target_={TARGET}", f"extensions={folder}"]


def edit(folder: Path) -> None:
    """A change that keeps the size of the file: what was compiled before it looks like it."""
    file = folder / "my_nets.py"
    file.write_text(file.read_text().replace("nn.ReLU()", "nn.SiLU()"))
