"""A data set whose classes and files have names of any kind."""

from pathlib import Path

from tests.conftest import write_image

TYPED = "=@+$5 & <b>{a}_{b}^c \\frac{$ #1 50%;,'q' \"d\" [red]"
"""What figures, pages, tables and terminals might read as an order to them."""
LONG = "猫🐶 שלום " + "x" * 180
BYTES = "caf\udce9\nline"
"""As Python holds a folder's name with a byte that is no UTF-8, and a line break."""
CLASSES = {TYPED: (210, 50, 40), LONG: (40, 60, 200), BYTES: (40, 190, 60)}
LABELS = sorted([TYPED, LONG, r"caf\xe9\x0aline"])
"""The names of the classes, as the model has them."""
FILES = (
    "caf\udce9.png",
    r"caf\xe9.png",
    "Café.png",
    "Cafe\u0301.png",
    "a\rb\nc\td.png",
    "=1+1,;'\"#%20?&.png",
    "<img src=x onerror=alert(1)>.png",
    "$x_{y}^{z$ {} \\.png",
    "תמונה 猫 🐶.png",
    "-x..png",
    "n" * 247 + ".png",
    "é" * 123 + "_.png",
)


def write_odd_names(root: Path) -> Path:
    """Three classes of 16 images in train/, and 4 in test/."""
    for number, (name, color) in enumerate(CLASSES.items()):
        for index, file in enumerate([*FILES, *(f"{i}.png" for i in range(16 - len(FILES)))]):
            _write(root / "train" / name / file, color, 1000 * number + index)
        for index, file in enumerate((FILES[0], FILES[4], FILES[6], FILES[10])):
            _write(root / "test" / name / file, color, 1000 * number + 500 + index)
    return root


def _write(path: Path, color: tuple[int, int, int], seed: int) -> None:
    write_image(path.with_name("new.png"), color, seed)
    path.with_name("new.png").replace(path)
