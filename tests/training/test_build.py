"""What is said of a network before it is trained."""

from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file
from tests.conftest import BARE, compose_train

from sightline.data.opening import open_data
from sightline.training.build import build_training

STATISTICS = ("data.mean=[0.1,0.2,0.3]", "data.std=[0.2,0.2,0.2]")


def test_weights_that_were_trained_with_other_colours_are_named(
    colors: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    words = ["data=folder", f"data.root={colors}", *BARE]
    opened = open_data(compose_train(*words))
    said = []
    for more in ([*STATISTICS, f"model.weights={weights}"], STATISTICS, [f"model.weights={weights}"]):
        caplog.clear()
        _, datamodule = build_training(compose_train(*words, *more), opened)
        said.append([each.getMessage() for each in caplog.records if "data.mean" in each.getMessage()])
        assert (datamodule.spec.mean == (0.1, 0.2, 0.3)) == (more[0] == STATISTICS[0])
    ((line,), *others) = said
    assert line.startswith(
        "data.mean=[0.1, 0.2, 0.3] data.std=[0.2, 0.2, 0.2]: are used, though test_resnet's published"
    )
    assert others == [[], []]
