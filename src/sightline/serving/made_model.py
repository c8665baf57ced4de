"""A tiny exported model without a run: what an image tests itself with when no model is mounted.

Written field by field (onnx.proto, protobuf's wire format), since the image has no library that makes ONNX files.
"""

import json
import struct
from pathlib import Path

from sightline.models.exported import FEATURES, FILES, IMAGE, METADATA, PROBABILITIES
from sightline.task_spec import Calibration, TaskSpec

FLOAT, UINT8 = 1, 2
"""Element types of onnx.proto."""
IR_VERSION, OPSET = 8, 17
HALF = (0.5, 0.5, 0.5)
SPEC = TaskSpec(("blue", "green", "red"), 32, HALF, HALF, calibration=Calibration(1.0, 0.5, 0.95, 100))
WEIGHTS = (0.0, 0.0, 0.05, 0.0, 0.05, 0.0, 0.05, 0.0, 0.0)
"""From the mean red, green and blue of a picture to the classes, row by row."""


def write_made_model(folder: Path) -> Path:
    """A model folder whose model says which of its three colours a picture has most of."""
    size = SPEC.image_size
    nodes = (
        _node("Cast", [IMAGE], ["pixels"], _attribute("to", 2, number=FLOAT)),
        _node("ReduceMean", ["pixels"], [FEATURES], _attribute("axes", 7, numbers=(1, 2)), _attribute("keepdims", 2)),
        _node("MatMul", [FEATURES, "weights"], ["logits"]),
        _node("Softmax", ["logits"], [PROBABILITIES], _attribute("axis", 2, number=1)),
    )
    weights = _number(1, 3) + _number(1, 3) + _number(2, FLOAT) + _text(8, "weights")
    weights += _bytes(9, struct.pack("<9f", *WEIGHTS))
    graph = b"".join(_bytes(1, node) for node in nodes) + _text(2, "made") + _bytes(5, weights)
    graph += _bytes(11, _value(IMAGE, UINT8, ("B", size, size, 3)))
    graph += b"".join(_bytes(12, _value(name, FLOAT, ("B", 3))) for name in (PROBABILITIES, FEATURES))
    facts = {METADATA: json.dumps(SPEC.to_dict()), "name": "made", "version": "0", "sha256": "", "precision": "fp32"}
    model = _number(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, OPSET))
    model += b"".join(_bytes(14, _text(1, name) + _text(2, text)) for name, text in facts.items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILES["fp32"]).write_bytes(model)
    return folder


def _value(name: str, kind: int, shape: tuple[int | str, ...]) -> bytes:
    """An input or output: its name, its type and its shape, a name for a size that is free."""
    sizes = (_text(2, size) if isinstance(size, str) else _number(1, size) for size in shape)
    tensor = _number(1, kind) + _bytes(2, b"".join(_bytes(1, size) for size in sizes))
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _node(kind: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    named = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs)
    return named + _text(4, kind) + b"".join(_bytes(5, each) for each in attributes)


def _attribute(name: str, kind: int, *, number: int = 0, numbers: tuple[int, ...] = ()) -> bytes:
    """An integer (kind 2) or several (kind 7)."""
    value = b"".join(_number(8, each) for each in numbers) if numbers else _number(3, number)
    return _text(1, name) + value + _number(20, kind)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
