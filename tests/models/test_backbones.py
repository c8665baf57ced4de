"""Networks by name, and weights from files: what fits is copied, what does not is named."""

import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from sightline.errors import BadInput
from sightline.models.backbones import (
    check_fit,
    check_name,
    create_backbone,
    head_modules,
    made_for_size,
    state_dict_sha256,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """test_resnet for 1,000 classes, as a published file would be."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "published.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=1000).state_dict(), path)
    return path


def test_a_new_head_when_the_classes_differ(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        network, architecture = create_backbone("test_resnet", 3, weights=weights)
    given, made = load_file(weights), network.state_dict()
    assert made["fc.weight"].shape == (3, given["fc.weight"].shape[1])
    backbone = [name for name in made if not name.startswith("fc.")]
    assert all(torch.equal(made[name], given[name]) for name in backbone)
    assert not made["fc.weight"].any(), "from zero: a random head's gradients would first wreck the backbone"
    assert "left out fc.bias, fc.weight; new fc.bias, fc.weight" in caplog.text
    assert architecture.weights_origin.startswith("file sha256:")


def test_the_same_classes_take_every_tensor(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    network, _ = create_backbone("test_resnet", 1000, weights=weights)
    assert state_dict_sha256(network.state_dict()) == state_dict_sha256(load_file(weights))
    assert not caplog.records


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    with pytest.raises(BadInput, match="these weights are for another network than ResNet") as caught:
        create_backbone("resnet10t", 3, weights=weights)
    assert "to the network they were made for" in str(caught.value)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(BadInput, match="not a safetensors file"):
        create_backbone("test_resnet", 3, weights=tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet81", "resnet18"), ("mobilnetv2_100", "mobilenetv2_100"), ("resnet18.a1_in1", "resnet18.a1_in1k")],
)
def test_an_unknown_name_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(BadInput, match=f"model.name={name}: timm has no such model; did you mean .*{near}"):
        check_name(name)


def test_pretrained_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own client, told that it is offline, as on a machine without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(
        BadInput, match="model.pretrained=true: the weights of resnet18 could not be downloaded"
    ) as caught:
        create_backbone("resnet18", 3, pretrained=True)
    assert "give a local safetensors file with model.weights=FILE, or set model.pretrained=false" in str(caught.value)


def test_pretrained_for_a_model_without_weights() -> None:
    name = next(name for name in timm.list_models("resnet*") if not timm.is_model_pretrained(name))
    with pytest.raises(BadInput, match=f"timm has no weights for {name}"):
        create_backbone(name, 3, pretrained=True)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("test_resnet", "fc"),
        ("test_vit", "head"),
        ("mobilenetv2_100", "classifier"),
        ("test_convnext", "head.fc"),
    ],
)
def test_the_head_is_found_in_every_family(name: str, head: str) -> None:
    assert head_modules(timm.create_model(name, num_classes=3)) == [head]


def test_the_hash_of_weights_follows_their_values() -> None:
    state = {"a": torch.zeros(2, 2), "b": torch.ones(3)}
    changed = {"a": torch.zeros(2, 2), "b": torch.tensor([1.0, 1.0, 1.001])}
    assert state_dict_sha256(state) == state_dict_sha256(dict(reversed(state.items())))
    assert state_dict_sha256(state) != state_dict_sha256(changed)


def test_position_embeddings_of_a_file_are_resampled(tmp_path: Path) -> None:
    """A transformer's weights for 224 px, taken at 64."""
    small = {"depth": 1}
    made, _ = create_backbone("vit_tiny_patch16_224", 3, arguments=small)
    save_file(made.state_dict(), tmp_path / "vit.safetensors")
    sized = {**small, "img_size": 64}
    check_fit("vit_tiny_patch16_224", sized, tmp_path / "vit.safetensors")
    network, _ = create_backbone("vit_tiny_patch16_224", 3, arguments=sized, weights=tmp_path / "vit.safetensors")
    before, after = made.state_dict(), network.state_dict()
    assert after["pos_embed"].shape == (1, 1 + 4 * 4, 192)
    torch.testing.assert_close(after["pos_embed"][:, 0], before["pos_embed"][:, 0])
    assert all(torch.equal(before[name], after[name]) for name in before if name != "pos_embed")


@pytest.mark.parametrize(
    ("name", "size", "arguments", "own"),
    [
        ("vit_tiny_patch16_224", 64, {"depth": 1}, 224),
        ("vit_tiny_patch16_224", 224, {"depth": 1}, None),
        ("vit_tiny_patch16_224", 64, {"depth": 1, "img_size": 32}, None),  # said, and wrong: refused with the data
        ("test_vit", 96, {}, None),  # takes any
        ("test_resnet", 64, {}, None),
        ("efficientformer_l1", 160, {}, None),  # takes no img_size
    ],
)
def test_which_networks_need_img_size(name: str, size: int, arguments: dict, own: int | None) -> None:
    assert made_for_size(name, arguments, size) == own
