"""Grad-CAM's map lies where the network looked, in every family of timm."""

from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sightline.errors import BadInput
from sightline.explanation.grad_cam import GradCam
from sightline.explanation.map_layer import MapLayer, find_map_layer

VIT = {"img_size": 96, "depth": 3, "embed_dim": 96, "num_heads": 3}
SWIN = {"img_size": 128, "embed_dim": 24, "num_heads": (1, 2, 4, 8), "depths": (1, 1, 2, 1)}
QUICK: dict[str, tuple[int, dict[str, Any], str, int]] = {
    # by timm's name: image size, arguments that make it small, expected layout, expected side of the map
    "test_resnet": (160, {}, "NCHW", 5),
    "test_byobnet": (160, {}, "NCHW", 5),
    "test_efficientnet": (160, {}, "NCHW", 5),
    "test_convnext": (160, {}, "NCHW", 5),
    "test_nfnet": (160, {}, "NCHW", 5),
    "test_coatnet": (160, {}, "NCHW", 5),
    "test_maxvit": (160, {}, "NCHW", 5),
    "test_mambaout": (160, {}, "NHWC", 5),
    "test_vit": (160, {}, "NLC", 10),
    "test_vit_relpos": (160, {}, "NLC", 10),
    "regnetx_002": (160, {}, "NCHW", 5),
    "starnet_s050": (128, {}, "NCHW", 4),
    "davit_tiny": (128, {"embed_dims": (24, 48, 96, 192), "depths": (1, 1, 1, 1)}, "NCHW", 4),
    "swin_tiny_patch4_window7_224": (128, SWIN, "NHWC", 4),
    "swinv2_tiny_window8_256": (128, SWIN, "NHWC", 4),
    "swinv2_cr_tiny_224": (128, SWIN, "NCHW", 4),
    "samvit_base_patch16_224": (96, VIT, "NHWC", 6),
    "beit_base_patch16_224": (96, VIT, "NLC", 6),
    "deit_tiny_distilled_patch16_224": (96, {"img_size": 96, "depth": 3}, "NLC", 6),  # class and distillation tokens
    "vit_base_patch16_reg4_gap_256": (96, VIT, "NLC", 6),  # registers, no class token
    "vit_base_patch16_siglip_224": (96, VIT, "NLC", 6),  # attention pooling
    "vit_tiny_patch16_dinov3_qkvb": (96, {"depth": 3}, "NLC", 6),  # rotary positions, a class token and registers
    "naflexvit_base_patch16_gap": (96, {"depth": 2, "embed_dim": 64, "num_heads": 2}, "NLC", 6),
    "cait_xxs24_224": (96, {"img_size": 96, "depth": 2}, "NLC", 6),  # the class token comes later
    "xcit_nano_12_p16_224": (96, {"depth": 3}, "NLC", 6),
    "hiera_tiny_224": (224, {"embed_dim": 24, "num_heads": 1, "stages": (1, 1, 2, 1)}, "NLC", 7),  # shuffled windows
    "pit_ti_distilled_224": (96, {"img_size": 96}, "NCHW", 6),  # a tuple of maps and tokens
    "sequencer2d_s": (96, {"img_size": 96, "layers": (1, 1, 1, 1)}, "NHWC", 6),
}


def make(name: str, arguments: dict[str, Any]) -> nn.Module:
    """With random weights, those of the head too: some families begin with zeros there, which look nowhere."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=8, **arguments).eval().requires_grad_(False)
    classifier: Any = network.get_classifier()  # pyright: ignore[reportCallIssue]
    for part in classifier if isinstance(classifier, tuple | list) else [classifier]:
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight)
    return network


def quarters(side: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the upper left, upper right, lower left and lower right; a middle row is in none."""
    halves = (slice(0, side // 2), slice(-(side // 2), None))
    return [(rows, columns) for rows in halves for columns in halves]


def make_image(size: int, seed: int) -> torch.Tensor:
    """Blocks of colours, `(1, 3, size, size)`."""
    blocks = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(blocks, (size, size))


def features_of(network: nn.Module, layer: MapLayer, images: torch.Tensor) -> torch.Tensor:
    kept: list[torch.Tensor] = []
    module = network.get_submodule(layer.module)
    handle = module.register_forward_hook(lambda module, inputs, output: kept.append(layer.features_of(output)))
    with torch.no_grad():
        network(images)
    handle.remove()
    return kept[0]


def strongest(maps: torch.Tensor) -> int:
    """The quarter with the largest sum of a map `(rows, columns)`."""
    return int(torch.stack([maps[quarter].sum() for quarter in quarters(len(maps))]).argmax())


def check_places(name: str, network: nn.Module, size: int, draws: bool = True) -> MapLayer:
    """A changed quarter of the image moves the layer most there, and what looks at that alone is drawn there."""
    layer = find_map_layer(network, size, name)
    base, other = make_image(size, 1), make_image(size, 2)
    images = base.repeat(4, 1, 1, 1)
    for image, (rows, columns) in zip(images, quarters(size), strict=True):
        image[:, rows, columns] = other[0, :, rows, columns]
    changes = features_of(network, layer, images) - features_of(network, layer, base)
    for number in range(4):
        moved = layer.to_maps(changes)[number]
        moved = moved - moved.mean(dim=(1, 2), keepdim=True)  # what attention and pooling move everywhere
        assert strongest(moved.norm(dim=0)) == number, f"{name}: {layer}"

        if not draws:
            continue
        looking = look_at(network, layer, (changes[number].abs() / changes[number].abs().max()).square())
        drawn = sum(GradCam(network, layer).attribute(base, torch.tensor([label]))[0] for label in range(8))
        looking.remove()
        assert isinstance(drawn, torch.Tensor)
        assert strongest(drawn) == number, f"{name}: {layer}"
    return layer


def look_at(network: nn.Module, layer: MapLayer, features: torch.Tensor) -> RemovableHandle:
    """Give a layer these features, whatever the layout that they came in."""
    return network.get_submodule(layer.module).register_forward_hook(
        lambda module, inputs, output: layer.with_features(output, features[None])
    )


@pytest.mark.parametrize("name", QUICK)
def test_the_map_lies_where_the_image_changes(name: str) -> None:
    size, arguments, layout, side = QUICK[name]
    layer = check_places(name, make(name, arguments), size)
    assert (layer.layout, layer.grid) == (layout, (side, side))


FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    # the other modules of timm: a small network, image size and arguments
    "byoanet": ("halonet_h1", 256, {}),
    "coat serial": ("coat_lite_tiny", 128, {"img_size": 128}),
    "convit": ("convit_tiny", 96, {"img_size": 96, "depth": 3}),
    "crossvit": ("crossvit_tiny_240", 240, {}),  # two branches: the one with large patches
    "csatv2": ("csatv2", 256, {}),
    "cspnet": ("cs3darknet_focus_s", 224, {}),
    "cspnext": ("cspnext_tiny", 224, {}),
    "deepseek_vit": ("deepseek_vit_412m", 112, {"img_size": 112, "depth": 2, "embed_dim": 64, "num_heads": 2}),
    "densenet": ("densenet121", 224, {}),
    "dla": ("dla46x_c", 224, {}),
    "dpn": ("dpn48b", 224, {}),
    "edgenext": ("edgenext_xx_small", 224, {}),
    "efficientformer": ("efficientformer_l1", 224, {}),
    "efficientformer_v2": ("efficientformerv2_s0", 224, {}),
    "efficientvit_mit": ("efficientvit_b0", 224, {}),
    "efficientvit_msra": ("efficientvit_m0", 224, {}),
    "fasternet": ("fasternet_t0", 224, {}),
    "fastvit": ("fastvit_t8", 224, {}),
    "focalnet": ("focalnet_tiny_srf", 224, {}),
    "gcvit": ("gcvit_xxtiny", 224, {}),
    "gemma4_vit": ("gemma4_vit_167m", 96, {"depth": 2, "embed_dim": 64, "num_heads": 2}),
    "ghostnet": ("ghostnet_050", 224, {}),
    "hgnet": ("hgnetv2_b0", 224, {}),
    "hieradet_sam2": ("sam2_hiera_tiny", 224, {}),
    "hrnet": ("hrnet_w18_small", 224, {}),  # behind its branches
    "iformer": ("iformer_t", 224, {}),
    "inception_next": ("inception_next_atto", 224, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 299, {}),
    "inception_v4": ("inception_v4", 299, {}),
    "metaformer": ("poolformerv2_s12", 224, {}),
    "metaformer conv": ("convformer_s18", 224, {}),
    "mlp_mixer": ("gmlp_ti16_224", 224, {}),
    "mlp_mixer resmlp": ("resmlp_12_224", 224, {}),
    "mobilenetv5": ("mobilenetv5_base", 128, {}),
    "mobilevit": ("mobilevit_xxs", 224, {}),
    "mvitv2": ("mvitv2_tiny", 224, {}),
    "mvitv2 with a class token": ("mvitv2_small_cls", 224, {}),
    "nasnet": ("nasnetalarge", 224, {}),
    "nest": ("nest_tiny", 224, {}),
    "nextvit": ("nextvit_small", 224, {}),
    "pit": ("pit_ti_224", 224, {}),
    "pnasnet": ("pnasnet5large", 224, {}),
    "pvt_v2": ("pvt_v2_b0", 224, {}),
    "qwen3_vit": ("qwen3_vit_88m", 96, {"depth": 2, "embed_dim": 64, "num_heads": 2}),
    "rdnet": ("rdnet_tiny", 224, {}),
    "repghost": ("repghostnet_050", 224, {}),
    "repvit": ("repvit_m1", 224, {}),
    "res2net": ("res2next50", 224, {}),
    "resnest": ("resnest14d", 224, {}),
    "resnetv2": ("resnetv2_18", 224, {}),
    "rexnet": ("rexnet_100", 224, {}),
    "selecsls": ("selecsls42", 224, {}),
    "senet": ("legacy_seresnet18", 224, {}),
    "swiftformer": ("swiftformer_xs", 224, {}),
    "tnt": ("tnt_s_patch16_224", 224, {}),
    "tresnet": ("tresnet_m", 224, {}),
    "twins": ("twins_svt_small", 224, {}),
    "twins pyramid": ("twins_pcpvt_small", 224, {}),
    "vgg": ("vgg11", 224, {}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 224, {}),
    "vitamin": ("vitamin_small_224", 224, {}),
    "volo": ("volo_d1_224", 224, {}),
    "vovnet": ("ese_vovnet19b_slim_dw", 224, {}),
    "xception": ("legacy_xception", 224, {}),
    "xception_aligned": ("xception41p", 299, {}),
}
MOVING = {
    # random weights move these but little, or all cells nearly alike: a drawing of what moved shows no place
    "coat": ("coat_tiny", 128, {"img_size": 128}),  # branches beside each other: the one with the coarsest map
    "lcnetv2": ("lcnetv2_small", 224, {}),
    "convmixer": ("convmixer_768_32", 224, {}),
    "cpubone": ("cpubone_nano", 224, {}),
    "hardcorenas": ("hardcorenas_b", 320, {}),
    "inception_v3": ("inception_v3", 299, {}),
    "levit": ("levit_128s", 224, {}),
    "levit of convolutions": ("levit_conv_128s", 224, {}),
    "lowformer": ("lowformer_b0", 224, {}),
    "mobilenetv3": ("mobilenetv3_small_050", 224, {}),
    "shvit": ("shvit_s1", 256, {}),
    "sknet": ("skresnet18", 224, {}),
    "tiny_vit": ("tiny_vit_5m_224", 224, {}),
    "visformer": ("visformer_tiny", 224, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *MOVING])
def test_every_family_has_a_map_in_its_place(family: str) -> None:
    name, size, arguments = {**FAMILIES, **MOVING}[family]
    check_places(name, make(name, arguments), size, draws=family in FAMILIES)


def test_a_layer_with_several_maps_is_read_as_one_of_them() -> None:
    """efficientvim: its state-space layers spread what moves over the whole map, random weights show no place."""
    layer = find_map_layer(make("efficientvim_m1", {}), 256, "efficientvim_m1")
    assert (layer.layout, layer.grid) == ("NCHW", (4, 4))


class Pooled(nn.Module):
    """A network that has no map: its first layer takes the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean(dim=(2, 3)))


class Scrambled(Pooled):
    """Features of the shape of a map, whose cells lie in an order of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.scrambled = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scattered = images.flatten(2)[:, :, torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))]
        return super().forward(self.scrambled(scattered.view_as(images)))


@pytest.mark.parametrize("kind", [Pooled, Scrambled])
def test_a_network_whose_layout_is_not_known_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(BadInput, match="integrated_gradients, occlusion and smooth_grad can explain it"):
        find_map_layer(kind(), 32, "network")


@pytest.mark.slow
def test_no_module_of_timm_is_left_out() -> None:
    names = [*QUICK, *(name for name, _, _ in [*FAMILIES.values(), *MOVING.values()]), "efficientvim_m1"]
    modules = {module: timm.list_models(module=module) for module in timm.list_modules()}
    assert [module for module, known in modules.items() if known and not set(known) & set(names)] == []
