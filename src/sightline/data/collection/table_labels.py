"""The labels and splits of a table's rows: one class for each image, and what is no class is named."""

import ast
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from sightline.data.collection.image_files import split_of
from sightline.data.collection.table_text import Rows
from sightline.task_spec import NOT_YET

UNLABELLED = "-1 (no class)"
"""The number of no class where classes have numbers and names, as Hugging Face's `datasets` writes it."""
MISSING = frozenset(("", "nan", "NaN", "NAN", "None", "NULL", "null", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT"))
MISSING |= {UNLABELLED}
"""What programs write where there is no value."""
YES, NO = frozenset(("1", "1.0", "true", "yes")), frozenset(("0", "0.0", "false", "no", ""))
"""Cells of a column of 0 and 1, in lower case."""


SPLIT_FLAGS = {
    **dict.fromkeys("valid val validation isvalid isval isvalidation".split(), ("val", "train")),
    **dict.fromkeys("test istest testing".split(), ("test", "train")),
    **dict.fromkeys("train istrain istraining istrainingimage training".split(), ("train", "test")),
}
"""Columns of 0 and 1 that tell a split, by their plain names: what 1 and what 0 means."""


def is_flag(values: Iterable[str]) -> bool:
    """Whether a column holds 0 and 1 alone."""
    found = {value.lower() for value in values}
    return found <= YES | NO and bool(found & YES)


def read_splits(rows: Rows, columns: Sequence[tuple[str, Sequence[str]]], otherwise: str) -> list[str]:
    """The split of each row, from a column of words or from columns of 0 and 1, by their plain names.

    Raises: BadInput for another word, and for a row that is of two splits.
    """
    splits = [otherwise] * len(rows.cells)
    for name, values in columns:
        if name in SPLIT_FLAGS and is_flag(values):
            yes, no = SPLIT_FLAGS[name]
            found = [yes if value.lower() in YES else no for value in values]
        else:
            found = [split_of(value) if value else otherwise for value in values]
        for row, split in enumerate(found):
            if split is None:
                raise rows.wrong(row, f"split={values[row]}: must be train, val or test, or empty, which means train")
            if len(columns) == 1:
                splits[row] = split
            elif split != "train" and splits[row] not in ("train", split):
                raise rows.wrong(row, f"is of {splits[row]} and of {split}; correct one of {columns[0][0]} and {name}")
            elif split != "train":
                splits[row] = split
    return splits


def read_flags(rows: Rows, columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The class of each row from columns of 0 and 1, one for each class.

    Raises: BadInput for another value, and for a row of several classes, or of none.
    """
    for name, values in columns.items():
        if (
            wrong := next((row for row, value in enumerate(values) if value.lower() not in YES | NO), None)
        ) is not None:
            raise rows.wrong(wrong, f"{name}={values[wrong]}: must be 0 or 1 in a column that stands for a class")
    cells = zip(*columns.values(), strict=True)
    found = [[name for name, cell in zip(columns, row, strict=True) if cell.lower() in YES] for row in cells]
    _refuse(
        rows,
        [len(names) > 1 for names in found],
        lambda row: f"{' and '.join(found[row])} are 1: several labels",
        f"{NOT_YET}; keep one",
    )
    _refuse(
        rows,
        [not names for names in found],
        lambda row: f"none of {', '.join(columns)} is 1: no label",
        f"write 1 for the image's class, or remove the {rows.unit}",
    )
    return [names[0] for names in found]


def read_labels(rows: Rows, labels: Sequence[str], splits: Sequence[str], needs: str) -> list[str]:
    """The labels in one Unicode form; empty for the rows of test where all of these have none, and none is needed.

    Raises: BadInput for rows without a label or with several, and for labels that only differ by case or blanks.
    """
    is_missing = [label in MISSING for label in labels]
    tests = [missing for missing, split in zip(is_missing, splits, strict=True) if split == "test"]
    if needs != "test" and tests and all(tests):
        is_missing = [missing and split != "test" for missing, split in zip(is_missing, splits, strict=True)]
        labels = ["" if split == "test" else label for label, split in zip(labels, splits, strict=True)]
    _refuse(
        rows,
        is_missing,
        lambda row: f"label={labels[row]}: is {'no class' if labels[row] else 'empty'}",
        f"write the image's class (another word for it, if it is called so), or remove the {rows.unit}",
    )
    labels = [unicodedata.normalize("NFC", label) for label in labels]
    counts = Counter(label for label in labels if label)
    several = {label for label in counts if _is_several(label, counts)}
    _refuse(
        rows,
        [label in several for label in labels],
        lambda row: f"label={labels[row]}: several labels",
        f"{NOT_YET}; keep one, or give the combination a name of its own",
    )
    known: dict[str, str] = {}
    for label in counts:
        other = known.setdefault(" ".join(label.lower().split()), label)
        if other != label:
            raise rows.refuse(
                f"the labels {other} ({counts[other]} rows) and {label} ({counts[label]} rows) "
                "differ only by case or blanks; write one of them everywhere"
            )
    return labels


def _is_several(label: str, counts: Counter[str]) -> bool:
    """Whether a label is a list, or is made of others with `|`, `,` or `;` between them."""
    if label.startswith("[") and label.endswith("]"):
        try:
            return isinstance(ast.literal_eval(label), list)
        except (SyntaxError, ValueError):
            return False
    for separator in "|,;":
        parts = [part.strip() for part in label.split(separator)]
        if len(parts) > 1 and all(part in counts for part in parts):
            return True
    return False


def _refuse(rows: Rows, is_wrong: Sequence[bool], describe: Callable[[int], str], fix: str) -> None:
    """Raises: BadInput that names the first wrong row, how many there are, and some of their lines."""
    wrong = [row for row, each in enumerate(is_wrong) if each]
    if not wrong:
        return
    lines = ", ".join(rows.place(row) if rows.files else str(rows.lines[row]) for row in wrong[1:6])
    named = lines if rows.files else f"{rows.unit}s {lines}"
    others = f" (so are {len(wrong) - 1} other rows, {named}{'' if len(wrong) < 7 else ' …'})" if lines else ""
    raise rows.wrong(wrong[0], f"{describe(wrong[0])}{others}; {fix}")
