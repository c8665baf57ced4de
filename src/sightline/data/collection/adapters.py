"""Data sets with a public source: where they come from, under which licence, and how they become a folder of images.

Each is fetched from its publisher and checked; none of them is part of this project. A licence is quoted where the
source states one, and called missing where it does not.
"""

import difflib
import logging
import pickle
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.collection.archives import extract, unpack
from sightline.data.collection.digits import write_digits
from sightline.data.collection.download import DownloadFailed, download
from sightline.errors import BadInput
from sightline.runs.files import whole_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A file of a data set: where it is published, its name in the cache, and its hash where one is known."""

    url: str
    file_name: str
    checksum: str | None


@dataclass(frozen=True)
class DataSet:
    """A data set with a public source, and what a person does by hand where it cannot be fetched."""

    name: str
    homepage: str
    licence: str
    archives: tuple[Archive, ...]
    advice: str


GTSRB = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
"""The official archive, linked from https://benchmark.ini.rub.de/gtsrb_dataset.html; torchvision's GTSRB names the same
place and the same md5 sums of both test files. Its training file is the smaller one of the online competition (26,640
images); the one here holds all 39,209."""

CIFAR100 = Archive(  # as in torchvision's CIFAR100
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "cifar-100-python.tar.gz",
    "md5:eb9058c3a382ffc7106e4002c42a8d85",
)
CIFAR_HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR_LICENCE = (
    "none stated by the source, which asks to cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images"
)
BIKES = ("bicycle", "motorcycle")

_DATA_SETS = (
    DataSet(
        "gtsrb",
        "https://benchmark.ini.rub.de/gtsrb_dataset.html",
        "none stated in the archives, which ask to cite J. Stallkamp, M. Schlipsing, J. Salmen and C. Igel",
        (
            Archive(
                f"{GTSRB}GTSRB_Final_Training_Images.zip",
                "GTSRB_Final_Training_Images.zip",
                "md5:f33fd80ac59bff73c82d25ab499e03a3",
            ),
            Archive(
                f"{GTSRB}GTSRB_Final_Test_Images.zip",
                "GTSRB_Final_Test_Images.zip",
                "md5:c7e4e6327067d32654124b0fe9e82185",
            ),
            Archive(
                f"{GTSRB}GTSRB_Final_Test_GT.zip", "GTSRB_Final_Test_GT.zip", "md5:fe31e9c9270bbcd7b84b7f21a9d9d9e5"
            ),
        ),
        "fetch its three GTSRB_Final_….zip from the homepage, unpack them into one folder and set data.root to it",
    ),
    DataSet(
        "cifar100",
        CIFAR_HOMEPAGE,
        CIFAR_LICENCE,
        (CIFAR100,),
        "fetch the python version of CIFAR-100 from the homepage and put it, as it is, into the cache's downloads/",
    ),
    DataSet(
        "bikes",
        CIFAR_HOMEPAGE,
        CIFAR_LICENCE,
        (CIFAR100,),
        "fetch the python version of CIFAR-100 from the homepage and put it, as it is, into the cache's downloads/",
    ),
    DataSet(
        "dogs",
        "https://github.com/udacity/dog-project",
        "none stated by the source",
        (Archive("https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip", "dogImages.zip", None),),
        "fetch dogImages.zip by the link in the homepage's readme and set data.root=dogImages.zip",
    ),
    DataSet(
        "intel",
        "https://www.kaggle.com/datasets/puneet6060/intel-image-classification",
        "see the page: Kaggle shows it to those who are logged in",
        (),
        "Kaggle gives it only to those with an account: download its zip there and set data.root=FILE.zip",
    ),
    DataSet(
        "digits",
        "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        "CC BY 4.0",
        (),
        "nothing: it comes with scikit-learn",
    ),
)
DATA_SETS = {data_set.name: data_set for data_set in _DATA_SETS}


def fetch(name: str, root: Path, *, cache: Path, class_names: Sequence[str] | None = None) -> None:
    """Make the data set of this name at `root`, whole or not at all; a folder that is there is taken as it is.

    What is downloaded stays in `cache/downloads`. `class_names` picks classes of CIFAR-100, by name.

    Raises: DownloadFailed, or BadInput where there is nothing to fetch.
    """
    if name not in DATA_SETS:
        raise BadInput(f"data.source={name}: must be one of {', '.join(DATA_SETS)}{_nearest(name, DATA_SETS)}")
    if class_names is not None and name != "cifar100":
        raise BadInput(f"data.classes={list(class_names)}: only cifar100 is made of chosen classes; set it to null")
    if root.exists():
        return
    if name == "digits":
        write_digits(root)
        return
    data = DATA_SETS[name]
    if not data.archives:
        raise BadInput(f"data.root={root}: no such folder, and {name} cannot be fetched. {data.advice}")
    files = [_download(archive, data, cache / "downloads") for archive in data.archives]
    if name in ("cifar100", "bikes"):
        write_cifar100(files[0], root, BIKES if name == "bikes" else class_names)
        return
    with whole_folder(root) as partial:
        for file in files:
            unpack(file, partial)


def _download(archive: Archive, data: DataSet, folder: Path) -> Path:
    log.info("%s: %s (licence: %s)", data.name, data.homepage, data.licence)
    try:
        return download(archive.url, folder / archive.file_name, checksum=archive.checksum)
    except DownloadFailed as error:
        raise DownloadFailed(f"{error}. By hand ({data.homepage}): {data.advice}") from error


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


# CIFAR-100


def write_cifar100(archive_or_folder: Path, root: Path, class_names: Sequence[str] | None) -> None:
    """Write `root/{train,test}/<fine class>/<name>.png` from the python version; all 100 classes for None.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html, where no licence is stated.

    Raises: BadInput for an unknown class, and for files that hold anything but arrays and names.
    """
    if root.exists():
        return
    if archive_or_folder.is_file():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as unpacked:
            write_cifar100(extract(archive_or_folder, Path(unpacked) / "cifar"), root, class_names)
        return
    folder = next((path.parent for path in sorted(archive_or_folder.rglob("meta")) if path.is_file()), None)
    if folder is None:
        raise BadInput(f"data.root={archive_or_folder}: no file meta in it; set it to the python version of CIFAR-100")
    known = [name.decode() for name in _entries(folder / "meta", b"fine_label_names")[0]]
    if not all(re.fullmatch(r"\w+", name) for name in known):
        raise BadInput(f"data.root={folder / 'meta'}: its classes cannot name folders; fetch the archive again")
    chosen = _choose(class_names, known)
    with whole_folder(root) as partial:
        for split in ("train", "test"):
            _write_split(folder / split, partial / split, {known.index(name): name for name in chosen})


def _choose(class_names: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    if class_names is None:
        return known
    if not class_names:
        raise BadInput("data.classes=[]: names no class; name some, or set it to null for all")
    for name in class_names:
        if name not in known:
            raise BadInput(
                f"data.classes={list(class_names)}: CIFAR-100 has no class {name}{_nearest(name, known)}; "
                f"its names are those in {CIFAR_HOMEPAGE}, with _ for a blank"
            )
    return class_names


def _write_split(file: Path, folder: Path, names: Mapping[int, str]) -> None:
    from PIL import Image

    pixels, labels, file_names = _entries(file, b"data", b"fine_labels", b"filenames")
    if pixels.shape != (len(labels), 3072) or str(pixels.dtype) != "uint8" or len(file_names) != len(labels):
        raise BadInput(f"data.root={file}: its images, labels and names do not fit together; fetch the archive again")
    for number, (row, label, file_name) in enumerate(zip(pixels, labels, file_names, strict=True)):
        if label not in names:
            continue
        target = folder / names[label] / file_name.decode()
        if target.parent != folder / names[label] or target.suffix != ".png":
            raise BadInput(f"data.root={file}: {file_name!r} cannot name an image; fetch the archive again")
        if target.exists():
            target = target.with_stem(f"{target.stem}-{number}")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row.reshape(3, 32, 32).transpose(1, 2, 0)).save(target)


def _entries(file: Path, *keys: bytes) -> list[Any]:
    """Entries of a pickled dictionary that holds arrays, lists, numbers and names alone."""
    if not file.is_file():
        raise BadInput(f"data.root={file}: no such file; fetch the archive again")
    try:
        with file.open("rb") as opened:
            loaded = _ArraysOnly(opened, encoding="bytes").load()
        return [loaded[key] for key in keys]
    except BadInput as error:
        raise BadInput(f"data.root={file}: {error}") from error
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BadInput(f"data.root={file}: not a file of CIFAR-100 ({error!r}); fetch the archive again") from error


class _ArraysOnly(pickle.Unpickler):
    """Refuses every pickle that asks for more than it takes to rebuild an array."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        for modules, name, found in _array_parts():
            if module_name in modules and global_name == name:
                return found
        raise BadInput(
            f"its pickle asks for {module_name}.{global_name}, which no image needs and which could run anything; "
            "do not open it, fetch the archive again"
        )


def _array_parts() -> Iterator[tuple[tuple[str, ...], str, Callable[..., Any]]]:
    """Modules, name and value of what pickled arrays and bytes refer to."""
    import numpy as np
    from numpy._core.multiarray import _reconstruct  # pyright: ignore[reportAttributeAccessIssue]

    yield ("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", _reconstruct
    yield ("numpy",), "ndarray", np.ndarray
    yield ("numpy",), "dtype", np.dtype
    yield ("_codecs",), "encode", _to_bytes


def _to_bytes(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, which old protocols write for bytes."""
    return text.encode("latin1")
