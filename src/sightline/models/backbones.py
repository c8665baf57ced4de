"""Any timm network by name, or one of one's own, with random, downloaded or local weights."""

import functools
import hashlib
import logging
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import adapt_input_conv, get_model_traits
from torch import nn

from sightline.errors import BadInput
from sightline.models.own_network import create_own_network

log = logging.getLogger(__name__)
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SECONDS_TO_ANSWER = 5.0
"""Time limit for the server of published weights to answer, before a training counts on it."""


OF_OWN_NETWORKS = ("target", "channels", "code", "is_module")
"""Fields of an architecture that networks of timm do not need."""


@dataclass(frozen=True)
class Architecture:
    """The architecture of a network: its name and arguments, number of classes, and the origin of its weights."""

    name: str
    """Timm's, or of own code the last part of the target."""
    num_classes: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights_origin: str = "random"
    target: str | None = None
    """Own code that returns the network; None: timm."""
    channels: int = 3
    """Of the images that it takes; of timm's networks the argument `in_chans` says it."""
    code: Mapping[str, str] = field(default_factory=dict)
    """The hash of each package of own code that the target may have come from."""
    is_module: bool = False
    """Whether the target is a LightningModule, whose arguments are all there, and not a network."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what own networks alone have is left out for timm's."""
        values = asdict(self)
        return {key: value for key, value in values.items() if self.target is not None or key not in OF_OWN_NETWORKS}

    def create(self) -> nn.Module:
        """The network with random weights, for saved ones to be loaded into."""
        if self.target is None:
            return _create(self.name, self.num_classes, self.arguments)
        if self.is_module:
            from sightline.models.own_module import create_own_module

            return create_own_module(self.target, self.arguments)
        return create_own_network(self.target, self.arguments, num_classes=self.num_classes, channels=self.channels)


def check_name(name: str) -> None:
    """Raises: BadInput with the nearest names when timm has no such model."""
    architecture = name.split(".")[0]
    if timm.is_model(architecture) and (name == architecture or name in timm.list_pretrained(f"{architecture}.*")):
        return
    import difflib

    known = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else timm.list_models()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "list them with timm.list_models()"
    raise BadInput(f"model.name={name}: timm has no such model; {hint}")


def create_backbone(
    name: str,
    num_classes: int,
    *,
    arguments: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
) -> tuple[nn.Module, Architecture]:
    """A timm network with `num_classes` outputs, and its architecture with where its weights came from.

    `weights` (a local safetensors file) beat `pretrained` (timm's hub).

    Raises: BadInput when the name, the arguments or the weights do not fit, or the hub cannot be reached.
    """
    check_name(name)
    arguments = dict(arguments or {})
    if weights is not None:
        network = _create(name, num_classes, arguments)
        load_weights(network, weights)
        origin = _origin_of(weights)
    elif pretrained:
        network = _create_pretrained(name, num_classes, arguments)
        published = getattr(network, "pretrained_cfg", {})
        if published.get("num_classes") != num_classes:
            _start_at_zero(network, _head_names(network))
        origin = f"timm {published.get('hf_hub_id') or name}"
    else:
        network, origin = _create(name, num_classes, arguments), "random"
    return network, Architecture(name, num_classes, arguments, origin)


def create_with_weights(architecture: Architecture, weights: str | Path | None) -> tuple[nn.Module, Architecture]:
    """The network of an architecture with the weights of a safetensors file, or random ones, and where they are from.

    Raises: BadInput when the weights do not fit.
    """
    network = architecture.create()
    if weights is None:
        return network, architecture
    load_weights(network, weights)
    return network, replace(architecture, weights_origin=_origin_of(weights))


def _origin_of(weights: str | Path) -> str:
    return f"file sha256:{hashlib.sha256(Path(weights).expanduser().read_bytes()).hexdigest()}"


def with_channels(name: str, arguments: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """timm's arguments for images of so many channels.

    Raises: BadInput for an argument that says another number.
    """
    told = arguments.get("in_chans", channels)
    if told != channels:
        raise BadInput(
            f"model.arguments.in_chans={told} data.channels={channels}: {name} is to take {told} channel(s) and images "
            f"have {channels}; drop the first, or set data.channels={told}"
        )
    return dict(arguments) if channels == 3 else {**arguments, "in_chans": channels}


def _create(name: str, num_classes: int, arguments: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **arguments)
    except (TypeError, AssertionError, RuntimeError, ValueError, NotImplementedError) as error:
        if isinstance(error, TypeError | AssertionError):
            raise _refused_channels(name, arguments, error) or _refused_arguments(name, arguments, error) from error
        if not pretrained and (refused := _refused_channels(name, arguments, error)):
            raise refused from error
        raise


def _refused_channels(name: str, arguments: Mapping[str, Any], error: Exception) -> BadInput | None:
    """The error where a network is made without `in_chans` alone."""
    channels = arguments.get("in_chans")
    rest = {key: value for key, value in arguments.items() if key != "in_chans"}
    if channels is None or channels == 3:
        return None
    try:
        with torch.device("meta"):
            timm.create_model(name, **rest)
    except (TypeError, AssertionError, RuntimeError, ValueError, NotImplementedError):
        return None
    return BadInput(
        f"model.name={name} data.channels={channels}: this network takes images of 3 channels alone ({error}); choose "
        "another model.name, or set data.channels=3"
    )


def _refused_arguments(name: str, arguments: Mapping[str, Any], error: Exception) -> BadInput:
    return BadInput(f"model.arguments={dict(arguments)}: {name} does not take them ({error})")


def _create_pretrained(name: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    if not timm.is_model_pretrained(name):
        raise _no_weights(name)
    try:
        return _create(name, num_classes, arguments, pretrained=True)
    except BadInput:
        raise
    except Exception as error:  # the hub's client and its transport have no common base
        if "size mismatch" in str(error):
            raise BadInput(
                f"model.pretrained=true: the published weights of {name} do not fit its arguments {dict(arguments)}; "
                f"take the plain network (for example model={name}), or set model.pretrained=false"
            ) from error
        raise _out_of_reach(name, error) from error


@functools.cache  # asked for with every trial of a sweep
def check_pretrained(name: str) -> None:
    """Whether the published weights are in the cache or within reach; nothing is downloaded.

    Raises: BadInput as `create_backbone` does.
    """
    check_name(name)
    published = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
    if published is None:
        raise _no_weights(name)
    if published.hf_hub_id:
        files = [published.hf_hub_filename] if published.hf_hub_filename else WEIGHT_FILES
        is_here = any(isinstance(try_to_load_from_cache(published.hf_hub_id, file), str) for file in files)
        address = hf_hub_url(published.hf_hub_id, files[0])
    else:
        address = str(published.url)
        is_here = (Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[-1]).is_file()
    if not is_here:
        try:
            _reach(address)
        except OSError as error:
            raise _out_of_reach(name, error) from error


def fetch_pretrained(name: str, arguments: Mapping[str, Any]) -> None:
    """Have published weights that fit a network with these arguments in the cache.

    Raises: BadInput as `create_backbone` does; a server that does not answer is given up after some seconds.
    """
    check_pretrained(name)
    _create_pretrained(name, 2, arguments)


def _reach(address: str) -> None:
    """Ask the server, whose answer may be any: which files it has is seen when they are fetched.

    Raises: OSError when there is none.
    """
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE=1")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError as answer:
        if answer.code >= 500:
            raise


def _no_weights(name: str) -> BadInput:
    return BadInput(
        f"model.pretrained=true: timm has no weights for {name}; choose another model.name or set it to false"
    )


def _out_of_reach(name: str, error: Exception) -> BadInput:
    return BadInput(
        f"model.pretrained=true: the weights of {name} could not be downloaded ({type(error).__name__}); "
        "check the network, or give a local safetensors file with model.weights=FILE, or set model.pretrained=false"
    )


def check_fit(name: str, arguments: Mapping[str, Any], weights: str | Path | None) -> None:
    """Check that timm can make a network, and that the weights of a file fit it; no tensor is read or filled.

    How many channels they take is not looked at, unless the arguments say it: that follows from the images.

    Raises: BadInput with the near names, the arguments that it does not take, or the first tensor that does not fit.
    """
    check_name(name)
    try:
        with torch.device("meta"):
            network = timm.create_model(name, **arguments)
    except (TypeError, AssertionError) as error:
        raise _refused_arguments(name, arguments, error) from error
    except (NotImplementedError, RuntimeError):  # some compute numbers while they are made
        return
    if weights is not None:
        path = Path(weights).expanduser()
        with torch.device("meta"):
            shapes = _shapes(path)
            if "in_chans" not in arguments:
                network = _taking_channels_of(network, name, arguments, shapes)
            given = _fitted(network, shapes)
        _check_shapes(network, path, given)


def _taking_channels_of(
    network: nn.Module, name: str, arguments: Mapping[str, Any], given: Mapping[str, torch.Tensor]
) -> nn.Module:
    """The network, or one that takes as many channels as the weights do, where timm makes such a one."""
    first = [given[each] for each in _input_names(network) if each in given]
    if not first or first[0].ndim != 4 or first[0].shape[1] == 3:
        return network
    try:
        return timm.create_model(name, **{**arguments, "in_chans": first[0].shape[1]})
    except (TypeError, AssertionError, RuntimeError, ValueError, NotImplementedError):
        return network


def made_for_size(name: str, arguments: Mapping[str, Any], image_size: int) -> int | None:
    """The side of the images that a network is made for, where it takes `image_size` only with timm's `img_size`.

    None where it takes them as it is, or not at all. No tensor is filled: the shapes alone go through the network.
    """
    published = timm.get_pretrained_cfg(name)
    if published is None or not published.fixed_input_size or "img_size" in arguments:
        return None
    own = published.input_size[-1]
    if own == image_size or _takes(name, arguments, image_size):
        return None
    return own if _takes(name, {**arguments, "img_size": image_size}, image_size) else None


def _takes(name: str, arguments: Mapping[str, Any], image_size: int) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            channels = arguments.get("in_chans", 3)
            timm.create_model(name, **arguments).eval()(torch.empty(1, channels, image_size, image_size))
    except (TypeError, AssertionError, ValueError, RuntimeError):
        return False
    return True


def _shapes(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file without their numbers."""
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(f"model.weights={path}: not a safetensors file ({error}); convert it or give another") from error
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _fitted(network: nn.Module, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as this network takes them: timm resamples position embeddings that were made for another image size."""
    wanted, head = network.state_dict(), _head_names(network)
    own = {name for name, tensor in wanted.items() if name not in head and name in given}
    resample = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    given = _with_input_of(network, given, wanted)
    if resample is None or all(given[name].shape == wanted[name].shape for name in own):
        return given
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, about how timm interpolates
            found = resample(dict(given), network)
    except (RuntimeError, ValueError, KeyError, AttributeError):  # weights of another network, which is said later
        return given
    is_kept = isinstance(found, dict) and own <= found.keys()
    return {**given, **{name: found[name] for name in own}} if is_kept else given


def _with_input_of(
    network: nn.Module, given: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Tensors of which those that see the image take as many channels as the network's: timm sums or repeats three."""
    found, channels = dict(given), get_model_traits(network).get("in_chans", 3)
    for name in _input_names(network):
        tensor, own = given.get(name), wanted.get(name)
        if tensor is not None and own is not None and tensor.ndim == own.ndim == 4:
            from_three = (own.shape[0], own.shape[1] * 3 // channels, *own.shape[2:])
            if tensor.shape == from_three != own.shape:
                found[name] = adapt_input_conv(channels, tensor)
    return found


def _input_names(network: nn.Module) -> list[str]:
    """Names of the weights that see the image, as timm knows them."""
    published = getattr(network, "pretrained_cfg", {}).get("first_conv")
    first = get_model_traits(network).get("first_conv", published) or ()
    return [f"{name}.weight" for name in ((first,) if isinstance(first, str) else first)]


def _check_shapes(network: nn.Module, path: Path, given: Mapping[str, torch.Tensor]) -> None:
    """Raises: BadInput when a tensor beside the head's lacks or has another shape."""
    wanted, head = network.state_dict(), _head_names(network)
    shapes = {name: tensor.shape for name, tensor in given.items()}
    lacking = [name for name in wanted if name not in head and shapes.get(name) != wanted[name].shape]
    if lacking and set(lacking) <= set(_input_names(network)) and shapes.keys() >= set(lacking):
        have, take = (each[lacking[0]].shape[1] for each in (given, wanted))
        raise BadInput(
            f"model.weights={path}: these weights are for images of {have} channel(s), and the data has {take} "
            "(data.channels); only those for 3 can be made to fit; give others, or none"
        )
    if lacking:
        raise BadInput(
            f"model.weights={path}: these weights are for another network than {type(network).__name__}: "
            f"{len(lacking)} of {len(wanted)} tensors lack or differ in shape, the first is {lacking[0]}; "
            "set model.name (and model.arguments) to the network they were made for, and data.image_size to its size"
        )


def load_weights(network: nn.Module, path: str | Path) -> list[str]:
    """Copy the tensors of a safetensors file into a network and return the names that were left out.

    The head is left out when its shape differs; anything else that differs is an error.
    """
    path = Path(path).expanduser()
    _shapes(path)  # whether it is such a file
    given, wanted, head = _fitted(network, load_file(path)), network.state_dict(), _head_names(network)
    _check_shapes(network, path, given)
    fitting = {name: tensor for name, tensor in given.items() if name in wanted and tensor.shape == wanted[name].shape}
    network.load_state_dict(fitting, strict=False)
    left_out = sorted(set(given) - set(fitting))
    new = sorted(name for name in head if name not in fitting)
    _start_at_zero(network, new)
    if left_out or new:
        log.warning("weights of %s: left out %s; new %s", path.name, _listed(left_out), _listed(new))
    return left_out


def _start_at_zero(network: nn.Module, names: Collection[str]) -> None:
    """As in BiT (arXiv:1912.11370): the gradients of a random head would first wreck the pretrained backbone."""
    for name, parameter in network.named_parameters():
        if name in names:
            nn.init.zeros_(parameter)


def _head_names(network: nn.Module) -> set[str]:
    """Names of the tensors of the final classifier."""
    prefixes = tuple(f"{name}." for name in head_modules(network))
    return {name for name in network.state_dict() if name.startswith(prefixes)}


def head_modules(network: nn.Module) -> list[str]:
    """Names of the modules that make up the final classifier.

    timm's networks say it, and others that have `get_classifier()`; else it is the last linear layer or convolution.
    """
    if not hasattr(network, "get_classifier"):
        layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
        return [name for name, module in network.named_modules() if isinstance(module, layers)][-1:]
    classifier = network.get_classifier()  # pyright: ignore[reportCallIssue]
    parts = classifier if isinstance(classifier, tuple | list) else [classifier]
    return [name for name, module in network.named_modules() if any(module is part for part in parts)]


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def grey_statistics(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The same for greys, which are red, green and blue in one: the mean of the three."""
    mean, std = input_statistics(network)
    return (sum(mean) / len(mean),), (sum(std) / len(std),)


def input_statistics(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel (0..1) that the backbone's published weights expect."""
    described = getattr(network, "pretrained_cfg", {})
    return tuple(described.get("mean", (0.5,) * 3)), tuple(described.get("std", (0.5,) * 3))


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def state_dict_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Hash of names, shapes and values: equal weights give an equal hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
