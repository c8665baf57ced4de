"""Faults in the midst of an export, planted before the program begins: `Starter.run(…, first=("…:plant", NAME))`."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def plant(name: str) -> None:
    faults = {"lacking": _lack_onnxscript, "killed": _kill_at_the_end, "killed_late": _kill_late, "layout": _swap_sides}
    faults[name]()


def _lack_onnxscript() -> None:
    sys.modules["onnxscript"] = None  # pyright: ignore[reportArgumentType]  (what Python itself writes for it)


def _kill_at_the_end() -> None:
    """When all files are made, and none is in its place."""
    from sightline.export import cost

    def end(path: Path) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    cost.cost_of_onnx = end


def _kill_late() -> None:
    """When all of a copied run is in its place but what makes it one."""
    rename = Path.rename

    def end(self: Path, target: Any) -> Path:
        if self.name == "run.json":
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.rename = end


def _swap_sides() -> None:
    from sightline.models import onnx_graph

    onnx_graph.write_onnx = writing_wrongly(swap_sides)


def writing_wrongly(change: Callable[[Any], None]) -> Callable[..., None]:
    """The exporter's function, whose file is changed after it, as a fault of it would."""
    import onnx

    from sightline.models.onnx_graph import write_onnx

    def write(path: Path, *arguments: Any) -> None:
        write_onnx(path, *arguments)
        model = onnx.load(path)
        change(model.graph)
        onnx.save(model, path)

    return write


def change_weight(graph: Any) -> None:
    """One convolution's weights are a tenth larger."""
    _change(graph, "network.layer1.0.conv1.weight", lambda weights: weights * np.float32(1.1))


def swap_sides(graph: Any) -> None:
    """Rows are taken for columns: `(B, H, W, C)` becomes `(B, C, W, H)`."""
    transpose = next(node for node in graph.node if node.op_type == "Transpose" and "image" in node.input)
    transpose.attribute[0].ints[:] = [0, 3, 2, 1]


def swap_colours(graph: Any) -> None:
    """Red is taken for blue."""
    _change(graph, "network.conv1.0.weight", lambda weights: weights[:, ::-1])


def _change(graph: Any, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    from onnx import numpy_helper

    tensor = next(each for each in graph.initializer if each.name == name)
    changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(changed, name))
