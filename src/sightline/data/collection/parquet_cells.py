"""The columns of parquet files: what their types may hold, and their cells as text."""

import json
from collections.abc import Mapping
from typing import Any

from sightline.data.collection.table_labels import UNLABELLED
from sightline.errors import BadInput


def read_features(file: Any) -> dict[str, Any]:
    """What Hugging Face's `datasets` notes of each column."""
    try:
        noted = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        features = noted.get("info", {}).get("features", {})
        return {name: each for name, each in features.items() if isinstance(each, dict)}
    except (ValueError, AttributeError):
        return {}


def is_struct(kind: Any) -> bool:
    """Whether a type is Hugging Face's of an image: `{bytes, path}`."""
    import pyarrow.types as types

    return types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_binary(kind.field("bytes").type)


def is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def is_array(kind: Any) -> bool:
    """Whether a type is of lists of numbers, which may lie in lists."""
    import pyarrow.types as types

    inner = kind
    while _is_list(inner):
        inner = inner.value_type
    return inner is not kind and (types.is_integer(inner) or types.is_floating(inner))


def is_text(kind: Any) -> bool:
    """Whether the cells of a type can be written as one would into a table of text."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):  # several labels, say
        return is_string(kind.value_type) or types.is_integer(kind.value_type)
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return is_string(kind) or is_number or types.is_boolean(kind) or types.is_null(kind)


def is_string(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def read_texts(address: str, cells: Any, field: Any, feature: Mapping[str, Any]) -> list[str]:
    """The cells of a column as text without blanks around it: whole numbers without a point, empty for null.

    The `address` is what errors call the table, `feature` what is noted of the column.

    Raises: BadInput for the number of a class that has no name.
    """
    import pyarrow.types as types

    values = cells.to_pylist()
    if feature.get("_type") == "ClassLabel" and types.is_integer(field.type):
        names = {-1: UNLABELLED, None: "", **dict(enumerate(map(str, feature.get("names") or ())))}
        if (wrong := next((row for row, value in enumerate(values) if value not in names), None)) is not None:
            raise BadInput(
                f"data.root={address}: row {wrong}: {field.name}={values[wrong]}: there are names for "
                f"{len(names) - 2} classes; correct it, or write the names themselves"
            )
        return [names[value].strip() for value in values]
    if types.is_boolean(field.type):
        values = [None if value is None else str(value).lower() for value in values]
    if types.is_floating(field.type):
        values = [int(value) if value is not None and value.is_integer() else value for value in values]
    return ["" if value is None else str(value).strip() for value in values]
