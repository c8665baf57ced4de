"""The handwritten digits that ship inside scikit-learn, as image files.

Source: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository
(CC BY 4.0); scikit-learn carries its 1,797 test images, 8x8 pixels with 17 grey levels. The writers are not named, so
the split into train and test is by image.
"""

from pathlib import Path

from sightline.runs.files import whole_folder

TEST_FRACTION = 0.2


def write_digits(root: Path) -> None:
    """Write `root/{train,test}/<digit>/<number>.png` once; a second call, or a second process, changes nothing."""
    if root.exists():
        return
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    rows, labels = load_digits(return_X_y=True)
    pixels = rows.reshape(-1, 8, 8)
    train, _ = train_test_split(range(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=0)
    in_train = set(train)
    with whole_folder(root) as partial:
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = partial / ("train" if number in in_train else "test") / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * (255 / 16)).round().astype("uint8")).save(folder / f"{number:04d}.png")
