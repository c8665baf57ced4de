"""`model.weights_for`: a weights file for the model of one name alone."""

from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file
from tests.conftest import compose_config

from sightline.config import validate
from sightline.errors import BadInput
from sightline.training.build import check_network


def test_the_file_for_a_name_is_the_one_that_is_looked_at(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.safetensors", tmp_path / "other.safetensors"
    for path, name in ((mine, "test_resnet"), (other, "test_efficientnet")):
        save_file(timm.create_model(name).state_dict(), path)
    words = ["model.name=test_resnet", f"model.weights={other}", f"model.weights_for={{test_resnet:{mine}}}"]
    check_network(validate(compose_config("train", *words)))
    words[2] = "model.weights_for={test_resnet:null}"
    check_network(validate(compose_config("train", *words)))
    with pytest.raises(BadInput, match="weights are for another network than ResNet"):
        check_network(validate(compose_config("train", *words[:2])))
