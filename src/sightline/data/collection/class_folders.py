"""Folders of classes in their usual forms, and files whose names tell the class."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sightline.data.collection.image_files import (
    MAX_NAMED,
    SPLIT_FOLDERS,
    ClassFiles,
    ImageSearch,
    LayoutRule,
    Listing,
    image_suffixes,
    is_folder,
    is_image,
    leads_up,
    scan,
    split_of,
)
from sightline.errors import BadInput
from sightline.runs.guesses import Guess, ambiguous

PLAIN_WORDS = frozenset(("train", "val", "valid", "validation", "test"))
"""Folders that are splits without a word about it."""
LONGER_WORD = re.compile(
    r"(?:(?P<prefix>.+?)[\s_.-]+)??"
    rf"(?P<word>{'|'.join(word for words in SPLIT_FOLDERS.values() for word in words)})"
    r"[\s_.-]*(?:set|data|dataset|images|imgs|photos|pictures)?[\s_.-]*\d*",
    re.IGNORECASE,
)
"""A split's word with more around it: training_set, train2017, and with a prefix asl_alphabet_train."""
UNLABELLED_NAMES = frozenset(("images", "imgs", "all", "unknown", "unlabelled", "unlabeled"))
"""What the single folder in test/ is called where its images have no classes, in lower case."""
NAME_PATTERNS = (r"^(.+?)[ ._-]*\(?\d+\)?\.\w+$", r"^([^\W\d_]+)", r"([^\W\d_]+)\.\w+$")
"""How the class stands in many files' names: Egyptian_Mau_12.jpg, cat.0.large.jpg, 0001_cat.jpg."""


@dataclass(frozen=True)
class Location:
    """A folder below the root in which a layout is looked for."""

    root: Path
    folder: Path
    rule: LayoutRule
    needs: str
    search: ImageSearch = field(default_factory=ImageSearch)

    def relative(self, path: Path) -> str:
        below = path.relative_to(self.root).as_posix()
        return "" if below == "." else below

    def refuse(self, problem: str) -> BadInput:
        return BadInput(f"data.root={self.root}: {problem}")

    def subfolders(self, folder: Path) -> list[Path]:
        """Sorted; links that lead up are none."""
        found = []
        for entry in scan(folder):
            if (entry.is_symlink() and not self.search.leads_somewhere(entry)) or not is_folder(entry):
                continue
            if entry.is_symlink() and leads_up(target := os.path.realpath(entry.path), os.path.realpath(folder)):
                self.search.links[entry.path] = target
            else:
                found.append(Path(entry.path))
        return sorted(found)

    def listing(self, layout: str, files: list[ClassFiles], *, because: str = "", notes: Sequence[str] = ()) -> Listing:
        """What was found here; a guess where there is a reason and nobody told the layout."""
        is_guess = because and self.rule.layout == "auto"
        return Listing(
            self.root,
            files,
            layout,
            guesses=(Guess("data.layout", layout, because),) if is_guess else (),
            passed_over=dict(self.search.passed_over),
            notes=(*notes, *self.search.notes(self.root)),
        )


def has_images(folder: Path) -> bool:
    """Whether images lie in the folder itself."""
    return any(not is_folder(entry) and is_image(entry.name, entry.path) for entry in scan(folder))


def holds_images(folder: Path) -> bool:
    """Whether images lie in the folder or below."""
    return next(ImageSearch().find(folder), None) is not None


def list_class_folders(at: Location) -> Listing | None:
    """`train/<class>/…`, `<class>/…` or `<class>/train/…`, or files whose names tell the class by the pattern.

    None where the folder is none of them, but perhaps one in it.

    Raises: BadInput for what can be understood in two ways, and for images without classes.
    """
    splits = find_split_folders(at)
    if at.rule.name_pattern is not None:
        return _list_by_name(at, at.rule.name_pattern, splits)
    layout, because = (at.rule.layout, "") if at.rule.layout != "auto" else _understand(at, splits)
    if layout == "splits" and at.needs in splits:
        return _list_splits(at, splits)
    if layout == "classes" and len(at.subfolders(at.folder)) > 1:
        files = list_classes(at, at.needs, at.folder)
        notes = [*note_strays(at, at.folder), *_note_nested(files)]
        if empty := [at.root / part.folder for part in files if not part.names]:
            notes.append(f"not read: {_name(empty)}, as there are no images in it")
        return at.listing(layout, [part for part in files if part.names], because=because, notes=notes)
    if layout == "classes_splits":
        return _list_splits_of_classes(at, because)
    if not splits and has_images(at.folder) and not any(map(holds_images, at.subfolders(at.folder))):
        raise _explain_flat(at, at.folder)
    return None


def find_split_folders(at: Location) -> dict[str, Path]:
    """The folder of each split, by the plainest of the names that are there: test/, then test_set/, then some_test/.

    Raises: BadInput where two folders mean the same split, and where those of several data sets lie side by side.
    """
    by_prefix: dict[str | None, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder in at.subfolders(at.folder):
        if split := split_of(folder.name):
            by_prefix[None][split].append(folder)
        elif (match := LONGER_WORD.fullmatch(folder.name)) and (split := split_of(match["word"])):
            by_prefix[(match["prefix"] or "").lower()][split].append(folder)
    plain, longer = by_prefix.pop(None, {}), by_prefix.pop("", {})
    found = {split: folders for split in SPLIT_FOLDERS if (folders := plain.get(split) or longer.get(split))}
    if at.needs not in found:
        series = [each for each in by_prefix.values() if at.needs in each and len(each) > 1]
        if len(series) > 1:
            raise at.refuse(
                f"{_name(each[at.needs][0] for each in series)} belong to several data sets; put each into a folder of "
                "its own and set data.root to one of them"
            )
        found = series[0] if series else found
    if at.needs in found and (twice := next((split for split in found if len(found[split]) > 1), None)):
        one, other = found[twice][:2]
        raise at.refuse(f"{one.name}/ and {other.name}/ both mean {twice}; keep one")
    return {split: found[split][0] for split in SPLIT_FOLDERS if split in found}


def is_around_splits(at: Location, folder: Path) -> bool:
    """Whether a folder holds those of the splits, whatever its own name says."""
    return len(find_split_folders(replace(at, folder=folder))) > 1


def _understand(at: Location, splits: dict[str, Path]) -> tuple[str, str]:
    """The layout of a folder and, unless it is plain, the reason; nothing where it is none of them.

    Raises: BadInput for what can be understood in two ways.
    """
    if at.needs in splits:
        folder, others = splits[at.needs], set(at.subfolders(at.folder)) - set(splits.values())
        if len(splits) == 1 and not others and is_around_splits(at, folder):
            return "", ""
        if has_images(folder) and not at.subfolders(folder) and (alike := sorted(filter(has_images, others))):
            return "classes", f"{folder.name}/ holds images itself, like {_name(alike)}"
        return "splits", ""
    folders = [folder for folder in at.subfolders(at.folder) if holds_images(folder)]
    if len(folders) < 2:
        return "", ""
    if splits:
        one, others = next(iter(splits.values())), [each for each in folders if each not in splits.values()]
        if others and has_images(one):
            raise at.refuse(
                f"{one.name}/ lies beside {_name(others)}: if all of them are classes, add data.layout=classes; "
                f"if it is a split, put the others into {at.folder / at.needs}"
            )
        return "", ""
    of_class = {folder: find_split_folders(replace(at, folder=folder)) for folder in folders if not has_images(folder)}
    with_splits = [folder for folder, inner in of_class.items() if inner]
    if not with_splits:
        return "classes", f"there is no folder {at.needs}/, and {_name(folders)} hold the images"
    if any(at.subfolders(inner) for folder in with_splits for inner in of_class[folder].values()):
        raise at.refuse(
            f"{_name(with_splits)}: the folders of splits lie in there; set data.root={with_splits[0]} to take those, "
            f"or data.layout=classes if {_name(folders)} are classes"
        )
    names = dict.fromkeys(inner.name for folder in with_splits for inner in of_class[folder].values())
    by_class = Guess("data.layout", "classes_splits", f"{_name(map(Path, names))} lie in {_name(with_splits)}")
    if without := [folder for folder in folders if folder not in with_splits]:
        raise ambiguous(by_class, Guess("data.layout", "classes", f"there are none in {_name(without)}"))
    return by_class.value, by_class.because


# train/<class>/…


def _list_splits(at: Location, splits: dict[str, Path]) -> Listing:
    """The class folders of each split; images of a test split that has none are unlabelled."""
    reasons = [f"{folder.name}/ is {split}" for split, folder in splits.items() if folder.name not in PLAIN_WORDS]
    files: list[ClassFiles] = []
    unlabelled: list[str] = []
    notes = _note_unread(at, splits.values())
    for split, folder in splits.items():
        level = _find_classes(at, folder)
        if level != folder:
            reasons.append(f"the classes of {split} lie in {at.relative(level)}/")
        labels = {each.label for each in files}
        if split == "test" and level == folder and (names := _find_unlabelled(at, folder, labels)):
            unlabelled = names
            notes.append(
                f"{folder.name}/ has no folders of classes: its {len(names)} image(s) are not measured but predicted, "
                "and the test split is made from train"
            )
            continue
        notes += note_strays(at, level)
        listed = list_classes(at, split, level)
        notes += _note_nested(listed)
        files += listed
    if at.needs == "test" and unlabelled:
        folder = splits["test"]
        raise at.refuse(
            f"{folder.name}/ has no folders of classes, so nothing can be measured; put the images into "
            f"{folder}/<class>/, or classify them with predict.py images={folder}"
        )
    return replace(at.listing("splits", files, because="; ".join(reasons), notes=notes), unlabelled=unlabelled)


def _find_classes(at: Location, folder: Path) -> Path:
    """The folder that holds the class folders: it may be the only one with images in that of the split."""
    while not has_images(folder):
        inner = at.subfolders(folder)
        if len(inner) > 1 and not any(map(has_images, inner)):
            inner = [each for each in inner if holds_images(each)]
        if len(inner) != 1 or has_images(inner[0]) or len(at.subfolders(inner[0])) < 2:
            break
        folder = inner[0]
    return folder


def _find_unlabelled(at: Location, folder: Path, labels: set[str]) -> list[str]:
    """The images of a test split that has no class folders, or one whose name says that it is none."""
    inner = at.subfolders(folder)
    if inner and (len(inner) > 1 or inner[0].name in labels or not _says_no_class(inner[0].name)):
        return []
    return sorted(f"{at.relative(folder)}/{name}" for name in at.search.find(folder))


def _says_no_class(name: str) -> bool:
    """Whether a folder's name is no class: `unknown`, or a word for test with others around it."""
    match = LONGER_WORD.fullmatch(name)
    return name.lower() in UNLABELLED_NAMES or (match is not None and split_of(match["word"]) == "test")


def note_strays(at: Location, folder: Path) -> list[str]:
    """A line for images that lie beside class folders."""
    names = sorted(entry.name for entry in scan(folder) if not is_folder(entry) and is_image(entry.name, entry.path))
    if not names or not at.subfolders(folder):
        return []
    return [f"not used: {len(names)} image(s) in {folder.name}/ itself, in no class folder, the first is {names[0]}"]


def _note_nested(classes: Sequence[ClassFiles]) -> list[str]:
    """A line for a class folder in which others lie once more, as some archives have them."""
    labels = {part.label for part in classes}
    found = []
    for part in classes:
        inner = {name.partition("/")[0] for name in part.names if "/" in name}
        if len(twice := sorted(inner & labels - {part.label})) > 1:
            found.append(
                f"{part.folder}/ counts as a class, and holds folders that are called like classes too: "
                f"{_name(map(Path, twice))}; if they are copies, move it away"
            )
    return found


def _note_unread(at: Location, used: Iterable[Path]) -> list[str]:
    """A line for folders beside those of the splits."""
    read = {os.path.realpath(folder) for folder in used}
    others = [folder for folder in at.subfolders(at.folder) if os.path.realpath(folder) not in read]
    return [f"not read: {_name(others)} beside {_name(used)}"] if others else []


# <class>/… and <class>/train/…


def list_classes(at: Location, split: str, split_folder: Path) -> list[ClassFiles]:
    """Each class folder, with the images below it.

    Raises: BadInput where there is none, and where the pattern gives one class to two folders.
    """
    folders = at.subfolders(split_folder)
    if not folders and has_images(split_folder):
        raise _explain_flat(at, split_folder)
    if not folders:
        hint = f" (looked for {' '.join(sorted(image_suffixes()))})" if split == "train" else "; add some or remove it"
        raise at.refuse(f"no images found in {split_folder}/<class>/{hint}")
    listed: dict[str, ClassFiles] = {}
    for folder in folders:
        label = _name_class(folder.name, at.rule.class_pattern)
        if label in listed:
            raise BadInput(
                f"data.class_pattern={at.rule.class_pattern}: gives the class {label} to {listed[label].folder} and to "
                f"{at.relative(folder)}; change it so that they differ, or put their images into one folder"
            )
        listed[label] = ClassFiles(split, label, at.relative(folder), sorted(at.search.find(folder)))
    return [listed[label] for label in sorted(listed)]


def _list_splits_of_classes(at: Location, because: str) -> Listing | None:
    """Class folders that hold the folders of the splits; None where no class has the split that is needed."""
    files: list[ClassFiles] = []
    notes: list[str] = []
    for folder in at.subfolders(at.folder):
        splits = find_split_folders(replace(at, folder=folder))
        label = _name_class(folder.name, at.rule.class_pattern)
        notes += _note_unread(replace(at, folder=folder), splits.values())
        files += (
            ClassFiles(split, label, at.relative(inner), sorted(at.search.find(inner)))
            for split, inner in splits.items()
        )
    if not any(part.split == at.needs for part in files):
        return None
    files.sort(key=lambda part: (list(SPLIT_FOLDERS).index(part.split), part.label))
    return at.listing("classes_splits", files, because=because, notes=notes)


def _name_class(folder: str, pattern: str | None) -> str:
    if pattern is None:
        return folder
    match = re.search(pattern, folder)
    if match is None or not match.groups() or not match[1]:
        raise BadInput(
            f"data.class_pattern={pattern}: its bracket finds no class in the folder {folder}; "
            "change it so that it fits every class folder, or set data.class_pattern=null"
        )
    return match[1]


# files whose names tell the class


def _list_by_name(at: Location, pattern: str, splits: dict[str, Path]) -> Listing | None:
    """The images below each split's folder, or below this one, by what the pattern finds in their names."""
    folders = at.subfolders(at.folder)
    if at.rule.layout == "classes" or at.needs not in splits:
        if len(folders) == 1 and not has_images(at.folder):
            return None
        splits = {at.needs: at.folder}
    files: list[ClassFiles] = []
    unlabelled: list[str] = []
    notes = _note_unread(at, splits.values()) if at.folder not in splits.values() else []
    for split, folder in splits.items():
        names = sorted(at.search.find(folder))
        by_label: dict[str, list[str]] = defaultdict(list)
        without = []
        for name in names:
            match = re.search(pattern, name.rpartition("/")[2])
            by_label[match[1]].append(name) if match and match[1] else without.append(name)
        if without and (split != "test" or by_label or at.needs == "test"):
            raise BadInput(
                f"data.name_pattern={pattern}: its bracket finds no class in {at.relative(folder / without[0])} and "
                f"{len(without) - 1} more of {len(names)} file(s); change it so that it fits every file's name"
            )
        if without:
            unlabelled = [at.relative(folder / name) for name in without]
            notes.append(
                f"{folder.name}/: no name tells a class: its {len(without)} image(s) are predicted, not measured"
            )
        files += (ClassFiles(split, label, at.relative(folder), by_label[label]) for label in sorted(by_label))
    if not files and len(folders) == 1:
        return None
    return replace(at.listing("names", files, notes=notes), unlabelled=unlabelled)


def _explain_flat(at: Location, folder: Path) -> BadInput:
    """The error for images without a word about their classes: it names the three ways to tell them."""
    names = sorted(entry.name for entry in scan(folder) if not is_folder(entry) and is_image(entry.name, entry.path))
    pattern, labels = _suggest_pattern(names)
    gives = f", which gives {_join(labels)}" if labels else ""
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    above = folder if split_of(folder.name) else at.root / at.needs
    return at.refuse(
        f"no class folders in {folder}, but {len(names)} image(s) ({shown}). Tell their classes in one of three ways: "
        f"put them into {above}/<class>/; or take the class from their names, with "
        f"'data.name_pattern=\"{pattern}\"'{gives}; or name a table of path,label with data.root=TABLE.csv"
    )


def _suggest_pattern(names: Sequence[str]) -> tuple[str, list[str]]:
    """The first usual pattern that finds in all names a class, each of several; none of them is likely."""
    for pattern in NAME_PATTERNS:
        matches = [re.search(pattern, name) for name in names]
        labels = sorted({match[1] for match in matches if match})
        if all(matches) and 2 <= len(labels) <= max(2, len(names) // 2):
            return pattern, labels
    return NAME_PATTERNS[1], []


def _name(folders: Iterable[Path]) -> str:
    return _join([f"{folder.name}/" for folder in folders])


def _join(names: Sequence[str]) -> str:
    shown = names[:MAX_NAMED]
    more = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    *first, last = [*shown, *more]
    return f"{', '.join(first)} and {last}" if first else last
